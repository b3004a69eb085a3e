"""IMDB reviews as integer token sequences, encoded as in Keras's imdb_lstm example."""

import functools
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lrjax.data.dataset import Dataset, Files
from lrjax.data.images import generator, prepared_files, prepared_folder
from lrjax.errors import check

FOLDER = "imdb_reviews/plain_text"
SPLIT_SIZES = {"train": 25_000, "test": 25_000}
PAD, START, UNKNOWN, INDEX_FROM = 0, 1, 2, 3
_FILTERED = str.maketrans(dict.fromkeys('!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n', " "))


def words(text: str) -> list[str]:
    """The words of a review: lower case, punctuation taken for space.

    Example:
        >>> words("It's GREAT!<br />Really.")
        ["it's", 'great', 'br', 'really']
    """
    return text.lower().translate(_FILTERED).split()


def ranks(texts: Iterable[list[str]]) -> dict[str, int]:
    """Word -> rank by frequency, from 1; ties in the order of the alphabet.

    Example:
        >>> ranks([["a", "b", "a"], ["c"]])
        {'a': 1, 'b': 2, 'c': 3}
    """
    counts = Counter(word for text in texts for word in text)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {word: rank for rank, (word, _) in enumerate(ordered, start=1)}


def encode(text: list[str], rank: dict[str, int], vocabulary: int, length: int) -> np.ndarray:
    """The last `length` numbers of a review, zeros before a short one: 1 starts it, 2 is a rare word, others rank + 3 - 1.

    Args:
        text: words.
        rank: from `ranks`.
        vocabulary: numbers from this on become 2.
        length: of the result.

    Example:
        >>> encode(["the", "odd", "film"], {"the": 1, "film": 2, "odd": 90}, vocabulary=50, length=5).tolist()
        [0, 1, 4, 2, 5]
    """
    numbers = [START] + [rank.get(word, vocabulary) + INDEX_FROM for word in text]
    numbers = [number if number < vocabulary else UNKNOWN for number in numbers][-length:]
    return np.array([PAD] * (length - len(numbers)) + numbers, np.int32)


def _reviews(folder: Path, split: str, index: Any = None) -> tuple[list[list[str]], np.ndarray]:
    """Words and labels of the reviews in `index`, or of all."""
    import tensorflow_datasets as tfds  # half a second, and not needed by a dry run

    builder: Any = tfds.builder_from_directory(folder)
    source = builder.as_data_source(split=split)
    records = source.__getitems__(list(range(len(source))) if index is None else np.asarray(index).tolist())
    texts = [record["text"] for record in records]
    decoded = [text.decode() if isinstance(text, bytes) else str(text) for text in texts]
    return [words(text) for text in decoded], np.array([int(record["label"]) for record in records])


@functools.lru_cache(maxsize=1)
def _ranks(folder: Path) -> dict[str, int]:
    return ranks(_reviews(folder, "train")[0])


def imdb_files(config: Any) -> Files:
    """The files that `imdb(config)` reads."""
    return prepared_files(FOLDER, config.get("data_dir"))


def imdb(config: Any) -> Dataset:
    """IMDB reviews, or a fixed random subset of them, with labels -1 (negative) and +1 (positive) for the logistic loss.

    The words are ranked on all training reviews, whatever the subset.

    Args:
        config: mapping with `data_dir` and `data`: `num_train` and `num_test` (None: all), `vocabulary` (20,000), `length`
            (80), `subset_seed` (0).

    Returns:
        "x" int32 `[n, length]`, "y" float32 `[n]`.

    Raises:
        LrjaxError: the data set is not there (the message has the command that prepares it), or it has too few reviews.
    """
    data = config["data"]
    folder = prepared_folder(FOLDER, config.get("data_dir"))
    rank = _ranks(folder)

    def split(name: str) -> dict[str, np.ndarray]:
        total, count = SPLIT_SIZES[name], data.get(f"num_{name}")
        check(
            count is None or 1 <= count <= total,
            f"config.data.num_{name}={count} must be between 1 and {total}, or None for all reviews",
        )
        order = generator(data.get("subset_seed", 0), f"subset of {name}").permutation(total)
        texts, labels = _reviews(folder, name, order[:count])
        x = [encode(text, rank, data.get("vocabulary", 20_000), data.get("length", 80)) for text in texts]
        return {"x": np.stack(x), "y": (2 * labels - 1).astype(np.float32)}

    return Dataset(train=split("train"), tests={"test": split("test")}, num_classes=1)


def imdb_spec(config: Any) -> Dataset:
    """The shapes of `imdb(config)`, without the disk.

    Example:
        >>> imdb_spec({"data": {"num_train": 100, "num_test": None}}).tests["test"]["x"]
        ShapeDtypeStruct(shape=(25000, 80), dtype=int32)
    """
    data = config["data"]

    def split(name: str) -> dict[str, jax.ShapeDtypeStruct]:
        n = data.get(f"num_{name}") or SPLIT_SIZES[name]
        x = jax.ShapeDtypeStruct((n, data.get("length", 80)), np.int32)
        return {"x": x, "y": jax.ShapeDtypeStruct((n,), np.float32)}

    return Dataset(train=split("train"), tests={"test": split("test")}, num_classes=1)
