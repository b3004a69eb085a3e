"""Lanes that begin where others stood: the same bits as without, also when killed, and what is refused."""

import numpy as np
import pytest

import lrjax
from lrjax import LrjaxError
from lrjax.experiment.loop import branch, sweep
from tests.papers.patterns import config
from tests.runs import equal_trees, final_states
from tests.test_resume import Killed, kill_at

STEPS = 24
TINY = {"arms.constant_1": None, "arms.constant_2": None, "steps": STEPS, "log_every": 4, "checkpoint_every": 8}
TINY |= {"probes.subsets": 8, "arms.decay.schedule.milestones": (8, 16), "arms.decay.start.at": 8}
# a probe that remembers where it last measured, and measures nothing there again
TINY |= {"probes.spectrum": 8, "spectra.k": 1, "spectra.max_steps": 3, "spectra.examples": 256}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("branch")
    branched = lrjax.run(config("L3", TINY), folder / "branched")
    whole = lrjax.run(config("L3", TINY | {"arms.decay.start.arm": ""}), folder / "whole")
    return branched, whole


def lane_of(run, arm):
    return next(lane["lane"] for lane in run.lanes if lane["arm"] == arm)


def test_a_branched_run_has_every_digit_of_one_that_made_all_its_steps(runs):
    branched, whole = runs
    for arm in ("constant_0", "decay"):
        mine, theirs = branched.arrays[lane_of(branched, arm)], whole.arrays[lane_of(whole, arm)]
        assert mine.keys() == theirs.keys()
        for name in mine:
            assert equal_trees(mine[name], theirs[name]), name
    assert len(branched.arrays[lane_of(branched, "decay")]["step/loss"]) == STEPS


def test_stage_1_of_decay_and_constant_rate_agree_in_every_digit_whether_branched_or_not(runs):
    for run in runs:
        constant, decay = (run.arrays[lane_of(run, arm)] for arm in ("constant_0", "decay"))
        for name in constant:
            kept = slice(8) if name.startswith("step/") else slice(2)
            assert equal_trees(constant[name][kept], decay[name][kept]), name
        assert not equal_trees(constant["step/loss"][10:], decay["step/loss"][10:])


def test_the_common_stage_is_computed_once(runs):
    branched, whole = runs
    steps = [(row["arm"], row["step"]) for row in branched.metrics]
    assert ("decay", 8) not in steps
    assert ("decay", 12) in steps
    assert len(branched.metrics) == len(whole.metrics) - 2


@pytest.mark.slow
@pytest.mark.parametrize("event", [5, 9, 13, 16])
def test_a_killed_run_with_a_branch_ends_with_the_same_bits(runs, event, tmp_path):
    with pytest.MonkeyPatch.context() as monkeypatch:
        kill_at(monkeypatch, event)
        with pytest.raises(Killed):
            lrjax.run(config("L3", TINY), tmp_path)
    again = lrjax.run(config("L3", TINY), tmp_path)
    reference = runs[0]
    assert (tmp_path / "metrics.jsonl").read_bytes() == (reference.workdir / "metrics.jsonl").read_bytes()
    assert again.lanes == reference.lanes
    for mine, theirs in zip(again.arrays, reference.arrays, strict=True):
        for name in theirs:
            assert equal_trees(mine[name], theirs[name]), name
    mine, theirs = final_states(tmp_path), final_states(reference.workdir)
    assert all(equal_trees(mine[name], theirs[name]) for name in theirs)


def planned(overrides):
    return sweep.expand(config("L3", TINY | overrides))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"arms.decay.start.arm": "constnt"}, "must name one lane"),
        ({"arms.decay.start.at": 7}, "multiple of log_every"),
        ({"arms.decay.start.at": 16}, "learning rates differ"),
        ({"arms.decay.model.width": 16}, "model.width"),
        ({"arms.decay.start.what": "half"}, "start.what"),
        ({"arms.constant_0.start.arm": "decay", "arms.constant_0.start.at": 8}, "begins from itself"),
    ],
)
def test_what_a_lane_cannot_begin_from_is_said(overrides, said):
    with pytest.raises(LrjaxError, match=said):
        planned(overrides)


def test_weights_leave_out_fresh_layers_and_what_does_not_fit_is_named():
    origin = branch.Origin(0, 4, "weights", ("head",), 0)
    assert branch._taken("state/params/stem/kernel", origin)
    assert branch._taken("state/model_state/batch_stats/norm1/mean", origin)
    assert not branch._taken("state/params/head/kernel", origin)
    assert not branch._taken("state/opt_state/0/trace/stem/kernel", origin)
    assert not branch._taken("state/step", origin)


def test_a_phase_of_a_larger_batch_goes_on_in_the_order_of_examples():
    groups = sweep.expand(config("L6"))
    lanes = {lane.arm: lane for group in groups for lane in group.lanes}
    second, third = lanes["growing_batch_2"], lanes["growing_batch_3"]
    assert (second.begin, second.origin.skip) == (16, 8 - 16)  # two epochs of eight steps, now of four
    assert third.begin == second.config.steps == 24
    assert (third.begin + third.origin.skip) * third.config.batch_size == 4 * 256
    assert np.isclose(second.learning_rates()[-1], 0.1)
