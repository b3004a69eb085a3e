"""Killed, stopped and damaged runs end with the bits of a run that nothing happened to."""

import contextlib
import json
import random
import signal
import time

import numpy as np
import pytest

import lrjax
from lrjax.errors import LrjaxError
from lrjax.experiment.loop import run_block, train
from lrjax.experiment.rundir.checkpoint import Checkpoints
from lrjax.experiment.rundir.metrics import Writer
from tests.probes import problem
from tests.runs import CLEAR, assert_same_run, final_states, finish, start, tiny

LONG = [
    f"--config={CLEAR}",
    "--config.steps=3000",
    "--config.arms.small_rate.steps=4000",
    "--config.arms.time_matched.steps=5100",
    "--config.lanes_per_device=4",
    "--config.checkpoint_every=250",
]
KILLS, KILLS_A_RUN = 20, 5
# A read that fails leaves an answer of tensorstore to an event loop that orbax has closed by then.
ABANDONED = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Killed(BaseException):
    """Ends a run at a chosen place, as a signal would."""


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("reference") / "run"
    lrjax.run(tiny(), workdir)
    return workdir


def kill_at(monkeypatch, event):
    """Lets the run die at the event-th of its writes: before one, after one, or half way through a row."""
    left = [event]

    def passes():
        left[0] -= 1
        return left[0] >= 0

    def dying(function):
        def call(self, *arguments):
            if not passes():
                raise Killed
            function(self, *arguments)
            if not passes():
                raise Killed

        return call

    write_rows = Writer.rows

    def rows(self, rows):
        if not passes():
            with open(self._path, "a") as file:
                file.write(json.dumps(rows)[1:30])
            raise Killed
        write_rows(self, rows)

    monkeypatch.setattr(Writer, "rows", rows)
    monkeypatch.setattr(Writer, "save", dying(Writer.save))
    monkeypatch.setattr(Checkpoints, "save", dying(Checkpoints.save))


def die_at(event, workdir):
    with pytest.MonkeyPatch.context() as monkeypatch:
        kill_at(monkeypatch, event)
        try:
            lrjax.run(tiny(), workdir)
        except Killed:
            return True
    return False


@pytest.mark.parametrize(
    "events", [range(2, 48, 15), pytest.param(range(0, 48, 5), marks=pytest.mark.slow)], ids=["some", "more"]
)
def test_a_run_that_dies_at_one_of_its_writes_resumes_bit_equal(events, reference, tmp_path):
    died = 0
    for event in events:
        died += die_at(event, tmp_path / str(event))
        lrjax.run(tiny(), tmp_path / str(event))
        assert_same_run(tmp_path / str(event), reference)
    assert died >= 0.9 * len(events)


def stopped_after(saves, workdir, config=None):
    """A run that died right after its so-many-th checkpoint."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        count, save = [0], run_block._save

        def counted(*arguments):
            lanes = save(*arguments)
            count[0] += 1
            if count[0] == saves:
                raise Killed
            return lanes

        monkeypatch.setattr(run_block, "_save", counted)
        with pytest.raises(Killed):
            lrjax.run(config or tiny(), workdir)


@pytest.mark.slow
def test_probes_that_remember_go_on_with_what_they_remembered(tmp_path):
    lrjax.run(problem.config(), tmp_path / "whole")
    stopped_after(2, tmp_path / "stopped", problem.config())
    memory = final_states(tmp_path / "stopped")["block-000"]["memory"]["spectrum"]
    assert memory["step"].tolist() == [30, 30, 30, -1]  # of the one that fills up the block, nothing
    assert np.abs(memory["vectors"]["hessian"][:3]).max(axis=(1, 2)).all()
    lrjax.run(problem.config(), tmp_path / "stopped")
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")


def newest(folder):
    return max((path for path in folder.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))


def largest_file(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def truncate(checkpoint):
    path = largest_file(checkpoint / "state")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_one_bit(checkpoint):
    path = largest_file(checkpoint / "state")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty_all_files(checkpoint):
    for path in checkpoint.rglob("*"):
        if path.is_file():
            path.write_bytes(b"")


def spoil_the_record(checkpoint):
    (checkpoint / "meta" / "metadata").write_text('{"step": 2')


@ABANDONED
@pytest.mark.parametrize("damage", [truncate, flip_one_bit, empty_all_files, spoil_the_record])
def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(damage, reference, tmp_path, capsys):
    stopped_after(3, tmp_path)
    damage(newest(tmp_path / "ckpt" / "block-000"))
    lrjax.run(tiny(), tmp_path)
    said = [line for line in capsys.readouterr().err.splitlines() if "is damaged" in line]
    assert len(said) == 1
    assert said[0].startswith("checkpoint block-000/300 is damaged")
    assert said[0].endswith("falling back to the one before")
    assert_same_run(tmp_path, reference)


@ABANDONED
def test_with_all_checkpoints_damaged_the_run_starts_again(reference, tmp_path, capsys):
    stopped_after(3, tmp_path)
    for checkpoint in (tmp_path / "ckpt" / "block-000").iterdir():
        truncate(checkpoint)
    lrjax.run(tiny(), tmp_path)
    assert capsys.readouterr().err.count("is damaged") == 2
    assert_same_run(tmp_path, reference)


@ABANDONED
def test_a_damaged_last_checkpoint_of_a_finished_block_is_made_again_with_all_that_stood_behind_it(
    reference, tmp_path, capsys
):
    stopped_after(7, tmp_path)  # five of the first block, two of the second
    assert newest(tmp_path / "ckpt" / "block-001").name == "200"
    flip_one_bit(newest(tmp_path / "ckpt" / "block-000"))
    lrjax.run(tiny(), tmp_path)
    assert "block-000/500 is damaged" in capsys.readouterr().err
    assert_same_run(tmp_path, reference)


def test_rows_that_a_checkpoint_counts_on_are_missed(tmp_path):
    stopped_after(3, tmp_path)
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(LrjaxError, match="--fresh"):
        lrjax.run(tiny(), tmp_path)


def test_progress_counts_what_an_earlier_start_has_done(tmp_path, monkeypatch):
    stopped_after(3, tmp_path)
    seen = []
    monkeypatch.setattr(train.Progress, "__exit__", lambda self, *_: seen.append((self.done, self.total)))
    lrjax.run(tiny(), tmp_path)
    assert seen == [(1630, 1630)]


@pytest.fixture(scope="module")
def long_reference(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("long") / "run"
    status, _, err = finish([*LONG, f"--workdir={workdir}"])
    assert status == 0, err
    return workdir


def unfinished_checkpoint(workdir, since):
    """Whether a checkpoint that was begun after a moment has not been finished."""
    for path in (workdir / "ckpt").glob("*/*tmp*"):
        with contextlib.suppress(FileNotFoundError):  # finished meanwhile
            if path.stat().st_mtime > since:
                return True
    return False


def wait_until(condition, process, seconds=60.0):
    """Polls until the condition holds; False where the process ended first."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(0.0005)
    return True


