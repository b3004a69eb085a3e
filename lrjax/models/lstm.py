"""The LSTM of the break-even paper's IMDB experiment."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from lrjax.models.linen import from_linen
from lrjax.models.model import Model, takes


def _bias(width: int) -> jax.Array:
    """Zero but for the forget gate, whose bias starts at one."""
    return jnp.zeros(4 * width).at[width : 2 * width].set(1.0)


class LSTM(nn.Module):
    """The Linen module behind `lstm`."""

    num_classes: int
    vocabulary: int
    embedding: int
    width: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Token numbers `[B, T]` to logits `[B, num_classes]`, or `[B]` for one class."""
        uniform = nn.initializers.uniform(0.1)

        def embedding_init(key: jax.Array, shape: Any, dtype: Any = jnp.float32) -> jax.Array:
            return uniform(key, shape, dtype) - 0.05

        words = nn.Embed(self.vocabulary, self.embedding, embedding_init=embedding_init, name="embedding")(x)
        glorot = nn.initializers.glorot_uniform()
        kernel = self.param("kernel", glorot, (self.embedding, 4 * self.width))
        recurrent = self.param("recurrent", nn.initializers.orthogonal(), (self.width, 4 * self.width))
        bias = self.param("bias", lambda key: _bias(self.width))
        words, kernel, recurrent, bias = promote_dtype(words, kernel, recurrent, bias, dtype=self.dtype)
        inputs = jnp.swapaxes(words @ kernel + bias[None, None], 0, 1)  # [T, B, 4 width]

        def step(carry: tuple[jax.Array, jax.Array], now: jax.Array) -> tuple[tuple[jax.Array, jax.Array], None]:
            hidden, cell = carry
            gate, forget, candidate, output = jnp.split(now + hidden @ recurrent, 4, axis=-1)
            cell = nn.sigmoid(forget) * cell + nn.sigmoid(gate) * jnp.tanh(candidate)
            return (nn.sigmoid(output) * jnp.tanh(cell), cell), None

        zero = jnp.zeros_like(inputs[0, :, : self.width])
        (hidden, _), _ = jax.lax.scan(step, (zero, zero), inputs)
        logits = nn.Dense(self.num_classes, kernel_init=glorot, name="head")(hidden)
        return logits[:, 0] if self.num_classes == 1 else logits


@takes("vocabulary", "embedding", "width", "dtype")
def lstm(model_config: Any, num_classes: int) -> Model:
    """Embedding, one LSTM layer, a dense layer on its last state: 2,691,713 parameters for 20,000 words and one output.

    Gates in the order input, forget, candidate, output, with sigmoid and tanh; the forget gate's bias starts at one; kernels
    Glorot-uniform, the recurrent one orthogonal, embeddings uniform in +-0.05. No dropout.

    Args:
        model_config: mapping with the optional keys `vocabulary` (20,000), `embedding` (128), `width` (128) and `dtype`
            (None: that of parameters).
        num_classes: number of outputs; with one the logits are `[B]`.

    Returns:
        The model, from token numbers `[B, T]` to logits.

    References:
        The Break-Even Point on Optimization Trajectories, section 4 (LSTM on IMDB), sizes after the Keras example
        imdb_lstm.py, without its dropout.

    Example:
        >>> model = lstm({"vocabulary": 50, "embedding": 4, "width": 3}, num_classes=1)
        >>> params, _ = model.init(jax.random.key(0), jnp.zeros((2, 7), jnp.int32))
        >>> params["kernel"].shape, params["bias"][3:6].tolist()
        ((4, 12), [1.0, 1.0, 1.0])
    """
    return from_linen(
        LSTM(
            num_classes=num_classes,
            vocabulary=model_config.get("vocabulary", 20_000),
            embedding=model_config.get("embedding", 128),
            width=model_config.get("width", 128),
            dtype=model_config.get("dtype"),
        )
    )
