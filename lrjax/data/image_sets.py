"""Image data sets: array_record files that tfds has prepared, or a folder of images for each class."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from lrjax.data.dataset import Dataset, Files, Stream
from lrjax.data.images import generator, prepared_files, prepared_folder, quiet_tfds, standardise, statistics
from lrjax.data.streaming import threaded
from lrjax.errors import LrjaxError, check

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp")
FORMATS = ("tfds", "folder")


def resized(image: np.ndarray, edge: int, channels: int = 3) -> np.ndarray:
    """An image `[H, W]` or `[H, W, C]` as uint8 `[edge, edge, channels]`: the middle square, scaled bilinearly.

    A grey image is repeated where more channels are wanted; of a coloured one the first are taken.

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
        return image[..., :channels]
    size = min(height, width)
    top, left = (height - size) // 2, (width - size) // 2
    square = Image.fromarray(image[top : top + size, left : left + size, :3])
    return np.asarray(square.resize((edge, edge), Image.Resampling.BILINEAR))[..., :channels]


class Split(NamedTuple):
    """A stored split: the examples of it that are used, and a function that reads them."""

    chosen: np.ndarray  # int64 [n], places
    read: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # places -> uint8 [m, s, s, 3], int32 [m]


def _chosen(labels: np.ndarray | int, data: Any, split: str) -> np.ndarray:
    """Places of the first `num_train` or `num_test` examples of the wanted classes in a fixed permutation.

    Args:
        labels: of all stored examples; their number where all classes are wanted.
    """
    stored = labels if isinstance(labels, int) else len(labels)
    order = generator(data["subset_seed"], f"subset of {split}").permutation(stored)
    if not isinstance(labels, int):
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
    """The labels of a split, without decoding an image, a few thousand records in memory at a time."""
    tfds = quiet_tfds()
    builder: Any = tfds.builder_from_directory(folder)
    undecoded = builder.as_data_source(split=split, decoders={"image": tfds.decode.SkipDecoding()})
    parts = [range(at, min(at + 4096, len(undecoded))) for at in range(0, len(undecoded), 4096)]
    return np.array([record["label"] for part in parts for record in undecoded.__getitems__(list(part))])


