"""CIFAR-10 from disk: subsets, standardisation, and what happens when it is not there."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from lrjax.data.image_sets import image_set
from lrjax.data.images import cifar10, cifar10_spec, prepared_folder, quiet_tfds, standardise
from lrjax.data.planted import cifar10_planted
from lrjax.errors import LrjaxError
from lrjax.experiment.config.load import load_config

REPOSITORY = Path(__file__).parents[2]
TFDS = REPOSITORY.parent / "shared" / "tfds"
needs_cifar10 = pytest.mark.skipif(
    not (TFDS / "cifar10").is_dir(), reason="no prepared CIFAR-10 in ../shared/tfds beside the repository"
)


def config_of(data_dir=TFDS, **data):
    return {"data_dir": str(data_dir), "data": {"num_train": 300, "num_test": 60, "subset_seed": 0, **data}}


def shapes(dataset):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), (dataset.train, dataset.tests))


@pytest.mark.parametrize("load", [cifar10, cifar10_planted])
def test_missing_data_is_answered_at_once_with_the_command(load, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)  # So nothing could be downloaded.
    with pytest.raises(LrjaxError) as error:
        load(config_of(tmp_path))
    assert str(error.value).endswith(f"prepare it once by: lrjax data prepare cifar10 --data_dir={tmp_path}")
    assert "\n" not in str(error.value)


def test_a_missing_data_set_that_is_in_no_catalogue_is_not_said_to_be_prepared_by_it(tmp_path):
    with pytest.raises(LrjaxError) as error:
        prepared_folder("tiny_imagenet32", tmp_path)
    assert "tfds.builder" not in str(error.value)
    assert f"--config.data.format=folder --config.data_dir={tmp_path}" in str(error.value)
    assert f"{tmp_path}/tiny_imagenet32/SPLIT" in str(error.value)
    assert "\n" not in str(error.value)


def test_what_the_message_says_of_images_in_folders_works(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    for split, number in (("train", 3), ("validation", 2)):
        for name in ("cat", "dog"):
            folder = tmp_path / "tiny_imagenet32" / split / name
            folder.mkdir(parents=True)
            for i in range(number):
                Image.fromarray(np.full((32, 32, 3), 40 * i, np.uint8)).save(folder / f"{i}.png")
    own = {
        "data.format": "folder",
        "data_dir": str(tmp_path),
        "data.num_train": 4,
        "data.num_test": 4,
        "data.num_classes": 2,
    }
    found = image_set(load_config("configs/break_even.py:E7_densenet,scale=smoke", own))
    assert (found.train["x"].shape, found.tests["test"]["y"].shape) == ((4, 32, 32, 3), (4,))


def prepare(root, version, file_format="array_record"):
    folder = root / "cifar10" / version
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text(json.dumps({"fileFormat": file_format}))
    return folder


def test_folder_is_taken_from_config_then_environment_then_home(tmp_path, monkeypatch):
    config, environment, home = (tmp_path / name for name in ("config", "environment", "home"))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    default = prepare(home / "tensorflow_datasets", "3.0.2")
    assert prepared_folder("cifar10", None) == default
    monkeypatch.setenv("TFDS_DATA_DIR", str(environment))
    second = prepare(environment, "3.0.2")
    assert prepared_folder("cifar10", "") == second
    with pytest.raises(LrjaxError):  # A folder that was named is not replaced by another one.
        prepared_folder("cifar10", config)
    first = prepare(config, "3.0.2")
    assert prepared_folder("cifar10", config) == first


def test_newest_array_record_version_is_read(tmp_path):
    prepare(tmp_path, "3.0.2")
    newest = prepare(tmp_path, "3.0.10")
    prepare(tmp_path, "4.0.0", file_format="tfrecord")
    prepare(tmp_path, "incomplete.5.0.0")
    assert prepared_folder("cifar10", tmp_path) == newest


def test_standardised_images_have_zero_mean_a_pixel_and_unit_global_variance():
    random = np.random.default_rng(0)
    train, test = random.integers(0, 256, (2, 50, 4, 4, 3)).astype(np.uint8)
    train[:, 0, 0, 0] //= 16  # A pixel of small variance keeps it: the standard deviation is one number.
    x, test_x = standardise(train, test)
    assert x.dtype == test_x.dtype == np.float32
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(np.square(x).mean(), 1, rtol=1e-5)
    assert x[:, 0, 0, 0].std() < 0.1
    scale = np.sqrt(np.square(train - train.mean(axis=0)).mean())
    np.testing.assert_allclose(test_x, (test - train.mean(axis=0)) / scale, rtol=1e-4, atol=1e-5)


def test_equal_images_are_refused():
    with pytest.raises(LrjaxError, match="num_train"):
        standardise(np.ones((3, 2, 2, 3)), np.ones((1, 2, 2, 3)))


@pytest.mark.parametrize("classes", [(3,), (3, 3), (3, 10)])
def test_wrong_classes_are_refused(classes):
    with pytest.raises(LrjaxError, match="classes"):
        cifar10_spec(config_of(classes=classes))


def test_spec_of_all_images_has_the_published_sizes():
    spec = cifar10_spec(config_of(num_train=None, num_test=None))
    assert (spec.train["x"].shape, spec.tests["test"]["x"].shape) == ((50_000, 32, 32, 3), (10_000, 32, 32, 3))
    two = cifar10_spec(config_of(num_train=None, num_test=None, classes=(3, 5)))
    assert (two.train["y"].shape, two.num_classes) == ((10_000,), 2)


@needs_cifar10
def test_tensorflow_is_not_imported_even_where_it_is_installed(tmp_path):
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('something imported tensorflow')")
    script = f"""
