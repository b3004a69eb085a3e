"""The result of a sweep over learning rates, as text, as plain Python and as a figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lrjax.monitor.rate_fit import Drift, Extrapolation, Optimum
from lrjax.spectra.results import to_dict

if TYPE_CHECKING:
    from lrjax.plots.drawing import Figure

EDGES = {
    "low": "the minimum lies at the lower edge of the grid: the best rate may be smaller; give smaller rates",
    "high": "the minimum lies at the upper edge of the grid: the best rate may be larger; give larger rates",
    "divergence": "the minimum lies at the edge of divergence, seeds diverge one rate further: give a narrower range around it",
}


class LaneResult(NamedTuple):
    """One training of the sweep.

    Attributes:
        horizon: its steps.
        learning_rate: its peak rate.
        seed: number of its initial parameters and of its order of the batches, from 0.
        loss: final loss on the evaluation batches.
        diverged: not finite, or more than four times the loss at the start. The fit leaves out its rate.
        diverged_at: first step whose loss was not finite, or None.
    """

    horizon: int
    learning_rate: float
    seed: int
    loss: float
    diverged: bool
    diverged_at: int | None

    to_dict = to_dict


class Suggestion(NamedTuple):
    """Learning rates that a sweep found best, one a horizon.

    Attributes:
        optima: one a horizon, in growing order.
        drift: how the best rate moves with the horizon; None for one horizon, or where a minimum is at an edge.
        extrapolation: the drift carried on to `num_steps`; None unless asked for and there is a drift.
        num_steps: the steps that the extrapolation was asked for, or None.
        rows: every lane.
        start_loss: mean loss of the initial parameters on the evaluation batches.
        level: of all intervals.
        lanes: "vmap" or "map", the way the lanes ran.
        milliseconds: way -> measured time of a step of all lanes of a horizon, where both ways were timed.
        seconds: wall time of all, with compilation.

    Example:
        >>> best = Optimum(200, 0.03, (0.02, 0.05), None, 0.03, 0.5)
        >>> result = Suggestion((best,), None, None, None, (), 2.3, 0.95, "vmap", {}, 1.0)
        >>> result.learning_rate, result.interval, result.at_edge
        (0.03, (0.02, 0.05), None)
    """

    optima: tuple[Optimum, ...]
    drift: Drift | None
    extrapolation: Extrapolation | None
    num_steps: int | None
    rows: tuple[LaneResult, ...]
    start_loss: float
    level: float
    lanes: str
    milliseconds: dict[str, float]
    seconds: float

    to_dict = to_dict

    @property
    def learning_rate(self) -> float:
        """The best rate for the longest horizon; at an edge the best one tested."""
        return self.optima[-1].learning_rate

    @property
    def interval(self) -> tuple[float, float] | None:
        """Confidence interval of `learning_rate`; None at an edge and for a single seed."""
        return self.optima[-1].interval

    @property
    def at_edge(self) -> str | None:
        """ "low", "high" or "divergence" where the minimum for the longest horizon has no worse rates on both sides."""
        return self.optima[-1].at_edge

    def figure(self) -> Figure:
        """Final loss over learning rate, a curve a horizon, with the optima and their intervals."""
        from lrjax.plots.rates import rates_figure  # matplotlib takes a second to import

        return rates_figure(self)

    def __repr__(self) -> str:
        return "\n".join(
            [self._headline(), "", *self._optima(), "", *self._movement(), "", *self._losses(), "", self._cost()]
        )

    def _headline(self) -> str:
        best = self.optima[-1]
        if best.at_edge:
            return (
                f"No learning rate measured for {best.horizon} steps: {best.learning_rate:.3g} is the best tested, but "
                + (EDGES[best.at_edge])
            )
        return f"Learning rate for {best.horizon} steps: {best.learning_rate:.3g} {_ends(best.interval, self.level)}"

    def _optima(self) -> list[str]:
        lines = [f"{'steps':>8}  {'best rate':>9}  {'interval':<22}  {'best tested':>11}  {'its loss':>9}"]
        for best in self.optima:
            shown = "at an edge" if best.at_edge else f"{best.learning_rate:.3g}"
            ends = f"[{best.interval[0]:.3g}, {best.interval[1]:.3g}]" if best.interval else "none"
            line = f"{best.horizon:>8}  {shown:>9}  {ends:<22}  {best.best_tested:>11.3g}  {best.loss:>9.4g}"
            lines.append(line + (f"  {EDGES[best.at_edge]}" if best.at_edge else ""))
        return lines

    def _movement(self) -> list[str]:
        if self.drift is None:
            cause = "one horizon was run" if len(self.optima) == 1 else "a minimum lies at an edge"
            unmet = f", and no rate for {self.num_steps} steps" if self.num_steps else ""
            return [f"Drift with the horizon: not measured, {cause}{unmet}."]
        ends = _ends(self.drift.interval, self.level, "the slope")
        lines = [f"Drift with the horizon: the best rate goes as steps^{self.drift.slope:.2f} {ends}."]
        if self.extrapolation is not None:
            beyond = self.extrapolation
            lines.append(
                f"Extrapolation, not a measurement: {beyond.learning_rate:.3g} {_ends(beyond.interval, self.level)} for "
                f"{beyond.num_steps} steps, if the drift goes on {beyond.num_steps / self.optima[-1].horizon:.3g} times "
                "beyond the longest horizon."
            )
            lost = min((row.learning_rate for row in self.rows if row.diverged), default=np.inf)
            if beyond.learning_rate >= lost:
                lines.append(f"Do not use it: lanes diverged at {lost:.3g} already.")
        return lines

    def _losses(self) -> list[str]:
        horizons = [best.horizon for best in self.optima]
        lines = ["Final loss, geometric mean over seeds (at the start " + f"{self.start_loss:.4g}):"]
        lines.append(f"{'rate':>9}" + "".join(f"  {f'{horizon} steps':>20}" for horizon in horizons))
        for rate in sorted({row.learning_rate for row in self.rows}):
            cells = [[row for row in self.rows if (row.learning_rate, row.horizon) == (rate, h)] for h in horizons]
            lines.append(f"{rate:>9.3g}" + "".join(f"  {_cell(cell):>20}" for cell in cells))
        return lines

    def _cost(self) -> str:
        seeds = len({row.seed for row in self.rows})
        rates = len({row.learning_rate for row in self.rows})
        timed = "; ".join(f"{way} {time:.3g} ms" for way, time in self.milliseconds.items())
        measured = f" (a step of all lanes: {timed})" if timed else ""
        return f"{rates} rates x {seeds} seeds a horizon, run by {self.lanes}{measured}; {self.seconds:.0f} s."


def _ends(interval: tuple[float, float] | None, level: float, of: str = "one") -> str:
    if interval is None:
        return "(no interval: a single seed shows no spread)" if of == "one" else ""
    return f"[{interval[0]:.3g}, {interval[1]:.3g}] ({level:.0%})"


def _cell(rows: list[LaneResult]) -> str:
    kept = [row.loss for row in rows if not row.diverged]
    lost = len(rows) - len(kept)
    if not kept:
        return "diverged"
    positive = np.exp(np.mean(np.log(kept)))
    return f"{positive:.4g}" + (f" ({lost} diverged)" if lost else "")
