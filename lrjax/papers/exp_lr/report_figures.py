"""The figures of a run: the arms over each other in accuracy, rate, norm and angle; see also `twin_figures`."""

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from lrjax.experiment.rundir.lanes import Arrays, Lanes
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.experiment.rundir.reading import NotMeasured, entries
from lrjax.papers.drawn import Draw, Series, averaged, drawn, judged_here, seeds_and_mean, thinned
from lrjax.papers.exp_lr.norm_checks import POWER, after_drop
from lrjax.papers.exp_lr.observe import RATE, arms_of, phases, same_seeds, settings
from lrjax.papers.exp_lr.twin_figures import COLOURS, distance, toy, twins_of
from lrjax.plots.drawing import GREY, Figure, canvas, legend_below, thousands
from lrjax.transforms.equilibrium import angular_update, time_to_equilibrium
from lrjax.transforms.texp import texp_phases
from lrjax.transforms.texp_tables import rates_of

# log10 of the learning rate at epochs of the paper's run, read off the published plot (figure 2): 3e12, 4.5e11, 2e12, ...
PUBLISHED = ((79, 12.48), (80, 11.65), (120 - 1 / 391, 12.3), (120, 11.3), (300, 11.6))
# Test accuracies read off plots in the authors' blog: experiment -> (text, level)
REPORTED = {"E1": (("paper: 88 to 90 %", 0.89),), "E2": (("paper: 94.9 %", 0.949),)}
AT_THE_END = ("E2", "E3", "E5", "E6")  # experiments whose accuracies are judged at the last measurement
PAPER_EPOCH = 391
SEEDS = "Thin lines are seeds, thick lines their mean, bands go from the lowest seed to the highest"

Arms = dict[str, Lanes]


def figures(run: RunResult) -> list[Figure]:
    """The figures that a run has the arrays for."""
    arms = arms_of(run, "step/loss")
    if not arms:
        return []
    if any(name.startswith("exact") for name in arms):
        return drawn([lambda _: toy(arms)], run)
    draws: list[Draw] = [
        lambda _: _accuracies(run, arms),
        lambda _: _rates(arms),
        lambda _: _norms(run, arms),
        lambda _: _angles(run, arms),
    ]
    twins = twins_of(arms)
    if len(twins) > 1:  # of several norms, whose other curves differ by the norm alone
        return drawn([lambda _: distance(run, arms, twins)], run)
    draws += [lambda _: distance(run, arms, twins)] if twins else []
    draws += [lambda _: _power(run, arms)] if {"low", "high"} <= set(arms) else []
    return drawn(draws, run)


def _lines(axis: Axes, arms: Arms, series: Callable[[Arrays], Series], **style: Any) -> None:
    """series(arrays) -> (x, y) of every lane; one colour, width and pattern of dashes an arm."""
    for place, (name, colour) in enumerate(zip(arms, COLOURS, strict=False)):
        found = [series(arrays) for _, arrays in arms[name]]
        seeds_and_mean(axis, found, colour, name, place, **style)


def _mark_phases(axis: Axes, arms: Arms) -> None:
    found = [phases(lanes[0][1]) for lanes in arms.values()]
    starts = {start for own in found if len(own) <= 4 for start, _ in own}  # not those of a cosine, one a step
    for start in sorted(starts - {0})[:4]:
        axis.axvline(start, color=GREY, linewidth=0.7, linestyle=":", zorder=0)


def _finish(fig: Any, axes: Any, arms: Arms) -> None:
    for axis in axes:
        _mark_phases(axis, arms)
        thousands(axis)
    legend_below(fig, 3)


def _steps(arms: Arms) -> int:
    return max(entries(arrays, "step/loss") for lanes in arms.values() for _, arrays in lanes)


def _measured(name: str) -> Callable[[Arrays], Series]:
    return lambda arrays: (arrays[f"{name.split('/')[0]}/step"], arrays[name])


