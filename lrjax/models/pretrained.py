"""Pretrained weights: safetensors files, and Hugging Face's names of the parameters of BERT."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lrjax.errors import LrjaxError, check


def read_safetensors(path: str | Path) -> dict[str, np.ndarray]:
    """Every tensor of a safetensors file, by name.

    Raises:
        LrjaxError: no such file, or not a safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = Path(path).expanduser()
    check(path.is_file(), f"there is no file {path}; model.weights names the model.safetensors of a downloaded model")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise LrjaxError(f"{path} is no safetensors file ({error}); download it again") from error


_TOP = {
    "embeddings.word_embeddings.weight": ("words", "embedding"),
    "embeddings.token_type_embeddings.weight": ("segments", "embedding"),
    "embeddings.position_embeddings.weight": ("positions", "embedding"),
    "embeddings.LayerNorm": ("embedding_norm",),
    "pooler.dense": ("pooler",),
}
_IN_LAYER = {
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "attention_output",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "intermediate",
    "output.dense": "output",
    "output.LayerNorm": "output_norm",
}


def bert_params(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The parameters of `lrjax.models.bert`, but for its head, from tensors with Hugging Face names.

    A prefix "bert." is dropped; matrices are transposed, since PyTorch keeps [out, in]; heads of other tasks and buffers are
    left out. Older files call the scale and shift of a norm gamma and beta.

    Args:
        tensors: name -> array, from `read_safetensors`.

    Raises:
        LrjaxError: the file holds no BERT.

    Example:
        >>> found = bert_params({"bert.pooler.dense.weight": np.zeros((2, 3)), "cls.bias": np.zeros(1)})
        >>> found["pooler"]["kernel"].shape
        (3, 2)
    """
    params: dict[str, Any] = {}
    for full, tensor in tensors.items():
        path = _place(full.removeprefix("bert."))
        if path is None:
            continue
        node = params
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = tensor.T if path[-1] == "kernel" else tensor
    check(bool(params), "the safetensors file holds no BERT: none of its names is that of a part of it")
    return params


def _place(name: str) -> tuple[str, ...] | None:
    """Where a tensor goes in the tree of parameters; None for what is no part of it."""
    if name in _TOP:
        return _TOP[name]
    layer = re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)\.(\w+)", name)
    module, _, leaf = name.rpartition(".")
    home = (f"layer{layer[1]}", _IN_LAYER[layer[2]]) if layer and layer[2] in _IN_LAYER else _TOP.get(module)
    if home is None:
        return None
    norm = home[-1].endswith("norm")
    names = {"weight": "scale" if norm else "kernel", "gamma": "scale", "beta": "bias", "bias": "bias"}
    return (*home, names[leaf]) if leaf in names else None
