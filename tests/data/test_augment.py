"""Random crops and flips."""

import jax
import numpy as np

from lrjax.data.augment import AUGMENTATIONS, PAD, crop_flip


def test_every_crop_is_a_window_of_the_padded_image_or_its_mirror():
    x = jax.random.normal(jax.random.key(0), (8, 6, 6, 2))
    padded = np.pad(np.asarray(x), ((0, 0), (PAD, PAD), (PAD, PAD), (0, 0)))
    changed = np.asarray(crop_flip(jax.random.key(1), x))
    flips = 0
    for image, source in zip(changed, padded, strict=True):
        windows = [source[i : i + 6, j : j + 6] for i in range(2 * PAD + 1) for j in range(2 * PAD + 1)]
        plain = any(np.array_equal(image, window) for window in windows)
        mirrored = any(np.array_equal(image, window[:, ::-1]) for window in windows)
        assert plain or mirrored
        flips += mirrored and not plain
    assert 0 < flips < 8


def test_the_same_key_gives_the_same_images_and_none_changes_nothing():
    x = jax.random.normal(jax.random.key(0), (4, 6, 6, 1))
    assert np.array_equal(crop_flip(jax.random.key(1), x), crop_flip(jax.random.key(1), x))
    assert not np.array_equal(crop_flip(jax.random.key(1), x), crop_flip(jax.random.key(2), x))
    assert AUGMENTATIONS["none"](jax.random.key(1), x) is x
