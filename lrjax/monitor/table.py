"""The table of a monitor's report: a row an instrument."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lrjax.monitor import history
from lrjax.monitor.advice import GAP_DECAY, GAP_KEEP, GAPS, MEDIANS, level
from lrjax.monitor.clock import decay_clock
from lrjax.monitor.lines import EdgeLine, edge_lines
from lrjax.monitor.schedule import WINDOW

if TYPE_CHECKING:
    from lrjax.monitor.report import Report

NOT_MEASURED = "not measured"
ELSEWHERE = "not at this rate"


def _number(value: float | None, form: str = ".4g") -> str:
    return NOT_MEASURED if value is None else format(value, form)


def _gain_rows(report: Report) -> list[tuple[str, ...]]:
    rows = report.rows
    ratios = history.recent(rows, "gain_ratio", 10)
    spread = f" ({ratios.min():.2f} to {ratios.max():.2f})" if ratios.size > 1 else ""
    value = f"{np.median(ratios):.3f}{spread}" if ratios.size else NOT_MEASURED
    if not ratios.size and history.series(rows, "gain_ratio")[0].size:
        value = "not resolved: the change of the loss is within its rounding, or u points uphill"
    reading = "" if not ratios.size else "small steps here" if np.median(ratios) > 0.95 else "steps that see curvature"
    gap = history.recent(history.at_rate(rows), "valley_gap", GAPS)
    rho, slopes = history.rho(rows), history.recent(rows, "step_slope")
    value_of_rho = "not resolved: slopes of either sign" if rho is None and slopes.size else _number(rho, ".3g")
    of_rho = "no sign by itself: 2 at stationarity" if rho is not None else ""
    stated = {one.code: one for one in report.advice}
    absent = ELSEWHERE if history.recent(rows, "valley_gap").size else NOT_MEASURED
    value_of_gap = f"{gap.mean():.1%}, mean of {gap.size}" if gap.size else absent
    of_gap = (
        "" if not gap.size else next((c.replace("_", " ") for c in ("decay", "keep", "undecided") if c in stated), "")
    )
    return [
        ("gain ratio r, same batch", value, "1 - rho / 2", reading, "Conn, Gould & Toint 2000, 6.1"),
        ("rho = u.Hu / (-g.u), probe set", value_of_rho, "", of_rho, "Pearlmutter 1994"),
        ("valley gap", value_of_gap, f"{GAP_DECAY:.0%}, {GAP_KEEP:.0%}", of_gap, f"averaged parameters, last {WINDOW:.0%}"),
    ]  # fmt: skip


def _size_rows(report: Report) -> list[tuple[str, ...]]:
    rows, found = report.rows, []
    over = " over the rate" if report.case.rate else ""
    for group in report.groups:
        size, relative = (history.recent(rows, f"{name}/{group}") for name in ("update_rms", "update_over_weights"))
        if not size.size:
            continue
        sizes = history.step_sizes(rows, (group,))[:, 0]
        before = sizes[:-1][-MEDIANS:]
        usual = float(np.nanmedian(before)) if np.isfinite(before).any() else 0.0
        times = f"{sizes[-1] / usual:.2f} of its median{over}" if usual > 0 and np.isfinite(sizes[-1]) else ""
        value = f"{size[0]:.3g}" + (f", {relative[0]:.2g} of the weights" if relative.size else "")
        found.append((f"update RMS, {group or 'parameters'}", value, "2 medians", times, "update sizes by group"))
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
    value, low, high = (size * x for x in (scale.value, scale.low, scale.high))
    text = f"{value:.3g} {unit} [{low:.3g}, {high:.3g}]" if math.isfinite(high) else f"at least {low:.3g} {unit}"
    reading = "noise of a step over its signal; not the critical batch size"
    if not math.isfinite(low):
        text, reading = (
            "not resolved",
            "gradients of two batches point apart: all noise, or batches that are not independent",
        )
    step = f"step of {size * report.facts.accumulation} {unit}" if report.batch_size else "1 batch"
    return ("noise scale", text, step, reading, "McCandlish et al. 2018, A.1")


def _curvature_rows(report: Report) -> list[tuple[str, ...]]:
    lines = edge_lines(report.facts, report.case.rate, report.full_batch)
    plain = report.facts.kind != "adam"
    names = {
        "batch_sharpness": "batch sharpness",
        "sharpness": "largest eigenvalue" + (" of H" if plain else ", preconditioned"),
        "gradient_curvature": "curvature along the gradient" + ("" if plain else ", preconditioned"),
    }
    found = []
    for name, title in names.items():
        absent = ELSEWHERE if history.recent(report.rows, name).size else NOT_MEASURED
        found.append(_against(title, level(report.rows, name), lines[name], absent, _why_not(report, name)))
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


def _against(name: str, value: float | None, line: EdgeLine, absent: str, why_not: str) -> tuple[str, ...]:
    text = f"{line.formula} = {line.value:.4g}" if line.value is not None else line.formula
    if value is None:
        reading = why_not
    else:
        reading = f"{value / line.value:.2f} of the line" if line.value is not None else ""
    return (name, absent if value is None else _number(value), text, reading, line.source)


def table_of(report: Report) -> list[tuple[str, ...]]:
    """Instrument, value, line that it is compared with, reading and source, a row each."""
    rows = [
        *_gain_rows(report),
        *_size_rows(report),
        *_clock_rows(report),
        _noise_row(report),
        *_curvature_rows(report),
    ]
    if report.costs:
        cost = f"{report.shares[0]:.1%} and {report.shares[1]:.1%}"
        every = next((one["interval"] for one in report.costs if one["instrument"] == "step"), 0)
        reading = f"a virtual step every {every} steps; compilation left out"
        rows.append(("cost: tiers 1 and 2", cost, "of the training's time", reading, "this run"))
    return rows
