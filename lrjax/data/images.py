"""CIFAR-10 as float32 arrays in memory, read from the array_record files of tfds, without TensorFlow."""

import functools
import json
import logging
import os
import shlex
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lrjax.data.dataset import Dataset, Files
from lrjax.errors import LrjaxError

NUM_CLASSES = 10
IMAGE_SHAPE = (32, 32, 3)
SPLIT_SIZES = {"train": 50_000, "test": 10_000}
# Data sets that tfds can prepare, by the first part of their name: asking tfds itself would take seconds, and more packages.
CATALOGUE = (
    "imdb_reviews", "glue", "cifar100", "fashion_mnist", "mnist", "svhn_cropped", "imagenet2012", "imagenet_resized",
    "caltech_birds2011",
)  # fmt: skip
OUTSIDE = ("tiny_imagenet32",)  # of the data sets that configs name, those that it cannot


def generator(seed: int, purpose: str) -> np.random.Generator:
    """A NumPy generator for one purpose, independent of those for other purposes with the same seed.

    Example:
        >>> bool(generator(0, "subset").integers(100) == generator(0, "subset").integers(100))
        True
    """
    return np.random.default_rng([seed, *purpose.encode()])


def quiet_tfds() -> Any:
    """tensorflow_datasets without its advice to install OpenCV: Pillow, which lrjax brings, decodes these images.

    Imported where it is used: it takes half a second, and a dry run does not need it.
    """
    import tensorflow_datasets

    logging.getLogger("absl").addFilter(_is_no_advice)
    return tensorflow_datasets


