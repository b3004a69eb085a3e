"""Overrides as people write them: each lane, and the config that the run directory keeps, has what was asked for."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

import lrjax.probes
from lrjax.errors import LrjaxError
from lrjax.experiment.config.canonical import flatten, to_json
from lrjax.experiment.config.load import load_config
from lrjax.experiment.loop import sweep
from lrjax.experiment.rundir.lanes import lane_config
from lrjax.main import parse

CLEAR, L3 = "configs/benign_osc.py:CLEAR,scale=smoke", "configs/lr_decay.py:L3,scale=smoke"
E3, E1 = "configs/break_even.py:E3,scale=smoke", "configs/exp_lr.py:E1,scale=smoke"
ONE = "sweep.seed=(0,)"
BOTH = {"small_rate": [0.2], "time_matched": [0.2]}


def lanes_of(spec, settings):
    """The lanes of a command line, and what the record of each says that it ran."""
    assert lrjax.probes.PROBES
    flags, overrides = parse([f"--config={spec}", *(f"--config.{setting}" for setting in settings)])
    config = load_config(flags.config, overrides)
    run: Any = SimpleNamespace(config=json.loads(to_json(config)))
    lanes = [lane for group in sweep.expand(config) for lane in group.lanes]
    return [(lane, lane_config(run, json.loads(json.dumps(lane.record())))) for lane in lanes]


# What is asked, the key, and the values that it has in each arm.
ASKED = {
    "an arm of one's own": (CLEAR, [ONE, "arms.mine={'e': 0.7}"], "e", {"main": [0.5, 1.25], "mine": [0.7]} | BOTH),
    "a whole arm": (CLEAR, [ONE, "arms.small_rate={'e': 0.3}"], "e", {"main": [0.5, 1.25], "small_rate": [0.3]}),
    "an axis in an arm": (CLEAR, [ONE, "arms.small_rate.sweep.e=(0.1, 0.3)"], "e", {"small_rate": [0.1, 0.3]}),
    "a list": (CLEAR, [ONE, "sweep.e=[0.5, 0.7]"], "e", {"main": [0.5, 0.7]} | BOTH),
    "one value as an axis": (CLEAR, [ONE, "sweep.e=0.75"], "e", {"main": [0.75]} | BOTH),
    "epochs": (CLEAR, [ONE, "steps=3 epochs"], "steps", {"main": [192], "small_rate": [192], "time_matched": [192]}),
    "an axis of steps and epochs": (
        CLEAR,
        [ONE, "sweep.steps=(100, '2 epochs')"],
        "steps",
        {"main": [100, 128], "small_rate": [100, 128]},
    ),
    "batch sizes": (CLEAR, [ONE, "sweep.batch_size=(1, 2)"], "batch_size", {"main": [1, 2], "time_matched": [1, 2]}),
    "a value, and another in an arm": (
        CLEAR,
        [ONE, "arms.small_rate.batch_size=2", "batch_size=4"],
        "batch_size",
        {"main": [4], "small_rate": [2], "time_matched": [4]},
    ),
    "schedules": (
        CLEAR,
        [ONE, "sweep.schedule.name=('constant', 'cosine')"],
        "schedule.name",
        {"main": ["constant", "cosine"], "small_rate": ["constant", "cosine"]},
    ),
    "an axis where arms had their own, and one is left": (
        L3,
        ["arms.constant_1=None", "arms.constant_2=None", "arms.decay=None", "sweep.optimizer.learning_rate=(0.3, 0.4)"],
        "optimizer.learning_rate",
        {"constant_0": [0.3, 0.4]},
    ),
    "a number without a point": (E1, ["optimizer.l2=0"], "optimizer.l2", {"texp": [0.0], "weight_decay": [0.0]}),
}  # fmt: skip


@pytest.mark.parametrize(("spec", "settings", "key", "arms"), ASKED.values(), ids=ASKED)
def test_every_lane_and_its_record_have_what_was_asked(spec, settings, key, arms):
    found: dict[str, set] = {}
    for lane, recorded in lanes_of(spec, settings):
        value = flatten(lane.config)[key]
        assert flatten(json.loads(to_json(recorded)))[key] == value
        found.setdefault(lane.arm, set()).add(value)
    assert {arm: sorted(found[arm]) for arm in arms} == arms


def test_a_swept_probe_measures_when_it_was_asked_to():
    lanes = lanes_of(CLEAR, [ONE, "sweep.probes.features=(250, 500)"])
    times = {(lane.arm, flatten(lane.config)["probes.features"]) for lane, _ in lanes}
    assert times == {(arm, ((every, None),)) for arm in ("main", *BOTH) for every in (250, 500)}


REFUSED = {
    "a swept key that arms set": (L3, ["sweep.optimizer.learning_rate=(0.3, 0.4)"], "does not reach the arms constant_0"),
    "a rate that arms set": (E3, ["optimizer.learning_rate=0.05"], "does not reach the arms large_rate"),
    "a negative rate": (CLEAR, ["sweep.e=(-0.1, 0.5)"], "e=-0.1 must be a finite number, zero or more"),
    "a value twice": (CLEAR, ["sweep.seed=(0, 0)"], "has 0 more than once"),
    "no value": (CLEAR, ["sweep.e=()"], "sweep.e has no value"),
    "None in an axis": (CLEAR, ["sweep.e=(0.5, None)"], "give one of e and optimizer.learning_rate"),
    "None for a seed": (CLEAR, ["seed=None"], "seed must be of type int, not None"),
    "negative epochs": (CLEAR, ["steps=-3 epochs"], "must be at least 1"),
    "words": (CLEAR, ["steps=three epochs"], "steps='three epochs' is no duration"),
    "a tuple in an arm": (L3, ["arms.decay.optimizer.learning_rate=(0.1, 0.2)"], "must be of type float"),
    "a wrong key in a whole arm": (CLEAR, ["arms.small_rate={'stepz': 3}"], "did you mean 'steps'?"),
    "an arm that is a number": (CLEAR, ["arms.small_rate=3"], "is no set of keys; write arms.small_rate={'KEY': VALUE}"),
    "all arms": (CLEAR, ["arms=None"], "--config.arms.NAME=VALUE, or take one out by --config.arms."),
    "all axes": (CLEAR, ["sweep={'e': (0.3, 0.5)}"], "sweep is a group of keys, which are set one by one"),
    "a whole optimizer": (CLEAR, ["optimizer={'name': 'sgd'}"], "optimizer is a group of keys, which are set one by one"),
    "all probes": (CLEAR, ["probes=None"], "or take one out by --config.probes."),
}  # fmt: skip


@pytest.mark.parametrize(("spec", "settings", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_had_is_refused_with_the_key(spec, settings, sentence):
    with pytest.raises(LrjaxError) as refused:
        lanes_of(spec, settings)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)
