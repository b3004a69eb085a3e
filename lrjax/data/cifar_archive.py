"""CIFAR-10 from its authors' archives to the files that tfds reads, without TensorFlow.

The order of the records is that of tfds, which sorts the images of a split by a hash of their number, so that a subset of
images is the same one wherever the data was prepared.
"""

import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lrjax.data import plain_pickle
from lrjax.errors import LrjaxError, check
from lrjax.files import sha256

VERSION = "3.0.2"
SITE = "https://www.cs.toronto.edu/~kriz/"
EDGE, CHANNELS = 32, 3
PIXELS = EDGE * EDGE * CHANNELS
LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SPLITS = {"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)}
EXAMPLES = {"train": 50_000, "test": 10_000}


class Archive(NamedTuple):
    """An archive of the authors."""

    name: str
    folder: str  # in it, with the batches
    ending: str  # of a batch
    sha256: str
    size: int  # bytes


BINARY = Archive(
    "cifar-10-binary.tar.gz", "cifar-10-batches-bin", ".bin",
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd", 170_052_171,
)  # fmt: skip
PYTHON = Archive(
    "cifar-10-python.tar.gz", "cifar-10-batches-py", "",
    "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce", 170_498_071,
)  # fmt: skip
ARCHIVES = [BINARY, PYTHON]


def recognised(path: Path) -> Archive:
    """Which archive a file is, by its checksum.

    Raises:
        LrjaxError: there is no such file, or it is neither.
    """
    check(
        path.is_file(), f"there is no file {path}; give --source the archive {BINARY.name} or {PYTHON.name} of {SITE}"
    )
    digest = sha256(path)
    for archive in ARCHIVES:
        if digest == archive.sha256:
            return archive
    raise LrjaxError(
        f"{path} is neither {BINARY.name} nor {PYTHON.name} as its authors publish them: it has {path.stat().st_size} bytes "
        f"and the SHA-256 {digest[:12]}...; fetch it again from {SITE}"
    )


def fetched(folder: Path, say: Callable[[str], None]) -> Path:
    """Downloads the binary archive into a folder.

    Raises:
        LrjaxError: it could not be reached.
    """
    import urllib.request

    target = folder / BINARY.name
    say(f"fetching {SITE}{BINARY.name} ({BINARY.size / 1e6:.0f} MB)")
    try:
        with urllib.request.urlopen(SITE + BINARY.name, timeout=30) as answer, open(target, "wb") as file:
            shutil.copyfileobj(answer, file, 1 << 20)
    except OSError as error:
        reason = getattr(error, "reason", None) or error
        raise LrjaxError(
            f"could not fetch {SITE}{BINARY.name} ({reason}); fetch it by other means, then give --source=FILE"
        ) from error
    return target


def batch(archive: Archive, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """A batch file as images uint8 `[n, 32, 32, 3]` and labels uint8 `[n]`.

    Raises:
        LrjaxError: it is something else.
    """
    if archive.ending == ".bin":
        check(len(content) % (PIXELS + 1) == 0, "a batch of the archive is cut; fetch the archive again")
        rows = np.frombuffer(content, np.uint8).reshape(-1, PIXELS + 1)
        labels, flat = rows[:, 0], rows[:, 1:]
    else:
        try:
            stored = plain_pickle.load(content)
            labels, flat = np.array(stored[b"labels"], np.uint8), stored[b"data"].array()
        except LrjaxError:
            raise
        except Exception as error:  # of any kind, where the pickle is damaged
            first = f"{type(error).__name__}: {error}".split("\n")[0]
            raise LrjaxError(f"a batch of the archive cannot be read ({first}); fetch the archive again") from error
    right = (
        labels.ndim == 1 and flat.shape == (len(labels), PIXELS) and (len(labels) == 0 or labels.max() < len(LABELS))
    )
    check(right, "a batch of the archive holds no CIFAR-10 images; fetch the archive again")
    return flat.reshape(-1, CHANNELS, EDGE, EDGE).transpose(0, 2, 3, 1), labels


def read_split(path: Path, archive: Archive, split: str) -> tuple[np.ndarray, np.ndarray]:
    """All images and labels of a split, in the authors' order; nothing is unpacked to disk."""
    parts = []
    try:
        with tarfile.open(path, "r:gz") as tar:
            members = {member.name: member for member in tar.getmembers()}
            for name in SPLITS[split]:
                file = tar.extractfile(members[f"{archive.folder}/{name}{archive.ending}"])
                parts.append(batch(archive, file.read() if file else b""))
    except (tarfile.TarError, KeyError, EOFError, OSError) as error:
        raise LrjaxError(f"{path} cannot be read ({error}); fetch it again from {SITE}") from error
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return images, labels


def tfds_order(split: str, count: int) -> list[int]:
    """The order in which tfds stores the images of a split.

    Example:
        >>> tfds_order("test", 10_000)[:3]
        [9933, 5669, 163]
    """
    salted = hashlib.md5(split.encode(), usedforsecurity=False)

    def place(number: int) -> bytes:
        own = salted.copy()
        own.update(str(number).encode())
        return own.digest()

    return sorted(range(count), key=place)


def _field(number: int, content: bytes) -> bytes:
    """A field of bytes in the wire format of protocol buffers."""
    size, length = len(content), b""
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def example(name: str, png: bytes, label: int) -> bytes:
    """An image as a serialised tf.train.Example, with the features that tfds gives it.

    Args:
        name: such as "train_00042".
        png: the image.
        label: 0 to 9.
    """

    def feature(key: str, value: bytes) -> bytes:
        return _field(1, _field(1, key.encode()) + _field(2, value))

    texts = {"id": name.encode(), "image": png}
    features = b"".join(feature(key, _field(1, _field(1, value))) for key, value in texts.items())
    return _field(1, features + feature("label", _field(3, _field(1, bytes([label])))))


def _records(images: np.ndarray, labels: np.ndarray, split: str) -> Iterator[bytes]:
    from PIL import Image

    for number in tfds_order(split, len(labels)):
        png = io.BytesIO()
        Image.fromarray(images[number]).save(png, "png")
        yield example(f"{split}_{number:05d}", png.getvalue(), int(labels[number]))


def prepare(data_dir: Path, source: Path | None = None, say: Callable[[str], None] = print) -> Path:
    """Makes `data_dir/cifar10/3.0.2` whole or not at all.

    Args:
        data_dir: folder of tfds data sets.
        source: an archive of the authors; None fetches one.
        say: is given a line for everything that happens.

    Returns:
        The folder of the version. One that is there already is left as it is.

    Raises:
        LrjaxError: the archive is not the authors' one, or the folder cannot be written to.
    """
    folder = data_dir / "cifar10" / VERSION
    if (folder / "dataset_info.json").is_file():
        say(f"{folder} is there already")
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".preparing-") as made:
            path = source or fetched(Path(made), say)
            archive = recognised(path)
            say(f"{path} is {archive.name}, its checksum is right")
            target = Path(made) / VERSION
            target.mkdir()
            _write(target, path, archive, say)
            target.rename(folder)
    except OSError as error:
        reason = error.strerror or error
        raise LrjaxError(
            f"could not write to {folder} ({reason}); free disk space or give another --data_dir"
        ) from error
    return folder


def _write(target: Path, path: Path, archive: Archive, say: Callable[[str], None]) -> None:
    try:
        from array_record.python.array_record_module import ArrayRecordWriter
    except ImportError as error:
        raise LrjaxError(
            "writing array_record files needs the package array_record: pip install array_record"
        ) from error
    infos = []
    for split in SPLITS:
        images, labels = read_split(path, archive, split)
        check(len(labels) == EXAMPLES[split], f"{path} has {len(labels)} images of {split}, not {EXAMPLES[split]}")
        say(f"writing {len(labels)} images of {split}")
        writer = ArrayRecordWriter(str(target / f"cifar10-{split}.array_record-00000-of-00001"), "group_size:1")
        size = 0
        for record in _records(images, labels, split):
            writer.write(record)
            size += len(record)
        writer.close()
        infos.append(_split_info(split, len(labels), size))
    (target / "label.labels.txt").write_text("\n".join(LABELS))
    (target / "features.json").write_text(json.dumps(FEATURES, indent=4))
    (target / "dataset_info.json").write_text(json.dumps(_info(infos), indent=2))


def _split_info(split: str, count: int, size: int) -> dict[str, Any]:
    template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    return {"filepathTemplate": template, "name": split, "numBytes": str(size), "shardLengths": [str(count)]}


def _info(splits: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "citation": "Krizhevsky, Learning multiple layers of features from tiny images, 2009",
        "description": "60000 colour images of 32x32 pixels in 10 classes, prepared by lrjax from its authors' archive.",
        "fileFormat": "array_record",
        "location": {"urls": [f"{SITE}cifar.html"]},
        "moduleName": "tensorflow_datasets.image_classification.cifar",
        "name": "cifar10",
        "splits": splits,
        "supervisedKeys": {"tuple": {"items": [{"featureKey": "image"}, {"featureKey": "label"}]}},
        "version": VERSION,
    }


_CORE = "tensorflow_datasets.core.features"
FEATURES = {
    "pythonClassName": f"{_CORE}.features_dict.FeaturesDict",
    "featuresDict": {
        "features": {
            "id": {"pythonClassName": f"{_CORE}.text_feature.Text", "text": {}},
            "image": {
                "pythonClassName": f"{_CORE}.image_feature.Image",
                "image": {"dtype": "uint8", "shape": {"dimensions": ["32", "32", "3"]}, "encodingFormat": "png"},
            },
            "label": {
                "pythonClassName": f"{_CORE}.class_label_feature.ClassLabel",
                "classLabel": {"numClasses": str(len(LABELS))},
            },
        }
    },
}


def data_folder(data_dir: str | None) -> Path:
    """Where tfds data sets lie: a folder given, else `$TFDS_DATA_DIR`, else `~/tensorflow_datasets`."""
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser().absolute()
