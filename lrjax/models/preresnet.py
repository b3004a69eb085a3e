"""Pre-activation ResNets of depth 6n + 2, scale invariant in their weights, and the variants that are not."""

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

# name -> (is there a 1x1 conv also where shapes agree, at the start of stage 1; does a norm stand before it)
SHORTCUTS = {"none": (False, False), "downsampling": (False, True), "all": (True, True)}


class ScaleFreeBlock(nn.Module):
    """norm, ReLU, conv3x3, norm, ReLU, conv3x3, plus shortcut; the shortcut has a norm of its own before its 1x1 conv."""

    features: int
    stride: int
    first: bool
    shortcut: str
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
        everywhere, normed = SHORTCUTS[self.shortcut]
        if branch.shape != x.shape or (self.first and everywhere):
            if normed:
                x = self.norm(name="projection_norm")(x, train=train)
            x = self.conv(self.features, (1, 1), strides=strides, name="projection")(x)
        return x + branch


class PreResNet(nn.Module):
    """The Linen module behind `preresnet`."""

    num_classes: int
    blocks: int
    width: int
    shortcut: str
    stem_bias: bool
    final_affine: bool
    final_relu: bool
    norm: Callable[..., Norm]
    head: Callable
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Images `[B, H, W, C]` to logits `[B, num_classes]`."""
        init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
        conv = partial(Conv, use_bias=False, kernel_init=init, dtype=self.dtype)
        x = conv(self.width, (3, 3), padding=1, use_bias=self.stem_bias, name="stem")(x)
        for stage in range(NUM_STAGES):
            for block in range(self.blocks):
                residual = ScaleFreeBlock(
                    features=self.width * 2**stage,
                    stride=2 if stage > 0 and block == 0 else 1,
                    first=block == 0,
                    shortcut=self.shortcut,
                    conv=conv,
                    norm=self.norm,
                    name=f"stage{stage + 1}_block{block + 1}",
                )
                x = through(lambda module, x: module(x, train=train), residual, x)
        x = self.norm(name="final_norm", affine=self.final_affine)(x, train=train)
        if self.final_relu:
            x = nn.relu(x)
        return self.head(self.num_classes, "head")(x.mean(axis=(1, 2)))


@takes("depth", "width", "final_affine", "shortcut", "stem_bias", "final_relu", "head", *NORM_OPTIONS)
def preresnet(model_config: Any, num_classes: int) -> Model:
    r"""The scale-invariant PreResNet of depth 6n + 2: 463,792 trained parameters at depth 32.

    conv3x3-w, three stages of n pre-activation blocks with widths w, 2w, 4w (strides 1, 2, 2), norm, ReLU, global average
    pool, a frozen linear head. Convolutions without bias, N(0, 2 / (k^2 C_out)). Normalisation has no affine and eps 0,
    so that

        f(c theta) = f(theta)    for all c > 0.

    The rule is by degrees of homogeneity in the trained parameters. The input has degree 0, a linear map without bias adds
    1, a bias is consistent with degree 1 alone, normalisation gives 0 and with a trained affine 1, ReLU and pooling keep
    the degree, terms of a sum must have the same one, and the input of a frozen head must have degree 0. Hence a 1x1 conv
    on a raw shortcut breaks it (degree 2 beside 1), and so do an affine with identity shortcuts in stage 1, and an affine
    in the last norm. With `affine=True`, `shortcut="all"` and `final_affine=False` it holds.

    Args:
        model_config: mapping with the optional keys `depth` (32), `width` (16), `norm` ("batch", "group", "layer",
            "instance" or "none"), `groups` (8), `affine` (False), `final_affine` (as `affine`), `eps` (0.0),
            `eps_in_state` (False; True: eps is a part of model_state), `shortcut` ("downsampling": norm and 1x1 conv
            where shapes differ; "all": also at the start of stage 1; "none": a raw 1x1 conv, the usual PreResNet),
            `stem_bias` (False), `final_relu` (True), `head` ("frozen": its weights are model_state; or "free"),
            `axis_name` (None) and `dtype` (None: that of inputs and parameters).
        num_classes: number of outputs.

    Returns:
        The model, from images `[B, H, W, C]` to logits `[B, num_classes]`.

    Raises:
        LrjaxError: for a depth that is not 6n + 2, an unknown norm, shortcut or head.

    References:
        Li & Arora 2020, An Exponential Learning Rate Schedule for Deep Learning, section 4 and appendix C; layer
        order and initialisation after later code of the same group.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = preresnet({"depth": 8, "width": 4}, num_classes=10)
        >>> params, model_state = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((2, 32, 32, 3)))
        >>> list(params["stage2_block1"]), sorted(model_state)
        (['conv1', 'conv2', 'projection'], ['batch_stats', 'frozen'])
    """
    depth, shortcut = model_config.get("depth", 32), model_config.get("shortcut", "downsampling")
    check(depth >= 8 and depth % 6 == 2, f"model.depth={depth} is not 6n + 2: take 8, 14, 20, 32, 44, 56 or 110")
    lookup(SHORTCUTS, shortcut, "shortcut")
    return from_linen(
        PreResNet(
            num_classes=num_classes,
            blocks=(depth - 2) // 6,
            width=model_config.get("width", 16),
            shortcut=shortcut,
            stem_bias=model_config.get("stem_bias", False),
            final_affine=model_config.get("final_affine", model_config.get("affine", False)),
            final_relu=model_config.get("final_relu", True),
            norm=norm_layer(model_config, kind="batch", affine=False, eps=0.0),
            head=lookup(HEADS, model_config.get("head", "frozen"), "head"),
            dtype=model_config.get("dtype"),
        )
    )
