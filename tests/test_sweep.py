"""Axes, lanes and blocks; and that values are arguments of one program while static is not."""

import json

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

import lrjax
from lrjax.devices import parallel
from lrjax.errors import LrjaxError
from lrjax.experiment.loop import block, sweep
from lrjax.experiment.step.schedules import table
from tests.runs import equal_trees, final_states, tiny


def lanes_of(config):
    return [lane for group in sweep.expand(config) for lane in group.lanes]


def test_every_arm_is_crossed_with_the_sweep_but_for_what_it_sets_itself():
    arms = {"main": {}, "late": {"steps": 9, "sweep": {"e": (2.0,)}}, "wide": {"model": {"width": 64}}}
    config = ConfigDict({"arms": arms, "sweep": {"e": (0.5, 1.1), "steps": (1, 2)}})
    found = [(arm, values) for arm, values, _ in sweep.points(config)]
    main = [{"e": e, "steps": steps} for e in (0.5, 1.1) for steps in (1, 2)]
    assert found == [("late", {"e": 2.0})] + [("main", v) for v in main] + [("wide", v) for v in main]
    assert [overrides for _, _, overrides in sweep.points(config)][-1] == {"model.width": 64}


def test_lanes_are_numbered_in_the_order_of_the_points_and_say_what_they_are():
    config = tiny({"sweep.seed": (0, 7)})
    lanes = sorted(lanes_of(config), key=lambda lane: lane.index)
    assert [lane.index for lane in lanes] == list(range(8))
    assert [(lane.arm, lane.config.e, lane.config.seed, lane.config.steps) for lane in lanes] == [
        ("main", 0.5, 0, 400), ("main", 0.5, 7, 400), ("main", 1.25, 0, 400), ("main", 1.25, 7, 400),
        ("small_rate", 0.2, 0, 330), ("small_rate", 0.2, 7, 330),
        ("time_matched", 0.2, 0, 500), ("time_matched", 0.2, 7, 500),
    ]  # fmt: skip
    assert lanes[3].record()["values"] == {"e": 1.25, "seed": 7}
    assert lanes[3].record()["learning_rate"] == pytest.approx(1.25 * 8 / 4)


# What the sweep varies, and whether that is a number of one program or a program each.
AXES = {
    "e": ((0.1, 0.2), 1),
    "seed": ((0, 1, 2), 1),
    "steps": ((100, 200), 1),
    "order": (("shuffle", "iid", "cyclic"), 1),
    "schedule.name": (("constant", "cosine"), 1),
    "schedule.milestones": (((10,), (20,)), 1),
    "divergence_loss": ((1.0, 10.0), 1),
    "label_noise": ((0.1, 0.2), 1),
    "data.kn": ((1.0, 2.0), 1),
    "data.n_weak": ((0, 4), 1),
    "model.init_scale": ((0.1, 0.2), 1),
    "model.width": ((4, 8), 2),
    "data.n": ((16, 32), 2),
    "data.dim": ((40, 50), 2),
    "batch_size": ((1, 2, "full"), 3),
    "loss": (("square", "half_square"), 2),
    "averaging": (("ema", "uniform"), 2),
    "model.share_filters": ((True, False), 2),
    "engine": (("gram", "direct"), 2),
    "log_every": ((50, 100), 2),
}


@pytest.mark.parametrize(("key", "axis"), AXES.items(), ids=AXES)
def test_values_share_a_program_and_structure_does_not(key, axis):
    values, groups = axis
    overrides = {"sweep.e": (0.5,), f"sweep.{key}": values, "arms.small_rate": None, "arms.time_matched": None}
    assert len(sweep.expand(tiny(overrides, probes=()))) == groups


def test_a_momentum_shares_a_program_with_others_but_not_with_none():
    base = {"engine": "direct", "arms.small_rate": None, "arms.time_matched": None}
    assert len(sweep.expand(tiny(base | {"sweep.optimizer.momentum": (0.5, 0.9, 0.0)}))) == 1
    assert len(sweep.expand(tiny(base | {"sweep.optimizer.momentum": (None, 0.9)}))) == 2


