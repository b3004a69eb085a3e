"""A run at the command line: whose directory it is, a finished one, a full disk, a stop, and what a terminal shows."""

import hashlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import lrjax
from lrjax.experiment.config.canonical import fingerprint
from lrjax.experiment.config.load import load_config
from lrjax.experiment.loop import progress, train
from lrjax.experiment.rundir import workdirs
from lrjax.main import main
from lrjax.report import session
from tests.runs import CLEAR, REPOSITORY, RUN, TINY, assert_same_run, configs_of, environment, finish, said


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
    config = load_config(CLEAR, dict(configs_of(TINY)))
    with workdirs.opened(copied, config):
        assert f"another process is running in {copied}" in said(capsys, *RUN, f"--workdir={copied}")
        assert f"another process is running in {copied}" in said(capsys, *RUN, "--fresh", f"--workdir={copied}")
    assert contents(copied) == before


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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_fresh_starts_over(copied, finished, capsys):
    (copied / "metrics.jsonl").write_text("")
    (copied / ".report.html.partial").write_text("<html>")  # left by a killed process
    assert main([*RUN, "--fresh", f"--workdir={copied}"]) == 0
    assert "running" in capsys.readouterr().out
    assert_same_run(copied, finished)


@pytest.mark.slow
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
    config = load_config(CLEAR, dict(configs_of(arguments[1:])))
    stored = json.loads((finished / "config.json").read_text())
    assert fingerprint(config) == fingerprint(stored)


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


@pytest.mark.slow
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
@pytest.mark.parametrize("size", [500, 6000, 40_000])
def test_a_file_size_limit_ends_in_one_sentence_and_the_same_command_completes(size, by_process, tmp_path):
    command = [*RUN[1:], f"--workdir={tmp_path / 'run'}"]
    status, _, err = finish(command, prefix=[sys.executable, "-c", LIMITED, str(size)])
    assert status == 1
    assert [line for line in err.splitlines() if line.startswith("error: ")] == err.splitlines()[-1:]
    assert re.search(r"could not .* \(File too large\)[;.] .*run", err), err
    assert "Traceback" not in err
    status, _, err = finish(command)
    assert status == 0, err
    assert_same_run(tmp_path / "run", by_process)


@pytest.mark.usefixtures("sketched")
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
    config = load_config(CLEAR, dict(configs_of(TINY)))
    lrjax.run(config, tmp_path / "run")
    assert_same_run(tmp_path / "run", finished)
