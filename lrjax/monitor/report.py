"""The report of a monitor: a table, advice with its evidence, a figure, and the same as plain Python."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lrjax.errors import check
from lrjax.monitor import history
from lrjax.monitor.advice import GAP_DECAY, GAP_KEEP, Advice, Case, advise, level
from lrjax.monitor.clock import decay_clock
from lrjax.monitor.lines import EdgeLine, edge_lines
from lrjax.monitor.optimizer_facts import Facts

NOT_MEASURED = "not measured"


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
            dict(zip(("instrument", "value", "line", "reading", "source"), row, strict=True)) for row in _table(self)
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
        return _clean(
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


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _clean(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(one) for one in value]
    if isinstance(value, (np.generic, np.ndarray)):
        return _clean(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _optimizer(facts: Facts) -> str:
    words = {"sgd": "SGD", "heavy_ball": "SGD with momentum", "adam": "Adam", "other": "an optimizer of another kind"}
    text = words.get(facts.kind, "an unknown optimizer")
    if facts.momentum is not None:
        text += f" {facts.momentum:.4g}" + (", Nesterov's" if facts.nesterov else "")
    if facts.b1 is not None and facts.b2 is not None:
        text += f" (b1 {facts.b1:.4g}, b2 {facts.b2:.6g})"
    return text


def _number(value: float | None, form: str = ".4g") -> str:
    return NOT_MEASURED if value is None else format(value, form)


def _gain_rows(report: Report) -> list[tuple[str, ...]]:
    rows = report.rows
    ratios = history.recent(rows, "gain_ratio", 10)
    spread = f" ({ratios.min():.2f} to {ratios.max():.2f})" if ratios.size > 1 else ""
    value = f"{np.median(ratios):.3f}{spread}" if ratios.size else NOT_MEASURED
    reading = "" if not ratios.size else "small steps here" if np.median(ratios) > 0.95 else "steps that see curvature"
    gap = history.recent(rows, "valley_gap")
    rho = history.median(rows, "full_rho", 3)
    of_rho = "no sign by itself: 2 at stationarity" if rho is not None else ""
    stated = {one.code: one for one in report.advice}
    value_of_gap = f"{gap[0]:.1%}" if gap.size else NOT_MEASURED
    of_gap = (
        "" if not gap.size else next((c.replace("_", " ") for c in ("decay", "keep", "undecided") if c in stated), "")
    )
    return [
        ("gain ratio r, same batch", value, "1 - rho / 2", reading, "Conn, Gould & Toint 2000, 6.1"),
        ("rho = u.Hu / (-g.u), probe set", _number(rho, ".3g"), "", of_rho, "Pearlmutter 1994"),
        ("valley gap", value_of_gap, f"{GAP_DECAY:.0%}, {GAP_KEEP:.0%}", of_gap, "averaged parameters, last 1 %"),
    ]  # fmt: skip


def _size_rows(report: Report) -> list[tuple[str, ...]]:
    rows, found = report.rows, []
    for group in report.groups:
        size, relative = (history.recent(rows, f"{name}/{group}") for name in ("update_rms", "update_over_weights"))
        if not size.size:
            continue
        usual = history.median(rows, f"update_rms/{group}", 100) or 0.0
        times = f"{size[0] / usual:.2f} of its median" if usual > 0 else "zero"
        share = f", {relative[0]:.2g} of the weights" if relative.size else ""
        found.append(
            (
                f"update RMS, {group or 'parameters'}",
                f"{size[0]:.3g}{share}",
                "2 medians",
                times,
                "update sizes by group",
            )
        )
    return found


def _clock_rows(report: Report) -> list[tuple[str, ...]]:
    rows, found = report.rows, []
    for group in report.groups:
        decay = history.recent(rows, f"decay/{group}")
        name = f"weight-decay clock, {group or 'parameters'}"
        if not decay.size:
            continue
        if decay[0] <= 0:
            found.append((name, "no decay", "", "", ""))
            continue
        clock = decay_clock(float(decay[0]), report.facts, coupled=report.coupled)
        angle = history.median(rows, f"angle/{group}", 5)
        horizon = f"{report.num_steps} steps" if report.num_steps else "horizon unknown"
        ratio = f"angle {angle / clock.angle:.2f} of equilibrium" if clock.angle and angle is not None else ""
        found.append((name, f"{clock.steps:.3g} steps", horizon, ratio, "Wan et al. 2021; Kosson et al. 2024"))
    return found


def _noise_row(report: Report) -> tuple[str, ...]:
    scale = history.noise_scale(report.rows)
    if scale is None:
        return ("noise scale", NOT_MEASURED, "", "", "McCandlish et al. 2018, A.1")
    size, unit = (report.batch_size, "examples") if report.batch_size else (1, "batches")
    value, low, high = (size * x for x in scale)
    text = f"{value:.3g} {unit} [{low:.3g}, {high:.3g}]" if math.isfinite(high) else f"at least {low:.3g} {unit}"
    reading = "noise of a step over its signal; not the critical batch size"
    return (
        "noise scale",
        text,
        f"batch of {size} {unit}" if report.batch_size else "1 batch",
        reading,
        "McCandlish et al. 2018, A.1",
    )


def _curvature_rows(report: Report) -> list[tuple[str, ...]]:
    lines = edge_lines(report.facts, report.case.rate, report.full_batch)
    plain = report.facts.kind != "adam"
    names = {
        "batch_sharpness": "batch sharpness",
        "sharpness": "largest eigenvalue" + (" of H" if plain else ", preconditioned"),
        "gradient_curvature": "curvature along the gradient" + ("" if plain else ", preconditioned"),
    }
    found = [_against(names[name], level(report.rows, name), lines[name], _why_not(report, name)) for name in names]
    multiple = history.median(report.rows, "critical_multiple", 5)
    reading = "headroom on the batch that made the step: no reason to raise the rate" if multiple is not None else ""
    found.append(
        ("critical multiple of u", _number(multiple, ".3g"), "1", reading, "arXiv 2601.16979, read as an abstract")
    )
    return found


def _why_not(report: Report, name: str) -> str:
    """Why an instrument was not measured: what it costs, where the run is too short for the budget."""
    name = name.removeprefix("gradient_")
    plan = next((cost for cost in report.costs if cost["instrument"] == name), None)
    if plan is None or not plan["interval"] or report.num_steps is None or plan["interval"] <= report.num_steps:
        return ""
    return f"a measurement costs {plan['steps']:.0f} steps: beyond the budget of this run"


def _against(name: str, value: float | None, line: EdgeLine, why_not: str = "") -> tuple[str, ...]:
    text = f"{line.formula} = {line.value:.4g}" if line.value is not None else line.formula
    if value is None:
        reading = why_not
    else:
        reading = f"{value / line.value:.2f} of the line" if line.value is not None else ""
    return (name, _number(value), text, reading, line.source)


def _table(report: Report) -> list[tuple[str, ...]]:
    rows = [
        *_gain_rows(report),
        *_size_rows(report),
        *_clock_rows(report),
        _noise_row(report),
        *_curvature_rows(report),
    ]
    if report.costs:
        cost = f"{report.shares[0]:.1%} and {report.shares[1]:.1%}"
        rows.append(
            ("cost: tiers 1 and 2", cost, "of the training's time", "measured, compilation left out", "this run")
        )
    return rows
