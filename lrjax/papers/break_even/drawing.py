"""Shared parts of the figures of the break-even paper: labels and colours of lanes, seeds with mean and band, marks."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from lrjax.experiment.rundir.lanes import Arrays, Lanes, lane_config, recorded
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.break_even import detectors
from lrjax.papers.break_even.causal_checks import LAST
from lrjax.papers.break_even.claims import CLAIMS
from lrjax.papers.break_even.conditions import PROBE
from lrjax.papers.break_even.recorded import Curve, crossing, curve, mark_of, sizes
from lrjax.papers.claim import NotMeasured
from lrjax.papers.drawn import judged_here, seeds_and_mean
from lrjax.plots.drawing import GREY

SEEDS = "thin lines seeds, thick their mean, bands from the lowest to the highest"
GRID = 25  # places of training accuracy
Read = Callable[[dict[str, Any], Arrays], Curve]


class Drawn(NamedTuple):
    """A curve of one lane as it is drawn: where it stands on the x axis, and its values."""

    at: NDArray[np.float64]
    values: NDArray[np.float64]


def with_curve(run: RunResult, name: str) -> Lanes:
    """Lanes that recorded a number at least twice."""
    return [pair for pair in recorded(run) if _curve(pair[1], name).steps.size > 1]


def _curve(arrays: Arrays, name: str, infinite: bool = False) -> Curve:
    try:
        return curve(arrays, name, infinite=infinite)
    except NotMeasured:
        return Curve(np.zeros(0), np.zeros(0))


def label(run: RunResult, lane: dict[str, Any]) -> str:
    """The rate of a lane, and what else tells it from the others: batch size, momentum, normalisation, a switch."""
    parts = [rf"$\eta={lane['learning_rate']:g}$"]
    for value in (_batch, _momentum, _norm, _way):
        if len({value(run, other) for other in run.lanes}) > 1:
            parts.append(value(run, lane))
    return ", ".join(part for part in parts if part)


def _batch(run: RunResult, lane: dict[str, Any]) -> str:
    return f"$S={sizes(run, lane).batch_size}$"


def _momentum(run: RunResult, lane: dict[str, Any]) -> str:
    return rf"$\beta={lane_config(run, lane).optimizer.get('momentum') or 0:g}$"


def _norm(run: RunResult, lane: dict[str, Any]) -> str:
    return "BN" if lane_config(run, lane).model.get("norm") == "batch" else "no BN"


def _way(run: RunResult, lane: dict[str, Any]) -> str:
    """What a schedule or another order of batches makes of a lane."""
    config = lane_config(run, lane)
    if config.schedule.name == "step_decay":
        return f"×{config.schedule.factor:g} at {config.schedule.milestones[0]}"
    return "other batches" if config.order == "iid" else ""


def colours(run: RunResult) -> dict[str, Any]:
    """A colour a label, from viridis without its pale end, in the order of the rates, large ones first."""
    ordered = sorted(run.lanes, key=lambda lane: (-lane["learning_rate"], sizes(run, lane).batch_size))
    labels = list(dict.fromkeys(label(run, lane) for lane in ordered))
    places = [0.85 * i / max(1, len(labels) - 1) for i in range(len(labels))]
    return {name: matplotlib.colormaps["viridis"](place) for name, place in zip(labels, places, strict=True)}


def plot_curve(axis: Axes, run: RunResult, name: str, *, x: str = "epoch", lanes: Lanes | None = None) -> None:
    """A number of every lane against epochs, steps or training accuracy: seeds, their mean and their band."""
    plot_seeds(axis, run, lanes if lanes is not None else with_curve(run, name), lambda _, own: curve(own, name), x=x)


def plot_seeds(
    axis: Axes,
    run: RunResult,
    lanes: Lanes,
    read: Read,
    *,
    x: str = "epoch",
    dashes: Sequence[float] = (),
    words: str = "",
) -> None:
    """A number of some lanes, of which those with one label are seeds of one setting.

    Args:
        axis: to draw on.
        run: of the lanes.
        lanes: to draw.
        read: (lane, arrays) -> the curve.
        x: "epoch", "step" or "accuracy".
        dashes: of the mean, where an axis has two kinds of curves; solid where it is empty.
        words: added to the label.
    """
    shades = colours(run)
    groups: dict[str, list[Drawn]] = {}
    for lane, arrays in lanes:
        found = read(lane, arrays)
        groups.setdefault(label(run, lane), []).append(Drawn(along(run, lane, arrays, found, x), found.values))
    for text, own in groups.items():
        series = on_one_grid(own) if x == "accuracy" and len(own) > 1 else own
        style: dict[str, Any] = {"linewidth": 1.8, "linestyle": (0, tuple(dashes))}
        style |= {"marker": "o", "markersize": 2.2} if series[0].at.size <= 30 and not dashes else {}
        seeds_and_mean(axis, series, shades[text], text + words, **style)


def on_one_grid(own: Sequence[Drawn]) -> list[Drawn]:
    """Curves of several seeds at the same places, where all of them are; a value counts where its x is first reached.

    Example:
        >>> low, high = on_one_grid([Drawn(np.array([0., 2.]), np.array([0., 2.])), Drawn(np.array([1., 2.]), np.ones(2))])
        >>> low.at.tolist() == high.at.tolist(), low.at[[0, -1]].tolist(), low.values[[0, -1]].tolist()
        (True, [1.0, 2.0], [1.0, 2.0])
    """
    own = [_ascending(each) for each in own]
    low, high = max(each.at.min() for each in own), min(each.at.max() for each in own)
    at = np.linspace(low, max(low, high), GRID)
    return [Drawn(at, np.interp(at, each.at, each.values)) for each in own]


def _ascending(each: Drawn) -> Drawn:
    reached, first = np.unique(np.maximum.accumulate(each.at), return_index=True)
    return Drawn(reached, each.values[first])


def along(run: RunResult, lane: dict[str, Any], arrays: Arrays, found: Curve, x: str) -> Any:
    """x coordinates of a curve on an axis of epochs, steps or training accuracy."""
    if x == "accuracy":
        return np.interp(found.steps, *curve(arrays, "train_accuracy"))
    return found.steps / (sizes(run, lane).steps_per_epoch if x == "epoch" else 1)


def compares_maxima(run: RunResult, name: str) -> bool:
    """Whether a claim of the run's experiment compares the maxima of a number, and asks that they have passed."""
    peak = f"peaked({PROBE}/{name})"
    own = [claim for claim in CLAIMS if run.config["experiment"] in claim.experiments]
    return any(premise.name == peak for claim in own for premise in claim.premises)


