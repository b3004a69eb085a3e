"""Training on examples that are read as they are needed gives what training on examples in memory gives."""

import builtins

import numpy as np
import pytest

import lrjax
from lrjax.data.image_sets import image_set, image_stream
from lrjax.data.order import Orders
from lrjax.data.streaming import Feed
from lrjax.errors import LrjaxError

grain = pytest.importorskip("grain", reason="grain is not installed")
Image = pytest.importorskip("PIL.Image")

SETTINGS = dict(
    source="pets", format="folder", train_split="train", test_split="test", image_size=4, first_class=0, num_classes=3,
    num_train=None, num_test=None, full_train=24, full_test=6, subset_seed=0, resident=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    pixels = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 2)):
        for name in ("cats", "dogs", "eels"):
            place = root / "pets" / split / name
            place.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(pixels.integers(0, 255, (4, 4, 3), np.uint8)).save(place / f"{i}.png")
    return root


def settings(folder, **overrides):
    return {"data_dir": str(folder), "data": SETTINGS | overrides}


def config(folder, resident, **overrides):
    made = lrjax.load_config("configs/break_even.py:E7_mlp,scale=smoke")
    with made.unlocked(), made.ignore_type():
        made.data = type(made)({"name": "image_set"} | SETTINGS | {"resident": resident})
        made.arms = type(made)()
        made.probes = type(made)({"accuracy": 4})
        lanes = ((0, 0.05), (1, 0.05), (1, 0.1))  # two of one order
        made.sweep = type(made)({"seed,optimizer": {"learning_rate": lanes}})
        made.update(data_dir=str(folder), batch_size=4, steps=14, log_every=2, checkpoint_every=4, lanes_per_device=3)
        made.optimizer.learning_rate = 0.05
        made.lane_loop = "vmap"
        made.update(overrides)
    return made


def arrays(result):
    return [{name: array for name, array in lane.items() if "time" not in name} for lane in result.arrays]


@pytest.mark.parametrize("step_loop", ["scan", "host"])
def test_a_streamed_run_has_every_digit_of_one_in_memory(folder, tmp_path, step_loop):
    whole = lrjax.run(config(folder, 0, step_loop=step_loop), tmp_path / "whole")
    streamed = lrjax.run(config(folder, 24, step_loop=step_loop), tmp_path / "streamed")
    for one, other in zip(arrays(whole), arrays(streamed), strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    losses = [lane["step/loss"] for lane in arrays(streamed)]
    assert not np.array_equal(losses[0], losses[1])  # lanes of different seeds see different examples


def test_only_the_resident_examples_stay_in_memory_and_give_the_statistics(folder):
    part = image_set(settings(folder, resident=6))
    whole = image_set(settings(folder))
    assert part.train["x"].shape == (6, 4, 4, 3)
    assert np.array_equal(part.train["y"], whole.train["y"][:6])
    assert abs(part.train["x"].mean()) < 1e-6
    stream = image_stream(settings(folder, resident=6))
    assert stream is not None
    read = stream(np.arange(24))
    assert np.array_equal(read["y"], whole.train["y"])
    np.testing.assert_allclose(read["x"][:6], part.train["x"], atol=1e-6)
    assert np.corrcoef(read["x"].ravel(), whole.train["x"].ravel())[0, 1] > 0.9


def test_lanes_of_one_order_share_what_is_read_and_the_next_chunk_is_read_once():
    asked = []

    def read(indices):
        asked.append(len(indices))
        return {"x": indices}

    orders = Orders([3, 3, 4], ["shuffle"] * 3, n=12, batch_size=3)
    feed = Feed(orders, read, 2, 8)
    for start in range(0, 8, 2):
        index, found = feed.chunk(start)
        assert np.array_equal(found["x"][index], orders.rows(start, 2))
    assert asked == [2 * 2 * 3] * 4


def test_a_stream_that_is_not_as_long_as_promised_is_refused(folder):
    with pytest.raises(LrjaxError, match="set data.num_train=24"):
        image_stream(settings(folder, resident=6, full_train=30))


def test_more_resident_examples_than_there_are_is_refused(folder):
    with pytest.raises(LrjaxError, match=r"data.resident=25 must lie in 0\.\.24"):
        lrjax.run(config(folder, 25), folder / "unused")


def test_without_grain_the_extra_to_install_is_named(folder, monkeypatch):
    importer = builtins.__import__

    def refusing(name, *rest, **more):
        if name == "grain":
            raise ImportError(name)
        return importer(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refusing)
    with pytest.raises(LrjaxError, match=r"pip install grain \(the extra large\)"):
        image_stream(settings(folder, resident=6))
