"""The ResNets of depth 6n + 2 for 32x32 images; ResNet-32 is n = 5."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax

from lrjax.errors import check
from lrjax.models.layers import HEADS, Norm, norm_layer
from lrjax.models.linen import Conv, from_linen, through
from lrjax.models.model import NORM_OPTIONS, Model, lookup, takes

NUM_STAGES = 3


class PostBlock(nn.Module):
    """conv3x3, norm, ReLU, conv3x3, norm, plus shortcut, ReLU; the shortcut is a 1x1 conv and norm if shapes differ."""

    features: int
    stride: int
    conv: Callable
    norm: Callable[..., Norm]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Activations `[B, H, W, C]` to `[B, H / stride, W / stride, features]`."""
        strides = (self.stride, self.stride)
        branch = self.conv(self.features, (3, 3), strides=strides, padding=1, name="conv1")(x)
        branch = nn.relu(self.norm(name="norm1")(branch, train=train))
        branch = self.conv(self.features, (3, 3), padding=1, name="conv2")(branch)
        branch = self.norm(name="norm2")(branch, train=train)
        if branch.shape != x.shape:
            x = self.conv(self.features, (1, 1), strides=strides, name="projection")(x)
            x = self.norm(name="projection_norm")(x, train=train)
        return nn.relu(x + branch)


class PreBlock(nn.Module):
    """norm, ReLU, conv3x3, norm, ReLU, conv3x3, plus shortcut; the shortcut is a 1x1 conv if shapes differ."""

    features: int
    stride: int
    conv: Callable
    norm: Callable[..., Norm]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Activations `[B, H, W, C]` to `[B, H / stride, W / stride, features]`."""
        strides = (self.stride, self.stride)
        branch = nn.relu(self.norm(name="norm1")(x, train=train))
        branch = self.conv(self.features, (3, 3), strides=strides, padding=1, name="conv1")(branch)
        branch = nn.relu(self.norm(name="norm2")(branch, train=train))
        branch = self.conv(self.features, (3, 3), padding=1, name="conv2")(branch)
        if branch.shape != x.shape:
            x = self.conv(self.features, (1, 1), strides=strides, name="projection")(x)
        return x + branch


BLOCKS = {"post": PostBlock, "pre": PreBlock}


class CifarResNet(nn.Module):
    """The Linen module behind `resnet32`."""

    num_classes: int
    blocks: int
    width: int
    norm: Callable[..., Norm]
    head: Callable
    activation: str
    plain: bool
    final_norm: bool
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Images `[B, H, W, C]` to logits `[B, num_classes]`."""
        # Without normalisation the sum over blocks must not let the signal grow.
        scale = 2.0 / (NUM_STAGES * self.blocks) if self.plain else 2.0
        he = nn.initializers.variance_scaling(scale, "fan_in", "truncated_normal")
        conv = partial(Conv, use_bias=self.plain, kernel_init=he, dtype=self.dtype)
        x = conv(self.width, (3, 3), padding=1, name="stem")(x)
        if self.activation == "post":
            x = nn.relu(self.norm(name="stem_norm")(x, train=train))
        for stage in range(NUM_STAGES):
            for block in range(self.blocks):
                residual = BLOCKS[self.activation](
                    features=self.width * 2**stage,
                    stride=2 if stage > 0 and block == 0 else 1,
                    conv=conv,
                    norm=self.norm,
                    name=f"stage{stage + 1}_block{block + 1}",
                )
                x = through(lambda module, x: module(x, train=train), residual, x)
        if self.activation == "pre":
            x = nn.relu(self.norm(name="final_norm")(x, train=train))
        elif self.final_norm:
            x = self.norm(name="final_norm", affine=False)(x, train=train)
        return self.head(self.num_classes, "head")(x.mean(axis=(1, 2)))


@takes("depth", "width", "activation", "head", "final_norm", *NORM_OPTIONS)
def resnet32(model_config: Any, num_classes: int) -> Model:
    """ResNet of depth 6n + 2 for CIFAR: at depth 32 and 10 classes 466,906 parameters, 465,674 without norm.

    conv3x3-w, three stages of n basic blocks with widths w, 2w, 4w (stride 2 and a 1x1 conv on the shortcut at the start
    of stages 2 and 3), global average pool, dense. He-normal convolutions. With `norm="none"` convolutions have biases,
    and the variance of each, the first one's too, is divided by the number of blocks (15 at depth 32).

    Args:
        model_config: mapping with the optional keys `depth` (32), `width` (16), `activation` ("post", or "pre": norm and
            ReLU before each conv, and a ReLU before the pooling), `norm` ("batch", "none", "group", "layer" or
            "instance"), `affine` (True), `eps` (1e-5), `eps_in_state` (False), `groups` (8), `final_norm` (False; True: a
            norm without affine before the pooling of "post"), `head` ("free", or "frozen": its weights are
            model_state), `axis_name` (None) and `dtype` (None: that of inputs and parameters).
        num_classes: number of outputs.

    Returns:
        The model, from images `[B, H, W, C]` to logits `[B, num_classes]`.

    Raises:
        LrjaxError: for a depth that is not 6n + 2, an unknown norm, activation or head.

    References:
        He et al. 2015, section 4.2; The Break-Even Point on Optimization Trajectories, section 4, whose ResNet-32
        without normalisation is `norm="none", activation="pre"`, initialised as in the predecessor's code.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = resnet32({"depth": 8, "norm": "none"}, num_classes=10)
        >>> params, model_state = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((2, 32, 32, 3)))
        >>> params["head"]["kernel"].shape, model_state
        ((64, 10), {})
    """
    depth, activation = model_config.get("depth", 32), model_config.get("activation", "post")
    check(depth >= 8 and depth % 6 == 2, f"model.depth={depth} is not 6n + 2: take 8, 14, 20, 32, 44, 56 or 110")
    lookup(BLOCKS, activation, "activation")
    return from_linen(
        CifarResNet(
            num_classes=num_classes,
            blocks=(depth - 2) // 6,
            width=model_config.get("width", 16),
            norm=norm_layer(model_config, kind="batch"),
            head=lookup(HEADS, model_config.get("head", "free"), "head"),
            activation=activation,
            plain=model_config.get("norm", "batch") == "none",
            final_norm=model_config.get("final_norm", False),
            dtype=model_config.get("dtype"),
        )
    )
