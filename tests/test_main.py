"""What the command line says: bad input in one sentence, the list of experiments, dry runs."""

import re
import socket
import sys

import pytest

import lrjax
from lrjax.experiment.config import load as configs
from lrjax.experiment.config.load import SCALES, find_config
from lrjax.main import main
from lrjax.report import session
from tests.runs import CLEAR, REPOSITORY, said

EXPERIMENTS = ["CLEAR", "E1", "E2", "phase", "ablate", "map", "E0", "E0_planted"]


BAD = {
    "unknown key": (["--config.sed=3"], "unknown config key 'sed'; did you mean 'seed'?"),
    "unknown nested key": (["--config.data.nweak=3"], "did you mean 'data.n_weak'?"),
    "unknown swept key": (["--config.sweep.sed=(1, 2)"], "unknown config key 'sed'; did you mean 'seed'?"),
    "unknown key of an arm": (["--config.arms.main.widht=3"], "unknown config key 'widht'"),
    "word for a number": (["--config.steps=abc"], "steps='abc' is no duration"),
    "fraction of a step": (["--config.steps=1.5"], "steps must be of type int, not 1.5 (float)"),
    "number for a word": (["--config.loss=3"], "loss must be of type str, not 3 (int)"),
    "None for a number": (["--config.steps=None"], "steps must be of type int, not None"),
    "wrong type in a sweep": (["--config.sweep.e=('a',)"], "e must be of type float, not 'a'"),
    "wrong type of an empty key": (["--config.sweep.optimizer.momentum=('a',)"], "must be of type float, not 'a'"),
    "negative learning rate": (["--config.optimizer.learning_rate=-0.1"], "optimizer.learning_rate=-0.1 must be"),
    "negative e": (["--config.sweep.e=(-1.0,)"], "e=-1.0 must be a finite number, zero or more"),
    "infinite learning rate": (["--config.sweep.e=(1e999,)"], "e=inf must be a finite number"),
    "negative factor": (["--config.schedule.factor=-1"], "schedule.factor=-1.0 must be"),
    "both e and a rate": (["--config.optimizer.learning_rate=0.1"], "give one of e and optimizer.learning_rate"),
    "milestones out of order": (["--config.schedule.milestones=(5, 3)"], "must be positive and in ascending order"),
    "milestone of words": (["--config.schedule.milestones=('x',)"], "schedule.milestones='x' is no duration"),
    "long warm-up": (["--config.schedule.warmup=9999"], "schedule.warmup=9999 must lie in 0..steps"),
    "negative seed": (["--config.sweep.seed=-1"], "seed=-1 must lie in 0..4294967295"),
    "no steps": (["--config.steps=0"], "steps=0 must be at least 1"),
    "no filters": (["--config.model.width=0"], "model.width=0 must be at least 1"),
    "large batch": (["--config.batch_size=65"], "batch_size=65 must lie in 1..64"),
    "unknown probe": (["--config.probes.features2=250"], "unknown probe 'features2'; did you mean 'features'?"),
    "probe off the log": (["--config.probes.features=7"], "probes.features=7 must be 'end' or a multiple of log_every"),
    "unknown optimizer": (["--config.optimizer.name=sgdd"], "unknown optimizer.name 'sgdd'; did you mean 'sgd'?"),
    "unknown schedule": (["--config.schedule.name=stepdecay"], "unknown schedule.name 'stepdecay'; did you mean"),
    "unknown model": (["--config.model.name=two_layers"], "unknown model.name 'two_layers'; did you mean 'two_layer'?"),
    "momentum of the wrong engine": (["--config.optimizer.momentum=0.9"], "set engine='direct'"),
    "empty sweep": (["--config.sweep.e=()"], "sweep.e has no value"),
    "an arm that is a number": (["--config.arms.main2=3"], "arms.main2=3 is no set of keys"),
    "key below a value": (["--config.probes.features.x=3"], "probes.features is a value"),
    "a group for a value": (["--config.data=3"], "unknown config key 'data'"),
    "too many devices": (["--config.data_devices=64"], "data_devices=64 does not divide"),
    "negative devices": (["--config.data_devices=-1"], "data_devices=-1 must be zero"),
    "unknown flag": (["--wrkdir=3"], "cannot read '--wrkdir=3'"),
    "key without a value": (["--config.seed"], "config keys are written --config.KEY=VALUE"),
    "flag without a value": (["--workdir"], "argument --workdir: expected one argument"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "sentence"), BAD.values(), ids=BAD)
