"""Data sets that cannot be downloaded here, read from small ones of the same features."""

import numpy as np
import pytest

from lrjax.data import DATASETS
from tests.data.prepared import image, label, png, prepare, text

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "birds", "fly", "##ing", "swim", "some", "."]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("tfds")
    (root / "vocab.txt").write_text("\n".join(WORDS))
    pixels = np.random.default_rng(0)
    grey = [{"image": png(pixels.integers(0, 255, (28, 28, 1), np.uint8)), "label": i % 10} for i in range(20)]
    prepare(root, "fashion_mnist", {"image": image(28, 28, 1), "label": label(10)}, {"train": grey, "test": grey[:5]})
    wide = [{"image": png(pixels.integers(0, 255, (40, 60, 3), np.uint8)), "label": i} for i in range(12)]
    named = [row | {"file_name": b"n01440764_1.JPEG"} for row in wide]
    features = {"image": image(-1, -1, 3), "label": label(1000), "file_name": text()}
    prepare(root, "imagenet2012", features, {"train": named, "validation": named[:4]})
    pairs = [
        {"premise": b"Some birds fly .", "hypothesis": b"Birds flying", "label": 0},
        {"premise": b"Birds swim", "hypothesis": b"Some birds swim .", "label": 2},
        {"premise": b"Fly", "hypothesis": b"Zebras", "label": 1},
    ]
    glue = {"premise": text(), "hypothesis": text(), "label": label(3)}
    prepare(root, "glue/mnli", glue, {"train": pairs, "validation_matched": pairs[:2]})
    return root


def load(root, name, **data):
    config = {
        "data_dir": str(root),
        "data": {"name": name, "subset_seed": 0, "num_train": None, "num_test": None} | data,
    }
    return DATASETS[name].load(config)


IMAGES = dict(format="tfds", train_split="train", test_split="test", first_class=0)


def test_fashion_mnist_is_read_as_grey_images(root):
    found = load(root, "image_set", source="fashion_mnist", image_size=28, num_classes=10, channels=1, **IMAGES)
    assert found.train["x"].shape == (20, 28, 28, 1)
    assert sorted(found.train["y"]) == sorted([*range(10)] * 2)
    assert abs(found.train["x"].std() - 1) < 1e-5


def test_imagenet_is_streamed_with_every_label_beside_its_own_image(root):
    settings = IMAGES | dict(
        source="imagenet2012", image_size=8, num_classes=1000, test_split="validation", full_train=12
    )
    pytest.importorskip("grain", reason="grain is not installed")
    whole = load(root, "image_set", **settings)
    config = {
        "data_dir": str(root),
        "data": {"name": "image_set", "subset_seed": 0, "num_train": None, "num_test": None, "resident": 12} | settings,
    }
    stream = DATASETS["image_set"].stream(config)
    assert stream is not None
    places = np.array([7, 0, 7, 11])
    read = stream(places)
    assert np.array_equal(read["y"], whole.train["y"][places])
    np.testing.assert_array_equal(read["x"], whole.train["x"][places])


def test_pairs_of_mnli_become_two_segments_of_known_tokens(root):
    pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    found = load(root, "mnli", vocabulary=str(root / "vocab.txt"), length=10)
    assert found.num_classes == 3
    where = int(np.flatnonzero(found.train["y"] == 0)[0])
    ids, segments = found.train["x"][where]
    words = [WORDS[i] for i in ids]
    assert words == ["[CLS]", "some", "birds", "fly", ".", "[SEP]", "birds", "fly", "##ing", "[SEP]"]
    assert segments.tolist() == [0] * 6 + [1] * 4
    unknown = found.train["x"][int(np.flatnonzero(found.train["y"] == 1)[0])][0]
    assert WORDS[unknown[3]] == "[UNK]"
    assert found.tests["test"]["x"].shape == (2, 2, 10)
