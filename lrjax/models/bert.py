"""BERT for classification, of any size: the base one, and the 6-layer MiniLM; with real weights from a safetensors file."""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lrjax.errors import check
from lrjax.models.linen import from_linen, through
from lrjax.models.model import Model, lookup, takes
from lrjax.models.pretrained import bert_params, read_safetensors

EPS = 1e-12  # of layer norm


class Size(NamedTuple):
    """The sizes of a BERT."""

    layers: int
    width: int
    heads: int
    inner: int


SIZES = {
    "base": Size(12, 768, 12, 3072),
    "minilm": Size(6, 384, 12, 1536),
    "tiny": Size(2, 16, 2, 32),
}
NORMAL = nn.initializers.truncated_normal(0.02)


class Layer(nn.Module):
    """Self-attention and a feed-forward network, each with a residual connection and a layer norm after it."""

    size: Size
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """Activations `[B, T, D]` and which tokens there are, bool `[B, T]`, to activations of the same shape."""
        dense = lambda features, name: nn.Dense(features, kernel_init=NORMAL, dtype=self.dtype, name=name)  # noqa: E731
        shape = (*x.shape[:2], self.size.heads, self.size.width // self.size.heads)
        query, key, value = (dense(self.size.width, name)(x).reshape(shape) for name in ("query", "key", "value"))
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / jnp.sqrt(jnp.float32(shape[-1]))
        scores = jnp.where(mask[:, None, None, :], scores, jnp.finfo(scores.dtype).min)
        attention = jax.nn.softmax(scores, axis=-1).astype(value.dtype)  # the softmax itself is float32 at least
        mixed = jnp.einsum("bhqk,bkhd->bqhd", attention, value).reshape(x.shape)
        x = self._norm("attention_norm")(x + dense(self.size.width, "attention_output")(mixed))
        inner = nn.gelu(dense(self.size.inner, "intermediate")(x), approximate=False)
        return self._norm("output_norm")(x + dense(self.size.width, "output")(inner))

    def _norm(self, name: str) -> nn.Module:
        return nn.LayerNorm(epsilon=EPS, dtype=self.dtype, name=name)


class Bert(nn.Module):
    """The Linen module behind `bert`."""

    num_classes: int
    size: Size
    vocabulary: int
    positions: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Token and segment numbers `[B, 2, T]` to logits; with `num_classes=0` to (sequence `[B, T, D]`, pooled `[B, D]`)."""
        tokens, segments = x[:, 0], x[:, 1]
        table = partial(nn.Embed, features=self.size.width, embedding_init=NORMAL, dtype=self.dtype)
        embed = lambda count, name: table(count, name=name)  # noqa: E731
        y = embed(self.vocabulary, "words")(tokens) + embed(2, "segments")(segments)
        y = y + embed(self.positions, "positions")(jnp.arange(tokens.shape[1]))[None]
        y = nn.LayerNorm(epsilon=EPS, dtype=self.dtype, name="embedding_norm")(y)
        for number in range(self.size.layers):
            y = through(
                lambda layer, *inputs: layer(*inputs),
                Layer(self.size, self.dtype, name=f"layer{number}"),
                y,
                tokens != 0,
            )
        pooled = jnp.tanh(nn.Dense(self.size.width, kernel_init=NORMAL, dtype=self.dtype, name="pooler")(y[:, 0]))
        if self.num_classes == 0:
            return y, pooled  # type: ignore[return-value]  # what is compared with other implementations
        logits = nn.Dense(self.num_classes, kernel_init=NORMAL, name="head")(pooled)
        return logits[:, 0] if self.num_classes == 1 else logits


@takes("size", "vocabulary", "positions", "weights", "dtype")
def bert(model_config: Any, num_classes: int) -> Model:
    """BERT with a linear head on its pooled first token: 109,482,240 parameters (base) or 22,713,216 (MiniLM), and the head.

    Post-norm layers, exact GELU, no dropout. Token 0 is padding, which no token attends to.

    Args:
        model_config: mapping with the optional keys `size` ("base": 12 layers of 768; "minilm": 6 of 384; "tiny"),
            `vocabulary` (30,522), `positions` (512), `dtype` (None: that of parameters) and `weights`: a safetensors file with
            Hugging Face names, from which all but the head begins; empty for random weights.
        num_classes: number of outputs; with one the logits are `[B]`.

    Returns:
        The model, from token and segment numbers int32 `[B, 2, T]` to logits.

    Raises:
        LrjaxError: for an unknown size, or a file that is missing or of another size.

    References:
        Devlin et al. 2019; The Break-Even Point on Optimization Trajectories, section 4 (BERT fine-tuned on MNLI).

    Example:
        >>> model = bert({"size": "tiny", "vocabulary": 50, "positions": 8}, num_classes=3)
        >>> params, _ = model.init(jax.random.key(0), jnp.ones((1, 2, 8), jnp.int32))
        >>> model.apply(params, {}, jnp.ones((4, 2, 8), jnp.int32), train=False)[0].shape
        (4, 3)
    """
    size = lookup(SIZES, model_config.get("size", "base"), "size of BERT")
    made = from_linen(
        Bert(
            num_classes,
            size,
            model_config.get("vocabulary", 30_522),
            model_config.get("positions", 512),
            model_config.get("dtype"),
        )
    )
    path = model_config.get("weights") or ""
    if not path:
        return made

    def init(key: jax.Array, x: jax.Array) -> tuple[Any, Any]:
        params, state = made.init(key, x)
        body = {name: leaf for name, leaf in params.items() if name != "head"}
        shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), body)

        def load() -> Any:
            return checked(bert_params(read_safetensors(path)), shapes, path)

        if Path(path).expanduser().is_file():  # a dry run needs none
            load()
        # Read when the program runs: as constants of it the weights would be compiled.
        return params | jax.pure_callback(load, shapes), state

    return Model(init, made.apply)


def checked(found: Any, shapes: Any, path: str) -> Any:
    """Weights of a file in the shapes that the model has.

    Raises:
        LrjaxError: they are of another model.
    """
    same = jax.tree.structure(found) == jax.tree.structure(shapes) and all(
        a.shape == b.shape for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(shapes), strict=True)
    )
    check(
        same, f"model.weights={path} holds a BERT of another size; set model.size, model.vocabulary and model.positions"
    )
    return jax.tree.map(lambda a, b: np.asarray(a, b.dtype), found, shapes)