def test_bad_settings_end_in_one_sentence_and_leave_nothing(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert sentence in said(capsys, "--plain_process", f"--config={CLEAR}", *arguments)
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left <= ({".lock", "config.json"} if "device" in sentence else set())


SPECS = {
    "configs/benign_osc.py:E22": "unknown experiment 'E22' in configs/benign_osc.py; did you mean 'E2'?",
    "configs/benign_osc.py:E2,scale=smal": "unknown scale 'smal'; did you mean 'small'?",
    "configs/benign_osc.py:E2,size=small": "cannot read 'size=small'",
    "configs/benign.py": "there is no config file 'configs/benign.py'; did you mean 'benign_osc.py'?",
    "elsewhere/benign_osc.py": "there is no config file 'elsewhere/benign_osc.py'",
    "configs/common.py": "configs/common.py defines no EXPERIMENTS",
    "CLEAR": "cannot read --config=CLEAR; write FILE.py[:EXPERIMENT]",
}


@pytest.mark.parametrize(("spec", "sentence"), SPECS.items(), ids=SPECS)
def test_an_unknown_experiment_scale_or_file_ends_in_one_sentence(spec, sentence, capsys):
    assert sentence in said(capsys, f"--config={spec}")


def test_without_a_config_the_sentence_shows_one(capsys):
    assert "configs/benign_osc.py" in said(capsys)


def test_debug_shows_the_trace():
    with pytest.raises(lrjax.LrjaxError, match="unknown config key"):
        main([f"--config={CLEAR}", "--config.sed=3", "--debug"])


def test_an_error_that_nobody_foresaw_is_one_line_too(capsys, monkeypatch):
    def broken(flags, overrides):
        raise ValueError("first line\nsecond line")

    monkeypatch.setattr(session, "start", broken)
    assert main([f"--config={CLEAR}"]) == 1
    assert capsys.readouterr().err == "error: ValueError: first line; run again with --debug to see where\n"


def test_a_missing_data_set_is_answered_without_a_try_to_download_and_with_the_command_that_prepares_it(
    tmp_path, monkeypatch, capsys
):
    def reached(*address, **options):
        raise AssertionError(f"the network was asked for {address}")

    monkeypatch.setattr(socket, "getaddrinfo", reached)
    monkeypatch.setattr(socket.socket, "connect", reached)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)  # its builders wait for minutes without a network
    config = ["--config=configs/benign_osc.py:E0,scale=smoke", f"--config.data_dir={tmp_path / 'none'}"]
    err = said(capsys, "--plain_process", *config, f"--workdir={tmp_path / 'run'}")
    assert err.startswith("error: no cifar10 in array_record format")
    assert err.count("\n") == 1
    assert err.endswith(f"prepare it once by: lrjax data prepare cifar10 --data_dir={tmp_path / 'none'}\n")


def test_list_shows_every_experiment_with_its_scales_and_its_run_time(capsys):
    assert main(["--list"]) == 0
    out = capsys.readouterr().out
    module = configs._load_module(find_config("configs/benign_osc.py"))
    assert set(EXPERIMENTS) == set(module.EXPERIMENTS)
    for name in module.EXPERIMENTS:
        assert re.search(rf"benign_osc\.py:{name} +\[smoke, small, medium, paper; small: \d+ (s|min)\]\n +\S", out), (
            name
        )


LARGE_IN_A_MOMENT = ("CLEAR",)


@pytest.mark.parametrize(
    ("experiment", "scale"),
    [
        pytest.param(
            experiment, scale, marks=[pytest.mark.slow] * (scale != "smoke" and experiment not in LARGE_IN_A_MOMENT)
        )
        for experiment in EXPERIMENTS
        for scale in SCALES
    ],
)
def test_dry_run_needs_no_data(experiment, scale, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    spec = f"--config={REPOSITORY}/configs/benign_osc.py:{experiment},scale={scale}"
    assert main([spec, "--dry_run=shapes", f"--config.data_dir={tmp_path / 'none'}"]) == 0
    out = capsys.readouterr().out
    for quantity in ("steps", "parameters", "memory", "FLOPs"):
        assert re.search(rf"^  {quantity} +[1-9]", out, re.MULTILINE), quantity
    assert not re.search(r"\bnan\b", out)
    assert list(tmp_path.iterdir()) == []
