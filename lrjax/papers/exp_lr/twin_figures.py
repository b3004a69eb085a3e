"""Figures of the twins, how far runs are apart as functions, and of the toy."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from lrjax.experiment.rundir.lanes import Lanes
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.drawn import Series, judged_here, look, seeds_and_mean, thinned
from lrjax.papers.exp_lr.observe import Pair, logit_distance, same_seeds
from lrjax.papers.exp_lr.toy_checks import CONVERGED, HIGH, QUARTERS, TENTHS, returns_by_part
from lrjax.papers.exp_lr.twin_checks import CLOSE, CLOSE_64
from lrjax.papers.premise import in_float64
from lrjax.plots.drawing import BLUE, GREEN, GREY, PURPLE, VERMILLION, Figure, canvas, legend_below, thousands

COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, "black")
SHOWN = 2000  # first steps of the exact toy
SMALLEST = 1e-17  # of a distance on a logarithmic axis

Arms = dict[str, Lanes]
Twins = list[tuple[str, list[str]]]
_WRONG = ("texp_uncorrected", "texp_no_drop", "texp_half_step")


def twins_of(arms: Arms) -> Twins:
    """Each arm that others equal as functions, or not on purpose, with those."""
    found = []
    for prefix in ("", "group_", "layer_", "instance_"):
        for reference, others in (
            ("weight_decay", ("texp", "wd_free", *_WRONG, "one_ulp")),
            ("cosine", ("cosine_wd_free",)),
            ("l2_decay", ("texp_no_drop",)),
        ):
            present = [prefix + name for name in others if prefix + name in arms]
            if prefix + reference in arms and present:
                found.append((prefix + reference, present))
    return found


def distance(run: RunResult, arms: Arms, twins: Twins) -> Figure:
    """Largest difference of logits to a reference arm by step, and of two seeds of that arm."""
    fig, axes = canvas(len(twins), 1, height=3.4 * len(twins), sharex=True)
    exact = run.config["experiment"].startswith("twins")
    for axis, (reference, others) in zip(axes[:, 0], twins, strict=True):
        prefix = reference.removesuffix("weight_decay")
        prefix = "" if prefix == reference else prefix
        axis.set_title(f"{prefix.rstrip('_')} norm" if prefix else "")
        axis.set(xscale="log", yscale="log")  # before there is data, which may have nothing positive
        for place, (name, colour) in enumerate(zip(others, COLOURS, strict=False)):
            series = [_apart(one, other) for one, other in same_seeds(arms[reference], arms[name])]
            seeds_and_mean(axis, series, colour, name.removeprefix(prefix), place, marker="o", markersize=2.5)
        if len(arms[reference]) > 1:
            steps, apart = _apart(*arms[reference][:2])
            label = "two seeds of one arm" if axis is axes[0, 0] else None
            axis.plot(steps, apart, color=GREY, linestyle="--", linewidth=0.9, label=label)
        if exact:
            wide = in_float64(run)
            most = CLOSE_64 if wide else CLOSE
            text = f"judged: every step at most {most:g}"
            axis.axhline(most, color="black", linestyle="-.", linewidth=0.8, label=text)
        axis.set_ylabel(f"largest difference of\nlogits to {reference.removeprefix(prefix)}")
    axes[-1, 0].set_xlabel("step")
    legend_below(fig, 2)
    return Figure("function_distance", "Distance of the twins as functions", _told(arms, exact), fig)


def _told(arms: Arms, exact: bool) -> str:
    shared = (
        "On fixed test images, at each measurement. Thin lines are seeds, thick lines their mean (of logarithms), bands go "
        f"from the lowest seed to the highest; differences of 0 are drawn at {SMALLEST:g}."
    )
    if not exact:
        return (
            f"{shared} Equal in exact arithmetic; in float32 rounding grows with training (a ReLU that opens one step earlier "
            "is enough), so that late differences are those of two seeds. Nothing is judged here."
            + (" texp_no_drop is wrong on purpose." if "texp_no_drop" in arms else "")
        )
    return (
        f"{shared} Twins are judged at every step, against the horizontal line and a tenth of the wrong variant; "
        "one_ulp is the run with weight decay at a rate that differs by one rounding, and the other arms are wrong on purpose."
    )


def _apart(one: Pair, other: Pair) -> Series:
    steps, apart = logit_distance(one, other)
    return steps[steps > 0], np.maximum(apart[steps > 0], SMALLEST)


def toy(arms: Arms) -> Figure:
    """Loss and norm of the exact toy, how often its loss returns, and the angle of the noisy one."""
    fig, axes = canvas(4, 1, height=9.6)
    exact = {name: lanes for name, lanes in arms.items() if name.startswith("exact")}
    noisy = {name: lanes for name, lanes in arms.items() if name.startswith("noisy")}
    loss, norm, returned, angle = axes[:, 0]
    loss.set_yscale("log")
    for place, (name, colour) in enumerate(zip(exact, COLOURS, strict=False)):
        arrays = exact[name][0][1]
        steps, values = thinned(arrays, "step/loss", until=SHOWN)
        loss.plot(steps, np.maximum(values, 1e-20), color=colour, label=name, **_thin(place))
        norm.plot(*thinned(arrays, "step/log10_norm", until=SHOWN), color=colour, **_thin(place))
    loss.axhline(HIGH, color="black", linestyle="-.", linewidth=0.8, label=f"{HIGH:g}: has left the minimum")
    loss.axhline(CONVERGED, color=GREY, linestyle=":", linewidth=0.9, label=f"{CONVERGED:g}: has converged")
    loss.set_ylabel("loss x²/(x²+y²)")
    norm.set(ylabel="log10 |w|", xlabel="step")
    _returns(returned, exact)
    angle.set_yscale("log")
    for place, (name, colour) in enumerate(zip(noisy, COLOURS[2:], strict=False)):
        series = [(arrays["target_angle/step"], arrays["target_angle/angle"]) for _, arrays in noisy[name]]
        seeds_and_mean(angle, series, colour, name, place)
    ends = [float(arrays["target_angle/step"][-1]) for lanes in noisy.values() for _, arrays in lanes]
    if ends:
        for part in (0, QUARTERS - 1):
            judged_here(angle, part * max(ends) / QUARTERS, (part + 1) * max(ends) / QUARTERS)
    angle.set(ylabel="angle to the target (rad)", xlabel="step")
    for axis in (loss, norm, angle):
        thousands(axis)
    legend_below(fig, 3)
    caption = (
        f"First and second: one input, exact gradients, one seed, the first {SHOWN} steps, at most 500 points a lane: with "
        "weight decay the weights shrink until a step overshoots, again and again. Third, judged: how often the loss returns "
        f"above {HIGH:g} in each tenth of the run; also judged is the last loss without weight decay. Last: a halfspace "
        "learned from batches of 8 of 65,536 examples; judged are medians of the shaded quarters. Thin lines are seeds, thick "
        "lines their mean, bands go from the lowest seed to the highest."
    )
    return Figure("toy", "Normalisation and weight decay in one linear unit", caption, fig)


def _thin(place: int) -> dict[str, Any]:
    style = look(place)
    return style | {"linewidth": style["linewidth"] / 2}


def _returns(axis: Axes, exact: Arms) -> None:
    tenths: NDArray[np.int64] = np.arange(1, TENTHS + 1)
    for place, (name, colour) in enumerate(zip(exact, COLOURS, strict=False)):
        series = [(tenths, returns_by_part(arrays)) for _, arrays in exact[name]]
        seeds_and_mean(axis, series, colour, name, place, marker="o", markersize=3)
    judged_here(axis, 0.5, TENTHS + 0.5)
    axis.set(xlabel="tenth of the run", ylabel="returns of the loss", xticks=tenths)
    axis.set_ylim(bottom=min(-1.0, axis.get_ylim()[0]))
