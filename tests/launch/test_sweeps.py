"""Which points of a sweep share a program, and which are jobs of their own."""

from pathlib import Path

import pytest

from launch.jobs import jobs_of
from lrjax.errors import LrjaxError
from lrjax.experiment.config.axes import grid, zipped
from lrjax.experiment.config.load import load_config
from lrjax.experiment.loop import sweep
from lrjax.main import parse
from tests.runs import CLEAR

CONFIG = f"{Path(__file__).parent / 'sweep_config.py'}:tiny,scale=smoke"
FEW = {"sweep.e": (1.25,), "arms.time_matched": None}


def test_array_axes_stay_in_one_run_and_structure_is_a_run_each():
    points = grid({"model.width": (8, 16), "e": (0.9, 1.25), "steps": (10, 20)})
    found = sweep.runs(CLEAR, points, FEW)
    axes = {"sweep.e": (0.9, 1.25), "sweep.steps": (10, 20)}
    assert found == [FEW | {"model.width": width} | axes for width in (8, 16)]
    for own in found:
        (group,) = sweep.expand(load_config(CLEAR, own))  # one compiled program
        main = [lane.values for lane in group.lanes if lane.arm == "main"]
        twice = sorted([(0.9, 10), (0.9, 20), (1.25, 10), (1.25, 20)] * 2)  # of two seeds
        assert sorted((values["e"], values["steps"]) for values in main) == twice


def test_zipped_values_stay_pairs_in_the_lanes_of_a_run():
    (own,) = sweep.runs(CLEAR, zipped({"e": (0.9, 1.25), "seed": (3, 4)}), FEW)
    lanes = [lane for group in sweep.expand(load_config(CLEAR, own)) for lane in group.lanes]
    assert [(lane.config.e, lane.config.seed) for lane in lanes if lane.arm == "main"] == [(0.9, 3), (1.25, 4)]
    small = [(lane.config.e, lane.config.seed) for lane in lanes if lane.arm == "small_rate"]
    assert small == [(0.2, 3), (0.2, 4)]  # the arm sets e itself


def test_points_that_change_arms_or_probes_are_runs_of_their_own():
    points = grid({"arms.small_rate.e": (0.1, 0.2)})
    assert len(sweep.runs(CLEAR, points)) == 2
    assert len(sweep.runs(CLEAR, grid({"probes.features": (250, 500), "seed": (0, 1)}))) == 2


def test_a_run_has_as_many_points_as_it_may():
    found = sweep.runs(CLEAR, grid({"seed": range(5)}), most=2)
    assert found == [{"sweep.seed": (0, 1)}, {"sweep.seed": (2, 3)}, {"seed": 4}]


def test_a_wrong_point_is_refused_with_its_values():
    with pytest.raises(LrjaxError, match=r"the sweep at seed=1, optimizer.learning_rate=0.1: give one of e and"):
        sweep.runs(CLEAR, [{"seed": 0}, {"seed": 1, "optimizer.learning_rate": 0.1}])
    with pytest.raises(LrjaxError, match="did you mean 'seed'"):
        sweep.runs(CLEAR, [{"sed": 0}])
    with pytest.raises(LrjaxError, match="cannot be swept; name another experiment"):
        sweep.runs(CLEAR, [{"experiment": "E2"}])


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("return []", "gives no points"),
        ("return {'seed': (0, 1)}", "gives no points"),
    ],
)
def test_a_sweep_without_points_is_refused(body, sentence, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(f"DEFAULT = 'one'\nEXPERIMENTS = {{'one': None}}\n\n\ndef sweep():\n    {body}\n")
    with pytest.raises(LrjaxError, match=sentence):
        sweep.declared(str(path))


def test_a_sweep_is_given_the_experiment_and_the_scale_that_it_asks_for(tmp_path):
    path = tmp_path / "asking.py"
    body = "DEFAULT = 'one'\nEXPERIMENTS = {'one': None}\n\n\ndef sweep(scale):\n    return [{'data_dir': scale}]\n"
    path.write_text(body)
    assert sweep.declared(f"{path}:one,scale=paper") == [{"data_dir": "paper"}]


def test_the_same_sweep_has_the_same_folders_and_another_value_has_others(tmp_path):
    names = [job.name for job in jobs_of([CONFIG], tmp_path, {}, {})]
    assert names == [job.name for job in jobs_of([CONFIG], tmp_path, {}, {})]
    assert len(set(names)) == 3
    assert names[0].startswith("sweep_config-tiny-smoke-batch_size=1-steps=400-")
    other = [job.name for job in jobs_of([CONFIG], tmp_path, {"data.dim": 50}, {})]
    assert not set(other) & set(names)


def test_the_command_of_a_job_has_the_config_that_was_planned(tmp_path):
    for job in jobs_of([CONFIG], tmp_path, {"data.dim": 50}, {}):
        flags, overrides = parse(job.command[3:])
        config = load_config(flags.config, overrides)
        planned = load_config(CONFIG, {"data.dim": 50} | job.values)
        assert config.to_json() == planned.to_json()
        assert flags.workdir == str(job.workdir)