def mark_judged(axis: Axes, run: RunResult, name: str, lanes: Lanes) -> str:
    """Marks over epochs what claims judge of a number, and says it in a sentence for the caption; "" where none does.

    Args:
        axis: to draw on.
        run: of the lanes.
        name: of a number of the break_even probe.
        lanes: that are compared.
    """
    if run.config["experiment"] == "E10" and lanes:
        lane = lanes[0][0]
        end = lane["steps"] / sizes(run, lane).steps_per_epoch
        judged_here(axis, (1 - LAST) * end, end, align="right")
        return f"Judged: the mean of the logarithm over the last {LAST:.0%} of a run (shaded). "
    if not compares_maxima(run, name):
        return ""
    _mark_maxima(axis, run, name, lanes)
    return "Triangles: the maximum of each seed after smoothing, which is judged. "


def _mark_maxima(axis: Axes, run: RunResult, name: str, lanes: Lanes) -> None:
    shades, text = colours(run), "judged: smoothed maximum of a seed"
    for lane, arrays in lanes:
        found = curve(arrays, name)
        smooth = detectors.smoothed(found.values)
        top = int(np.argmax(smooth))
        style = dict(color=shades[label(run, lane)], markeredgecolor="black", markeredgewidth=0.7, zorder=6)
        axis.plot(along(run, lane, arrays, found, "epoch")[top], smooth[top], "v", markersize=6, **style)
    if lanes:
        axis.plot([], [], "v", color="white", markeredgecolor="black", markersize=6, label=text)


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


def bars(axis: Axes, run: RunResult, lanes: Lanes, name: str, of: str) -> bool:
    """95 % intervals of each lane over epochs as vertical bars, cut a little beyond the values; whether there were any.

    Args:
        axis: to draw on.
        run: of the lanes.
        lanes: to draw.
        name: of the intervals, `name`_low and `name`_high.
        of: name of the values.
    """
    found = []
    for lane, arrays in lanes:
        low, high = _curve(arrays, f"{name}_low"), _curve(arrays, f"{name}_high", infinite=True)
        steps = np.intersect1d(low.steps, high.steps)
        if steps.size:
            ends = [each.values[np.searchsorted(each.steps, steps)] for each in (low, high)]
            found.append((label(run, lane), along(run, lane, arrays, Curve(steps, steps), "epoch"), *ends))
    if not found:
        return False
    values, shades = np.concatenate([curve(arrays, of).values for _, arrays in lanes]), colours(run)
    limits = 0.6 * values.min(), 1.7 * values.max()
    for text, at, low, high in found:
        axis.vlines(at, np.clip(low, *limits), np.clip(high, *limits), color=shades[text], linewidth=0.7, alpha=0.45)
    return True


def reference(axis: Axes, value: float, text: str) -> None:
    """A grey line with a name."""
    axis.axhline(value, color=GREY, linestyle="--", linewidth=0.9, zorder=0, label=text)