@settings(max_examples=50, deadline=None)
@given(steps=st.lists(st.integers(1, 50), min_size=1, max_size=30), size=st.integers(1, 8))
def test_blocks_hold_every_lane_once_longest_first(steps, size):
    lanes = [sweep.Lane(i, "main", {}, ConfigDict({"steps": count})) for i, count in enumerate(steps)]  # pyright: ignore
    blocks = sweep.blocks(sweep.Group(ConfigDict(), lanes), size)  # pyright: ignore[reportArgumentType]
    assert sorted(lane.index for members in blocks for lane in members) == list(range(len(steps)))
    assert [len(members) for members in blocks[:-1]] == [size] * (len(blocks) - 1)
    assert 1 <= len(blocks[-1]) <= size
    lengths = [lane.config.steps for members in blocks for lane in members]
    assert lengths == sorted(lengths, reverse=True)


def test_padding_repeats_the_last_lane_and_keeps_dtypes():
    stacked = sweep.stacked(lanes_of(tiny())[:3], 8)
    assert all(values.shape == (8,) for values in stacked.values())
    assert all((values[3:] == values[2]).all() for values in stacked.values())
    assert stacked["seed"].dtype == np.uint32
    assert stacked["data.n_weak"].dtype == np.int32
    assert stacked["optimizer.learning_rate"].dtype == np.float32


def test_an_empty_axis_is_refused():
    with pytest.raises(LrjaxError, match=r"sweep\.e has no value"):
        sweep.expand(tiny({"sweep.e": ()}))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return lrjax.run(tiny(), tmp_path_factory.mktemp("sweep") / "run")


def test_padded_lanes_reach_neither_metrics_nor_arrays(tmp_path):
    result = lrjax.run(tiny({"arms.small_rate": None}), tmp_path)
    assert result.status["blocks"] == [[2, 0], [1]]
    assert {row["lane"] for row in result.metrics} == {0, 1, 2}
    assert len(result.arrays) == len(result.lanes) == 3
    for path in (tmp_path / "arrays").glob("*.npz"):
        with np.load(path) as file:
            assert {file[name].shape[1] for name in file.files} == {2 if "block-000" in path.name else 1}


def test_lanes_end_at_their_own_step(run):
    for lane, arrays in zip(run.lanes, run.arrays, strict=True):
        assert arrays["step/loss"].shape == arrays["step/learning_rate"].shape == (lane["steps"],)
        rows = [row["step"] for row in run.metrics if row["lane"] == lane["lane"]]
        assert rows == [*range(50, lane["steps"], 50), lane["steps"]]
        assert arrays["features/step"][-1] == lane["steps"]
        assert (np.diff(arrays["features/step"]) > 0).all()


def alone(lane, values, workdir):
    """The parameters and arrays of one lane run by itself."""
    overrides = {"arms.small_rate": None, "arms.time_matched": None, "sweep.e": None, "sweep.seed": None}
    result = lrjax.run(tiny(overrides | values), workdir)
    (saved,) = final_states(workdir).values()
    return result.arrays[0], saved["state"]


def test_a_lane_among_longer_ones_ends_with_the_bits_of_a_run_alone(run, tmp_path):
    place = run.status["blocks"][1].index(2)  # e = 0.2 for 330 steps beside e = 1.25 for 400
    lane = run.lanes[run.status["blocks"][1][place]]
    arrays, state = alone(lane, {"e": lane["e"], "steps": lane["steps"]}, tmp_path)
    mine = run.arrays[lane["lane"]]
    assert all(equal_trees(mine[name], arrays[name]) for name in mine)
    together = final_states(run.workdir)["block-001"]["state"]
    for name in state["params"]:
        assert equal_trees(together["params"][name][place], state["params"][name][0])


def program_of(config):
    (group,) = sweep.expand(config)
    mesh = parallel.make_mesh(group.static.data_devices, len(group.lanes), group.static.batch_size)
    return block.program(group.static, mesh)


