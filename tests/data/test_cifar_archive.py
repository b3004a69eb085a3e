"""CIFAR-10 from the authors' archives: tfds reads back every pixel, in its own order; nothing but arrays is unpickled."""

import hashlib
import io
import pickle
import struct
import tarfile

import numpy as np
import pytest

from lrjax import commands
from lrjax.data import cifar_archive
from lrjax.data.cifar_archive import BINARY, PYTHON, SPLITS, batch, prepare, tfds_order
from lrjax.data.images import read_split
from lrjax.errors import LrjaxError

EACH = 4  # images of a batch


def python2(labels, rows):
    """A batch as Python 2 pickled it: {"labels": [...], "data": uint8 array}, with bytes for text."""
    numbers = b"".join(b"K" + bytes([label]) for label in labels)
    content = b"T" + struct.pack("<i", rows.size) + rows.tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    kind = b"cnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntb"
    state = b"(I1\n(I%d\nI%d\nt" % rows.shape + kind + b"I00\n" + content + b"tb"
    return b"\x80\x02}(S'labels'\n](" + numbers + b"eS'data'\n" + array + state + b"u."


@pytest.fixture(params=[BINARY, PYTHON], ids=["binary", "python"])
def archive(request, tmp_path, monkeypatch):
    """A small archive of either kind, whose checksum is the right one; and what is in it."""
    random, split_of = np.random.default_rng(0), {}
    path = tmp_path / request.param.name
    with tarfile.open(path, "w:gz") as tar:
        for split, names in SPLITS.items():
            for name in names:
                rows = random.integers(0, 256, (EACH, 3072), np.uint8)
                labels = random.integers(0, 10, EACH).astype(np.uint8)
                raw = np.column_stack([labels, rows]).tobytes()
                content = raw if request.param is BINARY else python2(labels.tolist(), rows)
                info = tarfile.TarInfo(f"{request.param.folder}/{name}{request.param.ending}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
                split_of.setdefault(split, []).append((rows, labels))
    own = request.param._replace(sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(cifar_archive, "ARCHIVES", [own])
    monkeypatch.setattr(cifar_archive, "EXAMPLES", {split: EACH * len(names) for split, names in SPLITS.items()})
    return path, {split: [np.concatenate(a) for a in zip(*parts, strict=True)] for split, parts in split_of.items()}


@pytest.mark.filterwarnings("ignore")  # of tfds, as it is imported
def test_tfds_reads_every_pixel_and_label_in_its_own_order_without_tensorflow(archive, tmp_path):
    tensorflow_datasets = pytest.importorskip("tensorflow_datasets", reason="tensorflow_datasets is not installed")
    path, wanted = archive
    folder = prepare(tmp_path / "data", path, say=lambda line: None)
    for split, (rows, labels) in wanted.items():
        order = np.random.default_rng([0, *f"subset of {split}".encode()]).permutation(len(labels))
        stored = np.array(tfds_order(split, len(labels)))[order]
        read_split.cache_clear()
        images, found = read_split(folder, split, None, None, 0)
        np.testing.assert_array_equal(found, labels[stored])
        np.testing.assert_array_equal(images, rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)[stored])
    first = tensorflow_datasets.builder_from_directory(folder).as_data_source("train")[0]
    assert first["id"] == f"train_{tfds_order('train', 5 * EACH)[0]:05d}".encode()
    assert sorted(path.name for path in folder.iterdir()) == [
        "cifar10-test.array_record-00000-of-00001", "cifar10-train.array_record-00000-of-00001",
        "dataset_info.json", "features.json", "label.labels.txt",
    ]  # fmt: skip


def test_the_order_is_that_of_tfds_itself():
    hashing = pytest.importorskip("tensorflow_datasets.core.hashing", reason="tensorflow_datasets is not installed")
    assert tfds_order("train", 1000) == sorted(range(1000), key=hashing.Hasher("train").hash_key)


def test_the_command_prepares_lists_and_leaves_what_is_there(archive, tmp_path, capsys):
    path, _ = archive
    words = ["data", "prepare", "cifar10", f"--source={path}", f"--data_dir={tmp_path / 'data'}"]
    assert commands.main(words) == 0
    assert "its checksum is right" in capsys.readouterr().out
    assert commands.main(words) == 0
    assert "is there already" in capsys.readouterr().out
    assert commands.main(["data", "list", f"--data_dir={tmp_path / 'data'}"]) == 0
    out = capsys.readouterr().out
    assert "cifar10/3.0.2: 20 train, 4 test" in out
    assert "imdb_reviews: prepared by tensorflow_datasets" in out
    assert sorted(path.name for path in (tmp_path / "data" / "cifar10").iterdir()) == ["3.0.2"]


def test_an_archive_that_was_changed_or_cut_is_refused_and_leaves_nothing(archive, tmp_path, capsys):
    path, _ = archive
    path.write_bytes(path.read_bytes()[:-1])
    assert commands.main(["data", "prepare", "cifar10", f"--source={path}", f"--data_dir={tmp_path / 'data'}"]) == 1
    assert "is neither" in capsys.readouterr().err
    assert list((tmp_path / "data" / "cifar10").iterdir()) == []


def test_a_pickle_that_asks_for_more_than_arrays_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "written"), "w"))

    with pytest.raises(LrjaxError, match="which no array needs"):
        batch(PYTHON, pickle.dumps(Evil(), protocol=2))
    assert not (tmp_path / "written").exists()


