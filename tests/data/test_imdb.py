"""IMDB reviews become numbers in the way of the Keras example; WordPiece texts say what is missing."""

import importlib.util

import numpy as np
import pytest

from lrjax import LrjaxError
from lrjax.data import DATASETS
from lrjax.data.imdb import START, UNKNOWN, encode, ranks, words
from lrjax.data.wordpiece import encode as encode_pieces
from lrjax.data.wordpiece import tokenizer


def config(tfds_dir, **data):
    settings = dict(name="imdb", num_train=64, num_test=16, vocabulary=20_000, length=80, subset_seed=0)
    return {"data_dir": str(tfds_dir), "data": settings | data}


def test_rare_words_are_unknown_and_long_reviews_keep_their_end():
    rank = ranks([["good"] * 3 + ["film"] * 2 + ["odd"]])
    assert rank == {"good": 1, "film": 2, "odd": 3}
    assert encode(["good", "film", "odd"], rank, vocabulary=6, length=6).tolist() == [0, 0, START, 4, 5, UNKNOWN]
    assert encode(["good"] * 9 + ["film"], rank, vocabulary=6, length=3).tolist() == [4, 4, 5]
    assert encode(["never", "seen"], rank, vocabulary=6, length=2).tolist() == [UNKNOWN, UNKNOWN]


def test_punctuation_is_space_but_for_the_apostrophe():
    assert words('Don\'t "miss"\tit--10/10!') == ["don't", "miss", "it", "10", "10"]


@pytest.mark.slow
def test_real_reviews_have_the_shapes_of_the_spec_and_both_labels(tfds_dir):
    wanted, found = DATASETS["imdb"].spec(config(tfds_dir)), DATASETS["imdb"].load(config(tfds_dir))
    for own, spec in ((found.train, wanted.train), (found.tests["test"], wanted.tests["test"])):
        assert {k: (v.shape, v.dtype) for k, v in own.items()} == {k: (v.shape, v.dtype) for k, v in spec.items()}
    assert set(found.train["y"].tolist()) == {-1.0, 1.0}
    x = found.train["x"]
    assert (x < 20_000).all()
    assert 0.0 < np.mean(x == UNKNOWN) < 0.1
    assert np.bincount(x[x > UNKNOWN]).argmax() == 4  # the most frequent word, "the"
    small = DATASETS["imdb"].load(config(tfds_dir, num_train=8))
    assert np.array_equal(small.train["x"], x[:8])
    with pytest.raises(LrjaxError, match="between 1 and 25000"):
        DATASETS["imdb"].load(config(tfds_dir, num_train=30_000))


def test_without_the_data_the_error_says_how_to_get_it(tmp_path):
    with pytest.raises(LrjaxError, match="download_and_prepare"):
        DATASETS["imdb"].load(config(tmp_path))


@pytest.mark.skipif(importlib.util.find_spec("tokenizers") is None, reason="needs the extra text")
def test_wordpiece_marks_segments_of_a_pair_and_pads(tmp_path):
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "film", "##s"]
    (tmp_path / "vocab.txt").write_text("\n".join(tokens))
    found = encode_pieces(tokenizer(str(tmp_path / "vocab.txt"), 8), [("Good films", "odd")])
    assert found[0, 0].tolist() == [2, 5, 6, 7, 3, 1, 3, 0]
    assert found[0, 1].tolist() == [0, 0, 0, 0, 0, 1, 1, 0]


def test_wordpiece_without_its_package_or_file_says_what_to_do():
    with pytest.raises(LrjaxError, match=r"lrjax\[text\]|give the vocab.txt"):
        tokenizer("", 8)
