"""ResNet-18 for 32x32 images, ResNet-50 for ImageNet."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax

from lrjax.models.conv.pooling import max_pool
from lrjax.models.linen import NORMS, Conv, batch_norm, from_linen, no_norm, through
from lrjax.models.model import Model, lookup, takes

STAGES = (2, 2, 2, 2)
STAGES_50, EXPANSION = (3, 4, 6, 3), 4
STEMS = ("imagenet", "cifar")


class BasicBlock(nn.Module):
    """conv3x3, norm, ReLU, conv3x3, norm, plus shortcut, ReLU; the shortcut is a 1x1 conv and norm if shapes differ."""

    features: int
    stride: int
    conv: Callable
    norm: Callable
    last_init: Callable

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Activations `[B, H, W, C]` to `[B, H / stride, W / stride, features]`."""
        strides = (self.stride, self.stride)
        # Padding is explicit: "SAME" at stride 2 would pad one side only, unlike the published networks.
        branch = self.conv(self.features, (3, 3), strides=strides, padding=1, name="conv1")(x)
        branch = nn.relu(self.norm(branch, "norm1"))
        branch = self.conv(self.features, (3, 3), padding=1, kernel_init=self.last_init, name="conv2")(branch)
        branch = self.norm(branch, "norm2")
        if branch.shape != x.shape:
            x = self.conv(self.features, (1, 1), strides=strides, name="projection")(x)
            x = self.norm(x, "projection_norm")
        return nn.relu(x + branch)


class ResNet18(nn.Module):
    """The Linen module behind `resnet18`."""

    num_classes: int
    width: int = 64
    norm: Callable = batch_norm
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Images `[B, H, W, C]` to logits `[B, num_classes]`."""
        plain = self.norm is no_norm
        he = nn.initializers.he_normal()
        # Without normalisation the sum over blocks must not let the signal grow: Var / number of blocks, last conv.
        last_init = nn.initializers.variance_scaling(2.0 / sum(STAGES), "fan_in", "truncated_normal") if plain else he
        conv = partial(Conv, use_bias=plain, kernel_init=he, dtype=self.dtype)
        norm = partial(self.norm, train=train, axis_name=self.axis_name, dtype=self.dtype)
        x = nn.relu(norm(conv(self.width, (3, 3), padding=1, name="stem")(x), "stem_norm"))
        for stage, num_blocks in enumerate(STAGES):
            for block in range(num_blocks):
                residual = BasicBlock(
                    features=self.width * 2**stage,
                    stride=2 if stage > 0 and block == 0 else 1,
                    conv=conv,
                    norm=norm,
                    last_init=last_init,
                    name=f"stage{stage + 1}_block{block + 1}",
                )
                x = through(lambda module, x: module(x), residual, x)
        x = x.mean(axis=(1, 2))
        # The head has no dtype of its own: it promotes to that of its parameters, so that logits are never bfloat16.
        return nn.Dense(self.num_classes, name="head")(x)


@takes("width", "norm", "axis_name", "dtype")
def resnet18(model_config: Any, num_classes: int) -> Model:
    """ResNet-18 with the CIFAR stem: 11,173,962 parameters at width 64 with 10 classes.

    conv3x3-w without max pool, four stages of two post-activation basic blocks with widths w, 2w, 4w, 8w (stride 2 at
    the start of stages 2 to 4), global average pool, dense. He-normal convolutions. With `norm="none"` convolutions
    have biases, and the last one of each block is initialised with its variance divided by the number of blocks.

    Args:
        model_config: mapping with the optional keys `width` (64), `norm` ("batch" or "none"), `axis_name` (None) and
            `dtype` (None: that of inputs and parameters).
        num_classes: number of outputs.

    Returns:
        The model, from images `[B, H, W, C]` to logits `[B, num_classes]`.

    Raises:
        LrjaxError: for an unknown norm.

    References:
        He et al. 2015 with the stem used for CIFAR-10 in the large-step studies that benign oscillation refers to.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = resnet18({"width": 2}, num_classes=10)
        >>> params, model_state = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((2, 32, 32, 3)))
        >>> params["head"]["kernel"].shape, list(model_state)
        ((16, 10), ['batch_stats'])
    """
    return from_linen(
        ResNet18(
            num_classes=num_classes,
            width=model_config.get("width", 64),
            norm=lookup(NORMS, model_config.get("norm", "batch"), "norm"),
            axis_name=model_config.get("axis_name"),
            dtype=model_config.get("dtype"),
        )
    )


class Bottleneck(nn.Module):
    """conv1x1, conv3x3, conv1x1 with norms and ReLUs between, plus shortcut, ReLU; the stride is in the 3x3."""

    features: int
    stride: int
    conv: Callable
    norm: Callable

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Activations `[B, H, W, C]` to `[B, H / stride, W / stride, 4 features]`."""
        strides, project = (self.stride, self.stride), self.stride != 1 or x.shape[-1] != EXPANSION * self.features
        branch = nn.relu(self.norm(self.conv(self.features, (1, 1), name="conv1")(x), "norm1"))
        branch = self.conv(self.features, (3, 3), strides=strides, padding=1, name="conv2")(branch)
        branch = nn.relu(self.norm(branch, "norm2"))
        branch = self.norm(self.conv(EXPANSION * self.features, (1, 1), name="conv3")(branch), "norm3")
        if project:
            x = self.conv(EXPANSION * self.features, (1, 1), strides=strides, name="projection")(x)
            x = self.norm(x, "projection_norm")
        return nn.relu(x + branch)


