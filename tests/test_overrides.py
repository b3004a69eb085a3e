"""Random configs with overrides (`tests.overrides`): what would run, and what does run, is what was asked."""

import json

import pytest

import lrjax
from lrjax.experiment.config import reach
from lrjax.experiment.config.load import load_config
from lrjax.experiment.rundir.lanes import lane_config
from tests import overrides
from tests.runs import CLEAR


@pytest.mark.slow
def test_what_would_run_is_what_was_asked_or_a_refusal(capsys):
    assert overrides.main(["--cases", "20"]) == 0
    ran, refused = (int(words.split()[0]) for words in capsys.readouterr().out.split(": ")[1].split(", ")[:2])
    assert min(ran, refused) >= 4  # the cases are neither all wrong nor all right


def test_the_check_itself_sees_an_override_that_arms_ignore(monkeypatch):
    monkeypatch.setattr(reach, "settle", lambda *_: None)
    _, found = overrides.faults("configs/break_even.py:E3,scale=smoke", {"optimizer.learning_rate": 0.05})
    assert "lane 0 (large_rate) has optimizer.learning_rate=0.1, not (0.05,)" in found
    _, found = overrides.faults(CLEAR, {"steps": 100})
    assert any("small_rate" in sentence for sentence in found)


SHORT = {
    "log_every": 20, "checkpoint_every": 40, "probes.features": 20, "probes.test_accuracy": 40, "data.dim": 20,
    "model.width": 4, "data.num_test": 20,
}  # fmt: skip
RUNS = {
    "steps of all arms": (CLEAR, {"steps": 40, "seed": 3} | SHORT),
    "an axis of an arm": (CLEAR, {"sweep.steps": (40, 60), "arms.small_rate.sweep.e": (0.1, 0.3), "seed": 5} | SHORT),
    "the learning rate in place of e": (
        CLEAR, {"e": None, "optimizer.learning_rate": 0.1, "arms.small_rate.e": None, "arms.time_matched": None, "steps": 40}
        | SHORT,
    ),
    "an axis that reaches every arm": (
        "configs/exp_lr.py:E7,scale=smoke",
        {"sweep.seed": (5, 6), "sweep.steps": (100, 200), "arms.noisy_norm": None, "arms.noisy_both": None},
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "own"), RUNS.values(), ids=RUNS)
def test_what_ran_is_what_was_asked_by_the_files_of_the_run(spec, own, tmp_path):
    way, found = overrides.faults(spec, own)
    assert (way, found) == ("ran", [])
    result = lrjax.run(load_config(spec, own), tmp_path)
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "done"
    for lane, arrays in zip(result.lanes, result.arrays, strict=True):
        config = lane_config(result, lane)
        assert len(arrays["step/loss"]) == config.steps == lane["steps"]
        assert arrays["step/learning_rate"][0] == pytest.approx(config.optimizer.learning_rate)