def _accuracies(run: RunResult, arms: Arms) -> Figure:
    fig, axes = canvas(2, 1, height=5.4, sharex=True)
    train, test = axes[:, 0]
    _lines(train, arms, lambda a: averaged(a, "step/accuracy"))
    _lines(test, arms, _measured("accuracy/test_accuracy"), marker="o", markersize=2.5)
    train.set_ylabel("train accuracy")
    test.set_ylabel("test accuracy")
    test.set_xlabel("step")
    experiment, steps = run.config["experiment"], _steps(arms)
    told = ""
    if experiment == "E1":
        judged_here(test, steps / 2, steps)
        told = " Judged: means over the second half (shaded)."
    if experiment in AT_THE_END:
        judged_here(test, steps, align="right")
        told = " Judged: the last measurement."
    if experiment == "E4":
        told = _mark_gains(run, train, arms)
    for text, level in REPORTED.get(experiment, ()) if run.config["scale"] in ("medium", "paper") else ():
        test.axhline(level, color="black", linestyle="-.", linewidth=0.8, label=f"{text} (second-hand)")
    _finish(fig, axes[:, 0], arms)
    caption = (
        f"{SEEDS}. Train accuracy is that of the training batches, by means of at most 120 stretches; dotted vertical lines: "
        f"where rate or weight decay drops.{told}"
    )
    return Figure("accuracy", "Accuracy of the arms over each other", caption, fig)


