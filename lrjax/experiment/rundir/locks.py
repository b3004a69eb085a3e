"""Locks of a run directory: for its one writer, and for its report."""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from lrjax.errors import LrjaxError, check

LOCKS = (".lock", ".report.lock")
IN_USE = "another process is running in"
REPORT_S = 120.0  # how long one report waits for another one of the same run
LOOKING_S = 0.2  # how long a run waits for one who looks whether another has the directory (`is_free`)

_held: ContextVar[frozenset[Path]] = ContextVar("held", default=frozenset())  # by `kept`, in this thread


def _lock_file(path: Path) -> int:
    """Opens a lock, made where it is missing; never what a link of that name points to."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise LrjaxError(f"{path} is a symbolic link, and a lock must be a file; remove the link") from error
        raise


def _take(lock: int, wait_s: float) -> bool:
    """Whether the lock could be had within some seconds."""
    until = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.1)


@contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Makes the directory and keeps every other process out of it."""
    if workdir.resolve() in _held.get():
        yield
        return
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = _lock_file(workdir / ".lock")
    except OSError as error:
        raise LrjaxError(f"cannot write to {workdir} ({error.strerror}); give another --workdir") from error
    try:
        check(_take(lock, LOOKING_S), f"{IN_USE} {workdir}; wait for it or give another --workdir")
        yield
    finally:
        os.close(lock)


@contextmanager
def kept(workdir: Path) -> Iterator[None]:
    """Locks the directory until the end; `locked` inside, in this thread, is granted without a lock of its own."""
    with locked(workdir):
        token = _held.set(_held.get() | {workdir.resolve()})
        try:
            yield
        finally:
            _held.reset(token)


@contextmanager
def undisturbed(workdir: Path, wait_s: float = REPORT_S) -> Iterator[bool]:
    """Keeps other reports, and `--fresh`, away while the report of a run is written; the run itself may go on.

    A directory that cannot be written to is not locked: nothing can be changed in it.

    Args:
        workdir: of the run.
        wait_s: seconds to wait for a report that another process writes.

    Yields:
        Whether no other process runs it now: a run that its status calls running, and that nobody runs, was killed.

    Raises:
        LrjaxError: the other report is still being written.
    """
    try:
        lock = _lock_file(workdir / ".report.lock")
    except OSError:
        yield is_free(workdir)
        return
    try:
        check(
            _take(lock, wait_s), f"another process writes the report of {workdir}; run the same command when it is done"
        )
        yield is_free(workdir)
    finally:
        os.close(lock)


def is_free(workdir: Path) -> bool:
    """Whether this thread holds a run directory, or nobody: then a run that its status calls running was killed."""
    if workdir.resolve() in _held.get():
        return True
    try:
        lock = os.open(workdir / ".lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # a copy without it, or one that may not be read
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return True
    except OSError:
        return False
    finally:
        os.close(lock)
