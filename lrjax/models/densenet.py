"""DenseNet-BC: DenseNet-121 for ImageNet, and small ones for small images."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lrjax.models.conv.pooling import max_pool
from lrjax.models.layers import Norm, norm_layer
from lrjax.models.linen import Conv, from_linen, through
from lrjax.models.model import NORM_OPTIONS, Model, lookup, takes

BLOCKS = {"121": (6, 12, 24, 16), "169": (6, 12, 32, 32), "22": (3, 3, 3)}
STEMS = ("imagenet", "small")


class DenseNet(nn.Module):
    """The Linen module behind `densenet`."""

    num_classes: int
    blocks: tuple[int, ...]
    growth: int
    stem: str
    norm: Callable[..., Norm]
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Images `[B, H, W, C]` to logits `[B, num_classes]`."""
        he = nn.initializers.he_normal()
        conv = partial(Conv, use_bias=False, kernel_init=he, dtype=self.dtype)

        def dense_layer(module: "DenseNet", x: jax.Array, name: str) -> jax.Array:
            new = nn.relu(module.norm(name=f"{name}_norm1")(x, train=train))
            new = conv(4 * module.growth, (1, 1), name=f"{name}_conv1")(new)
            new = nn.relu(module.norm(name=f"{name}_norm2")(new, train=train))
            return conv(module.growth, (3, 3), padding=1, name=f"{name}_conv2")(new)

        features = 2 * self.growth
        if self.stem == "imagenet":
            x = conv(features, (7, 7), strides=(2, 2), padding=3, name="stem")(x)
            x = nn.relu(self.norm(name="stem_norm")(x, train=train))
            padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))  # after ReLU zero is as good as minus infinity
            x = max_pool(padded, (3, 3), strides=(2, 2))
        else:
            x = conv(features, (3, 3), padding=1, name="stem")(x)
        for number, layers in enumerate(self.blocks, start=1):
            for layer in range(1, layers + 1):
                new = through(partial(dense_layer, name=f"block{number}_layer{layer}"), self, x)
                x = jnp.concatenate([x, new], axis=-1)
            if number < len(self.blocks):
                x = nn.relu(self.norm(name=f"transition{number}_norm")(x, train=train))
                x = conv(x.shape[-1] // 2, (1, 1), name=f"transition{number}_conv")(x)
                x = nn.avg_pool(x, (2, 2), strides=(2, 2))
        x = nn.relu(self.norm(name="final_norm")(x, train=train))
        return nn.Dense(self.num_classes, name="head")(x.mean(axis=(1, 2)))


@takes("depth", "growth", "stem", *NORM_OPTIONS)
def densenet(model_config: Any, num_classes: int) -> Model:
    """DenseNet-BC: 7,978,856 parameters at depth 121 with 1000 classes.

    Each layer is norm, ReLU, conv1x1-4k, norm, ReLU, conv3x3-k, and its input is what all layers of the block before it gave;
    between blocks norm, ReLU, a 1x1 conv to half the channels, average pool 2. Convolutions without bias, He-normal.

    Args:
        model_config: mapping with the optional keys `depth` (121; 169, and 22: three blocks of three layers), `growth` (32),
            `stem` ("imagenet": conv7x7 and max pool, a fourth of the side; "small": conv3x3), `norm` ("batch", "none" ...)
            and those of `lrjax.models.layers.norm_layer`.
        num_classes: number of outputs.

    Raises:
        LrjaxError: for an unknown depth, stem or norm.

    References:
        Huang et al. 2017, Densely connected convolutional networks; The Break-Even Point on Optimization Trajectories,
        section 4 (DenseNet on ImageNet; which one is not known).

    Example:
        >>> model = densenet({"depth": 22, "growth": 4, "stem": "small"}, num_classes=10)
        >>> params, _ = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
        >>> params["head"]["kernel"].shape
        (23, 10)
    """
    stem = model_config.get("stem", "imagenet")
    lookup(dict.fromkeys(STEMS), stem, "stem")
    return from_linen(
        DenseNet(
            num_classes=num_classes,
            blocks=lookup(BLOCKS, str(model_config.get("depth", 121)), "depth of densenet"),
            growth=model_config.get("growth", 32),
            stem=stem,
            norm=norm_layer(model_config, kind="batch"),
            dtype=model_config.get("dtype"),
        )
    )
