"""Jobs as processes of this machine: so many at a time, each done once, whatever is killed in between."""

import fcntl
import math
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from lrjax.errors import LrjaxError
from lrjax.experiment.rundir.locks import IN_USE
from lrjax.experiment.rundir.metrics import read_status

PREEMPTED = 75
EVERY_S = 0.02  # looks whether a process has ended
SAVE_S = 20.0  # how long before the end of the time a job is asked to save, where its own time limit did not end it
LEAST_S = 45.0  # in less time than that no job is started
IN_USE_S = 10.0  # waits before it tries again a job that another process has open


class Job(NamedTuple):
    """One run of a sweep."""

    name: str
    command: tuple[str, ...]  # begins with "python"
    workdir: Path
    values: dict  # dotted key -> value, what the sweep set


class Turn(NamedTuple):
    """A job that waits to be started, or runs."""

    job: Job
    starts: int = 0  # so far
    not_before: float = 0.0
    process: subprocess.Popen | None = None


def state_of(job: Job) -> str:
    """What status.json says: "done", "running", "preempted", "failed", "damaged", or "new" where there is none."""
    try:
        return (read_status(job.workdir) or {}).get("state", "new")
    except LrjaxError:
        return "damaged"  # the job itself says what to do


def last_line(log: Path) -> str:
    """The last line that a job wrote, as the reason why it failed."""
    lines = log.read_text(errors="replace").rstrip().splitlines() if log.exists() else []
    return lines[-1] if lines else "it wrote nothing"


def _start(job: Job, log: Path, left: float = math.inf) -> subprocess.Popen | None:
    """Starts a job, unless it is done or another launcher runs it; with a `--time_limit` where only so much time is left.

    Who has the log locked runs the job. The process has the log open as its output, so that the lock ends with the process
    itself, also where the launcher is killed before.
    """
    with open(log, "ab") as output:
        try:
            fcntl.flock(output, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return None
        if state_of(job) == "done":
            return None
        program = sys.executable if job.command[0] == "python" else job.command[0]
        limit = [] if math.isinf(left) else [f"--time_limit={max(left - SAVE_S, 1.0):.0f}s"]
        return subprocess.Popen(
            [program, *job.command[1:], *limit],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the launcher alone, which asks the job to save and end
        )


@contextmanager
def _signals() -> Iterator[list[int]]:
    """A list that SIGTERM, SIGINT and SIGHUP fill."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    previous = [signal.signal(number, lambda number, _: received.append(number)) for number in numbers]
    try:
        yield received
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)


def _ended(turn: Turn, status: int, log: Path, attempts: int) -> tuple[str, Turn | None]:
    """What the end of a process means: (what to say, the turn that follows or None)."""
    said = last_line(log)
    if status == 0:
        done = state_of(turn.job) == "done"
        return ("done" if done else "failed: it ended with status 0, but its status.json does not say done"), None
    if status == 1 and IN_USE in said:
        wait = time.monotonic() + IN_USE_S
        return "waiting: another process runs it", turn._replace(starts=turn.starts - 1, not_before=wait, process=None)
    if status != PREEMPTED and status > 0:
        return f"failed: {said}", None
    why = "preempted" if status == PREEMPTED else f"killed by signal {-status}"
    if turn.starts >= attempts:
        return f"failed: {why} at each of {attempts} starts", None
    return why, turn._replace(process=None)


def run(
    jobs: Sequence[Job],
    logs: Path,
    *,
    parallel: int = 1,
    attempts: int = 20,
    say: Callable[[str], None] = print,
    until: float = math.inf,
) -> dict[str, str]:
    """Runs jobs to their end: skips what is done, starts again what was preempted or killed, goes on past what fails.

    Two launchers may run the same jobs at once: each job runs in one of them, and both end when all are done. On SIGTERM,
    SIGINT or SIGHUP the running jobs are asked to save and end; a second SIGINT kills them.

    Args:
        jobs: with distinct names.
        logs: folder of NAME.log, what each job writes; made if missing.
        parallel: processes at a time.
        attempts: starts of a job at most, where each is preempted or killed.
        say: is given a line for everything that happens.
        until: `time.monotonic()` at which all must have ended: jobs save before, and what still runs then is killed.

    Returns:
        Name -> "done", "failed: ..." with the reason, or "stopped" where a signal or the end of the time came first.
    """
    logs.mkdir(parents=True, exist_ok=True)
    waiting, running, found = deque(map(Turn, jobs)), [], {}
    with _signals() as signals:
        sent = 0
        while running or (waiting and not signals and until - time.monotonic() > LEAST_S):
            left = until - time.monotonic()
            signals += [signal.SIGTERM] if left < SAVE_S / 2 and not signals else []
            _fill(waiting, running, found, logs, 0 if signals or left < LEAST_S else parallel, say, left)
            for turn in running if len(signals) > sent or left < 0 else ():
                kill = left < 0 or signals.count(signal.SIGINT) > 1
                turn.process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
            sent = len(signals)
            time.sleep(EVERY_S)
            for turn in [turn for turn in running if turn.process.poll() is not None]:
                running.remove(turn)
                what, follows = _ended(turn, turn.process.returncode, logs / f"{turn.job.name}.log", attempts)
                if follows:
                    waiting.append(follows)
                else:
                    found[turn.job.name] = what
                say(f"[{len(found)}/{len(jobs)}] {turn.job.name}: {what}")
    return {job.name: found.get(job.name, "stopped") for job in jobs}


def _fill(
    waiting: deque, running: list, found: dict, logs: Path, parallel: int, say: Callable[[str], None], left: float
) -> None:
    """Starts waiting jobs, each looked at once, until so many run."""
    total = len(waiting) + len(running) + len(found)
    for _ in range(len(waiting)):
        if len(running) >= parallel:
            return
        turn = waiting.popleft()
        if turn.not_before > time.monotonic():
            waiting.append(turn)
            continue
        job = turn.job
        process = _start(job, logs / f"{job.name}.log", left)
        if process is not None:
            running.append(turn._replace(process=process, starts=turn.starts + 1))
            say(f"[{len(found)}/{total}] {job.name}: {'goes on' if turn.starts or job.workdir.exists() else 'starts'}")
        elif state_of(job) == "done":
            found[job.name] = "done"
            say(f"[{len(found)}/{total}] {job.name}: done by another launcher")
        else:
            waiting.append(turn._replace(not_before=time.monotonic() + 1.0))
