"""The estimated time on a card: from steps that were timed on one where the network is known, else from FLOPs, and said so."""

import re

import pytest

import lrjax
import lrjax.probes  # registers the probes that configs name
from lrjax.devices.accelerators import PEAK_FLOPS
from lrjax.experiment.config.load import read_file
from lrjax.experiment.loop import calibrate, card_time, sweep
from lrjax.experiment.loop.card_time import CARD, LEAST_MS, SHARE, STEPS, CardTime
from lrjax.experiment.loop.dry_run import describe, estimate
from tests.benchmarks import speed

PAPERS = ("break_even", "benign_osc", "exp_lr", "lr_decay")
QUICK = {"break_even:E3", "break_even:E4", "benign_osc:CLEAR", "exp_lr:E1", "lr_decay:L3"}  # others repeat them
EVERY = [f"{paper}:{name}" for paper in PAPERS for name in read_file(f"configs/{paper}.py").EXPERIMENTS]
NAMES = {"mlp": "the MLP", "simple_cnn": "SimpleCNN", "resnet32": "ResNet-32", "wrn_16_4": "WRN-16-4"}


@pytest.mark.parametrize(
    "experiment", [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in EVERY]
)
def test_a_dry_run_of_medium_scale_passes_and_estimates_the_time_here_and_on_a_card(experiment, monkeypatch):
    monkeypatch.setattr(calibrate, "machine_flops", lambda: 1e11)
    paper, name = experiment.split(":")
    config = lrjax.load_config(f"configs/{paper}.py:{name},scale=medium")
    *_, here, card = describe(config, compiled=False, timed=True).splitlines()
    assert re.match(r"estimated time on this machine: [\d.,]+ \w+ of training steps or more \(from FLOPs", here)
    assert re.match(r"estimated time on one H100 or H200: (about )?[\d.,]+ \w+ of training steps", card)
    assert "not run; from " in card


def test_what_is_for_a_cpu_has_no_time_on_a_card(monkeypatch):
    monkeypatch.setattr(calibrate, "machine_flops", lambda: 1e11)
    config = lrjax.load_config("configs/break_even.py:E3,scale=small")
    assert "H100" not in describe(config, compiled=False, timed=True)


@pytest.mark.parametrize("model", NAMES)
def test_the_table_has_the_flops_of_the_benchmark_that_measured_it(model):
    known = next(step for step in STEPS if step.name == NAMES[model])
    config = speed.config(speed.MODELS[model], "", 10)
    assert config.model.name in known.models
    assert estimate(sweep.expand(config)[0])["flops_per_step"] == pytest.approx(known.flops, rel=1e-3)


def timed(model, **overrides):
    group = sweep.expand(speed.config(speed.MODELS[model], "", 10, overrides))[0]
    return card_time.card_time(group, estimate(group)), estimate(group)["flops_per_step"]


@pytest.mark.parametrize("model", NAMES)
def test_a_measured_network_takes_its_time_in_the_precision_it_was_measured_in(model):
    found, _ = timed(model, matmul_precision="tensorfloat32")
    known = next(step for step in STEPS if step.name == NAMES[model])
    assert found.measured
    assert found.seconds == pytest.approx(10 * known.ms / 1e3)
    assert f"{known.name} at {known.ms:g} ms a step, measured on an H200" in found.origin


@pytest.mark.parametrize("model", NAMES)
def test_float32_takes_what_its_flops_say_and_no_less_than_tensorfloat32(model):
    fewer, flops = timed(model, matmul_precision="tensorfloat32")
    found, _ = timed(model)
    assert not found.measured
    assert found.seconds == pytest.approx(
        max(10 * flops / (SHARE["float32"] * PEAK_FLOPS[CARD]["float32"]), fewer.seconds)
    )


def test_another_batch_is_another_step_that_was_not_measured():
    found, flops = timed("resnet32", matmul_precision="tensorfloat32", batch_size=512)
    assert not found.measured
    assert "an assumed share" in found.origin
    assert found.seconds == pytest.approx(10 * flops / (SHARE["tensorfloat32"] * PEAK_FLOPS[CARD]["tensorfloat32"]))


def test_a_small_step_takes_a_least_time_however_many_lanes_it_has():
    config = lrjax.load_config("configs/benign_osc.py:CLEAR,scale=smoke")
    group = sweep.expand(config)[0]
    found = card_time.card_time(group, estimate(group))
    steps = calibrate.block_steps(group, group.static.lanes_per_device)
    assert steps < sum(lane.config.steps for lane in group.lanes)
    assert found.seconds == pytest.approx(steps * LEAST_MS / 1e3)


def test_only_what_was_measured_throughout_is_about_right():
    measured, guessed = CardTime(60.0, "ResNet-32", True), CardTime(60.0, "FLOPs")
    assert card_time.said([measured]).startswith(
        "estimated time on one H100 or H200: about 60 s of training steps (not run"
    )
    assert "2 min of training steps or more (not run; from ResNet-32; FLOPs; " in card_time.said([measured, guessed])