def test_a_damaged_pickle_gives_a_sentence_and_never_memory_of_the_process():
    whole, random = python2([1, 2, 3], np.zeros((3, 3072), np.uint8)), np.random.default_rng(0)
    said = set()
    for _ in range(2000):
        damaged = bytearray(whole)
        for place in random.integers(0, 200, 3):
            damaged[place] = random.integers(256)
        try:
            images, _ = batch(PYTHON, bytes(damaged))
        except LrjaxError as error:
            said.add(str(error)[:26])
        else:
            assert images.shape == (3, 32, 32, 3)
    assert {"a batch of the archive can", "a batch of the archive hol", "the pickle asks for numpy."} <= said


@pytest.mark.parametrize("kind", [b"S'O8'", b"S'f4'", b"S'u2'"])
def test_an_array_of_anything_but_bytes_is_refused(kind):
    whole = python2([1, 2, 3], np.zeros((3, 3072), np.uint8))
    with pytest.raises(LrjaxError, match="cannot be read"):
        batch(PYTHON, whole.replace(b"S'u1'", kind))


@pytest.mark.parametrize("content", [b"", b"x", b"\x80\x02}.", pickle.dumps([1], protocol=2), b"\x00" * 3074])
@pytest.mark.parametrize("kind", [BINARY, PYTHON], ids=["binary", "python"])
def test_a_batch_that_is_none_is_refused(kind, content):
    if (kind, content) == (BINARY, b""):
        pytest.skip("no images: the counts of the split are checked")
    with pytest.raises(LrjaxError, match="the archive"):
        batch(kind, content)


def test_without_a_network_and_a_file_the_command_says_what_to_do(tmp_path, monkeypatch, capsys):
    def unreachable(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    assert commands.main(["data", "prepare", "cifar10", f"--data_dir={tmp_path}"]) == 1
    assert "(no route to host); fetch it by other means, then give --source=FILE" in capsys.readouterr().err


@pytest.mark.parametrize("info", ["[]", "{", "{}", '{"splits": [{"name": "a", "shardLengths": null}]}'])
def test_a_damaged_description_is_listed_as_such(info, tmp_path, capsys):
    (tmp_path / "mine" / "1.0.0").mkdir(parents=True)
    (tmp_path / "mine" / "1.0.0" / "dataset_info.json").write_text(info)
    assert commands.main(["data", "list", f"--data_dir={tmp_path}"]) == 0
    assert "mine/1.0.0: its dataset_info.json is damaged" in capsys.readouterr().out