CHANGES = {
    "seed": {"sweep.seed": (3,)},
    "e": {"sweep.e": (0.7, 1.1)},
    "an added e": {"sweep.e": (0.5, 0.7, 1.25)},
    "an added seed": {"sweep.seed": (0, 1)},
    "schedule": {"schedule.name": "step_decay", "schedule.milestones": (100,)},
    "steps": {"steps": 350},
    "order": {"order": "cyclic"},
    "noise": {"data.kn": 4.0},
    "number of weak examples": {"data.n_weak": 2},
    "learning rate": {
        "e": None,
        "sweep.e": None,
        "sweep.optimizer.learning_rate": (0.1, 0.3),
        "arms.small_rate": None,
        "arms.time_matched": None,
    },
}


@pytest.fixture(scope="module")
def compilations():
    """Fills with the names of the programs over lanes that are compiled from now on (`lrjax.devices.parallel.lanes`)."""
    names = []

    def listen(event, *_, fun_name="", **__):
        if event.endswith("backend_compile_duration") and "spread" in fun_name:
            names.append(fun_name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    return names


def test_a_changed_structure_is_a_program_of_its_own_and_compiles(compilations, tmp_path):
    assert program_of(tiny({"model.width": 6})) is not program_of(tiny())
    count = len(compilations)
    lrjax.run(tiny({"data.dim": 41}), tmp_path)
    assert len(compilations) >= count + 4  # init, advance, generate, features


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_or_added_value_does_not_compile_anything(change, run, compilations, tmp_path):
    count = len(compilations)
    config = tiny(change)
    after = lrjax.run(config, tmp_path)
    assert len(compilations) == count
    assert program_of(config) is program_of(tiny())
    assert not equal_trees(after.arrays, run.arrays)  # the new value was used


SCHEDULES = [
    {"schedule.name": "step_decay", "schedule.milestones": (100, 200), "schedule.factor": 0.3},
    {"schedule.name": "cosine", "schedule.warmup": 20},
    {"schedule.name": "large_step"},
]


@pytest.mark.parametrize("settings", SCHEDULES, ids=lambda settings: settings["schedule.name"])
def test_the_recorded_learning_rates_are_those_of_the_schedule(settings, tmp_path):
    result = lrjax.run(tiny(settings), tmp_path)
    for lane, arrays in zip(result.lanes, result.arrays, strict=True):
        rates = table(result.config["schedule"], lane["learning_rate"], lane["steps"])
        recorded = arrays["step/learning_rate"]
        assert equal_trees(recorded, rates[: recorded.size])
        assert recorded.size == (lane["steps"] if lane["diverged_at"] is None else lane["diverged_at"] + 1)
        rows = [row for row in result.metrics if row["lane"] == lane["lane"]]
        assert [row["learning_rate"] for row in rows] == [float(rates[row["step"] - 1]) for row in rows]


def test_a_diverging_lane_is_recorded_and_changes_nothing_in_the_others(run, tmp_path):
    result = lrjax.run(tiny({"sweep.e": (0.5, 40.0, 1.25)}), tmp_path)
    by_e = {(lane["arm"], lane["e"]): lane for lane in result.lanes}
    lane = by_e.pop(("main", 40.0))
    loss = result.arrays[lane["lane"]]["step/loss"]
    assert 0 < lane["diverged_at"] < 50
    assert loss.shape == (lane["diverged_at"] + 1,)
    assert not (loss[-1] <= 1e6)
    assert lane["last_finite_loss"] == float(loss[-2])
    assert (loss[:-1] <= 1e6).all()
    for other in run.lanes:
        mine = by_e[other["arm"], other["e"]]
        assert (mine["diverged_at"], mine["last_finite_loss"]) == (None, other["last_finite_loss"])
        assert equal_trees(result.arrays[mine["lane"]], run.arrays[other["lane"]])
    text = (tmp_path / "metrics.jsonl").read_text()
    assert all(json.loads(line, parse_constant=pytest.fail) for line in text.splitlines())


def test_a_lane_that_diverges_at_once_has_no_last_finite_loss(tmp_path):
    result = lrjax.run(tiny({"divergence_loss": 1e-9}), tmp_path)
    assert [lane["diverged_at"] for lane in result.lanes] == [0, 0, 0, 0]
    assert [lane["last_finite_loss"] for lane in result.lanes] == [None] * 4
    assert result.status["state"] == "done"
