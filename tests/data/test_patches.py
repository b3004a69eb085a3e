"""The patches of Li, Wei and Ma: where they are, what they code, and what lies beside them."""

from pathlib import Path

import jax
import numpy as np
import pytest

from lrjax.data.images import cifar10
from lrjax.data.patches import cifar10_patches, cifar10_patches_spec, patches
from lrjax.errors import LrjaxError

TFDS = Path(__file__).parents[2].parent / "shared" / "tfds"
DATA = dict(num_train=500, num_test=100, subset_seed=0, patch_size=7, patched=0.8, patch_only=0.2, scale=1.75)
CONFIG = {"data_dir": str(TFDS), "data": DATA}
MIDDLE = slice(12, 19)


@pytest.fixture(scope="module")
def both():
    if not (TFDS / "cifar10").is_dir():
        pytest.skip("no prepared CIFAR-10 in ../shared/tfds beside the repository")
    return cifar10(CONFIG), cifar10_patches(CONFIG)


def inside(x):
    return x[:, MIDDLE, MIDDLE]


def test_four_fifths_have_a_patch_and_a_fifth_of_those_nothing_else(both):
    clean, made = both
    changed = np.any(inside(made.train["x"]) != inside(clean.train["x"]), axis=(1, 2, 3))
    assert np.sum(changed) == 400
    outside = made.train["x"].copy()
    outside[:, MIDDLE, MIDDLE] = 0
    alone = np.all(outside == 0, axis=(1, 2, 3))
    assert 50 <= np.sum(alone) <= 115
    assert np.all(changed[alone])
    assert np.array_equal(made.train["y"], clean.train["y"])


def test_the_patch_is_the_common_pattern_plus_or_minus_that_of_the_class(both):
    clean, made = both
    pattern = patches(10, 7, 0)
    changed = np.any(inside(made.train["x"]) != inside(clean.train["x"]), axis=(1, 2, 3))
    own = inside(made.train["x"])[changed] - pattern.common
    wanted = pattern.own[made.train["y"][changed]]
    factor = np.sum(own * wanted, axis=(1, 2, 3)) / np.sum(wanted**2, axis=(1, 2, 3))
    np.testing.assert_allclose(own, factor[:, None, None, None] * wanted, atol=1e-5)
    whole = np.abs(np.abs(factor) - 1) < 1e-4
    assert np.mean(whole) == pytest.approx(0.8, abs=0.08)
    assert np.max(np.abs(factor)) <= 1.75 + 1e-4
    assert 0.4 < np.mean(factor > 0) < 0.6


def test_tests_are_clean_mixed_and_blank(both):
    clean, made = both
    assert np.array_equal(made.tests["test"]["x"], clean.tests["test"]["x"])
    assert np.sum(np.any(made.tests["mixed"]["x"] != clean.tests["test"]["x"], axis=(1, 2, 3))) == 80
    blank = made.tests["patch"]
    assert np.array_equal(np.bincount(blank["y"]), [100] * 10)
    assert np.all(np.delete(blank["x"], np.arange(12, 19), axis=1) == 0)


def test_shapes_are_those_of_the_data(both):
    promised, made = cifar10_patches_spec(CONFIG), both[1]
    for want, have in ((promised.train, made.train), *((promised.tests[n], made.tests[n]) for n in promised.tests)):
        assert jax.tree.map(lambda a: (a.shape, a.dtype), want) == jax.tree.map(lambda a: (a.shape, a.dtype), have)


@pytest.mark.parametrize("key", ["patched", "patch_only"])
def test_fractions_out_of_range_are_refused(key):
    with pytest.raises(LrjaxError, match=key):
        cifar10_patches({"data_dir": str(TFDS), "data": DATA | {key: 1.5}})
