"""SimpleCNN, the small network of the break-even paper."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax

from lrjax.models.conv.pooling import max_pool
from lrjax.models.linen import NORMS, Conv, from_linen, no_norm
from lrjax.models.model import Model, lookup, takes

# name -> (units of the dense layer, times the width; dropout after convolutions and after the dense layer)
VARIANTS = {"plain": (4, (0.0, 0.0)), "keras": (16, (0.25, 0.5))}


class SimpleCNN(nn.Module):
    """The Linen module behind `simple_cnn`."""

    num_classes: int
    width: int = 32
    norm: Callable = no_norm
    dense: int = 128
    dropout: tuple[float, float] = (0.0, 0.0)  # after each pair of convolutions; after the dense layer
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Images `[B, H, W, C]` to logits `[B, num_classes]`."""
        glorot = nn.initializers.glorot_uniform()
        conv = partial(Conv, kernel_size=(3, 3), kernel_init=glorot, dtype=self.dtype)
        norm = partial(self.norm, train=train, axis_name=self.axis_name, dtype=self.dtype)
        for number, (multiple, padding) in enumerate([(1, "SAME"), (1, "VALID"), (2, "SAME"), (2, "VALID")], start=1):
            x = conv(multiple * self.width, padding=padding, name=f"conv{number}")(x)
            x = nn.relu(norm(x, f"norm{number}"))
            if padding == "VALID":
                x = max_pool(x, (2, 2), strides=(2, 2))
                x = nn.Dropout(self.dropout[0], deterministic=not train)(x)
        x = x.reshape((x.shape[0], -1))
        x = nn.relu(nn.Dense(self.dense, kernel_init=glorot, dtype=self.dtype, name="dense1")(x))
        x = nn.Dropout(self.dropout[1], deterministic=not train)(x)
        # The head has no dtype of its own: it promotes to that of its parameters, so that logits are never bfloat16.
        return nn.Dense(self.num_classes, kernel_init=glorot, name="dense2")(x)


@takes("width", "variant", "norm", "axis_name", "dtype")
def simple_cnn(model_config: Any, num_classes: int) -> Model:
    """SimpleCNN: 361,898 parameters at width 32 for 32x32x3 inputs and 10 classes.

    conv3x3-w same, conv3x3-w valid, max pool 2, conv3x3-2w same, conv3x3-2w valid, max pool 2, dense 4w, dense; ReLU
    after every layer but the last; Glorot-uniform weights, zero biases, no dropout. With `norm="batch"` (SimpleCNN-BN)
    BatchNorm stands after each convolution, before its ReLU; "the last BN layer" is `norm4`. With `variant="keras"`, the Keras
    example itself, the dense layer has 512 units and there is dropout of 0.25, 0.25 and 0.5: 1,250,858 parameters.

    Args:
        model_config: mapping with the optional keys `width` (32), `norm` ("none" or "batch"), `variant` ("plain" or "keras"),
            `axis_name` (None) and
            `dtype` (None: that of inputs and parameters).
        num_classes: number of outputs.

    Returns:
        The model, from images `[B, H, W, C]` to logits `[B, num_classes]`.

    Raises:
        LrjaxError: for an unknown norm or variant.

    References:
        The Break-Even Point on Optimization Trajectories, section 4 (after the Keras CIFAR-10 example); dense
        width, initialisation and the absence of dropout after the predecessor's code.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = simple_cnn({"width": 4}, num_classes=10)
        >>> params, model_state = model.init(jax.random.key(0), jnp.zeros((2, 32, 32, 3)))
        >>> params["dense1"]["kernel"].shape, model_state
        ((288, 16), {})
    """
    width = model_config.get("width", 32)
    dense, dropout = lookup(VARIANTS, model_config.get("variant", "plain"), "variant of simple_cnn")
    return from_linen(
        SimpleCNN(
            num_classes=num_classes,
            width=width,
            dense=dense * width,
            dropout=dropout,
            norm=lookup(NORMS, model_config.get("norm", "none"), "norm"),
            axis_name=model_config.get("axis_name"),
            dtype=model_config.get("dtype"),
        )
    )