class ResNet50(nn.Module):
    """The Linen module behind `resnet50`."""

    num_classes: int
    width: int = 64
    stem: str = "imagenet"
    norm: Callable = batch_norm
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Images `[B, H, W, C]` to logits `[B, num_classes]`."""
        he = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
        conv = partial(Conv, use_bias=self.norm is no_norm, kernel_init=he, dtype=self.dtype)
        norm = partial(self.norm, train=train, axis_name=self.axis_name, dtype=self.dtype)
        if self.stem == "imagenet":
            x = conv(self.width, (7, 7), strides=(2, 2), padding=3, name="stem")(x)
            x = max_pool(nn.relu(norm(x, "stem_norm")), (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        else:
            x = nn.relu(norm(conv(self.width, (3, 3), padding=1, name="stem")(x), "stem_norm"))
        for stage, num_blocks in enumerate(STAGES_50):
            for block in range(num_blocks):
                residual = Bottleneck(
                    features=self.width * 2**stage,
                    stride=2 if stage > 0 and block == 0 else 1,
                    conv=conv,
                    norm=norm,
                    name=f"stage{stage + 1}_block{block + 1}",
                )
                x = through(lambda module, x: module(x), residual, x)
        return nn.Dense(self.num_classes, name="head")(x.mean(axis=(1, 2)))


@takes("width", "stem", "norm", "axis_name", "dtype")
def resnet50(model_config: Any, num_classes: int) -> Model:
    """ResNet-50: 25,557,032 parameters at width 64 with 1000 classes.

    conv7x7-w at stride 2 and a max pool (or conv3x3-w alone), four stages of 3, 4, 6 and 3 bottleneck blocks with widths
    4w, 8w, 16w, 32w (stride 2 at the start of stages 2 to 4, in the 3x3 convolution), global average pool, dense.

    Args:
        model_config: mapping with the optional keys `width` (64), `stem` ("imagenet" or "cifar": no stride, no pool),
            `norm` ("batch" or "none"), `axis_name` (None) and `dtype` (None: that of inputs and parameters).
        num_classes: number of outputs.

    Returns:
        The model, from images `[B, H, W, C]` to logits `[B, num_classes]`.

    Raises:
        LrjaxError: for an unknown norm or stem.

    References:
        He et al. 2015, with the stride where torchvision has it. How Does Learning Rate Decay Help Modern Neural
        Networks?, section 6, trains it on ImageNet.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = resnet50({"width": 4}, num_classes=10)
        >>> params, model_state = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((2, 64, 64, 3)))
        >>> params["head"]["kernel"].shape, list(model_state)
        ((128, 10), ['batch_stats'])
    """
    stem = model_config.get("stem", "imagenet")
    lookup(dict.fromkeys(STEMS), stem, "stem")
    return from_linen(
        ResNet50(
            num_classes=num_classes,
            width=model_config.get("width", 64),
            stem=stem,
            norm=lookup(NORMS, model_config.get("norm", "batch"), "norm"),
            axis_name=model_config.get("axis_name"),
            dtype=model_config.get("dtype"),
        )
    )