def tfds_split(data: Any, data_dir: str, split: str) -> Split:
    """A split of a data set that tfds has prepared.

    Raises:
        LrjaxError: it is not there; the message has the command that prepares it.
    """
    tfds = quiet_tfds()
    folder = prepared_folder(data["source"], data_dir)
    builder: Any = tfds.builder_from_directory(folder)
    stored = data["test_split"] if split == "test" else data["train_split"]
    check(stored in builder.info.splits, f"{data['source']} has no split {stored!r}; set data.{split}_split")
    source = builder.as_data_source(split=stored)
    # Labels lie in the records, beside the images: where every class is wanted, reading them all first is a waste.
    every = data["first_class"] == 0 and builder.info.features["label"].num_classes == data["num_classes"]

    def read(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        records = source.__getitems__(places.tolist())
        images = np.stack([resized(record["image"], data["image_size"], data.get("channels", 3)) for record in records])
        return images, np.array([record["label"] - data["first_class"] for record in records], np.int32)

    return Split(_chosen(len(source) if every else _labels(folder, stored), data, split), read)


def folder_split(data: Any, data_dir: str, split: str) -> Split:
    """A split of `DATA_DIR/SOURCE/SPLIT/CLASS/*.jpg`; classes are numbered in the order of their names.

    Raises:
        LrjaxError: the folder is not there, or empty.
    """
    from PIL import Image

    stored = data["test_split"] if split == "test" else data["train_split"]
    root = Path(data_dir or ".").expanduser() / data["source"] / stored
    check(root.is_dir(), f"there is no folder {root}; put one folder of images a class there, or set data_dir")
    classes = sorted(path for path in root.iterdir() if path.is_dir())
    found = [
        (path, i) for i, own in enumerate(classes) for path in sorted(own.iterdir()) if path.suffix.lower() in ENDINGS
    ]
    if not found:
        raise LrjaxError(f"{root} holds no images; put one folder of {', '.join(ENDINGS)} files a class there")

    def read(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        images = []
        for i in places:
            with Image.open(found[i][0]) as image:
                images.append(resized(np.asarray(image.convert("RGB")), data["image_size"], data.get("channels", 3)))
        return np.stack(images), np.array([found[i][1] - data["first_class"] for i in places], np.int32)

    return Split(_chosen(np.array([label for _, label in found]), data, split), read)


SPLITS = {"tfds": tfds_split, "folder": folder_split}


@functools.lru_cache(maxsize=4)
def _opened(form: str, settings: tuple, data_dir: str, split: str) -> Split:
    return SPLITS[form](dict(settings), data_dir, split)


@functools.lru_cache(maxsize=4)
def _read(form: str, settings: tuple, data_dir: str, split: str, count: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The first `count` wanted examples of a split; None: all."""
    opened = _opened(form, settings, data_dir, split)
    return opened.read(opened.chosen[:count])


def complete(config: Any) -> None:
    """Checks `config.data`.

    Raises:
        LrjaxError: the first key that is wrong.
    """
    data = config.data
    check(data.format in FORMATS, f"data.format={data.format!r} must be one of {', '.join(FORMATS)}")
    for key, least in (("image_size", 1), ("first_class", 0), ("num_classes", 2)):
        check(data[key] >= least, f"data.{key}={data[key]} must be {least} or more")
    channels = data.get("channels", 3)
    check(channels in (1, 3), f"data.channels={channels} must be 1 (grey) or 3")
    resident = data.get("resident", 0)
    check(
        0 <= resident <= num_train(config),
        f"data.resident={resident} must lie in 0..{num_train(config)}, the training images; 0 keeps all in memory",
    )


def _settings(config: Any) -> tuple[str, tuple, str]:
    data = config["data"]
    return data["format"], tuple(sorted((k, v) for k, v in data.items() if k != "name")), config.get("data_dir") or ""


def image_set(config: Any) -> Dataset:
    """A data set of images, or a fixed subset of it, standardised as CIFAR-10 is.

    Args:
        config: mapping with `data_dir` and `data`: `source` (name of tfds, or folder in data_dir), `format` ("tfds" or
            "folder"), `train_split`, `test_split`, `image_size`, `channels` (3), `first_class` and `num_classes` (the
            labels to keep, renumbered from 0), `num_train` and `num_test` (None: all; `full_train` and `full_test` say
            how many that are, for a dry run), `subset_seed`, `resident` (0: all training images in memory; else so many,
            of which the mean and deviation are taken and which probes see, while training reads the others as it goes:
            `image_stream`).

    Returns:
        "x" float32 `[n, s, s, C]`, "y" int32 `[n]`.

    Raises:
        LrjaxError: the data is not there, or a number is out of range.
    """
    resident = config["data"].get("resident") or None
    (train_images, train_y), (test_images, test_y) = (
        _read(*_settings(config), split, count) for split, count in (("train", resident), ("test", None))
    )
    train_x, test_x = standardise(train_images, test_images)
    return Dataset({"x": train_x, "y": train_y}, {"test": {"x": test_x, "y": test_y}}, config["data"]["num_classes"])


def image_set_files(config: Any) -> Files:
    """The files that `image_set(config)` reads.

    Raises:
        LrjaxError: they are not there.
    """
    source = config["data"]["source"]
    if config["data"]["format"] == "tfds":
        return prepared_files(source, config.get("data_dir"))
    root = Path(config.get("data_dir") or ".").expanduser()
    check((root / source).is_dir(), f"there is no folder {root / source}; set data_dir to the folder that holds it")
    return root, source


def image_stream(config: Any) -> Stream | None:
    """Reads training images as they are needed, by the threads of grain; None where all of them are in memory.

    Args:
        config: as for `image_set`.

    Returns:
        Indices int `[m]` -> "x" `[m, s, s, C]`, "y" `[m]`; or None.

    Raises:
        LrjaxError: grain is not installed, or the data is not there, or not as large as the config says.
    """
    if not config["data"].get("resident"):
        return None
    opened = _opened(*_settings(config), "train")
    stored, promised = len(opened.chosen), num_train(config)
    check(
        stored == promised, f"{config['data']['source']} has {stored} such training images; set data.num_train={stored}"
    )
    first, _ = _read(*_settings(config), "train", config["data"]["resident"])
    mean, std = statistics(first)

    def read(places: np.ndarray) -> dict[str, np.ndarray]:
        images, labels = opened.read(opened.chosen[places])
        return {"x": (images.astype(np.float32) - mean) / std, "y": labels}

    return threaded(read)


def num_train(config: Any) -> int:
    """The number of training images, in memory or not."""
    return config["data"]["num_train"] or config["data"]["full_train"]


def image_set_spec(config: Any) -> Dataset:
    """The shapes of `image_set(config)`, without the disk."""
    data = config["data"]
    shape = (data["image_size"], data["image_size"], data.get("channels", 3))

    def split(n: int) -> dict[str, Any]:
        return {"x": jax.ShapeDtypeStruct((n, *shape), np.float32), "y": jax.ShapeDtypeStruct((n,), np.int32)}

    tests = {"test": split(data["num_test"] or data["full_test"])}
    return Dataset(split(data.get("resident") or num_train(config)), tests, data["num_classes"])
