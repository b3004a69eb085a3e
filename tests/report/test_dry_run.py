"""`--dry_run` answers soon: compiling is left to a process that is ended where it takes too long."""

import subprocess
import time

import pytest

from lrjax.experiment.loop import dry_run as shapes
from lrjax.main import main
from lrjax.report import dry_run
from tests.runs import CLEAR

COMMAND = [f"--config={CLEAR}", "--config.seed=3", "--config.sweep.e=(0.5, 1.25)", "--dry_run"]
DEEP = ["--config=configs/exp_lr.py:E1,scale=paper", "--dry_run", "--plain_process"]


@pytest.fixture
def compiles_not(monkeypatch):
    monkeypatch.setattr(shapes, "compiled_memory", lambda *_: pytest.fail("compiled here"))


def test_a_deep_network_gets_an_answer_without_what_takes_long(compiles_not, monkeypatch, capsys):
    monkeypatch.setattr(dry_run, "LIMIT_S", 1.0)
    began = time.monotonic()
    assert main(DEEP) == 0
    assert time.monotonic() - began < 25
    out = capsys.readouterr().out
    assert "before activations" in out
    assert "of training steps or more (from FLOPs" in out
    assert "\nestimated time on one H100 or H200: " in out
    assert "\nnote: not compiled: that takes longer than 1 s here; --dry_run=compiled waits for it\n" in out


def test_what_is_compiled_in_time_is_the_answer_and_of_the_same_config(compiles_not, monkeypatch, capsys):
    ran = []

    def process(command, **named):
        ran.append(command)
        return subprocess.CompletedProcess(command, 0, "compiled there\n", "")

    monkeypatch.setattr(subprocess, "run", process)
    assert main(COMMAND) == 0
    assert capsys.readouterr().out == "compiled there\n"
    assert ran[0][1:] == ["-m", "lrjax.main", *COMMAND[:-1], "--dry_run=compiled"]


def test_a_compiler_that_fails_leaves_an_answer(compiles_not, monkeypatch, capsys):
    def process(command, **named):
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(subprocess, "run", process)
    assert main(COMMAND) == 0
    assert "note: not compiled: that failed; --dry_run=compiled shows why" in capsys.readouterr().out


def test_shapes_start_no_process_and_say_no_time(compiles_not, monkeypatch, capsys):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a process was started"))
    assert main([*COMMAND[:-1], "--dry_run=shapes"]) == 0
    assert "estimated time" not in capsys.readouterr().out
