"""Wide ResNets WRN-d-k for 32x32 images."""

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


class Activation(nn.Module):
    """ReLU; in training of its input plus noise, one map [H, W] for all examples and channels."""

    noise: float

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Activations `[B, H, W, C]` to the same shape."""
        if train and self.noise and self.has_rng("dropout"):
            x = x + self.noise * jax.random.normal(self.make_rng("dropout"), (1, *x.shape[1:3], 1), x.dtype)
        return nn.relu(x)


class WideBlock(nn.Module):
    """norm, ReLU, conv3x3, norm, ReLU, conv3x3, plus shortcut: a 1x1 conv of the first ReLU's output if widths differ."""

    features: int
    stride: int
    conv: Callable
    norm: Callable[..., Norm]
    active: Callable

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Activations `[B, H, W, C]` to `[B, H / stride, W / stride, features]`."""
        strides = (self.stride, self.stride)
        active = self.active(name="active1")(self.norm(name="norm1")(x, train=train), train=train)
        branch = self.conv(self.features, (3, 3), strides=strides, padding=1, name="conv1")(active)
        branch = self.active(name="active2")(self.norm(name="norm2")(branch, train=train), train=train)
        branch = self.conv(self.features, (3, 3), padding=1, name="conv2")(branch)
        if branch.shape != x.shape:
            x = self.conv(self.features, (1, 1), strides=strides, name="projection")(active)
        return x + branch


class WideResNet(nn.Module):
    """The Linen module behind `wide_resnet`."""

    num_classes: int
    blocks: int
    widen: int
    width: int
    norm: Callable[..., Norm]
    head: Callable
    plain: bool
    noise: float = 0.0
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Images `[B, H, W, C]` to logits `[B, num_classes]`."""
        he = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
        conv = partial(Conv, use_bias=self.plain, kernel_init=he, dtype=self.dtype)
        active = partial(Activation, self.noise)
        x = conv(self.width, (3, 3), padding=1, name="stem")(x)
        for stage in range(NUM_STAGES):
            for block in range(self.blocks):
                residual = WideBlock(
                    features=self.width * self.widen * 2**stage,
                    stride=2 if stage > 0 and block == 0 else 1,
                    conv=conv,
                    norm=self.norm,
                    active=active,
                    name=f"stage{stage + 1}_block{block + 1}",
                )
                x = through(lambda module, x: module(x, train=train), residual, x)
        x = active(name="active")(self.norm(name="final_norm")(x, train=train), train=train)
        return self.head(self.num_classes, "head")(x.mean(axis=(1, 2)))


@takes("depth", "widen", "width", "head", "activation_noise", *NORM_OPTIONS)
def wide_resnet(model_config: Any, num_classes: int) -> Model:
    """WRN-d-k: at 10 classes 2,748,890 parameters for WRN-16-4, 36,479,194 for WRN-28-10.

    conv3x3-w, three stages of (d - 4) / 6 pre-activation blocks with widths wk, 2wk, 4wk (stride 2 at the start of
    stages 2 and 3), norm, ReLU, global average pool, dense. Convolutions without bias, N(0, 2 / (k^2 C_out)). No dropout.

    Args:
        model_config: mapping with the optional keys `depth` (16), `widen` (4), `width` (16), `norm` ("batch", "none",
            "group", "layer" or "instance"), `affine` (True), `eps` (1e-5), `eps_in_state` (False), `groups` (8), `head`
            ("free", or "frozen": its weights are model_state), `activation_noise` (0.0, the standard deviation of what is
            added before each ReLU in training), `axis_name` (None) and `dtype` (None: that of inputs and parameters). With
            `norm="none"` convolutions have biases.
        num_classes: number of outputs.

    Returns:
        The model, from images `[B, H, W, C]` of any number of channels to logits `[B, num_classes]`.

    Raises:
        LrjaxError: for a depth that is not 6n + 4, an unknown norm or head.

    References:
        Zagoruyko & Komodakis 2016, section 2. How Does Learning Rate Decay Help Modern Neural Networks? uses it on
        CIFAR-10 and on PS10. The noise is that of Li, Wei & Ma 2019 (their code).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = wide_resnet({"depth": 10, "widen": 2}, num_classes=10)
        >>> params, model_state = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((2, 32, 32, 6)))
        >>> params["head"]["kernel"].shape, list(model_state)
        ((128, 10), ['batch_stats'])
    """
    depth = model_config.get("depth", 16)
    check(depth >= 10 and depth % 6 == 4, f"model.depth={depth} is not 6n + 4: take 10, 16, 22, 28 or 40")
    return from_linen(
        WideResNet(
            num_classes=num_classes,
            blocks=(depth - 4) // 6,
            widen=model_config.get("widen", 4),
            width=model_config.get("width", 16),
            norm=norm_layer(model_config, kind="batch"),
            head=lookup(HEADS, model_config.get("head", "free"), "head"),
            plain=model_config.get("norm", "batch") == "none",
            noise=model_config.get("activation_noise", 0.0),
            dtype=model_config.get("dtype"),
        )
    )
