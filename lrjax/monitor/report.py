"""The report of a monitor: a table, advice with its evidence, a figure, and the same as plain Python."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lrjax.errors import check
from lrjax.monitor import history
from lrjax.monitor.advice import Advice, Case, advise
from lrjax.monitor.clock import decay_clock
from lrjax.monitor.lines import edge_lines
from lrjax.monitor.optimizer_facts import Facts
from lrjax.monitor.table import table_of


@dataclass(frozen=True)
class Report:
    """What is known of a learning rate.

    Attributes:
        rows: measurements, a flat dict each.
        facts: of the optimizer.
        groups: names of groups of parameters.
        num_steps: of the run; None where unknown.
        batch_size: examples of a batch; None where batches have no common axis.
        full_batch: whether training is on the full batch.
        coupled: whether weight decay is in the gradient.
        costs: a dict an instrument: cost in training steps, interval, shares of operations and of time, times measured.
        shares: measured shares of the training's wall time, of tier 1 and of tier 2.
        notices: what could not be measured, and why.
        step_known: whether the rows' steps are those of a run.
    """

    rows: list[dict[str, Any]]
    facts: Facts
    groups: tuple[str, ...] = ()
    num_steps: int | None = None
    batch_size: int | None = None
    full_batch: bool = False
    coupled: bool = False
    costs: list[dict[str, Any]] = field(default_factory=list)
    shares: tuple[float, float] = (0.0, 0.0)
    notices: tuple[str, ...] = ()
    step_known: bool = True

    @property
    def case(self) -> Case:
        """What the rules of advice read."""
        return Case(self.rows, self.facts, self.groups, self.num_steps, self.full_batch, self.coupled)

    @property
    def advice(self) -> list[Advice]:
        """What may be said, the most important first."""
        return advise(self.case)

    @property
    def table(self) -> list[dict[str, str]]:
        """The instruments: a dict each with instrument, value, line, reading and source."""
        return [
            dict(zip(("instrument", "value", "line", "reading", "source"), row, strict=True)) for row in table_of(self)
        ]

    def __str__(self) -> str:
        columns = ("instrument", "value", "line", "reading")
        cells = [columns, *[tuple(row[name] for name in columns) for row in self.table]]
        widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
        text = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
        text.insert(1, "  ".join("-" * width for width in widths))
        said = [f"{'- ' if one.level != 'warning' else '! '}{one.sentence}\n  ({one.evidence})" for one in self.advice]
        notices = [f"? {notice}" for notice in self.notices]
        return "\n".join([self.summary, "", *text, "", *(said or ["No advice: not enough was measured."]), *notices])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """The text and the figure, for notebooks."""
        from html import escape

        from lrjax.plots.svg import svg

        drawn = svg(self.figure(), "monitor") if self.rows else None
        return f"<pre>{escape(str(self))}</pre>" + (drawn.decode() if drawn else "")

    @property
    def summary(self) -> str:
        """One line: the steps, the optimizer, the rate."""
        if not self.rows:
            return "Nothing has been measured."
        rate = self.case.rate
        first, last = self.rows[0]["step"], self.rows[-1]["step"]
        steps = f"steps {first} to {last}" if last > first else f"step {last}"
        steps = steps if self.step_known else "step unknown"
        source = self.rows[-1].get("rate_source", "unknown")
        known = f"learning rate {rate:.3g} ({source})" if rate is not None else f"learning rate {source}"
        return f"{steps}, {_optimizer(self.facts)}, {known}"

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain Python, which `json.dumps` takes; what is not finite is None."""
        return history.plain(
            {
                "summary": self.summary,
                "advice": [one._asdict() for one in self.advice],
                "table": self.table,
                "rows": self.rows,
                "optimizer": self.facts._asdict(),
                "costs": self.costs,
                "shares": {"tier_1": self.shares[0], "tier_2": self.shares[1]},
                "notices": list(self.notices),
            }
        )

    def figure(self) -> Any:
        """Six panels: loss with gap and gain, rate with its edges, update sizes, rotation and clock, noise scale, curvature.

        Returns:
            A `matplotlib.figure.Figure`.
        """
        from lrjax.plots.monitor_panels import panels

        rows = [dict(row) for row in self.rows]
        for row in rows:
            for group in self.groups:
                clock = decay_clock(row.get(f"decay/{group}", 0.0), self.facts, coupled=self.coupled)
                if clock.angle is not None:
                    row[f"equilibrium_angle/{group}"] = clock.angle
        for index, row in enumerate(rows, start=1):
            scale = history.noise_scale(self.rows[:index]) if "noise" in row else None
            if scale is not None and math.isfinite(scale.value):
                row["noise_scale"] = scale.value
        return panels(rows, self.groups, self.lines())

    def lines(self) -> list[dict[str, float | None]]:
        """The lines of stability at each row's rate, for figures: a dict a row."""
        found = []
        for row in self.rows:
            lines = edge_lines(self.facts, row.get("learning_rate"), self.full_batch)
            found.append({name: line.value for name, line in lines.items()})
        return found

    def save(self, path: str | Path) -> Path:
        """Writes the report: .html a page, .png or .svg the figure, .json the dict, .txt the text.

        Raises:
            LrjaxError: another ending.
        """
        path = Path(path)
        check(
            path.suffix in (".html", ".png", ".svg", ".json", ".txt"),
            f"a report is saved as .html, .png, .svg, .json or .txt, not {path.suffix or 'without an ending'}",
        )
        if path.suffix == ".html":
            from lrjax.monitor.page import page

            path.write_text(page(self.to_dict(), self.figure()), encoding="utf-8")
        elif path.suffix == ".json":
            path.write_text(json.dumps(self.to_dict(), indent=1), encoding="utf-8")
        elif path.suffix == ".txt":
            path.write_text(f"{self}\n", encoding="utf-8")
        else:
            self.figure().savefig(path, dpi=120)
        return path


def _optimizer(facts: Facts) -> str:
    words = {"sgd": "SGD", "heavy_ball": "SGD with momentum", "adam": "Adam", "other": "an optimizer of another kind"}
    text = words.get(facts.kind, "an unknown optimizer")
    if facts.momentum is not None:
        text += f" {facts.momentum:.4g}" + (", Nesterov's" if facts.nesterov else "")
    if facts.b1 is not None and facts.b2 is not None:
        text += f" (b1 {facts.b1:.4g}, b2 {facts.b2:.6g})"
    return text
