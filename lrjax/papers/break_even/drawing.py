"""Shared parts of the figures of the break-even paper: labels and colours of lanes, accuracy marks."""

from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from lrjax.experiment.rundir.lanes import Arrays, Lanes, lane_config, recorded
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.break_even.recorded import Curve, crossing, curve, mark_of, sizes
from lrjax.papers.claim import NotMeasured
from lrjax.plots.drawing import GREY


def with_curve(run: RunResult, name: str) -> Lanes:
    """Lanes that recorded a number at least twice."""
    return [pair for pair in recorded(run) if _curve(pair[1], name).steps.size > 1]


def _curve(arrays: Arrays, name: str) -> Curve:
    try:
        return curve(arrays, name)
    except NotMeasured:
        return Curve(np.zeros(0), np.zeros(0))


def label(run: RunResult, lane: dict[str, Any]) -> str:
    """The rate of a lane, and what else tells it from the others: batch size, momentum, normalisation."""
    parts = [rf"$\eta={lane['learning_rate']:g}$"]
    for value in (_batch, _momentum, _norm):
        if len({value(run, other) for other in run.lanes}) > 1:
            parts.append(value(run, lane))
    return ", ".join(part for part in parts if part)


def _batch(run: RunResult, lane: dict[str, Any]) -> str:
    return f"$S={sizes(run, lane).batch_size}$"


def _momentum(run: RunResult, lane: dict[str, Any]) -> str:
    return rf"$\beta={lane_config(run, lane).optimizer.get('momentum') or 0:g}$"


def _norm(run: RunResult, lane: dict[str, Any]) -> str:
    return "BN" if lane_config(run, lane).model.get("norm") == "batch" else "no BN"


def colours(run: RunResult) -> dict[str, Any]:
    """A colour a label, from viridis without its pale end, in the order of the rates, large ones first."""
    ordered = sorted(run.lanes, key=lambda lane: (-lane["learning_rate"], sizes(run, lane).batch_size))
    labels = list(dict.fromkeys(label(run, lane) for lane in ordered))
    places = [0.85 * i / max(1, len(labels) - 1) for i in range(len(labels))]
    return {name: matplotlib.colormaps["viridis"](place) for name, place in zip(labels, places, strict=True)}


def plot_curve(axis: Axes, run: RunResult, name: str, *, x: str = "epoch", lanes: Lanes | None = None) -> None:
    """A number of every lane against epochs, steps or training accuracy; seeds share a colour."""
    shades, seen = colours(run), set()
    for lane, arrays in lanes if lanes is not None else with_curve(run, name):
        found, text = curve(arrays, name), label(run, lane)
        at = along(run, lane, arrays, found, x)
        own = None if text in seen else text
        seen.add(text)
        axis.plot(at, found.values, "o-", color=shades[text], label=own, markersize=2.5, linewidth=1.0, alpha=0.9)


def along(run: RunResult, lane: dict[str, Any], arrays: Arrays, found: Curve, x: str) -> Any:
    """x coordinates of a curve on an axis of epochs, steps or training accuracy."""
    if x == "accuracy":
        return np.interp(found.steps, *curve(arrays, "train_accuracy"))
    return found.steps / (sizes(run, lane).steps_per_epoch if x == "epoch" else 1)


def mark_accuracy(axis: Axes, run: RunResult, lanes: Lanes) -> None:
    """Dotted lines where each lane first has the marked training accuracy."""
    shades = colours(run)
    for lane, arrays in lanes:
        try:
            found = crossing(arrays, mark_of(run))
        except NotMeasured:
            continue
        if found.step is not None:
            epoch = found.step / sizes(run, lane).steps_per_epoch
            axis.axvline(epoch, color=shades[label(run, lane)], linestyle=":", linewidth=0.9, zorder=0)


def reference(axis: Axes, value: float, text: str) -> None:
    """A grey line with a name."""
    axis.axhline(value, color=GREY, linestyle="--", linewidth=0.9, zorder=0, label=text)
