"""The pre-activation residual MLP, in place of a wide ResNet on PS10 vectors."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax

from lrjax.errors import check
from lrjax.models.layers import HEADS, Norm, norm_layer
from lrjax.models.linen import from_linen, through
from lrjax.models.model import NORM_OPTIONS, Model, lookup, takes

LAYERS = 2  # of a block


class ResidualMLP(nn.Module):
    """The Linen module behind `residual_mlp`."""

    num_classes: int
    width: int
    blocks: int
    norm: Callable[..., Norm]
    head: Callable
    use_bias: bool
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Inputs `[B, ...]` to logits `[B, num_classes]`."""
        he = nn.initializers.he_normal()

        def dense(x: jax.Array, name: str) -> jax.Array:
            return nn.Dense(self.width, use_bias=self.use_bias, kernel_init=he, dtype=self.dtype, name=name)(x)

        def block(module: nn.Module, x: jax.Array, number: int) -> jax.Array:
            branch = x
            for layer in range(1, LAYERS + 1):
                name = f"block{number}_{{}}{layer}"
                branch = nn.relu(module.norm(name=name.format("norm"))(branch, train=train))
                branch = dense(branch, name.format("dense"))
            return x + branch

        x = dense(x.reshape((x.shape[0], -1)), "stem")
        for number in range(1, self.blocks + 1):
            x = through(partial(block, number=number), self, x)
        x = nn.relu(self.norm(name="final_norm")(x, train=train))
        return self.head(self.num_classes, "head")(x)


@takes("width", "blocks", "head", "use_bias", *NORM_OPTIONS)
def residual_mlp(model_config: Any, num_classes: int) -> Model:
    """Dense stem, blocks of twice (norm, ReLU, dense) plus shortcut, norm, ReLU, head: 102,154 parameters at 6 inputs.

    He-normal weights (the head: LeCun-normal). On inputs that are constant over an image it computes what a
    pre-activation wide ResNet of 1x1 convolutions would.

    Args:
        model_config: mapping with the optional keys `width` (128), `blocks` (3), `norm` ("batch", "none", "layer" or
            "group"), `affine` (True), `eps` (1e-5), `groups` (8), `head` ("free" or "frozen"), `use_bias` (True without
            norm), `axis_name` (None) and `dtype` (None: that of inputs and parameters).
        num_classes: number of outputs.

    Returns:
        The model, from inputs `[B, ...]`, flattened, to logits `[B, num_classes]`.

    Raises:
        LrjaxError: for an unknown norm or head, or without blocks.

    References:
        ours, after the wide ResNet of How Does Learning Rate Decay Help Modern Neural Networks?, section 5.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> params, model_state = residual_mlp({}, num_classes=10).init(jax.random.key(0), jnp.zeros((2, 6)))
        >>> sum(leaf.size for leaf in jax.tree.leaves(params)), list(model_state)
        (102154, ['batch_stats'])
    """
    norm, blocks = model_config.get("norm", "batch"), model_config.get("blocks", 3)
    check(blocks >= 1, f"model.blocks={blocks} must be 1 or more")
    check(norm != "instance", "model.norm='instance' needs images: a dense layer has one value a channel; take 'layer'")
    return from_linen(
        ResidualMLP(
            num_classes=num_classes,
            width=model_config.get("width", 128),
            blocks=blocks,
            norm=norm_layer(model_config, kind="batch"),
            head=lookup(HEADS, model_config.get("head", "free"), "head"),
            use_bias=model_config.get("use_bias", norm == "none"),
            dtype=model_config.get("dtype"),
        )
    )
