"""The estimated time of a dry run: from steps that were really made, without data, and said as what it is."""

import pytest

import lrjax
import lrjax.probes
from lrjax.experiment.loop import calibrate, sweep
from lrjax.experiment.loop.calibrate import Timing, said, span
from lrjax.experiment.loop.dry_run import describe, estimate
from tests.runs import tiny


def timings(config, speed):
    groups = sweep.expand(config)
    count = sum(len(group.lanes) for group in groups)
    return [calibrate.timing(group, estimate(group), count, speed) for group in groups]


def test_the_time_of_a_chunk_is_counted_once_for_each_chunk_of_each_block(monkeypatch):
    made = []
    monkeypatch.setattr(calibrate, "_fastest", lambda call: made.append(call()) or 0.5)
    (found,) = timings(tiny({"arms.small_rate": None, "arms.time_matched": None, "sweep.seed": (0, 1)}), 1e12)
    assert found.measured == 50
    assert found.seconds == 0.5 * 8 * 2  # chunks of 400 steps; blocks of two of four lanes
    assert len(made) == 1


@pytest.mark.parametrize("speed", [1.0, 1e3])
def test_a_step_that_is_too_long_to_be_tried_gives_a_lower_bound(monkeypatch, speed):
    monkeypatch.setattr(calibrate, "_fastest", lambda call: pytest.fail("a step was made"))
    config = tiny()
    found = timings(config, speed)
    assert all(timing.measured == 0 for timing in found)
    assert sum(timing.seconds for timing in found) >= sum(estimate(g)["flops"] for g in sweep.expand(config)) / speed
    assert "or more (from FLOPs" in said(found)


@pytest.mark.slow
def test_data_that_all_lanes_share_is_made_up(tmp_path):
    config = lrjax.load_config("configs/exp_lr.py:E1,scale=smoke", {"data_dir": str(tmp_path / "none")})
    with config.unlocked():
        config.arms = {"wd": config.arms[next(iter(config.arms))]}
    assert all(timing.measured > 0 for timing in timings(config, 1e11))


def test_only_a_dry_run_that_compiles_says_a_time(monkeypatch):
    monkeypatch.setattr(calibrate, "machine_flops", lambda: 1e12)
    monkeypatch.setattr(calibrate, "timing", lambda *_, **__: Timing(90.0, 10, 3.0))
    monkeypatch.setattr("lrjax.experiment.loop.dry_run._memory", lambda *_: "")
    assert "estimated time on this machine: about 90 s of training steps (10 steps measured" in describe(tiny())
    assert "estimated time" not in describe(tiny(), compiled=False)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "1 s"), (99.4, "99 s"), (100, "2 min"), (5399, "90 min"), (7200, "2 h"), (86400 * 3, "3.0 days")],
)
def test_times_have_a_unit_that_fits(seconds, text):
    assert span(seconds) == text
