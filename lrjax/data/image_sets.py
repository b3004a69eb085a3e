"""Images of any prepared data set: what tfds has as array_record, or a folder of images a class."""

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lrjax.config import check
from lrjax.data.dataset import Dataset
from lrjax.data.images import generator, prepared_folder, standardise
from lrjax.errors import LrjaxError

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp")
FORMATS = ("tfds", "folder")


def resized(image: np.ndarray, edge: int) -> np.ndarray:
    """An image `[H, W]` or `[H, W, C]` as uint8 `[edge, edge, 3]`: the middle square, scaled bilinearly.

    Example:
        >>> resized(np.zeros((40, 60), np.uint8), 32).shape
        (32, 32, 3)
    """
    from PIL import Image

    image = np.asarray(image, np.uint8)
    if image.ndim == 2 or image.shape[-1] == 1:
        image = np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=-1)
    height, width = image.shape[:2]
    if (height, width) == (edge, edge):
        return image[..., :3]
    size = min(height, width)
    top, left = (height - size) // 2, (width - size) // 2
    square = Image.fromarray(image[top : top + size, left : left + size, :3])
    return np.asarray(square.resize((edge, edge), Image.Resampling.BILINEAR))


def _chosen(labels: np.ndarray, data: Any, split: str) -> np.ndarray:
    """Which examples to read: the first so many of a fixed permutation, of the classes asked for."""
    order = generator(data["subset_seed"], f"subset of {split}").permutation(len(labels))
    inside = (labels >= data["first_class"]) & (labels < data["first_class"] + data["num_classes"])
    order = order[inside[order]]
    count = data[f"num_{split}"]
    check(
        count is None or 1 <= count <= len(order),
        f"data.num_{split}={count} must lie in 1..{len(order)} for these classes, or be None for all",
    )
    return order[:count]


@functools.lru_cache(maxsize=8)
def _labels(folder: Path, split: str) -> np.ndarray:
    """The labels of a split, without decoding an image."""
    import tensorflow_datasets as tfds

    builder: Any = tfds.builder_from_directory(folder)
    undecoded = builder.as_data_source(split=split, decoders={"image": tfds.decode.SkipDecoding()})
    return np.array([record["label"] for record in undecoded.__getitems__(list(range(len(undecoded))))])


def read_tfds(data: Any, data_dir: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 `[n, s, s, 3]` and labels int32 `[n]` of a data set that tfds has prepared.

    Raises:
        LrjaxError: it is not there; the message has the command that prepares it.
    """
    import tensorflow_datasets as tfds

    folder = prepared_folder(data["source"], data_dir)
    builder: Any = tfds.builder_from_directory(folder)
    stored = data["test_split"] if split == "test" else data["train_split"]
    check(stored in builder.info.splits, f"{data['source']} has no split {stored!r}; set data.{split}_split")
    labels = _labels(folder, stored)
    chosen = _chosen(labels, data, split)
    records = builder.as_data_source(split=stored).__getitems__(chosen.tolist())
    images = np.stack([resized(record["image"], data["image_size"]) for record in records])
    return images, (labels[chosen] - data["first_class"]).astype(np.int32)


def read_folder(data: Any, data_dir: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """The same of `DATA_DIR/SOURCE/SPLIT/CLASS/*.jpg`; classes are numbered in the order of their names.

    Raises:
        LrjaxError: the folder is not there, or empty.
    """
    from PIL import Image

    root = (
        Path(data_dir or ".").expanduser()
        / data["source"]
        / (data["test_split"] if split == "test" else data["train_split"])
    )
    check(root.is_dir(), f"there is no folder {root}; put one folder of images a class there, or set data_dir")
    classes = sorted(path for path in root.iterdir() if path.is_dir())
    found = [
        (path, i) for i, own in enumerate(classes) for path in sorted(own.iterdir()) if path.suffix.lower() in ENDINGS
    ]
    if not found:
        raise LrjaxError(f"{root} holds no images; put one folder of {', '.join(ENDINGS)} files a class there")
    chosen = _chosen(np.array([label for _, label in found]), data, split)
    images = []
    for i in chosen:
        with Image.open(found[i][0]) as image:
            images.append(resized(np.asarray(image.convert("RGB")), data["image_size"]))
    return np.stack(images), np.array([found[i][1] - data["first_class"] for i in chosen], np.int32)


READERS = {"tfds": read_tfds, "folder": read_folder}


@functools.lru_cache(maxsize=4)
def _read(form: str, settings: tuple, data_dir: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    return READERS[form](dict(settings), data_dir, split)


def complete(config: Any) -> None:
    """Checks `config.data`.

    Raises:
        LrjaxError: the first key that is wrong.
    """
    data = config.data
    check(data.format in FORMATS, f"data.format={data.format!r} must be one of {', '.join(FORMATS)}")
    for key, least in (("image_size", 1), ("first_class", 0), ("num_classes", 2)):
        check(data[key] >= least, f"data.{key}={data[key]} must be {least} or more")


def image_set(config: Any) -> Dataset:
    """A data set of images, or a fixed subset of it, standardised as CIFAR-10 is; all of it in memory.

    Args:
        config: mapping with `data_dir` and `data`: `source` (name of tfds, or folder in data_dir), `format` ("tfds" or
            "folder"), `train_split`, `test_split`, `image_size`, `first_class` and `num_classes` (the labels to keep,
            renumbered from 0), `num_train` and `num_test` (None: all; `full_train` and `full_test` say how many that are,
            for a dry run), `subset_seed`.

    Raises:
        LrjaxError: the data is not there, or a number is out of range.
    """
    data = config["data"]
    settings = tuple(sorted((key, value) for key, value in data.items() if key != "name"))
    own = [_read(data["format"], settings, config.get("data_dir") or "", split) for split in ("train", "test")]
    (train_images, train_y), (test_images, test_y) = own
    train_x, test_x = standardise(train_images, test_images)
    return Dataset({"x": train_x, "y": train_y}, {"test": {"x": test_x, "y": test_y}}, data["num_classes"])


def image_set_spec(config: Any) -> Dataset:
    """The shapes of `image_set(config)`, without the disk."""
    data = config["data"]
    shape = (data["image_size"], data["image_size"], 3)

    def split(name: str) -> dict[str, Any]:
        n = data[f"num_{name}"] or data[f"full_{name}"]
        return {"x": jax.ShapeDtypeStruct((n, *shape), np.float32), "y": jax.ShapeDtypeStruct((n,), np.int32)}

    return Dataset(split("train"), {"test": split("test")}, data["num_classes"])
