"""What a run writes is read back as it was, stands once, and is cut where a lane ended."""

import json
import os

import numpy as np
import pytest

from lrjax.errors import LrjaxError
from lrjax.experiment.rundir.metrics import Writer, load_run, read_status, write_atomic, write_status


def lane(index, steps, diverged_at=None):
    return {"lane": index, "arm": "main", "seed": 0, "values": {}, "steps": steps, "diverged_at": diverged_at}


def written(workdir, lanes, blocks, pieces):
    """A run directory from arrays [time, lanes, ...] by block and last step."""
    write_atomic(workdir / "config.json", json.dumps({"paper": "benign_osc"}))
    write_status(workdir, {"state": "done", "lanes": lanes, "blocks": blocks})
    writer = Writer(workdir)
    for (block, stop), arrays in pieces.items():
        writer.collect(arrays)
        writer.flush(block, stop)
    return load_run(workdir)


def steps_from(start, stop, lanes):
    """A value for every step and lane that says which they are."""
    return np.arange(start, stop, dtype=np.float32)[:, None] + 1000 * np.arange(lanes, dtype=np.float32)[None]


def test_pieces_of_blocks_are_put_together_lane_by_lane_in_the_order_of_steps(tmp_path):
    pieces = {
        (0, 1000): {"step/loss": steps_from(900, 1000, 2)},  # sorts after 100 only as a number with leading zeros
        (0, 900): {"step/loss": steps_from(100, 900, 2)},
        (0, 100): {"step/loss": steps_from(0, 100, 2), "data/y": np.array([[[5.0], [6.0]]])},
        (1, 100): {"step/loss": steps_from(0, 100, 1) + 7000},
    }
    lanes = [lane(0, 1000), lane(1, 100), lane(2, 1000)]
    run = written(tmp_path, lanes, [[2, 0], [1]], pieces)
    assert (run.arrays[2]["step/loss"] == np.arange(1000)).all()
    assert (run.arrays[0]["step/loss"] == np.arange(1000) + 1000).all()
    assert (run.arrays[1]["step/loss"] == np.arange(100) + 7000).all()
    assert run.arrays[0]["data/y"].tolist() == [6.0]


CUTS = [  # (steps, diverged_at) -> entries of the step stream, measurements kept
    ((8, None), 8, [0, 4, 8]),
    ((10, None), 10, [0, 4, 8, 10]),
    ((16, None), 16, [0, 4, 8, 12, 16]),
    ((16, 6), 7, [0, 4, 6]),
    ((16, 0), 1, [0]),
]


@pytest.mark.parametrize(("own", "entries", "measured"), CUTS, ids=str)
def test_a_lane_is_cut_at_its_own_length_or_after_the_step_at_which_it_diverged(own, entries, measured, tmp_path):
    steps, diverged_at = own
    last = steps if diverged_at is None else diverged_at
    at = np.minimum(np.arange(0, 20, 4), last)[:, None]  # a lane that stands still is measured again
    pieces = {(0, 16): {"step/loss": steps_from(0, 16, 1), "features/step": at, "features/x": 2.0 * at[..., None]}}
    (arrays,) = written(tmp_path, [lane(0, steps, diverged_at)], [[0]], pieces).arrays
    assert arrays["step/loss"].tolist() == list(range(entries))
    assert arrays["features/step"].tolist() == measured
    assert arrays["features/x"][:, 0].tolist() == [2.0 * step for step in measured]


def test_rewind_drops_what_the_checkpoint_does_not_vouch_for(tmp_path):
    writer = Writer(tmp_path)
    writer.rows([{"lane": 0, "step": 100}])
    offset = writer.offset
    writer.rows([{"lane": 0, "step": 200}])
    for block, stop in [(0, 500), (1, 100), (1, 200), (2, 100)]:
        writer.save(f"block-{block:03d}-{stop:09d}", {"step/loss": np.zeros((1, 1))})
    again = Writer(tmp_path)
    again.rewind(block=1, step=100, offset=offset)
    kept = sorted(path.stem for path in (tmp_path / "arrays").iterdir())
    assert kept == ["block-000-000000500", "block-001-000000100"]
    again.rows([{"lane": 0, "step": 300}])
    rows = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows == [100, 300]
    assert again.offset == os.path.getsize(tmp_path / "metrics.jsonl")


def test_numbers_that_are_not_finite_become_null(tmp_path):
    writer = Writer(tmp_path)
    writer.rows([{"loss": float("nan"), "rates": (np.float32("inf"), np.float32(0.5)), "n": np.int32(3)}])
    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"loss": None, "rates": [None, 0.5], "n": 3}


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    write_atomic(tmp_path / "status.json", "old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LrjaxError, match=r"status\.json \(No space left on device\).*run the same command again"):
        write_atomic(tmp_path / "status.json", "new")
    writer = Writer(tmp_path)
    writer.collect({"step/loss": np.zeros((1, 1))})
    with pytest.raises(LrjaxError, match="No space left on device"):
        writer.flush(0, 1)
    assert {path.name for path in tmp_path.iterdir()} == {"status.json", "metrics.jsonl", "arrays"}
    assert (tmp_path / "status.json").read_text() == "old"
    assert list((tmp_path / "arrays").iterdir()) == []


def test_a_folder_without_a_run_and_a_damaged_status_say_what_to_do(tmp_path):
    with pytest.raises(LrjaxError, match=r"holds no run.*--workdir"):
        load_run(tmp_path)
    assert read_status(tmp_path) is None
    (tmp_path / "status.json").write_text('{"state": "do')
    with pytest.raises(LrjaxError, match="--fresh"):
        read_status(tmp_path)
