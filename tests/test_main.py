"""What the command line says: bad input in one sentence, dry runs, finished runs, and nothing lost on the way."""

import hashlib
import json
import os
import pty
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import lrjax
from lrjax import config as configs
from lrjax import progress, train, workdirs
from lrjax.main import main
from lrjax.report import session
from tests.runs import CLEAR, REPOSITORY, assert_same_run, environment, finish

TINY = [
    "--config.sweep.e=(0.5, 1.25)", "--config.sweep.seed=(0,)", "--config.steps=400", "--config.log_every=50",
    "--config.checkpoint_every=100", "--config.arms.small_rate.steps=330", "--config.arms.time_matched.steps=500",
    "--config.lanes_per_device=2", "--config.probes.features=100", "--config.probes.test_accuracy=200",
    "--config.data.num_test=50", "--config.data.dim=40", "--config.model.width=8",
]  # fmt: skip
RUN = ["--no_cache", f"--config={CLEAR}", *TINY]
EXPERIMENTS = ["CLEAR", "E1", "E2", "phase", "ablate", "map", "E0", "E0_planted"]


def said(capsys, *arguments, status=1):
    """The one line on stderr of a command that fails."""
    assert main([str(argument) for argument in arguments]) == status
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert "Traceback" not in err
    return err


def contents(folder):
    """Relative path -> digest of every file; directories too."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in folder.rglob("*")
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run by the command line; copy it to change it."""
    workdir = tmp_path_factory.mktemp("main") / "run"
    assert main([*RUN, f"--workdir={workdir}"]) == 0
    return workdir


@pytest.fixture
def copied(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "copied"))


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
    assert sentence in said(capsys, "--no_cache", f"--config={CLEAR}", *arguments)
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


