"""All 60,000 images of CIFAR-10 through archives in the authors' two formats, read back by tfds."""

import functools
import hashlib
import io
import tarfile

import numpy as np
import pytest

import lrjax
from lrjax.data import cifar_archive
from lrjax.data.cifar_archive import BINARY, PYTHON, SPLITS, prepare, tfds_order
from tests.data.test_cifar_archive import python2
from tests.data.test_images import TFDS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of tfds, as it is imported
    pytest.mark.skipif(not (TFDS / "cifar10").is_dir(), reason="no prepared CIFAR-10 in ../shared/tfds"),
]


@functools.cache
def stored(split, folder):
    """Images and labels in the order of a data_dir."""
    tensorflow_datasets = pytest.importorskip("tensorflow_datasets", reason="tensorflow_datasets is not installed")
    source = tensorflow_datasets.data_source("cifar10", split=split, data_dir=folder, download=False)
    rows = [source[place] for place in range(len(source))]
    return np.stack([row["image"] for row in rows]), np.array([row["label"] for row in rows], np.uint8)


def archived(kind, path, splits):
    """Writes an archive whose images tfds stores in the order of `splits`."""
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for split, (images, labels) in splits.items():
            place = np.argsort(tfds_order(split, len(labels)))
            flat = images[place].transpose(0, 3, 1, 2).reshape(len(labels), -1)
            parts = len(SPLITS[split])
            for name, rows, own in zip(
                SPLITS[split], np.split(flat, parts), np.split(labels[place], parts), strict=True
            ):
                raw = np.column_stack([own, rows]).tobytes()
                content = raw if kind is BINARY else python2(own.tolist(), rows)
                info = tarfile.TarInfo(f"{kind.folder}/{name}{kind.ending}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return kind._replace(sha256=hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.mark.parametrize("kind", [BINARY, PYTHON], ids=["binary", "python"])
def test_every_image_comes_through_and_a_run_reads_them(kind, tmp_path, monkeypatch):
    splits = {split: stored(split, TFDS) for split in SPLITS}
    path = tmp_path / kind.name
    monkeypatch.setattr(cifar_archive, "ARCHIVES", [archived(kind, path, splits)])
    assert prepare(tmp_path, path, say=lambda line: None) == tmp_path / "cifar10" / "3.0.2"
    for split, (images, labels) in splits.items():
        read, found = stored(split, tmp_path)
        np.testing.assert_array_equal(found, labels)
        np.testing.assert_array_equal(read, images)
    config = lrjax.load_config("configs/exp_lr.py:E1,scale=smoke", {"data_dir": str(tmp_path), "sweep.seed": (0,)})
    with config.unlocked():
        config.arms, config.probes = {"one": config.arms[next(iter(config.arms))]}, {}
    assert lrjax.run(config, tmp_path / "run").status["state"] == "done"


def test_the_order_of_the_first_images_is_the_one_that_tfds_publishes():
    assert tfds_order("train", 50_000)[0] == 16399
