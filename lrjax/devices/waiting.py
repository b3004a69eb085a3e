"""Which processes of a job have not come yet, said while the others wait for them."""

import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

MISSING_S = 8.0  # until it is said which process has not come


def waiting_for(told: Mapping[str, Any], answers: Callable[[str], bool]) -> str:
    """A sentence on the processes that have not come yet.

    Args:
        told: what `place` gives.
        answers: whether somebody listens at a HOST:PORT.

    Example:
        >>> waiting_for({"coordinator_address": "node1:1234", "num_processes": 2, "process_id": 0}, lambda _: True)
        'process 0 of 2 waits for process 1 to start and to reach node1:1234'
    """
    address = told.get("coordinator_address")
    if address is None:
        return "this process waits for the others of its job; see that all of them have started, with the same command"
    count, own = told["num_processes"], told["process_id"]
    here = f"process {own} of {count}"
    if own and not answers(address):
        return f"{here} waits for process 0, and nothing answers at {address}; see that it has started there"
    others = [str(number) for number in range(1, count) if number != own]
    if not others:
        return f"{here} has reached process 0 at {address} and waits for its answer"
    which = f"process {others[0]}" if len(others) == 1 else f"one or more of the processes {', '.join(others)}"
    return f"{here} waits for {which} to start and to reach {address}"


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=2):
            return True
    except OSError:
        return False


@contextmanager
def who_is_missing(told: Mapping[str, Any]) -> Iterator[None]:
    """Says on stderr who is waited for: after a few seconds, and then once a minute."""
    came = threading.Event()

    def say() -> None:
        pause = MISSING_S
        while not came.wait(pause):
            left = "; JAX gives up after 5 minutes" if pause == MISSING_S else ""
            print(f"waiting: {waiting_for(told, _answers)}{left}", file=sys.stderr, flush=True)
            pause = 60.0

    threading.Thread(target=say, daemon=True).start()
    try:
        yield
    finally:
        came.set()
