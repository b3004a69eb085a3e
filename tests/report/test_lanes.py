"""The lanes of a finished run: what is chosen, each lane's config, and figures that can be drawn again."""

import pytest

import lrjax
from lrjax.experiment.config.canonical import flatten
from lrjax.experiment.loop.sweep import expand
from lrjax.experiment.rundir.lanes import NotMeasured, end, lane_config, lanes
from lrjax.experiment.rundir.metrics import load_run
from lrjax.papers import PAPERS

OVERRIDES = {"sweep.seed": (0, 3), "arms.time_matched": None, "steps": "10 epochs", "arms.small_rate.steps": 640}
SMALL = {"log_every": 64, "checkpoint_every": 640, "probes.features": 64, "probes.test_accuracy": 64}


@pytest.fixture(scope="module")
def config():
    return lrjax.load_config("configs/benign_osc.py:CLEAR,scale=smoke", OVERRIDES | SMALL)


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    return lrjax.run(config, tmp_path_factory.mktemp("run"))


def test_a_lane_s_config_is_the_resolved_one_that_ran(run, config):
    for lane in (lane for group in expand(config) for lane in group.lanes):
        told, ran = flatten(lane_config(load_run(run.workdir), run.lanes[lane.index])), flatten(lane.config)
        assert {key for key in ran if told[key] != ran[key]} <= {f"probes.{name}" for name in config.probes}
        assert told["steps"] == 640
        assert told["seed"] == lane.values["seed"]


def test_a_record_without_a_config_gives_what_arm_and_sweep_set(run):
    for lane in run.lanes:
        older = {key: value for key, value in lane.items() if key != "config"}
        found = lane_config(run, older)
        assert found.e == pytest.approx(lane["e"])
        assert found.seed == lane["seed"]
        assert found.steps == (640 if lane["arm"] == "small_rate" else "10 epochs")


def test_lanes_are_chosen_by_arm_and_value_and_a_missing_one_is_named(run):
    assert [lane["seed"] for lane, _ in lanes(run, "main", e=1.25)] == [0, 3]
    assert end(lanes(run, ("main", "small_rate")), "features/loss").shape == (6,)
    with pytest.raises(NotMeasured, match=r"no lane main at e = 0\.7"):
        lanes(run, "main", e=0.7)
    with pytest.raises(NotMeasured, match="spectrum/step was not recorded"):
        end(lanes(run, "main"), "spectrum/step")


def test_a_lane_that_diverged_is_refused_unless_asked_for(run):
    broken = run._replace(lanes=[lane | {"diverged_at": 7} for lane in run.lanes])
    with pytest.raises(NotMeasured, match="diverged at step 7"):
        lanes(broken, "main")
    assert len(lanes(broken, "main", allow_diverged=True)) == 4


def test_figures_of_a_paper_are_drawn_again_in_the_same_process(run):
    draw = PAPERS["benign_osc"].figures
    first = [figure.name for figure in draw(run)]
    assert first
    assert [figure.name for figure in PAPERS["benign_osc"].figures(run)] == first
