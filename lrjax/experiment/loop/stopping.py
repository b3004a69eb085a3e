"""What ends a run before its time, after a chunk and with everything saved: signals, and a time limit."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lrjax.devices import hosts

INTERRUPTED = "interrupted"
REASONS = {
    signal.SIGTERM: "preempted",
    signal.SIGHUP: "preempted by SIGHUP",
    signal.SIGUSR1: "preempted by SIGUSR1",
    signal.SIGINT: INTERRUPTED,
}
AGAIN = b"\ninterrupted: saving after this chunk of steps; Ctrl-C again ends at once\n"


class Preempted(Exception):
    """The run was asked to end, or its time was over; it is saved. Says why."""

    def __init__(self, reason: str = REASONS[signal.SIGTERM]):
        super().__init__(reason)


def ended(reason: str) -> BaseException:
    """What is raised once a run is saved: Ctrl-C stays what it is everywhere, all else is `Preempted`.

    Example:
        >>> ended("interrupted"), ended("the time limit is over")
        (KeyboardInterrupt(), Preempted('the time limit is over'))
    """
    return KeyboardInterrupt() if reason == INTERRUPTED else Preempted(reason)


class Limit:
    """Whether time is over, or would be before the next look.

    Args:
        seconds: from now on; None: no limit.
        clock: gives seconds.

    Example:
        >>> times = iter([0.0, 3.0, 6.0, 9.0])
        >>> limit = Limit(10, clock=lambda: next(times))
        >>> limit.over(), limit.over(), limit.over()
        (False, False, True)
    """

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._end = None if seconds is None else clock() + seconds
        self._before: float | None = None

    def over(self) -> bool:
        """To be asked after each chunk: the next one is expected to take as long as the last."""
        if self._end is None:
            return False
        now = self._clock()
        lasts = 0.0 if self._before is None else now - self._before
        self._before = now
        return now + lasts > self._end


@contextmanager
def watched(time_limit: float | None = None) -> Iterator[Callable[[], str]]:
    """Yields a function that says why to stop, "" for going on; to be asked after each chunk, in every process.

    The first Ctrl-C asks to stop as SIGTERM does, a second one raises KeyboardInterrupt at once. A signal that the process
    was started to ignore, as by nohup, stays ignored. Signals reach the main thread alone, not a notebook's worker.

    Args:
        time_limit: seconds from now; saving comes before its end.
    """
    received: list[str] = []
    agreed, limit = hosts.stop_agreed(), Limit(time_limit)

    def why() -> str:
        own = received[0] if received else "the time limit is over" if limit.over() else ""
        return (own or "preempted") if agreed(bool(own)) else ""

    def handle(number: int, frame: Any) -> None:
        if number == signal.SIGINT:
            if INTERRUPTED in received:
                raise KeyboardInterrupt
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, AGAIN)
        received.append(REASONS[signal.Signals(number)])

    with handled(handle):
        yield why


@contextmanager
def handled(handle: Callable[[int, Any], Any], *, interrupts: bool = True) -> Iterator[None]:
    """Lets a function handle the signals of `REASONS`, but not those that are ignored; puts the handlers before back.

    Args:
        handle: of a signal module's handler.
        interrupts: SIGINT too.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [number for number in REASONS if interrupts or number != signal.SIGINT]
    numbers = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
