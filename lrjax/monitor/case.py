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
        """Whether all rates are far below what they were: at the end of a schedule small steps are what was asked for.

        Where no rate is known the sizes of updates stand for it.
        """
        names = self._rates or [f"update_rms/{group}" for group in self.groups]
        known = [history.recent(self.rows, name, len(self.rows)) for name in names]
        known = [values for values in known if values.size]
        return bool(known) and all(values[-1] < DECAYED * values.max() for values in known)

    @property
    def rising(self) -> bool:
        """Whether a rate still grows, as in a warm-up: what follows from its size is then too early to say."""
        last = [history.recent(self.rows, name, 3) for name in self._rates]
        return any(values.size > 1 and values[-1] > 1.01 * values[0] for values in last)

    @property
    def _rates(self) -> list[str]:
        return sorted({name for row in self.rows for name in history.rates(row)})

    @property
    def rate(self) -> float | None:
        """eta of the last row; None where it is unknown."""
        values = history.recent(self.rows[-1:], "learning_rate")
        return float(values[0]) if values.size else None
