"""The multi-layer perceptron, with or without normalisation."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from lrjax.errors import check
from lrjax.models.layers import HEADS, Norm, norm_layer
from lrjax.models.linen import from_linen
from lrjax.models.model import NORM_OPTIONS, Model, lookup, takes

ACTIVATIONS = {"relu": nn.relu, "tanh": nn.tanh, "gelu": nn.gelu}


class MLP(nn.Module):
    """The Linen module behind `mlp`."""

    num_classes: int
    widths: tuple[int, ...]
    norm: Callable[..., Norm]
    head: Callable
    use_bias: bool
    activation: Callable
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Inputs `[B, ...]` to logits `[B, num_classes]`."""
        x = x.reshape((x.shape[0], -1))
        he = nn.initializers.he_normal()
        for number, width in enumerate(self.widths, start=1):
            x = nn.Dense(width, use_bias=self.use_bias, kernel_init=he, dtype=self.dtype, name=f"dense{number}")(x)
            x = self.activation(self.norm(name=f"norm{number}")(x, train=train))
        return self.head(self.num_classes, "head")(x)


@takes("widths", "head", "use_bias", "activation", *NORM_OPTIONS)
def mlp(model_config: Any, num_classes: int) -> Model:
    """Dense, norm, activation for each width, then a linear head: 266,610 parameters at 784-300-100-10 without norm.

    He-normal weights (the head: LeCun-normal), zero biases. Invariant to the scale of all that it trains, as exponential
    learning rates ask, with `norm="batch", affine=False, eps=0.0, head="frozen"`.

    Args:
        model_config: mapping with the optional keys `widths` ((300, 100)), `norm` ("none", "batch", "layer" or "group"),
            `affine` (True), `eps` (1e-5), `eps_in_state` (False; True: eps is a part of model_state), `groups` (8),
            `head` ("free", or "frozen": its weights are model_state), `use_bias` (True without norm), `activation`
            ("relu", "tanh" or "gelu"), `axis_name` (None) and `dtype` (None: that of inputs and parameters).
        num_classes: number of outputs.

    Returns:
        The model, from inputs `[B, ...]`, flattened, to logits `[B, num_classes]`.

    Raises:
        LrjaxError: for an unknown norm, head or activation, or without widths.

    References:
        The Break-Even Point on Optimization Trajectories, appendix (MLP on FashionMNIST); An Exponential Learning
        Rate Schedule for Deep Learning, appendix C, for what makes it scale invariant.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> options = {"widths": (24, 24), "norm": "batch", "affine": False, "eps": 0.0, "head": "frozen"}
        >>> params, model_state = mlp(options, num_classes=3).init(jax.random.key(0), jnp.zeros((2, 16)))
        >>> {layer: list(group) for layer, group in params.items()}, sorted(model_state)
        ({'dense1': ['kernel'], 'dense2': ['kernel']}, ['batch_stats', 'frozen'])
    """
    widths = tuple(model_config.get("widths", (300, 100)))
    norm = model_config.get("norm", "none")
    check(len(widths) > 0, "model.widths is empty: give the width of each hidden layer, such as (300, 100)")
    check(norm != "instance", "model.norm='instance' needs images: a dense layer has one value a channel; take 'layer'")
    return from_linen(
        MLP(
            num_classes=num_classes,
            widths=widths,
            norm=norm_layer(model_config, kind="none"),
            head=lookup(HEADS, model_config.get("head", "free"), "head"),
            use_bias=model_config.get("use_bias", norm == "none"),
            activation=lookup(ACTIVATIONS, model_config.get("activation", "relu"), "activation"),
            dtype=model_config.get("dtype"),
        )
    )
