"""Values as bytes for another process, which reads them without running anything: JSON, and raw arrays of named types."""

import io
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def packed(value: Any) -> bytes:
    """A value as bytes that another process reads without running anything: JSON, and npy for the arrays.

    Args:
        value: see `share_out`.

    Raises:
        TypeError: something in it is of another type.

    Example:
        >>> unpacked(packed(({"step": 3}, [np.arange(2), None])))
        ({'step': 3}, [array([0, 1]), None])
    """
    arrays: list[np.ndarray] = []

    def plain(node: Any) -> Any:
        if isinstance(node, (np.ndarray, np.generic, jax.Array)):
            arrays.append(np.asarray(node))
            return {"array": len(arrays) - 1, "scalar": isinstance(node, np.generic)}
        if isinstance(node, dict):
            if not all(isinstance(key, str) for key in node):
                raise TypeError("a key that is no text cannot be sent to another process")
            return {"dict": {key: plain(item) for key, item in node.items()}}
        if type(node) in (list, tuple):
            return {type(node).__name__: [plain(item) for item in node]}
        if node is None or type(node) in (bool, int, float, str):
            return {"value": node}
        raise TypeError(f"{type(node).__name__} cannot be sent to another process")

    text = json.dumps(plain(value)).encode()
    file = io.BytesIO()
    named: Any = {str(number): _as_bytes(array) for number, array in enumerate(arrays)}
    np.savez(file, **named)
    kinds = json.dumps([[array.dtype.name, array.shape] for array in arrays]).encode()
    return b"".join(len(part).to_bytes(8) + part for part in (text, kinds, file.getvalue()))


def _as_bytes(array: np.ndarray) -> np.ndarray:
    """bfloat16 and its like have no npy of their own."""
    if array.dtype.hasobject:
        raise TypeError("an array of objects cannot be sent to another process")
    return np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)


def unpacked(content: bytes) -> Any:
    """The value that `packed` was given; jax arrays come back as numpy ones."""
    parts, start = [], 0
    while start < len(content):
        size = int.from_bytes(content[start : start + 8])
        parts.append(content[start + 8 : start + 8 + size])
        start += 8 + size
    text, kinds, stored = parts
    with np.load(io.BytesIO(stored), allow_pickle=False) as file:
        arrays = [
            file[str(number)].view(jnp.dtype(name)).reshape(shape)
            for number, (name, shape) in enumerate(json.loads(kinds))
        ]

    def built(node: dict[str, Any]) -> Any:
        if "array" in node:
            found = arrays[node["array"]]
            return found[()] if node["scalar"] else found
        if "dict" in node:
            return {key: built(item) for key, item in node["dict"].items()}
        for kind in (list, tuple):
            if kind.__name__ in node:
                return kind(built(item) for item in node[kind.__name__])
        return node["value"]

    return built(json.loads(text))
