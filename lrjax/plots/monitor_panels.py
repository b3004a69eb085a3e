"""The figure of a monitor's report: six panels over the steps of a run."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]
COLOURS = ("#1b6ca8", "#d1495b", "#3a7d44", "#8d5a97", "#c77d1e", "#4c566a")
SHOWN = 6  # groups with a line of their own


def panels(rows: Rows, groups: Sequence[str], lines: Sequence[Mapping[str, float | None]]) -> Figure:
    """Six panels: loss with gap and gain, rate with its edges, update sizes, rotation and clock, noise scale, curvature.

    Args:
        rows: measurements, a flat dict each with "step".
        groups: of parameters.
        lines: lines of stability at each row, by instrument.

    Returns:
        The figure; what was not measured is said in its panel.

    Example:
        >>> len(panels([{"step": 0, "loss": 1.0}, {"step": 10, "loss": 0.5}], (), [{}, {}]).axes) >= 6
        True
    """
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    axes = figure.subplots(2, 3).ravel()
    _loss(axes[0], rows)
    _rate(axes[1], rows, lines)
    _sizes(axes[2], rows, groups)
    _rotation(axes[3], rows, groups)
    _noise(axes[4], rows)
    _curvature(axes[5], rows, lines)
    for axis in axes:
        axis.set_xlabel("step")
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    return figure


def _series(rows: Rows, name: str) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(row["step"], row[name]) for row in rows if name in row and np.isfinite(row[name])]
    return np.array([step for step, _ in pairs]), np.array([value for _, value in pairs], float)


def _draw(axis: Any, rows: Rows, name: str, label: str, colour: str, style: str = "-") -> bool:
    steps, values = _series(rows, name)
    if steps.size:
        marker = "o" if steps.size < 40 else None
        axis.plot(steps, values, style, color=colour, label=label, linewidth=1.3, marker=marker, markersize=3)
    return bool(steps.size)


def _finish(axis: Any, title: str, drawn: bool, why: str = "not measured") -> None:
    axis.set_title(title, fontsize=9, loc="left")
    if not drawn:
        axis.text(
            0.5,
            0.5,
            textwrap.fill(why, 28),
            ha="center",
            va="center",
            transform=axis.transAxes,
            fontsize=8,
            color="0.4",
        )
        axis.set_yticks([])
    elif axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=7, frameon=False, loc="best")


def _positive(axis: Any) -> None:
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in axis.lines] or [np.array([])])
    values = values[np.isfinite(values)]
    if (
        values.size and (values >= 0).all() and (values > 0).any()
    ):  # a rate of zero at the ends of a schedule is left out
        axis.set_yscale("log")


def _loss(axis: Any, rows: Rows) -> None:
    drawn = _draw(axis, rows, "loss", "loss of the batch", COLOURS[0])
    drawn |= _draw(axis, rows, "probe_loss", "probe set", COLOURS[2])
    drawn |= _draw(axis, rows, "mean_loss", "probe set, averaged weights", COLOURS[2], "--")
    _positive(axis)
    _finish(axis, "Loss; gain ratio (right)", drawn)
    other = axis.twinx()
    if _draw(other, rows, "gain_ratio", "gain ratio", COLOURS[4], ":"):
        other.set_ylim(min(-0.5, *other.get_ylim()), 1.1)
        other.tick_params(labelsize=8, colors=COLOURS[4])
        other.spines["top"].set_visible(False)
    else:
        other.set_axis_off()


def _rate(axis: Any, rows: Rows, lines: Sequence[Mapping[str, float | None]]) -> None:
    drawn = _draw(axis, rows, "learning_rate", "learning rate", COLOURS[0])
    names = {
        "batch_sharpness": "batch sharpness",
        "sharpness": "largest eigenvalue",
        "gradient_curvature": "curvature along g",
    }
    for colour, (name, label) in zip(COLOURS[1:], names.items(), strict=False):
        edges = [
            {"step": row["step"], "edge": row["learning_rate"] * line[name] / row[name]}
            for row, line in zip(rows, lines, strict=True)
            if row.get(name, 0) > 0 and line.get(name) is not None and "learning_rate" in row
        ]
        _draw(axis, edges, "edge", f"edge by {label}", colour, "--")
    _positive(axis)
    _finish(axis, "Learning rate and its edges", drawn, "the learning rate is unknown: pass learning_rate=")


def _sizes(axis: Any, rows: Rows, groups: Sequence[str]) -> None:
    drawn = False
    for colour, group in zip(COLOURS, _largest(rows, groups, "update_over_weights"), strict=False):
        drawn |= _draw(axis, rows, f"update_over_weights/{group}", group or "parameters", colour)
    _positive(axis)
    _finish(axis, f"RMS of update over RMS of weights{_left_out(groups)}", drawn)


def _rotation(axis: Any, rows: Rows, groups: Sequence[str]) -> None:
    drawn = False
    for colour, group in zip(COLOURS, _largest(rows, groups, "angle"), strict=False):
        drawn |= _draw(axis, rows, f"angle/{group}", group or "parameters", colour)
        _draw(axis, rows, f"equilibrium_angle/{group}", "", colour, "--")
    _positive(axis)
    _finish(axis, "Angle of a step (radians); equilibrium dashed", drawn)


def _noise(axis: Any, rows: Rows) -> None:
    drawn = _draw(axis, rows, "noise_scale", "noise / signal, means of the last", COLOURS[3])
    _positive(axis)
    _finish(axis, "Noise scale, in batches", drawn)


def _curvature(axis: Any, rows: Rows, lines: Sequence[Mapping[str, float | None]]) -> None:
    names = {"batch_sharpness": "batch sharpness", "sharpness": "largest eigenvalue", "gradient_curvature": "along g"}
    drawn = False
    for colour, (name, label) in zip(COLOURS, names.items(), strict=False):
        drawn |= _draw(axis, rows, name, label, colour)
        edges = [
            {"step": row["step"], "line": line[name]}
            for row, line in zip(rows, lines, strict=True)
            if line.get(name) is not None
        ]
        if drawn and any(name in row for row in rows):
            _draw(axis, edges, "line", f"line of {label}", colour, ":")
    _positive(axis)
    _finish(axis, "Curvature and its lines", drawn)


def _largest(rows: Rows, groups: Sequence[str], name: str) -> list[str]:
    """The groups with the most to see: those with the largest last values."""
    ends = {group: _series(rows, f"{name}/{group}")[1][-1:] for group in groups}
    known = [group for group in groups if ends[group].size]
    return sorted(known, key=lambda group: -float(ends[group][0]))[:SHOWN]


def _left_out(groups: Sequence[str]) -> str:
    return f" ({SHOWN} of {len(groups)} groups)" if len(groups) > SHOWN else ""
