"""Image sets of tfds and of folders: classes, sizes, and what is said where the data is not there."""

import jax
import numpy as np
import pytest
from PIL import Image

from lrjax.data.image_sets import image_set, image_set_spec, resized
from lrjax.errors import LrjaxError

SETTINGS = dict(
    source="pets", format="folder", train_split="train", test_split="test", image_size=8, first_class=0, num_classes=2,
    num_train=None, num_test=None, full_train=6, full_test=4, subset_seed=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    for split, count in (("train", 3), ("test", 2)):
        for number, name in enumerate(("cats", "dogs", "eels")):
            place = root / "pets" / split / name
            place.mkdir(parents=True)
            for i in range(count):
                shade = np.full((12, 20, 3), 60 * number + 10 * i, np.uint8)
                Image.fromarray(shade).save(place / f"{i}.png")
    return root


def load(folder, **overrides):
    return image_set({"data_dir": str(folder), "data": SETTINGS | overrides})


def test_a_folder_is_read_with_classes_in_the_order_of_their_names(folder):
    found = load(folder)
    assert found.train["x"].shape == (6, 8, 8, 3)
    assert np.array_equal(np.bincount(found.train["y"]), [3, 3])
    light = found.train["x"].mean(axis=(1, 2, 3))
    assert light[found.train["y"] == 1].min() > light[found.train["y"] == 0].max()
    assert found.tests["test"]["y"].shape == (4,)


def test_later_classes_are_renumbered_from_zero(folder):
    assert np.array_equal(np.bincount(load(folder, first_class=1).train["y"]), [3, 3])


def test_shapes_are_those_of_the_data(folder):
    promised, made = image_set_spec({"data": SETTINGS}), load(folder)
    for want, have in ((promised.train, made.train), (promised.tests["test"], made.tests["test"])):
        assert jax.tree.map(lambda a: (a.shape, a.dtype), want) == jax.tree.map(lambda a: (a.shape, a.dtype), have)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"source": "birds"}, "there is no folder"),
        ({"num_train": 7}, "data.num_train=7"),
        (
            {"source": "birds", "format": "tfds"},
            "put your own there, as .*birds/1.0.0.*format=folder.*if tfds.list_builders",
        ),
    ],
)
def test_what_is_not_there_is_said(folder, overrides, said):
    with pytest.raises(LrjaxError, match=said):
        load(folder, **overrides)


@pytest.mark.slow
def test_tiny_imagenet_gives_the_hundred_classes_asked_for(tfds_dir):
    own = dict(source="tiny_imagenet32", format="tfds", test_split="validation", image_size=32, num_classes=100)
    first, other = (load(tfds_dir, **own, first_class=start, num_train=300, num_test=100) for start in (0, 100))
    for found in (first, other):
        assert found.train["x"].shape == (300, 32, 32, 3)
        assert 0 <= found.train["y"].min() <= found.train["y"].max() < 100
    assert not np.array_equal(first.train["x"], other.train["x"])


def test_an_image_is_cut_to_its_middle_square_before_it_is_scaled():
    image = np.zeros((10, 30, 3), np.uint8)
    image[:, 10:20] = 200
    assert np.all(resized(image, 5) == 200)
    assert resized(np.full((4, 4), 7, np.uint8), 2).tolist() == [[[7] * 3] * 2] * 2


def test_a_grey_image_set_has_one_channel_in_its_shapes_and_its_arrays(folder):
    found, promised = load(folder, channels=1), image_set_spec({"data": SETTINGS | {"channels": 1}})
    assert found.train["x"].shape == promised.train["x"].shape == (6, 8, 8, 1)
    assert np.ptp(found.train["x"]) > 0