import sys
sys.path += [{str(REPOSITORY)!r}, {str(tmp_path)!r}]
from lrjax.data.image_sets import image_set
from lrjax.data.images import cifar10
cifar10({config_of(num_train=8, num_test=2)!r})
assert "tensorflow" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@needs_cifar10
def test_images_are_real_and_standardised():
    dataset = cifar10(config_of())
    assert shapes(dataset) == shapes(cifar10_spec(config_of()))
    x = dataset.train["x"]
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(np.square(x).mean(), 1, rtol=1e-5)
    assert set(dataset.train["y"].tolist()) == set(range(10))
    # Neighbouring pixels of photographs agree; those of shuffled or misread bytes do not.
    assert np.corrcoef(x[:, :, 1:].ravel(), x[:, :, :-1].ravel())[0, 1] > 0.9


@needs_cifar10
def test_subset_is_a_function_of_its_seed_and_grows_at_the_end():
    first = cifar10(config_of()).train["y"]
    small = cifar10(config_of(num_train=100)).train["y"]
    other = cifar10(config_of(subset_seed=1)).train["y"]
    again = cifar10(config_of()).train["y"]
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first[:100], small)
    assert (first != other).mean() > 0.5


@pytest.mark.slow
@needs_cifar10
def test_selected_classes_are_renumbered_in_the_given_order():
    ten = cifar10(config_of(num_train=300))
    two = cifar10(config_of(num_train=30, num_test=10, classes=(5, 3)))
    kept = ten.train["y"][np.isin(ten.train["y"], (5, 3))][:30]
    assert two.num_classes == 2
    np.testing.assert_array_equal(two.train["y"], np.where(kept == 5, 0, 1))


@needs_cifar10
def test_more_images_than_there_are_is_refused():
    with pytest.raises(LrjaxError, match="num_test=10001"):
        cifar10(config_of(num_train=2, num_test=10_001))


def test_reading_images_gives_no_advice_to_install_another_package():
    quiet_tfds()
    quiet_tfds()
    said, handler = [], logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logger = logging.getLogger("absl")
    logger.addHandler(handler)
    try:
        for text in ("OpenCV is not installed. We recommend using OpenCV because it is faster", "the disk is slow"):
            logger.warning(text)
    finally:
        logger.removeHandler(handler)
    assert said == ["the disk is slow"]