def kill_once(workdir, during_save, chance):
    """Starts the run and kills it; returns the exit status and whether a checkpoint was being written."""
    begun = time.time()
    with start([*LONG, f"--workdir={workdir}"]) as process:
        status_file = workdir / "status.json"
        if during_save:
            wait_until(lambda: status_file.exists() and status_file.stat().st_mtime > begun, process)
            wait_until(lambda: unfinished_checkpoint(workdir, begun), process)
        elif chance.random() < 0.3:
            time.sleep(chance.uniform(0.2, 3.0))  # also while it starts
        else:
            wait_until(lambda: status_file.exists() and status_file.stat().st_mtime > begun, process)
            time.sleep(chance.uniform(0.0, 1.5))
        process.kill()
        process.communicate()
        return process.returncode, unfinished_checkpoint(workdir, begun)


@pytest.mark.slow
def test_runs_killed_at_20_random_moments_resume_bit_equal(long_reference, tmp_path):
    chance, kills, mid_save = random.Random(1), 0, 0
    begun = time.monotonic()
    for number in range(3 * KILLS):
        if kills >= KILLS:
            break
        workdir = tmp_path / str(number)
        for _ in range(KILLS_A_RUN):
            status, unfinished = kill_once(workdir, during_save=chance.random() < 0.4, chance=chance)
            if status != -signal.SIGKILL:
                break  # it was faster
            kills, mid_save = kills + 1, mid_save + unfinished
        status, _, err = finish([*LONG, f"--workdir={workdir}"])
        assert status == 0, err
        assert_same_run(workdir, long_reference)
    print(f"{kills} kills, {mid_save} with a checkpoint half written, {time.monotonic() - begun:.0f} s")
    assert kills >= KILLS
    assert mid_save >= 3


@pytest.mark.slow
def test_sigterm_saves_and_exits_with_75_and_the_same_command_goes_on(long_reference, tmp_path):
    rare = [*LONG, "--config.checkpoint_every=1000000", f"--workdir={tmp_path / 'run'}"]
    with start(rare) as process:
        rows = tmp_path / "run" / "metrics.jsonl"
        assert wait_until(lambda: rows.exists() and rows.stat().st_size > 0, process)
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "the same command goes on" in err
    assert "Traceback" not in err
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "preempted"
    saved = [int(path.name) for path in (tmp_path / "run" / "ckpt" / "block-000").iterdir()]
    assert len(saved) == 1
    assert 0 < saved[0] < 5250
    status, out, err = finish(rare)
    assert status == 0, err
    assert "going on with" in out
    assert_same_run(tmp_path / "run", long_reference)


@pytest.mark.slow
def test_two_processes_compute_the_same_bits(long_reference, tmp_path):
    """Without this, a difference between two unkilled runs would look like a fault of resuming."""
    status, _, err = finish([*LONG, f"--workdir={tmp_path / 'again'}"])
    assert status == 0, err
    assert_same_run(tmp_path / "again", long_reference)
    assert np.isfinite(lrjax.load_run(tmp_path / "again").arrays[0]["step/loss"]).all()