def _mark_gains(run: RunResult, axis: Axes, arms: Arms) -> str:
    """Shades what `checks.drop_passes` compares: until the rate has grown tenfold again, and the second half of a phase."""
    lane, arrays = arms["drops"][0] if "drops" in arms else next(iter(arms.values()))[0]
    regrowth = math.ceil(math.log(10) * time_to_equilibrium(*settings(run, lane)))
    for start, stop in phases(arrays)[1:4]:
        judged_here(axis, start, min(start + regrowth, (start + stop + 1) // 2), "early")
        judged_here(axis, (start + stop) // 2, stop, "late")
    return " Judged: the gain of drops over no drops in the shaded stretches, early and late in each phase."


def _rates(arms: Arms) -> Figure:
    fig, axes = canvas(2, 1, height=5.4)

    def series(arrays: Arrays) -> Series:
        used = entries(arrays, RATE) > 0
        steps, values = thinned(arrays, RATE if used else "step/learning_rate")
        with np.errstate(divide="ignore"):
            rates = values if used else np.log10(values)
        return steps[np.isfinite(rates)], rates[np.isfinite(rates)]

    _lines(axes[0, 0], {name: lanes[:1] for name, lanes in arms.items()}, series)
    axes[0, 0].set_ylabel("log10 learning rate")
    axes[0, 0].set_xlabel("step")
    _mark_phases(axes[0, 0], arms)
    thousands(axes[0, 0])
    plan = texp_phases((80 * PAPER_EPOCH, 120 * PAPER_EPOCH), (0.1, 0.01, 0.001), 5e-4, 0.9)
    log_lr, _ = rates_of(plan, 300 * PAPER_EPOCH + 1)
    every = slice(None, None, 97)
    epochs = np.arange(log_lr.size) / PAPER_EPOCH
    axes[1, 0].plot(
        epochs[every], log_lr[every] / np.log(10), color=GREY, label="TEXP of the paper's setting, by formula"
    )
    points = np.array(PUBLISHED)
    axes[1, 0].plot(points[:, 0], points[:, 1], "x", color="black", label="read off the published plot")
    axes[1, 0].set_xlabel("epoch of the paper's run")
    axes[1, 0].set_ylabel("log10 learning rate")
    legend_below(fig, 2)
    caption = (
        "Above: the rates this run used (of arms with weight decay, their schedule), at most 500 points a lane; they are the "
        "same in every seed. Below: the paper's figure 2 by its formula at rate 0.1, weight decay 5e-4, momentum 0.9 and 391 "
        "steps an epoch, beside values read off the published plot."
    )
    return Figure("learning_rate", "The learning rate on a log axis", caption, fig)


def _squared(arrays: Arrays) -> Series:
    steps, log10_norm = averaged(arrays, "step/log10_norm")
    return steps, 2 * log10_norm


def _norms(run: RunResult, arms: Arms) -> Figure:
    fig, axes = canvas(2, 1, height=5.4, sharex=True)
    _lines(axes[0, 0], arms, _squared)
    _lines(axes[1, 0], arms, lambda a: averaged(a, "step/log10_effective_rate"))
    axes[0, 0].set_ylabel("log10 |w|²")
    axes[1, 0].set_ylabel("log10 (rate / |w|²)")
    axes[1, 0].set_xlabel("step")
    told, steps = "", _steps(arms)
    if run.config["experiment"] == "E1":
        judged_here(axes[0, 0], steps / 2, steps)
        told = " Judged: the slope of texp over the second half (shaded), beside that of its rate."
    if run.config["experiment"] == "E2" and "weight_decay" in arms:
        with suppress(NotMeasured):  # no drop, or a phase too short to be judged
            judged_here(axes[0, 0], *after_drop(run, *arms["weight_decay"][0]))
            told = (
                " Judged: the slope of weight_decay over a quarter of an e-folding after the first drop, or to the end of the "
                "phase (shaded)."
            )
    _finish(fig, axes[:, 0], arms)
    caption = (
        f"{SEEDS}; means of at most 120 stretches. Above: squared length of all trained weights, in each arm's own "
        f"representation. Below: the effective rate, which twins share.{told}"
    )
    return Figure("norm", "Length of the weights and effective rate", caption, fig)


def _power(run: RunResult, arms: Arms) -> Figure:
    """The power of E8 by step: 1/4 is the theory's."""
    fig, axes = canvas(height=3.4)
    axis, found = axes[0, 0], []
    for (low, short), (high, long) in same_seeds(arms["low"], arms["high"]):
        (one, other) = (settings(run, lane) for lane in (low, high))
        ratio = math.log10(other.learning_rate / other.l2 * one.l2 / one.learning_rate)
        steps, norms = averaged(long, "step/log10_norm")
        found.append((steps, (norms - averaged(short, "step/log10_norm")[1]) / ratio))
    seeds_and_mean(axis, found, COLOURS[0], "power of η/λ in |w|", 1)
    axis.axhline(0.25, color="black", linestyle="-.", linewidth=0.9, label="theory: 1/4")
    axis.axhspan(0.25 - POWER, 0.25 + POWER, color="black", alpha=0.1, linewidth=0, label="margin of the claim")
    steps = _steps(arms)
    judged_here(axis, steps / 2, steps)
    axis.set(xlabel="step", ylabel="log |w| ratio over log η/λ ratio")
    _finish(fig, [axis], arms)
    caption = (
        f"{SEEDS}; means of at most 120 stretches. The weights begin at the same length, a power of 0. Judged: the mean over "
        "the second half (shaded)."
    )
    return Figure("power", "Length of the weights against rate over weight decay", caption, fig)


def _angles(run: RunResult, arms: Arms) -> Figure:
    fig, axes = canvas(2, 1, height=5.4, sharex=True)
    for axis in axes[:, 0]:
        axis.set_yscale("log")
    _lines(axes[0, 0], arms, lambda a: averaged(a, "step/angle"))
    _lines(axes[1, 0], arms, _turned, marker="o", markersize=2.5)
    lane = next(iter(arms.values()))[0][0]
    values = settings(run, lane)
    if values.l2:
        expected = float(angular_update(*values))
        label = "√(2ηλ/(1+γ)) of the first phase"
        axes[0, 0].axhline(expected, color=GREY, linewidth=0.8, linestyle="--", label=label)
    axes[0, 0].set_ylabel("angle of a step (rad)")
    axes[1, 0].set_ylabel("angle since the last\nmeasurement (rad)")
    axes[1, 0].set_xlabel("step")
    told, steps = "", _steps(arms)
    if run.config["experiment"] == "E1":
        judged_here(axes[0, 0], steps / 2, steps)
        told = " Judged: the root mean square of weight_decay over the second half (shaded)."
    if run.config["experiment"] == "E2":
        edges = phases(next(iter(arms.values()))[0][1])
        for start, stop in edges[:3]:
            judged_here(axes[1, 0], start, stop, "judged" if stop - start > steps / 8 else "")
        told = " Judged: means over each phase, below (shaded)."
    _finish(fig, axes[:, 0], arms)
    return Figure("angle", "How fast the weights turn", f"All trained weights as one vector. {SEEDS}.{told}", fig)


def _turned(arrays: Arrays) -> Series:
    step, angle = arrays["direction/step"], arrays["direction/angle"]
    return step[angle > 0], angle[angle > 0]