def _is_no_advice(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("OpenCV is not installed")


def prepared_folder(name: str, data_dir: str | os.PathLike | None) -> Path:
    """Finds the folder in which tfds keeps the newest prepared version of a data set.

    Args:
        name: the tfds name, "cifar10".
        data_dir: where to look; if empty, `$TFDS_DATA_DIR`, then `~/tensorflow_datasets`.

    Returns:
        The version's folder, such as `data_dir/cifar10/3.0.2`.

    Raises:
        LrjaxError: if there is none in array_record format; the message is the command that prepares it, or, for a data set
            that tfds does not know, how to use its images as they are.
    """
    root = Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser().absolute()
    folders = [
        info.parent
        for info in root.glob(f"{name}/[0-9]*.*.*/dataset_info.json")
        if json.loads(info.read_text()).get("fileFormat") == "array_record"
    ]
    if not folders:
        raise LrjaxError(_how_to_prepare(name, root))
    return max(folders, key=lambda folder: [int(part) for part in folder.name.split(".")])


def prepared_files(name: str, data_dir: str | os.PathLike | None) -> Files:
    """What `prepared_folder` finds, as (folder of the data sets, the version's folder in it).

    Raises:
        LrjaxError: as `prepared_folder`.
    """
    folder = prepared_folder(name, data_dir)
    root = folder.parents[len(Path(name).parts)]
    return root, folder.relative_to(root).as_posix()


def cifar10_files(config: Any) -> Files:
    """The files that `cifar10(config)` reads."""
    return prepared_files("cifar10", config.get("data_dir"))


def _how_to_prepare(name: str, root: Path) -> str:
    """The sentence on a data set that is not there: by lrjax, by tfds where that knows it, or from what one has."""
    call = f"tfds.builder({name!r}, data_dir={str(root)!r}).download_and_prepare(file_format='array_record')"
    by_tfds = (
        "prepare it once, in an environment with TensorFlow (lrjax itself does not need it), by: "
        f'python -c "import tensorflow_datasets as tfds; {call}"'
    )
    by_folder = (
        f"put its images, one folder a class, into {root / name}/SPLIT for both splits (data.train_split, data.test_split) and "
        f"add --config.data.format=folder --config.data_dir={root}, which needs neither tfds nor TensorFlow"
    )
    where = f"no {name} in array_record format under {root}"
    point = "point --config.data_dir at a folder that has it"
    if name == "cifar10":
        return (
            f"{where}: {point}, or prepare it once by: lrjax data prepare cifar10 --data_dir={shlex.quote(str(root))}"
        )
    if name in OUTSIDE:
        return f"{where}, and it is in no catalogue: {point}, or {by_folder}"
    if name.split("/")[0] in CATALOGUE:
        return f"{where}: {point}, or {by_tfds}"
    own = f"put your own there, as {root / name}/1.0.0, in the layout of tfds.builder_from_directory"
    return f"{where}: {point}, or {own}, or {by_folder}; or, if tfds.list_builders() names it, {by_tfds}"


def wanted_classes(data_config: Any) -> tuple[int, ...] | None:
    """The classes that `data_config["classes"]` selects, in the order of their new labels; None means all."""
    classes = data_config.get("classes")
    if not classes:
        return None
    if len(classes) < 2 or len(set(classes)) < len(classes) or not set(classes) <= set(range(NUM_CLASSES)):
        raise LrjaxError(f"config.data.classes={tuple(classes)} must be two or more different labels of 0 to 9")
    return tuple(classes)


@functools.lru_cache(maxsize=2)
def read_split(
    folder: Path, split: str, count: int | None, classes: tuple[int, ...] | None, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Reads the first `count` images of a fixed random permutation of a split.

    The permutation depends on `seed` and `split` alone, so a smaller subset is the beginning of a larger one. Only
    wanted images are decoded. The last two results are kept, for several runs in one process; they are read-only.

    Args:
        folder: what `prepared_folder` returns.
        split: "train" or "test".
        count: number of images; None means all.
        classes: labels to keep, renumbered from 0 in this order; None keeps all.
        seed: seed of the permutation.

    Returns:
        Images uint8 `[count, 32, 32, 3]` and labels int32 `[count]`.

    Raises:
        LrjaxError: if the split has fewer images than `count`.
    """
    tfds = quiet_tfds()
    builder: Any = tfds.builder_from_directory(folder)
    source = builder.as_data_source(split=split)
    order = generator(seed, f"subset of {split}").permutation(len(source))
    if classes is not None:
        undecoded = builder.as_data_source(split=split, decoders={"image": tfds.decode.SkipDecoding()})
        labels = np.array([record["label"] for record in undecoded.__getitems__(order.tolist())])
        order = order[np.isin(labels, classes)]
    if count is not None and not 1 <= count <= len(order):
        raise LrjaxError(f"config.data.num_{split}={count} must be between 1 and {len(order)}, or None for all images")
    records = source.__getitems__(order[:count].tolist())
    images = np.stack([record["image"] for record in records])
    labels = np.array([record["label"] for record in records], np.int32)
    if classes is not None:
        labels = np.argmax(labels[:, None] == np.array(classes), axis=1).astype(np.int32)
    images.flags.writeable = labels.flags.writeable = False
    return images, labels


def statistics(train: np.ndarray) -> tuple[np.ndarray, np.float32]:
    """Mean of each pixel `[H, W, C]` and the one deviation of all of them from it; see `standardise`.

    Raises:
        LrjaxError: if all images are equal.

    Example:
        >>> mean, std = statistics(np.arange(8).reshape(2, 2, 2, 1))
        >>> mean[..., 0].tolist(), float(std)
        ([[2.0, 3.0], [4.0, 5.0]], 2.0)
    """
    mean = train.mean(axis=0, dtype=np.float64).astype(np.float32)
    # A part at a time: the squares of all images would take several times their own memory.
    parts = [train[at : at + 4096] for at in range(0, len(train), 4096)]
    squares = [np.square(part.astype(np.float32) - mean).sum(dtype=np.float64) for part in parts]
    std = np.float32(np.sqrt(np.sum(squares) / train.size))
    if std == 0:
        raise LrjaxError(
            "the training images are all equal, so they cannot be standardised: raise config.data.num_train"
        )
    return mean, std


def standardise(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Subtracts the per-pixel mean of the training images, divides by their one global standard deviation.

    x' = (x - m) / s with, over `train`, m = mean over examples `[H, W, C]` and s^2 = mean over everything of (x - m)^2.

    Args:
        train: images `[n, H, W, C]`.
        test: images `[k, H, W, C]`.

    Returns:
        Both as float32.

    Raises:
        LrjaxError: if all training images are equal.

    References:
        The Break-Even Point on Optimization Trajectories, the predecessor's preprocessing.

    Example:
        >>> x, _ = standardise(np.arange(8).reshape(2, 2, 2, 1), np.zeros((1, 2, 2, 1)))
        >>> x[:, 0, 0, 0].tolist()
        [-1.0, 1.0]
    """
    mean, std = statistics(train)
    return (train.astype(np.float32) - mean) / std, (test.astype(np.float32) - mean) / std


def cifar10(config: Any) -> Dataset:
    """CIFAR-10, standardised, or a fixed random subset of it.

    Args:
        config: mapping with `data_dir` (empty: `$TFDS_DATA_DIR`, then tfds's default) and `data`: `num_train` and
            `num_test` (None: all), `classes` (None: all; else labels, renumbered from 0), `subset_seed` (0).

    Returns:
        "x" float32 `[n, 32, 32, 3]`, "y" int32 `[n]` in `train` and in `tests["test"]`; statistics are those of the
        selected training images.

    Raises:
        LrjaxError: if the data set is not there (the message has the command that prepares it; nothing is ever
            downloaded), or if a number or label is out of range.

    Example:
        `cifar10({"data_dir": "~/tensorflow_datasets", "data": {"num_train": 10_000, "num_test": None}})`
    """
    data = config["data"]
    folder, classes = prepared_folder("cifar10", config.get("data_dir")), wanted_classes(data)
    seed = data.get("subset_seed", 0)
    train_images, train_labels = read_split(folder, "train", data.get("num_train"), classes, seed)
    test_images, test_labels = read_split(folder, "test", data.get("num_test"), classes, seed)
    train_x, test_x = standardise(train_images, test_images)
    return Dataset(
        train={"x": train_x, "y": train_labels},
        tests={"test": {"x": test_x, "y": test_labels}},
        num_classes=len(classes or range(NUM_CLASSES)),
    )


def cifar10_spec(config: Any) -> Dataset:
    """The shapes of `cifar10(config)`, without the disk.

    Example:
        >>> cifar10_spec({"data": {"num_train": 100, "num_test": None}}).tests["test"]["x"]
        ShapeDtypeStruct(shape=(10000, 32, 32, 3), dtype=float32)
    """
    data = config["data"]
    num_classes = len(wanted_classes(data) or range(NUM_CLASSES))

    def split(name):
        n = data.get(f"num_{name}") or SPLIT_SIZES[name] * num_classes // NUM_CLASSES
        return {
            "x": jax.ShapeDtypeStruct((n, *IMAGE_SHAPE), np.float32),
            "y": jax.ShapeDtypeStruct((n,), np.int32),
        }

    return Dataset(train=split("train"), tests={"test": split("test")}, num_classes=num_classes)