def timed(arguments):
    """Exit status, stderr, seconds by the clock, seconds of computing."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    status, _, err = finish(arguments)
    wall, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return status, err, wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_a_missing_data_set_is_answered_in_three_seconds_with_the_command_that_prepares_it(tmp_path):
    command = ["--config=configs/benign_osc.py:E0,scale=smoke", f"--config.data_dir={tmp_path / 'none'}"]
    status, err, wall, computing = timed([*command, f"--workdir={tmp_path / 'run'}"])
    assert status == 1
    assert err.startswith("error: no cifar10 in array_record format")
    assert err.count("\n") == 1
    assert f"tfds.builder('cifar10', data_dir='{tmp_path / 'none'}').download_and_prepare(" in err
    assert computing < 3
    if wall >= 3:  # other processes share the machine: how slow is it with a command that surely waits for nothing?
        _, _, list_wall, list_computing = timed(["--list"])
        assert wall < 3 * max(1.0, list_wall / list_computing)


def test_an_unwritable_workdir_is_refused(tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("mine")
    assert f"cannot write to {file / 'run'}" in said(capsys, *RUN, f"--workdir={file / 'run'}")
    assert f"cannot write to {file}" in said(capsys, *RUN, f"--workdir={file}")
    assert "cannot write to /proc/run" in said(capsys, *RUN, "--workdir=/proc/run")
    assert file.read_text() == "mine"


FOREIGN = {
    "thesis.tex": "mine",
    "figures/fig1.png": "mine",
    "config.json": '{"learning_rate": 0.1}',
    "ckpt/7/x": "mine",
}


@pytest.mark.parametrize("fresh", [[], ["--fresh"]], ids=["plain", "fresh"])
@pytest.mark.parametrize("name", FOREIGN)
def test_a_folder_that_holds_no_run_is_refused_and_stays_as_it_is(name, fresh, tmp_path, capsys):
    path = tmp_path / "folder" / name
    path.parent.mkdir(parents=True)
    path.write_text(FOREIGN[name])
    before = contents(tmp_path)
    err = said(capsys, *RUN, *fresh, f"--workdir={tmp_path / 'folder'}")
    assert "another" in err
    assert contents(tmp_path) == before


def test_a_run_with_other_files_beside_it_is_not_started_over(copied, capsys):
    (copied / "thesis.tex").write_text("mine")
    before = contents(copied)
    assert "thesis.tex" in said(capsys, *RUN, "--fresh", f"--workdir={copied}")
    assert contents(copied) == before


@pytest.mark.parametrize("state", ["done", "preempted", "failed"])
def test_a_workdir_of_another_config_is_refused_and_stays_as_it_is(state, copied, capsys):
    status = json.loads((copied / "status.json").read_text())
    (copied / "status.json").write_text(json.dumps(status | {"state": state}))
    before = contents(copied)
    err = said(capsys, *RUN, "--config.data.n=32", f"--workdir={copied}")
    assert "holds a run of another config (benign_osc:CLEAR,scale=smoke)" in err
    assert contents(copied) == before


def test_a_second_process_in_a_workdir_is_refused_also_with_fresh(copied, capsys):
    before = contents(copied)
    config = configs.load_config(CLEAR, dict(configs_of(TINY)))
    with workdirs.opened(copied, config):
        assert f"another process is running in {copied}" in said(capsys, *RUN, f"--workdir={copied}")
        assert f"another process is running in {copied}" in said(capsys, *RUN, "--fresh", f"--workdir={copied}")
    assert contents(copied) == before


def configs_of(arguments):
    for argument in arguments:
        key, _, value = argument.removeprefix("--config.").partition("=")
        yield key, configs.parse_value(value)


def test_the_same_command_shows_the_report_of_a_finished_run_without_training(copied, capsys, monkeypatch):
    monkeypatch.setattr(train, "_run_groups", None)
    before = contents(copied)
    assert main([*RUN, f"--workdir={copied}"]) == 0
    out, err = capsys.readouterr()
    assert "is done already" in err
    assert "changed" not in err
    assert f"report: {copied / 'report.html'}" in out
    assert contents(copied) == before


def test_a_finished_run_of_other_code_says_so(copied, capsys):
    status = json.loads((copied / "status.json").read_text())
    (copied / "status.json").write_text(json.dumps(status | {"code": "000000000000", "version": "0.0.1"}))
    assert main([*RUN, f"--workdir={copied}"]) == 0
    assert "the code has changed since this run was made (version 0.0.1, commit" in capsys.readouterr().err


def test_an_unfinished_run_of_other_code_says_so(copied, capsys):
    status = json.loads((copied / "status.json").read_text())
    changed = {"code": "000000000000", "version": "0.0.1", "state": "preempted"}
    (copied / "status.json").write_text(json.dumps(status | changed))
    assert main([*RUN, f"--workdir={copied}"]) == 0
    out, err = capsys.readouterr()
    assert "going on with" in out
    assert "the code has changed since this run was made (version 0.0.1, commit" in err


def test_a_report_that_a_kill_prevented_is_made_by_the_same_command(copied, finished):
    (copied / "report.html").unlink()
    (copied / ".report.html.partial").write_text("<html>")
    assert main([*RUN, f"--workdir={copied}"]) == 0
    assert (copied / "report.html").read_text() == (finished / "report.html").read_text()


def test_sigterm_while_the_report_is_written_exits_with_75(copied, monkeypatch):
    (copied / "report.html").unlink()
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(session, "write_report", lambda workdir: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(SystemExit) as left:
            main([*RUN, f"--workdir={copied}"])
    assert left.value.code == 75
    assert signal.getsignal(signal.SIGTERM) is before
    assert main([*RUN, f"--workdir={copied}"]) == 0
    assert (copied / "report.html").exists()


def test_fresh_starts_over(copied, finished, capsys):
    (copied / "metrics.jsonl").write_text("")
    (copied / ".report.html.partial").write_text("<html>")  # left by a killed process
    assert main([*RUN, "--fresh", f"--workdir={copied}"]) == 0
    assert "running" in capsys.readouterr().out
    assert_same_run(copied, finished)


def test_the_default_workdir_is_found_again_by_the_same_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(RUN) == 0
    (workdir,) = (tmp_path / "runs").iterdir()
    assert workdir.name.startswith("benign_osc-CLEAR-smoke-")
    assert main(RUN) == 0
    assert f"runs/{workdir.name} is done already" in capsys.readouterr().err
    assert list((tmp_path / "runs").iterdir()) == [workdir]


def test_the_command_in_the_status_repeats_the_run(finished):
    command = json.loads((finished / "status.json").read_text())["command"]
    assert command.startswith("python -m lrjax.main --config=configs/benign_osc.py:CLEAR,scale=smoke ")
    arguments = subprocess.run(
        ["bash", "-c", command.replace("python -m lrjax.main", "printf '%s\\n'")], capture_output=True, text=True
    ).stdout.splitlines()
    config = configs.load_config(CLEAR, dict(configs_of(arguments[1:])))
    stored = json.loads((finished / "config.json").read_text())
    assert configs.fingerprint(config) == configs.fingerprint(stored)


class Full:
    """Lets the so-many-th call of a function find the disk full."""

    def __init__(self, call, function):
        self.call, self.function = call, function

    def __get__(self, owner, kind):
        def call(*arguments, **named):
            self.call -= 1
            if self.call == 0:
                raise OSError(28, "No space left on device")
            return self.function(owner, *arguments, **named)

        return call


@pytest.mark.parametrize("save", [1, 3, 6])
def test_a_disk_that_fills_up_during_a_checkpoint_loses_nothing(save, finished, tmp_path, capsys):
    import orbax.checkpoint as ocp

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(ocp.CheckpointManager, "save", Full(save, ocp.CheckpointManager.save))
        err = said(capsys, *RUN, f"--workdir={tmp_path}")
    assert "could not write the checkpoint" in err
    assert "No space left on device" in err
    assert main([*RUN, f"--workdir={tmp_path}"]) == 0
    assert_same_run(tmp_path, finished)


LIMITED = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), -1)); "
LIMITED += "os.execv(sys.argv[2], sys.argv[2:])"


@pytest.fixture(scope="module")
def by_process(tmp_path_factory):
    """A finished run by a process of its own; its compiled programs are kept for the next ones."""
    workdir = tmp_path_factory.mktemp("process") / "run"
    status, _, err = finish([*RUN[1:], f"--workdir={workdir}"])
    assert status == 0, err
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize("size", [500, 3000, 6000, 12_000, 40_000])
def test_a_file_size_limit_ends_in_one_sentence_and_the_same_command_completes(size, by_process, tmp_path):
    command = [*RUN[1:], f"--workdir={tmp_path / 'run'}"]
    status, _, err = finish(command, prefix=[sys.executable, "-c", LIMITED, str(size)])
    assert status == 1
    assert [line for line in err.splitlines() if line.startswith("error: ")] == err.splitlines()[-1:]
    assert re.search(r"could not .* \(File too large\); .*run", err), err
    assert "Traceback" not in err
    status, _, err = finish(command)
    assert status == 0, err
    assert_same_run(tmp_path / "run", by_process)


def test_list_shows_every_experiment_with_its_scales_and_its_run_time(capsys):
    assert main(["--list"]) == 0
    out = capsys.readouterr().out
    module = configs._load_module(configs.find_config("configs/benign_osc.py"))
    assert set(EXPERIMENTS) == set(module.EXPERIMENTS)
    for name in module.EXPERIMENTS:
        assert re.search(rf"benign_osc\.py:{name} +\[smoke, small, paper; small: \d+ (s|min)\]\n +\S", out), name


LARGE_IN_A_MOMENT = ("CLEAR", "E0")


@pytest.mark.parametrize(
    ("experiment", "scale"),
    [
        pytest.param(
            experiment, scale, marks=[pytest.mark.slow] * (scale != "smoke" and experiment not in LARGE_IN_A_MOMENT)
        )
        for experiment in EXPERIMENTS
        for scale in configs.SCALES
    ],
)
def test_dry_run_needs_no_data(experiment, scale, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    spec = f"--config={REPOSITORY}/configs/benign_osc.py:{experiment},scale={scale}"
    assert main([spec, "--dry_run", f"--config.data_dir={tmp_path / 'none'}"]) == 0
    out = capsys.readouterr().out
    for quantity in ("steps", "parameters", "memory", "FLOPs"):
        assert re.search(rf"^  {quantity} +[1-9]", out, re.MULTILINE), quantity
    assert not re.search(r"\bnan\b", out)
    assert list(tmp_path.iterdir()) == []


def test_without_a_terminal_there_are_plain_lines_only(copied, monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    assert main([*RUN, "--fresh", f"--workdir={copied}"]) == 0
    out, err = capsys.readouterr()
    assert "\r" not in out + err
    assert "\x1b" not in out + err
    lines = err.splitlines()
    assert lines
    assert all(re.fullmatch(r".+: \d+/1630 steps(, \d+ s left)?", line) for line in lines), lines
    assert lines[-1].endswith("1630/1630 steps, 0 s left")


def test_on_a_terminal_there_is_a_bar_with_the_time_left(monkeypatch):
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with progress.Progress(1000) as bar:
            for _ in range(5):
                time.sleep(0.12)
                bar.advance(100, "main (8 lanes)")
        terminal.flush()
        shown = os.read(master, 65536).decode()
    os.close(master)
    assert "\r" in shown
    assert "main (8 lanes)" in shown
    assert re.search(r"[1-9]0%\|.*\[\d\d:\d\d<\d\d:\d\d", shown)


@pytest.mark.slow
def test_the_program_on_a_terminal_shows_a_bar(tmp_path):
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "lrjax.main", *RUN, f"--workdir={tmp_path / 'run'}"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=slave, cwd=REPOSITORY, env=environment(), text=True
    ) as process:
        os.close(slave)
        out, _ = process.communicate(timeout=120)
    shown = os.read(master, 1 << 20).decode()
    os.close(master)
    assert process.returncode == 0
    assert "\r" in shown
    assert re.search(r"\d+%\|.*\[\d\d:\d\d<", shown)
    assert "\r" not in out


def test_checkpoints_of_the_command_line_are_those_of_the_library(finished, tmp_path):
    config = configs.load_config(CLEAR, dict(configs_of(TINY)))
    lrjax.run(config, tmp_path / "run")
    assert_same_run(tmp_path / "run", finished)
