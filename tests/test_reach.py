"""What a user sets reaches every lane, arms included, or is refused with the key that does what was meant."""

import pytest

import lrjax
import lrjax.probes
from lrjax.errors import LrjaxError
from lrjax.experiment.config.load import load_config
from lrjax.experiment.config.meanings import suggestion
from lrjax.experiment.config.reach import exceptions
from lrjax.experiment.loop import sweep
from tests.runs import CLEAR

L3 = "configs/lr_decay.py:L3,scale=smoke"
E3 = "configs/break_even.py:E3,scale=smoke"
E3_FULL = "configs/break_even.py:E3_full,scale=smoke"
E2 = "configs/benign_osc.py:E2,scale=smoke"


def lanes_of(spec, overrides):
    return [lane for group in sweep.expand(load_config(spec, overrides)) for lane in group.lanes]


REFUSED = {
    "axis of the rates of L3": (
        L3, {"sweep.optimizer.learning_rate": (0.3, 0.4)},
        "constant_0 (0.1), constant_1 (0.01), constant_2 (0.001) and decay (0.1)",
        "--config.arms.constant_0.optimizer.learning_rate",
    ),
    "rate of E3": (
        E3, {"optimizer.learning_rate": 0.05}, "large_rate (0.1) and small_rate (0.01)",
        "--config.arms.large_rate.optimizer.learning_rate=0.05",
    ),
    "rate that two arms set and one sweeps": (
        E3_FULL, {"optimizer.learning_rate": 0.2}, "rate (0.1, 0.001)", "--config.arms.batch_1024.optimizer.learning_rate=0.2",
    ),
    "a negative rate in an axis": (E3, {"sweep.optimizer.learning_rate": (-0.1,)}, "small_rate (0.01)", "arms.large_rate"),
    "steps that arms set": (
        "configs/benign_osc.py:CLEAR", {"steps": 100}, "small_rate (32000) and time_matched (100000)",
        "--config.arms.small_rate.steps=100",
    ),
    "a probe that arms set": (
        "configs/break_even.py:E3", {"probes.break_even": None}, "small_rate (400)",
        "--config.arms.large_rate.probes.break_even=None",
    ),
    "a group of the model": (
        "configs/benign_osc.py:E0,scale=smoke", {"model.name": "resnet18"}, "simple_cnn_small ('simple_cnn')",
        "--config.arms.simple_cnn_decayed.model.name='resnet18'",
    ),
    "e that arms set": (CLEAR, {"e": 1.3}, "small_rate (0.2) and time_matched (0.2)", "--config.arms.small_rate.e=1.3"),
    "an arm's value and axis": (
        CLEAR, {"arms.small_rate.e": 0.3, "arms.small_rate.sweep.e": (0.3, 0.4)}, "given twice", "leave one of them out",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("spec", "overrides", "arms", "key"), REFUSED.values(), ids=REFUSED)
def test_what_arms_set_themselves_is_refused_with_the_arms_and_the_key(spec, overrides, arms, key):
    with pytest.raises(LrjaxError) as refused:
        load_config(spec, overrides)
    assert arms in str(refused.value)
    assert key in str(refused.value)


def test_steps_reach_the_arms_whose_values_are_all_the_same():
    assert {lane.config.steps for lane in lanes_of(CLEAR, {"steps": 100})} == {100}
    assert {lane.config.steps for lane in lanes_of(CLEAR, {"sweep.steps": (100, 300)})} == {100, 300}


def test_what_reaches_an_arm_is_gone_from_what_the_config_says_of_it():
    config = load_config(CLEAR, {"steps": 100})
    assert all("steps" not in arm for arm in config.arms.values())


def test_the_named_key_does_what_was_meant():
    named = {"arms.large_rate.optimizer.learning_rate": 0.05}
    rest = lanes_of(E3, named | {"optimizer.learning_rate": 0.03})
    assert [lane.config.optimizer.learning_rate for lane in rest] == [0.05, 0.03]
    both = lanes_of(E3, named | {"arms.small_rate.optimizer.learning_rate": 0.02})
    assert [lane.config.optimizer.learning_rate for lane in both] == [0.05, 0.02]


def test_an_arm_that_is_taken_out_is_not_in_the_way():
    rest = {"arms.constant_1": None, "arms.constant_2": None, "optimizer.learning_rate": 0.2}
    assert {lane.config.optimizer.learning_rate for lane in lanes_of(L3, rest)} == {0.2}


@pytest.mark.parametrize("key", ["constnat_0.optimizer.learning_rate", "constant_3.sweep.seed", "constant0.steps"])
def test_a_key_of_an_arm_that_the_experiment_lacks_makes_no_arm_of_it(key):
    with pytest.raises(LrjaxError, match="there is no arm 'const.*did you mean 'constant_.*constant_0, constant_1"):
        load_config(L3, {f"arms.{key}": 1})


@pytest.mark.parametrize("order", [1, -1])
def test_an_arm_that_is_given_whole_is_a_new_one(order):
    given = [("arms.wide", {"model.width": 64, "optimizer": {"learning_rate": 0.3}}), ("arms.wide.seed", 5)]
    wide = [lane.config for lane in lanes_of(L3, dict(given[::order])) if lane.arm == "wide"]
    assert {(own.model.width, own.optimizer.learning_rate, own.seed) for own in wide} == {(64, 0.3, 5)}


@pytest.mark.parametrize("order", [1, -1])
def test_an_arm_that_is_taken_out_stays_out_in_whichever_order_its_keys_are_given(order):
    given = [("arms.small_rate", None), ("arms.small_rate.e", 0.3)]
    assert "small_rate" not in load_config(CLEAR, dict(given[::order])).arms


def test_an_axis_of_an_arm_takes_the_place_of_its_own_value_and_a_value_that_of_its_axis():
    swept = lanes_of(CLEAR, {"arms.small_rate.sweep.e": (0.1, 0.3), "sweep.seed": (0,)})
    assert [lane.config.e for lane in swept if lane.arm == "small_rate"] == [0.1, 0.3]
    fixed = load_config(E3_FULL, {"arms.rate.optimizer.learning_rate": 0.3})
    assert "sweep" not in fixed.arms.rate
    lanes = [lane for group in sweep.expand(fixed) for lane in group.lanes]
    assert [lane.config.optimizer.learning_rate for lane in lanes if lane.arm == "rate"] == [0.3]


def test_a_seed_for_a_swept_seed_is_the_seed_of_every_lane():
    assert {lane.config.seed for lane in lanes_of(CLEAR, {"seed": 3})} == {3}
    assert {lane.config.seed for lane in lanes_of("configs/exp_lr.py:E7,scale=small", {"seed": 3})} == {3}


def test_an_axis_of_the_experiment_takes_new_values_beside_its_arms_and_a_note_says_so():
    overrides = {"sweep.e": (1.1, 1.4), "sweep.seed": (0,)}
    lanes = lanes_of(E2, overrides)
    assert [(lane.arm, lane.config.e) for lane in lanes] == [
        ("long", 1.1), ("main", 1.1), ("main", 1.4), ("small_rate", 0.2),
    ]  # fmt: skip
    (note,) = exceptions(load_config(E2, overrides), overrides)
    assert "small_rate (0.2)" in note
    assert "long (1.1)" in note
    assert exceptions(load_config(E2, {"seed": 3}), {"seed": 3}) == []


def test_a_value_beside_its_own_axis_is_said_to_be_of_no_lane():
    both = {"seed": 3, "sweep.seed": (4, 5)}
    assert exceptions(load_config(CLEAR, both), both) == ["seed=3 is the value of no lane: sweep.seed gives the values"]


def test_going_by_the_learning_rate_names_every_e_that_has_to_go_and_works_then():
    with pytest.raises(LrjaxError, match="give one of e and optimizer.learning_rate") as refused:
        load_config(E2, {"optimizer.learning_rate": 0.4})
    gone = [word.removeprefix("--config.") for word in str(refused.value).split() if word.startswith("--config.")]
    assert gone == ["e=None", "arms.long.e=None", "arms.small_rate.sweep.e=None"]
    lanes = lanes_of(E2, {key.removesuffix("=None"): None for key in gone} | {"optimizer.learning_rate": 0.4})
    assert {lane.config.optimizer.learning_rate for lane in lanes} == {0.4}
    with pytest.raises(LrjaxError, match=r"arms long \(1\.1\) and small_rate \(0\.2\).*arms\.long\.e=None"):
        load_config(E2, {"optimizer.learning_rate": 0.4, "e": None})


def test_a_learning_rate_of_an_arm_takes_the_place_of_its_e():
    lanes = lanes_of(CLEAR, {"arms.small_rate.optimizer.learning_rate": 0.4, "sweep.seed": (0,)})
    rates = {(lane.arm, round(lane.config.optimizer.learning_rate, 6)) for lane in lanes}
    assert rates == {("main", 2.0), ("main", 5.0), ("small_rate", 0.4), ("time_matched", 0.8)}


def test_an_axis_that_no_arm_takes_is_refused_where_lanes_are_planned():
    config = load_config(L3)
    with config.unlocked():
        config.sweep.optimizer = lrjax.load_config(L3).arms.decay.optimizer
        config.sweep.optimizer.learning_rate = 0.3
    with pytest.raises(LrjaxError, match=r"sweep\.optimizer\.learning_rate reaches no lane"):
        sweep.expand(config)


def test_a_value_that_the_arms_have_already_is_no_conflict():
    lanes = lanes_of(CLEAR, {"e": 0.2, "sweep.seed": (0,)})
    assert {lane.config.e for lane in lanes} == {0.2}


@pytest.mark.parametrize("key", ["kn", "sigma_p"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_a_strength_of_noise_that_is_none_is_refused_by_name(key, value):
    with pytest.raises(LrjaxError, match=rf"data\.{key}=.* must be a finite number"):
        lanes_of(CLEAR, {"data.kn": None, "data.sigma_p": None} | {f"data.{key}": value})


TWICE = {
    "seeds": ({"sweep.seed": (0, 0, 0)}, "sweep.seed has 0 more than once"),
    "an int for a float": ({"sweep.e": (1, 1.0)}, "sweep.e has 1.0 more than once"),
    "pairs": ({"sweep.e,seed": ((0.5, 1), (0.9, 1), (0.5, 1))}, r"sweep.e,seed has (0.5, 1) more than once"),
    "in an arm": ({"arms.main.sweep.e": (0.5, 0.5)}, "sweep.e has 0.5 more than once"),
    "written otherwise": ({"sweep.steps": (100, "100 steps")}, "has the same run twice in arm 'main'"),
}


@pytest.mark.parametrize(("overrides", "sentence"), TWICE.values(), ids=TWICE)
def test_a_point_that_is_swept_twice_is_refused(overrides, sentence):
    with pytest.raises(LrjaxError) as refused:
        lanes_of(CLEAR, overrides)
    assert sentence in str(refused.value)


@pytest.mark.parametrize("steps", [10**12, "1e12 epochs", "1e300 epochs", 10**9])
def test_more_steps_than_a_table_holds_are_refused_before_one_is_made(steps):
    with pytest.raises(LrjaxError, match=r"steps=\d+ must be 100000000 or less"):
        lanes_of(CLEAR, {"steps": steps})


def test_the_record_of_each_lane_and_the_config_say_what_ran(tmp_path):
    own = {
        "steps": 50,
        "log_every": 50,
        "checkpoint_every": 50,
        "sweep.seed": (0,),
        "arms.small_rate.sweep.e": (0.1, 0.3),
        "data.num_test": 50,
        "data.dim": 40,
        "model.width": 8,
    }
    result = lrjax.run(load_config(CLEAR, own | {"probes.features": 50, "probes.test_accuracy": 50}), tmp_path)
    from lrjax.experiment.rundir.lanes import lane_config

    for lane in result.lanes:
        config = lane_config(result, lane)
        assert (config.steps, config.e, config.seed) == (lane["steps"], lane["e"], lane["seed"])
        assert lane["steps"] == 50
    assert [lane["e"] for lane in result.lanes if lane["arm"] == "small_rate"] == [0.1, 0.3]
    assert "steps" not in result.config["arms"]["small_rate"]


MEANT = {
    "learning_rate": "optimizer.learning_rate", "lr": "optimizer.learning_rate", "optimizer.lr": "optimizer.learning_rate",
    "wd": "optimizer.l2", "weight_decay": "optimizer.l2", "batch": "batch_size", "bs": "batch_size", "epochs": "steps",
    "momentum": "optimizer.momentum", "max_steps": "steps", "num_seeds": "sweep.seed", "scheduler": "schedule.name",
    "n_weak": "data.n_weak", "width": "model.width", "dataset": "data.name", "sed": "seed", "data.nweak": "data.n_weak",
    "model.widht": "model.width", "nesterov": "optimizer.nesterov", "log_evry": "log_every", "bf16": "compute_dtype",
    "optimizer": "optimizer.name", "lr_schedule": "schedule.name", "gamma": "schedule.factor", "random_seed": "seed",
}  # fmt: skip


@pytest.mark.parametrize(("key", "meant"), MEANT.items(), ids=MEANT)
def test_a_key_is_suggested_by_what_it_means(key, meant):
    with pytest.raises(LrjaxError, match=f"unknown config key '{key}'; did you mean '{meant}'"):
        load_config(CLEAR, {key: 1})


def test_a_suggested_key_exists_in_this_experiment():
    config = load_config(L3)
    existing = ["seed", "model.width"]
    assert "optimizer" not in suggestion("lr", existing)
    with pytest.raises(LrjaxError, match=r"'dropout'; valid names: .*optimizer\.\*"):
        load_config(L3, {"dropout": 0.1})
    assert "e" not in config
