"""Texts as WordPiece tokens for BERT: IMDB reviews, and the pairs of sentences of MNLI."""

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lrjax.data.dataset import Dataset, Files
from lrjax.data.images import generator, prepared_files, prepared_folder
from lrjax.errors import check

# name -> (folder of tfds, splits, their sizes, names of the texts, classes)
TEXTS: dict[str, dict[str, Any]] = {
    "imdb_wordpiece": dict(
        folder="imdb_reviews/plain_text", train=("train", 25_000), test=("test", 25_000), texts=("text",), num_classes=2
    ),
    "mnli": dict(
        folder="glue/mnli",
        train=("train", 392_702),
        test=("validation_matched", 9_815),
        texts=("premise", "hypothesis"),
        num_classes=3,
    ),
}


def tokenizer(vocabulary: str, length: int) -> Any:
    """BERT's uncased WordPiece tokenizer, padded and cut to a length.

    Args:
        vocabulary: path of a vocab.txt, a token a line.
        length: tokens of each text or pair, [CLS] and [SEP] counted.

    Raises:
        LrjaxError: the package tokenizers or the file is missing.
    """
    there = importlib.util.find_spec("tokenizers") is not None
    check(there, "WordPiece needs a package: pip install tokenizers (the extra text)")
    path = Path(vocabulary).expanduser()
    check(
        bool(vocabulary) and path.is_file(), f"data.vocabulary={vocabulary!r} is no file; give the vocab.txt of a BERT"
    )
    made = importlib.import_module("tokenizers").BertWordPieceTokenizer(str(path), lowercase=True)
    made.enable_truncation(length)
    made.enable_padding(length=length)
    return made


def encode(made: Any, texts: list[tuple[str, ...]]) -> np.ndarray:
    """Token and segment numbers of texts, or of pairs of them: int32 [n, 2, length]."""
    found = made.encode_batch([text if len(text) > 1 else "".join(text) for text in texts])
    return np.array([[one.ids, one.type_ids] for one in found], np.int32)


def texts_files(config: Any) -> Files:
    """The files that `texts(config)` reads, but for the vocabulary."""
    return prepared_files(TEXTS[config["data"]["name"]]["folder"], config.get("data_dir"))


def texts(config: Any) -> Dataset:
    """A data set of `TEXTS`, or a fixed random subset of it, as token and segment numbers.

    Args:
        config: mapping with `data_dir` and `data`: `name`, `num_train`, `num_test` (None: all), `vocabulary` (path of
            vocab.txt), `length` (128), `subset_seed` (0).

    Returns:
        "x" int32 `[n, 2, length]`, "y" int32 `[n]`; the test set of MNLI is its matched validation set.

    Raises:
        LrjaxError: the data (the message has the command that prepares it), the vocabulary or the package is missing.
    """
    import tensorflow_datasets as tfds  # half a second, and not needed by a dry run

    data = config["data"]
    source = TEXTS[data["name"]]
    made = tokenizer(data.get("vocabulary") or "", data.get("length", 128))
    builder: Any = tfds.builder_from_directory(prepared_folder(source["folder"], config.get("data_dir")))

    def split(name: str) -> dict[str, np.ndarray]:
        records = builder.as_data_source(split=source[name][0])
        order = generator(data.get("subset_seed", 0), f"subset of {name}").permutation(len(records))
        count = data.get(f"num_{name}")
        enough = count is None or 1 <= count <= len(records)
        check(enough, f"config.data.num_{name}={count} must be between 1 and {len(records)}, or None for all texts")
        chosen = records.__getitems__(order[:count].tolist())
        own = [tuple(_decoded(record[key]) for key in source["texts"]) for record in chosen]
        return {"x": encode(made, own), "y": np.array([record["label"] for record in chosen], np.int32)}

    return Dataset(train=split("train"), tests={"test": split("test")}, num_classes=source["num_classes"])


def _decoded(text: Any) -> str:
    return text.decode() if isinstance(text, bytes) else str(text)


def texts_spec(config: Any) -> Dataset:
    """The shapes of `texts(config)`, without the disk.

    Example:
        >>> texts_spec({"data": {"name": "mnli", "num_test": 8}}).train["x"]
        ShapeDtypeStruct(shape=(392702, 2, 128), dtype=int32)
    """
    data = config["data"]
    source = TEXTS[data["name"]]

    def split(name: str) -> dict[str, jax.ShapeDtypeStruct]:
        n = data.get(f"num_{name}") or source[name][1]
        x = jax.ShapeDtypeStruct((n, 2, data.get("length", 128)), np.int32)
        return {"x": x, "y": jax.ShapeDtypeStruct((n,), np.int32)}

    return Dataset(train=split("train"), tests={"test": split("test")}, num_classes=source["num_classes"])
