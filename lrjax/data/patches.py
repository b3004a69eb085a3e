"""CIFAR-10 with the memorable patches of Li, Wei & Ma 2019.

A patch in the middle of an image codes its class: a fixed random pattern plus or minus a small one of the class. Most
training images have it; some of those have nothing else.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from lrjax.data.dataset import Dataset
from lrjax.data.images import IMAGE_SHAPE, cifar10, cifar10_spec, generator
from lrjax.errors import check

COMMON, OWN = 1.25, 0.1  # deviation of the common pattern, bound of a class's own
BLANK = 1000  # test images with a patch alone


class Patches(NamedTuple):
    """The patterns: `common` `[p, p, 3]` and `own` `[classes, p, p, 3]`."""

    common: np.ndarray
    own: np.ndarray


def patches(num_classes: int, edge: int, seed: int) -> Patches:
    """A common Gaussian pattern of deviation 1.25 and, for each class, one uniform in [-0.1, 0.1].

    References:
        Li, Wei & Ma 2019 (arXiv 1907.04595), section 5, and its code.

    Example:
        >>> patches(10, 7, seed=0).own.shape
        (10, 7, 7, 3)
    """
    random = generator(seed, "memorable patches")
    shape = (edge, edge, IMAGE_SHAPE[2])
    common = COMMON * random.normal(size=shape)
    return Patches(common.astype(np.float32), random.uniform(-OWN, OWN, (num_classes, *shape)).astype(np.float32))


def with_patches(
    x: np.ndarray, y: np.ndarray, made: Patches, random: np.random.Generator, *, scale: float, alone: np.ndarray
) -> np.ndarray:
    """Copies of images whose middle is the patch of their class, with a random sign.

        patch = z + s v_y, s = +-1; where it is alone, s = +-u with u uniform in [0, scale], and the rest is zero

    Args:
        x, y: images `[n, H, W, 3]` and labels `[n]`.
        made: the patterns.
        random: for signs and u.
        scale: of the class pattern where the patch is alone.
        alone: bool `[n]`.
    """
    pasted = np.where(alone[:, None, None, None], 0.0, x).astype(np.float32)
    edge = made.common.shape[0]
    sign = random.choice([-1.0, 1.0], len(y)) * np.where(alone, scale * random.random(len(y)), 1.0)
    first = (x.shape[1] - edge) // 2
    patch = made.common + sign[:, None, None, None] * made.own[y]
    pasted[:, first : first + edge, first : first + edge] = patch
    return pasted


def cifar10_patches(config: Any) -> Dataset:
    """CIFAR-10 with patches.

    Args:
        config: as for `cifar10`; `config["data"]` has besides `patch_size` (7 pixels), `patched` (0.8, fraction of training
            images with a patch), `patch_only` (0.2, fraction of those without anything else) and `scale` (1.75).

    Returns:
        `train`, and the tests "test" (clean), "mixed" (made as the training set is) and "patch" (a blank image with the
        patch of its class). The patch takes the place of the pixels of standardised images; that is our reading.

    Raises:
        LrjaxError: as `cifar10`, or a number is out of range.

    References:
        Li, Wei & Ma 2019 (arXiv 1907.04595), section 5, and its code.
    """
    data = config["data"]
    for key in ("patched", "patch_only"):
        check(0 <= data[key] <= 1, f"data.{key}={data[key]} must lie in [0, 1]")
    check(1 <= data["patch_size"] <= IMAGE_SHAPE[0], f"data.patch_size={data['patch_size']} must lie in 1..32")
    clean = cifar10(config)
    made = patches(clean.num_classes, data["patch_size"], data["subset_seed"])

    def mixed(split: dict[str, Any], name: str) -> np.ndarray:
        random = generator(data["subset_seed"], f"patches of {name}")
        count = len(split["y"])
        has = random.permutation(count) < round(data["patched"] * count)
        alone = has & (random.random(count) < data["patch_only"])
        pasted = with_patches(split["x"], split["y"], made, random, scale=data["scale"], alone=alone)
        return np.where(has[:, None, None, None], pasted, split["x"])

    test = clean.tests["test"]
    y = (np.arange(BLANK) % clean.num_classes).astype(np.int32)
    blank = np.zeros((BLANK, *IMAGE_SHAPE), np.float32)
    whole = np.zeros(BLANK, bool)
    random = generator(data["subset_seed"], "blank patches")
    alone = {"x": with_patches(blank, y, made, random, scale=1.0, alone=whole), "y": y}
    return Dataset(
        train={"x": mixed(clean.train, "train"), "y": clean.train["y"]},
        tests={"test": test, "mixed": {"x": mixed(test, "test"), "y": test["y"]}, "patch": alone},
        num_classes=clean.num_classes,
    )


def cifar10_patches_spec(config: Any) -> Dataset:
    """The shapes of `cifar10_patches(config)`, without the disk.

    Example:
        >>> sorted(cifar10_patches_spec({"data": {"num_train": 100, "num_test": 50}}).tests)
        ['mixed', 'patch', 'test']
    """
    clean = cifar10_spec(config)
    test = clean.tests["test"]
    blank = {
        "x": jax.ShapeDtypeStruct((BLANK, *IMAGE_SHAPE), np.float32),
        "y": jax.ShapeDtypeStruct((BLANK,), np.int32),
    }
    return Dataset(clean.train, {"test": test, "mixed": test, "patch": blank}, clean.num_classes)
