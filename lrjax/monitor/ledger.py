"""The wall time that measuring takes, beside that of the training; compilation is counted apart."""

from __future__ import annotations

import time
from collections.abc import Mapping

from lrjax.monitor.cost import Row

VISIT = "visit"  # of a visit, what no instrument booked: copies, rates, rows


class Ledger:
    """Seconds by instrument. The first use of each, which compiles, and the first visit as a whole count as neither
    measuring nor training.

    Example:
        >>> ledger = Ledger()
        >>> for _ in range(2):
        ...     began = ledger.visit()
        ...     ledger.charge("step", time.perf_counter())
        ...     ledger.leave(began)
        >>> sorted(ledger.spent), ledger.spent["step"][0]
        (['step', 'visit'], 1)
    """

    def __init__(self) -> None:
        self.spent: dict[str, tuple[int, float]] = {}  # instrument -> times, seconds
        self._warm: set[str] = set()
        self._first: float | None = None
        self._seen = self._outside = self._booked = 0.0

    def visit(self) -> float:
        """A visit begins: its time."""
        self._booked, now = 0.0, time.perf_counter()
        self._first = now if self._first is None else self._first
        return now

    def charge(self, name: str, began: float) -> None:
        """Books the seconds since `began` for an instrument."""
        seconds = time.perf_counter() - began
        self._booked += seconds
        if name in self._warm:
            self._add(name, seconds)
        elif VISIT in self._warm:
            self._outside += seconds
        self._warm.add(name)

    def leave(self, began: float) -> None:
        """A visit ends: what was not booked in it is booked now."""
        self._seen = time.perf_counter()
        if VISIT in self._warm:
            self._add(VISIT, self._seen - began - self._booked)
        else:
            self._outside += self._seen - began
        self._warm.add(VISIT)

    def _add(self, name: str, seconds: float) -> None:
        count, total = self.spent.get(name, (0, 0.0))
        self.spent[name] = (count + 1, total + seconds)

    def seconds(self, rows: Mapping[str, Row]) -> tuple[list[float], float]:
        """Of tier 1, of tier 2, and of the training itself until the last visit: what came after may be no training."""
        tiers = [0.0, 0.0]
        for name, (_, seconds) in self.spent.items():
            tiers[1 if name in rows and rows[name].tier == 2 else 0] += seconds
        begun = self._seen if self._first is None else self._first
        return tiers, max(self._seen - begun - self._outside - sum(tiers), 1e-9)
