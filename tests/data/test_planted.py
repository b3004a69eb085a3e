"""The planted patch: where it is, where it is not, and what it codes."""

from pathlib import Path

import jax
import numpy as np
import pytest

from lrjax.data.images import cifar10
from lrjax.data.planted import cifar10_planted, cifar10_planted_spec, paste, patch_patterns, without_patch
from lrjax.errors import LrjaxError

TFDS = Path(__file__).parents[2].parent / "shared" / "tfds"
CONFIG = {
    "data_dir": str(TFDS),
    "data": {"num_train": 300, "num_test": 60, "subset_seed": 0, "rho": 0.1, "contrast": 3.0, "patch_size": 4},
}


@pytest.fixture(scope="module")
def clean():
    if not (TFDS / "cifar10").is_dir():
        pytest.skip("no prepared CIFAR-10 in ../shared/tfds beside the repository")
    return cifar10(CONFIG)


@pytest.fixture(scope="module")
def planted(clean):
    return cifar10_planted(CONFIG)


def corner(x):
    return x[:, :4, :4]


@pytest.mark.parametrize(("rho", "count"), [(0.0, 0), (0.125, 125), (0.3333, 333), (1.0, 1000)])
def test_fraction_without_patch_is_exact_and_the_same_in_every_class(rho, count):
    labels = np.random.default_rng(0).integers(0, 10, 1000)
    chosen = without_patch(labels, rho, seed=0)
    assert chosen.sum() == count
    for label in range(10):
        assert abs(chosen[labels == label].sum() - rho * (labels == label).sum()) < 1.5


def test_choice_of_images_is_a_function_of_the_seed():
    labels = np.zeros(100, int)
    np.testing.assert_array_equal(without_patch(labels, 0.5, seed=3), without_patch(labels, 0.5, seed=3))
    assert (without_patch(labels, 0.5, seed=3) != without_patch(labels, 0.5, seed=4)).any()


@pytest.mark.parametrize("patch_size", [2, 4])
@pytest.mark.parametrize("seed", range(20))
def test_patterns_differ_by_class_and_have_the_contrast(patch_size, seed):
    patterns = patch_patterns(200, patch_size, contrast=2.5, seed=seed)
    assert len(np.unique(patterns, axis=0)) == 200
    np.testing.assert_array_equal(np.abs(patterns), np.float32(2.5))


def test_paste_leaves_its_argument_and_the_rest_of_the_image():
    images = np.zeros((2, 8, 8, 3), np.float32)
    pasted = paste(images, np.ones((2, 3, 3, 3), np.float32))
    assert not images.any()
    assert (pasted[:, :3, :3] == 1).all()
    assert pasted.sum() == 2 * 27


@pytest.mark.parametrize(
    "wrong", [{"rho": 1.5}, {"rho": -0.1}, {"patch_size": 1}, {"patch_size": 33}, {"contrast": 0.0}]
)
def test_values_out_of_range_are_refused_by_name(wrong, clean):
    with pytest.raises(LrjaxError, match=next(iter(wrong))):
        cifar10_planted({**CONFIG, "data": {**CONFIG["data"], **wrong}})


def test_exactly_the_marked_training_images_have_the_patch(planted, clean):
    x, y, patched = (planted.train[key] for key in ("x", "y", "patched"))
    assert patched.dtype == bool
    assert patched.sum() == 270
    np.testing.assert_array_equal(x[~patched], clean.train["x"][~patched])
    np.testing.assert_array_equal(x[:, 4:], clean.train["x"][:, 4:])
    np.testing.assert_array_equal(x[:, :, 4:], clean.train["x"][:, :, 4:])
    of_class = {label: np.unique(corner(x)[patched & (y == label)], axis=0) for label in range(10)}
    assert all(len(patches) == 1 for patches in of_class.values())
    assert len(np.unique(np.concatenate(list(of_class.values())), axis=0)) == 10


def test_main_test_set_is_clean(planted, clean):
    jax.tree.map(np.testing.assert_array_equal, planted.tests["test"], clean.tests["test"])


def test_test_sets_have_the_patch_of_the_right_or_of_another_class(planted):
    x, y, is_patched = (planted.train[key] for key in ("x", "y", "patched"))
    pattern = np.stack([corner(x)[is_patched & (y == label)][0] for label in range(10)])
    right, conflict = planted.tests["patched"], planted.tests["conflict"]
    np.testing.assert_array_equal(corner(right["x"]), pattern[right["y"]])
    np.testing.assert_array_equal(corner(conflict["x"]), pattern[conflict["patch_class"]])
    np.testing.assert_array_equal(conflict["y"], planted.tests["test"]["y"])
    assert (conflict["patch_class"] != conflict["y"]).all()
    assert len(set(conflict["patch_class"].tolist())) == 10
    np.testing.assert_array_equal(conflict["x"][:, 4:], planted.tests["test"]["x"][:, 4:])


def test_spec_has_the_shapes_and_types_of_the_data(planted):
    spec = cifar10_planted_spec(CONFIG)
    shapes = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), (d.train, d.tests)) for d in (planted, spec)]
    assert shapes[0] == shapes[1]
