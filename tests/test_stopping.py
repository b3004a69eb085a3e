"""What asks a run to end saves it: every signal, a time limit, and Ctrl-C once; the rest goes on to the same bits."""

import json
import signal

import pytest

import lrjax
from lrjax import commands
from lrjax.errors import LrjaxError
from lrjax.experiment.config.durations import to_seconds
from lrjax.experiment.loop import stopping
from lrjax.experiment.loop.stopping import Preempted
from lrjax.experiment.rundir.checkpoint import stored_steps
from lrjax.experiment.rundir.metrics import Writer
from lrjax.report import session
from tests.runs import RUN, assert_same_run, said, tiny

SEVERAL = {"checkpoint_every": 100000}  # nothing is saved but by the signal, and at the end of a block


@pytest.fixture(autouse=True)
def heard():
    """Under nohup SIGHUP is ignored, and in a job of a shell script SIGINT: here and by the run, which is right there."""
    before = {number: signal.getsignal(number) for number in stopping.REASONS}
    for number in stopping.REASONS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return lrjax.run(tiny(SEVERAL), tmp_path_factory.mktemp("reference") / "run").workdir


def signalling(monkeypatch, *numbers, after=3):
    """Sends signals to this process once so many chunks are written."""
    append, calls = Writer.rows, []

    def rows(writer, new):
        append(writer, new)
        calls.append(1)
        if len(calls) == after:
            for number in numbers:
                signal.raise_signal(number)

    monkeypatch.setattr(Writer, "rows", rows)


@pytest.mark.parametrize("number", stopping.REASONS, ids=lambda number: number.name)
def test_a_signal_saves_after_the_chunk_and_the_same_call_goes_on_to_the_same_bits(number, reference, tmp_path):
    before = {other: signal.getsignal(other) for other in stopping.REASONS}
    error = KeyboardInterrupt if number == signal.SIGINT else Preempted
    with pytest.MonkeyPatch.context() as patch:
        signalling(patch, number)
        with pytest.raises(error):
            lrjax.run(tiny(SEVERAL), tmp_path)
    assert before == {other: signal.getsignal(other) for other in stopping.REASONS}
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "preempted"
    (saved,) = stored_steps(tmp_path / "ckpt" / "block-000")
    assert 0 < saved < 500
    lrjax.run(tiny(SEVERAL), tmp_path)
    assert_same_run(tmp_path, reference)


def test_ctrl_c_again_ends_at_once(monkeypatch, tmp_path):
    signalling(monkeypatch, signal.SIGINT, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        lrjax.run(tiny(SEVERAL), tmp_path)
    assert stored_steps(tmp_path / "ckpt" / "block-000") == []


def test_a_signal_that_nohup_ignores_stays_ignored(monkeypatch, tmp_path, reference):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        signalling(monkeypatch, signal.SIGHUP)
        assert lrjax.run(tiny(SEVERAL), tmp_path).status["state"] == "done"
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("number", "sentence"),
    [(signal.SIGINT, "interrupted; "), (signal.SIGTERM, "preempted; "), (signal.SIGUSR1, "preempted by SIGUSR1; ")],
)
@pytest.mark.slow
def test_the_program_says_what_ended_it_and_leaves_with_75(monkeypatch, tmp_path, capsys, number, sentence):
    signalling(monkeypatch, number, after=1)
    assert commands.main(["run", *RUN, f"--workdir={tmp_path}"]) == 75
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"{sentence}{tmp_path} is saved, the same command goes on from there"


def test_a_time_limit_makes_a_chunk_saves_and_says_so(tmp_path, capsys, reference):
    with pytest.raises(Preempted, match="time limit"):
        lrjax.run(tiny(SEVERAL), tmp_path, time_limit=0)
    assert stored_steps(tmp_path / "ckpt" / "block-000") == [50]
    lrjax.run(tiny(SEVERAL), tmp_path)
    assert_same_run(tmp_path, reference)


@pytest.mark.slow
def test_the_flag_leaves_with_75_and_a_generous_one_changes_nothing(tmp_path, capsys, monkeypatch):
    told = ["run", *RUN, f"--workdir={tmp_path}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stopping.Limit, "over", lambda self: self._end is not None)
        assert commands.main([*told, "--time_limit=8m"]) == 75
    assert "the time limit is over; " in capsys.readouterr().err
    assert commands.main([*told, "--time_limit=1h"]) == 0


def test_a_limit_ends_before_a_chunk_that_would_pass_it():
    times = iter([0.0, 40.0, 60.0, 80.0, 100.0])  # the first chunk compiles
    limit = stopping.Limit(95.0, clock=lambda: next(times))
    assert [limit.over() for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize("text", ["8x", "", "-3m", "0s", "soon", "1e3", "nan"])
def test_a_time_that_is_none_is_refused(text):
    with pytest.raises(LrjaxError, match="write, say, 45s, 8m or 1h30m"):
        to_seconds(text, "--time_limit")


def test_a_wrong_flag_is_one_sentence(capsys):
    assert "--time_limit=soon is no time" in said(capsys, *RUN, "--time_limit=soon")


def test_ctrl_c_outside_of_the_training_leaves_no_trace(monkeypatch, tmp_path, capsys):
    def press(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "load_config", press)
    assert commands.main(["run", *RUN, f"--workdir={tmp_path}"]) == 75
    assert capsys.readouterr().err.startswith("interrupted; ")
