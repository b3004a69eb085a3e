"""CIFAR-10 with a planted strong feature: a real-image analogue of the data model of benign oscillation.

This is lrjax's own construction, not an experiment of the paper. The strong feature is a high-contrast patch that codes
the class, present in a fraction 1 - rho of the training images; the weak feature is the content of the image, present
in all of them.
"""

from typing import Any

import jax
import numpy as np

from lrjax.data.dataset import Dataset
from lrjax.data.images import IMAGE_SHAPE, cifar10, cifar10_spec, generator
from lrjax.errors import LrjaxError


def patch_patterns(num_classes: int, patch_size: int, contrast: float, seed: int) -> np.ndarray:
    """One random pattern of +contrast and -contrast for each class, no two of them equal.

    Args:
        num_classes: number of classes.
        patch_size: edge of the square, in pixels.
        contrast: magnitude, in units of the standard deviation of the images.
        seed: seed of the patterns.

    Returns:
        float32 `[num_classes, patch_size, patch_size, 3]`.

    Raises:
        LrjaxError: if `patch_size` is below 2 (too few patterns) or above the image, or `contrast` not positive.

    Example:
        >>> patch_patterns(10, 4, 3.0, seed=0).shape
        (10, 4, 4, 3)
    """
    if not 2 <= patch_size <= IMAGE_SHAPE[0]:
        raise LrjaxError(f"config.data.patch_size={patch_size} must be between 2 and {IMAGE_SHAPE[0]}")
    if not contrast > 0:
        raise LrjaxError(f"config.data.contrast={contrast} must be positive")
    random = generator(seed, "patch patterns")
    while True:
        signs = random.choice([-1.0, 1.0], size=(num_classes, patch_size, patch_size, IMAGE_SHAPE[2]))
        if len(np.unique(signs, axis=0)) == num_classes:
            return (contrast * signs).astype(np.float32)


def without_patch(labels: np.ndarray, rho: float, seed: int) -> np.ndarray:
    """Which examples have the weak feature only: exactly round(rho n) of them, the same share of every class.

    Args:
        labels: int `[n]`.
        rho: fraction of examples without the patch, in [0, 1].
        seed: seed of the choice.

    Returns:
        bool `[n]`; the number in a class differs from rho times its size by less than one and a half.

    Raises:
        LrjaxError: if `rho` is not in [0, 1].

    Example:
        >>> without_patch(np.array([0, 0, 0, 0, 1, 1, 1, 1]), rho=0.25, seed=0).reshape(2, 4).sum(axis=1).tolist()
        [1, 1]
    """
    if not 0 <= rho <= 1:
        raise LrjaxError(f"config.data.rho={rho} must lie in [0, 1]: the fraction of training images without the patch")
    n = len(labels)
    count = round(rho * n)
    by_class = np.lexsort((generator(seed, "images without patch").random(n), labels))
    chosen = np.zeros(n, bool)
    chosen[by_class[((np.arange(count) + 0.5) * n / max(count, 1)).astype(int)]] = True
    return chosen


def paste(images: np.ndarray, patches: np.ndarray) -> np.ndarray:
    """Copies of `images` `[n, H, W, C]` whose top left corner is replaced by `patches` `[n, p, p, C]`.

    Example:
        >>> paste(np.zeros((1, 4, 4, 1)), np.ones((1, 2, 2, 1))).sum()
        np.float64(4.0)
    """
    pasted = images.copy()
    pasted[:, : patches.shape[1], : patches.shape[2]] = patches
    return pasted


def cifar10_planted(config: Any) -> Dataset:
    """CIFAR-10 whose training images carry, but for a fraction rho, a patch that codes their class.

    The patch replaces the top left corner after standardisation. Its pattern and the choice of images are functions of
    `subset_seed`, the same in every run.

    Args:
        config: as for `cifar10`; `config["data"]` has besides `rho` (fraction of training images without the patch),
            `contrast` (in standard deviations of the images) and `patch_size` (pixels).

    Returns:
        `train` with "patched" bool `[n]`. The tests have the same images: "test" without a patch (the weak feature
        alone), "patched" with that of the right class, "conflict" with that of another class, named in "patch_class"
        int32 `[n]`.

    Raises:
        LrjaxError: as `cifar10`, and if rho, contrast or patch_size is out of range.

    References:
        ours; strong and weak features as in the data model of Benign Oscillation of SGD with Large Learning Rates.
    """
    data = config["data"]
    clean = cifar10(config)
    seed = data.get("subset_seed", 0)
    patterns = patch_patterns(clean.num_classes, data["patch_size"], data["contrast"], seed)
    x, y = clean.train["x"], clean.train["y"]
    patched = ~without_patch(y, data["rho"], seed)
    x[patched] = paste(x[patched], patterns[y[patched]])
    test_x, test_y = clean.tests["test"]["x"], clean.tests["test"]["y"]
    shift = generator(seed, "conflicting patches").integers(1, clean.num_classes, size=len(test_y))
    other = ((test_y + shift) % clean.num_classes).astype(np.int32)
    return Dataset(
        train={"x": x, "y": y, "patched": patched},
        tests={
            "test": clean.tests["test"],
            "patched": {"x": paste(test_x, patterns[test_y]), "y": test_y},
            "conflict": {"x": paste(test_x, patterns[other]), "y": test_y, "patch_class": other},
        },
        num_classes=clean.num_classes,
    )


def cifar10_planted_spec(config: Any) -> Dataset:
    """The shapes of `cifar10_planted(config)`, without the disk.

    Example:
        >>> sorted(cifar10_planted_spec({"data": {"num_train": 100, "num_test": 50}}).tests)
        ['conflict', 'patched', 'test']
    """
    clean = cifar10_spec(config)
    test = clean.tests["test"]
    patched = jax.ShapeDtypeStruct(clean.train["y"].shape, np.bool_)
    return Dataset(
        train={**clean.train, "patched": patched},
        tests={"test": test, "patched": test, "conflict": {**test, "patch_class": test["y"]}},
        num_classes=clean.num_classes,
    )
