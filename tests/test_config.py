"""Overrides, durations, fingerprints: what a config says and what of it counts."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict, FrozenConfigDict

import lrjax
from lrjax.errors import LrjaxError
from lrjax.experiment.config.canonical import fingerprint, flatten, to_json
from lrjax.experiment.config.durations import to_steps
from lrjax.experiment.config.listing import list_experiments
from lrjax.experiment.config.load import load_config
from lrjax.experiment.config.overrides import apply_overrides, parse_value
from lrjax.experiment.loop.resolve import resolve

CLEAR = "configs/benign_osc.py:CLEAR,scale=smoke"
IMAGES = "configs/benign_osc.py:E0,scale=paper"


def every_dict(config):
    yield config
    for value in config.values():
        if isinstance(value, ConfigDict):
            yield from every_dict(value)


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"sweep.data.kn": (1.0, 4.0)},
        {"probes.features": 500},
        {"arms.new": {"model.width": 4}},
        {"optimizer.nesterov": True},
    ],
)
def test_every_dict_of_a_loaded_config_is_locked(overrides):
    config = load_config(CLEAR, overrides)
    assert all(part.is_locked for part in every_dict(config))
    with pytest.raises(AttributeError):
        config.no_such_key = 1


def test_loading_twice_gives_independent_configs():
    first = load_config(CLEAR)
    first.data.n = 8
    assert load_config(CLEAR).data.n == 64


def test_a_resolved_config_cannot_be_changed_and_leaves_the_first_as_it_was():
    config = load_config(CLEAR)
    before = to_json(config)
    resolved = resolve(config)
    assert isinstance(resolved, FrozenConfigDict)
    assert to_json(config) == before
    with pytest.raises(AttributeError):
        resolved.steps = 1


VALUES = {
    "0.1": 0.1,
    "1e-3": 1e-3,
    "(1, 2)": (1, 2),
    "None": None,
    "True": True,
    "adam": "adam",
    "3 epochs": "3 epochs",
}


@pytest.mark.parametrize(("text", "value"), VALUES.items())
def test_command_line_values_are_read_as_python_reads_them(text, value):
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


def test_overrides_keep_the_type_of_a_key():
    alone = {"arms.small_rate": None, "arms.time_matched": None}  # they set e themselves
    config = load_config(
        CLEAR, alone | {"e": 1, "steps": "3 epochs", "batch_size": "full", "data.patch_order": [2, 1, 0]}
    )
    assert (type(config.e), config.e) == (float, 1.0)
    assert config.data.patch_order == (2, 1, 0)
    for key, value in {"e": True, "seed": 1.0, "seed ": 1, "data.balanced_labels": 1, "loss": None}.items():
        with pytest.raises(LrjaxError):
            load_config(CLEAR, {key: value})


def test_a_placeholder_may_be_emptied_and_keeps_its_type():
    config = load_config(CLEAR, {"data.kn": None, "data.sigma_p": 0.03})
    assert (config.data.kn, resolve(config).data.sigma_p) == (None, 0.03)
    assert load_config(IMAGES).data.num_train is None
    with pytest.raises(LrjaxError, match="must be of type int, not 'x'"):
        load_config(IMAGES, {"data.num_train": "x"})


def test_a_value_for_a_swept_key_takes_the_place_of_the_axis():
    config = load_config(CLEAR, {"seed": 3})
    assert config.seed == 3
    assert "seed" not in config.sweep
    assert "e" in config.sweep
    both = load_config(CLEAR, {"seed": 3, "sweep.seed": (4, 5)})
    assert both.sweep.seed == (4, 5)


def test_arguments_of_an_optimizer_are_accepted_in_any_order():
    config = load_config(CLEAR, {"optimizer.b1": 0.5, "optimizer.name": "adam", "engine": "direct"})
    assert resolve(config).optimizer.b1 == 0.5
    with pytest.raises(LrjaxError, match=r"optimizer\.b1"):
        load_config(CLEAR, {"optimizer.b1": 0.5})


@given(steps=st.integers(1, 10**7), per_epoch=st.integers(1, 10**5))
def test_a_number_of_steps_is_that_number(steps, per_epoch):
    assert to_steps(steps, per_epoch, "steps") == steps
    assert to_steps(f"{steps} steps", per_epoch, "steps") == steps
    assert to_steps(f" {steps} ", per_epoch, "steps") == steps


@given(epochs=st.integers(1, 10**4), per_epoch=st.integers(1, 10**5))
def test_epochs_are_whole_passes(epochs, per_epoch):
    assert to_steps(f"{epochs} epochs", per_epoch, "steps") == epochs * per_epoch
    assert to_steps(f"{epochs / 2} epochs", 2 * per_epoch, "steps") == epochs * per_epoch


@given(text=st.text(st.characters(codec="ascii", categories=["L"]), min_size=1, max_size=6))
def test_a_word_is_no_duration(text):
    with pytest.raises(LrjaxError, match=r"log_every='.*' is no duration"):
        to_steps(text, 10, "log_every")


@pytest.mark.parametrize("text", ["nan", "inf", "1 epoch 2", "2 weeks", "", "epochs"])
def test_what_looks_like_a_duration_is_refused(text):
    with pytest.raises(LrjaxError, match="is no duration"):
        to_steps(text, 10, "steps")


def test_durations_in_epochs_count_whole_batches_of_the_training_set():
    overrides = {
        "steps": "3 epochs", "log_every": "1 epoch", "checkpoint_every": "2 epochs", "batch_size": 10,
        "schedule.milestones": ("1 epochs", 15), "probes.features": "1 epoch", "probes.test_accuracy": "2 epochs",
    }  # fmt: skip
    resolved = resolve(load_config(CLEAR, overrides))  # 64 examples: six batches of ten
    assert (resolved.steps, resolved.log_every, resolved.checkpoint_every) == (18, 6, 12)
    assert resolved.schedule.milestones == (6, 15)
    assert (resolved.probes.features, resolved.probes.test_accuracy) == (((6, None),), ((12, None),))


def changed(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1 if value != float("inf") else 1.0
    if isinstance(value, str):
        return value + "x"
    return (*value, 1) if isinstance(value, tuple) else 1


@pytest.mark.parametrize("spec", [CLEAR, IMAGES])
def test_the_fingerprint_changes_with_every_key_but_data_dir(spec):
    content = json.loads(to_json(load_config(spec)))
    name = fingerprint(content)
    seen = {name}
    for key, value in flatten(content).items():
        other = json.loads(to_json(content))
        *path, leaf = key.split(".")
        node = other
        for part in path:
            node = node[part]
        node[leaf] = changed(tuple(value) if isinstance(value, list) else value)
        if key == "data_dir":
            assert fingerprint(other) == name
        else:
            assert fingerprint(other) not in seen, key
            seen.add(fingerprint(other))


def test_the_fingerprint_survives_the_file():
    config = load_config(CLEAR, {"data_dir": "/elsewhere"})
    assert fingerprint(json.loads(to_json(config))) == fingerprint(config) == fingerprint(load_config(CLEAR))


def test_a_config_of_ones_own_is_loaded_by_its_path(tmp_path):
    (tmp_path / "base.py").write_text("STEPS = 7\n")
    (tmp_path / "mine.py").write_text(
        "from ml_collections import ConfigDict\nfrom . import base\nDEFAULT = 'A'\n"
        "EXPERIMENTS = {'A': lambda scale: ConfigDict(dict(experiment='', scale='', steps=base.STEPS, sweep={}))}\n"
    )
    config = lrjax.load_config(f"{tmp_path}/mine.py:A,scale=paper", {"steps": 8})
    assert (config.experiment, config.scale, config.steps) == ("A", "paper", 8)


def test_an_unknown_key_below_an_open_dict_is_found_when_lanes_are_planned():
    from lrjax.experiment.loop import sweep

    with pytest.raises(LrjaxError, match="unknown config key 'model.widht'; did you mean 'model.width'"):
        sweep.expand(load_config(CLEAR, {"sweep.model.widht": (4, 8)}))


def test_headers_of_the_configs_list_experiments_with_a_claim_and_a_time():
    rows = list_experiments()
    assert {row["experiment"] for row in rows if row["config"] == "configs/benign_osc.py"} >= {"CLEAR", "E0"}
    assert all(row["claim"] and row["time"] and row["scales"] for row in rows)


def test_apply_overrides_changes_the_config_it_is_given():
    config = load_config(CLEAR)
    assert apply_overrides(config, {"data.n": 32}) is config
    assert config.data.n == 32
