"""What the rules of advice read."""

from __future__ import annotations

from typing import NamedTuple

from lrjax.monitor import history
from lrjax.monitor.optimizer_facts import Facts

DECAYED = 0.3  # of the largest rate of the run


class Case(NamedTuple):
    """What the rules read: rows of a monitor and what is known of the run."""

    rows: history.Rows
    facts: Facts
    groups: tuple[str, ...]
    num_steps: int | None
    full_batch: bool
    coupled: bool

    @property
    def decayed(self) -> bool:
        """Whether the rate is far below what it was: at the end of a schedule small steps are what was asked for."""
        rates = history.recent(self.rows, "learning_rate", len(self.rows))
        return self.rate is not None and bool(rates.size) and self.rate < DECAYED * float(rates.max())

    @property
    def rising(self) -> bool:
        """Whether the rate still grows, as in a warm-up: what follows from its size is then too early to say."""
        rates = history.recent(self.rows, "learning_rate", 3)
        return rates.size > 1 and bool(rates[-1] > 1.01 * rates[0])

    @property
    def rate(self) -> float | None:
        """eta of the last row; None where it is unknown."""
        values = history.recent(self.rows[-1:], "learning_rate")
        return float(values[0]) if values.size else None
