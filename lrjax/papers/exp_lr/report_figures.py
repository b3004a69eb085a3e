"""The figures of a run: the arms over each other in accuracy, rate, norm and angle; their distance as functions; the toy."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from lrjax.experiment.rundir.lanes import Arrays, Lanes
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.drawn import Draw, drawn
from lrjax.papers.exp_lr.observe import arms_of, log10_rates, logit_distance, phases, settings, smooth
from lrjax.plots.drawing import (
    BLUE,
    GREEN,
    GREY,
    PURPLE,
    VERMILLION,
    Figure,
    canvas,
    envelope,
    legend_below,
    thousands,
)
from lrjax.transforms.equilibrium import angular_update
from lrjax.transforms.texp import texp_phases
from lrjax.transforms.texp_tables import rates_of

COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, "black")
# log10 of the learning rate at epochs of the paper's run, read off the published plot (figure 2): 3e12, 4.5e11, 2e12, ...
PUBLISHED = ((79, 12.48), (80, 11.65), (120 - 1 / 391, 12.3), (120, 11.3), (300, 11.6))
PAPER_EPOCH = 391
SHOWN = 2000  # first steps of the exact toy
STRETCHES = 60  # means shown of a series with a value a step

Arms = dict[str, Lanes]


def figures(run: RunResult) -> list[Figure]:
    """The figures that a run has the arrays for."""
    arms = arms_of(run, "step/loss")
    if not arms:
        return []
    if any(name.startswith("exact") for name in arms):
        return drawn([lambda _: _toy(arms)], run)
    draws: list[Draw] = [
        lambda _: _accuracies(arms),
        lambda _: _rates(run, arms),
        lambda _: _norms(arms),
        lambda _: _angles(run, arms),
    ]
    twins = _twins(arms)
    if len(twins) > 1:  # of several norms, whose other curves differ by the norm alone
        return drawn([lambda _: _distance(arms, twins)], run)
    return drawn([*draws, lambda _: _distance(arms, twins)] if twins else draws, run)


def _colours(arms: Arms) -> dict[str, str]:
    return dict(zip(arms, COLOURS, strict=False))


def _lines(axis: Axes, arms: Arms, series: Any, **style: Any) -> None:
    """series(arrays) -> (x, y) of every lane, one colour an arm, the first lane labelled."""
    for name, colour in _colours(arms).items():
        for place, (_, arrays) in enumerate(arms[name]):
            x, y = series(arrays)
            label = name if place == 0 else None
            axis.plot(x, y, color=colour, alpha=0.85, linewidth=1.0, label=label, **style)


def _stretched(arrays: Arrays, name: str) -> tuple[Any, Any]:
    width = max(1, len(arrays[name]) // STRETCHES)
    y = smooth(arrays[name], width)
    return (np.arange(len(y)) + 0.5) * width, y


def _mark_phases(axis: Axes, arms: Arms) -> None:
    found = [phases(lanes[0][1]) for lanes in arms.values()]
    starts = {start for own in found if len(own) <= 4 for start, _ in own}  # not those of a cosine, one a step
    for start in sorted(starts - {0})[:4]:
        axis.axvline(start, color=GREY, linewidth=0.7, linestyle=":", zorder=0)


def _accuracies(arms: Arms) -> Figure:
    fig, axes = canvas(2, 1, height=5.4, sharex=True)
    _lines(axes[0, 0], arms, lambda a: _stretched(a, "step/accuracy"))
    _lines(axes[1, 0], arms, lambda a: (a["accuracy/step"], a["accuracy/test_accuracy"]), marker="o", markersize=2.5)
    axes[0, 0].set_ylabel("train accuracy")
    axes[1, 0].set_ylabel("test accuracy")
    axes[1, 0].set_xlabel("step")
    _finish(fig, axes[:, 0], arms)
    caption = (
        "A line a seed. Train accuracy is that of the training batches, averaged over stretches; dotted lines: where rate or "
        "weight decay drops."
    )
    return Figure("accuracy", "Accuracy of the arms over each other", caption, fig)


def _finish(fig: Any, axes: Any, arms: Arms) -> None:
    for axis in axes:
        _mark_phases(axis, arms)
        thousands(axis)
    legend_below(fig, 3)


def _rates(run: RunResult, arms: Arms) -> Figure:
    fig, axes = canvas(2, 1, height=5.4)

    def series(arrays: Arrays) -> tuple[Any, Any]:
        rates = log10_rates(arrays)
        keep = np.isfinite(rates)
        return np.flatnonzero(keep), rates[keep]

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
        "Above: the rates this run used (of arms with weight decay, their schedule). Below: the paper's figure 2 by its "
        "formula at rate 0.1, weight decay 5e-4, momentum 0.9 and 391 steps an epoch, beside values read off the published "
        "plot."
    )
    return Figure("learning_rate", "The learning rate on a log axis", caption, fig)


def _norms(arms: Arms) -> Figure:
    fig, axes = canvas(2, 1, height=5.4, sharex=True)
    _lines(axes[0, 0], arms, lambda a: envelope(np.arange(len(a["step/log10_norm"])), 2 * a["step/log10_norm"]))
    _lines(axes[1, 0], arms, lambda a: _stretched(a, "step/log10_effective_rate"))
    axes[0, 0].set_ylabel("log10 |w|²")
    axes[1, 0].set_ylabel("log10 (rate / |w|²)")
    axes[1, 0].set_xlabel("step")
    _finish(fig, axes[:, 0], arms)
    caption = (
        "Above: squared length of all trained weights, in each arm's own representation. Below: the effective rate, which "
        "twins share."
    )
    return Figure("norm", "Length of the weights and effective rate", caption, fig)


def _angles(run: RunResult, arms: Arms) -> Figure:
    fig, axes = canvas(2, 1, height=5.4, sharex=True)
    _lines(axes[0, 0], arms, lambda a: _stretched(a, "step/angle"))
    _lines(axes[1, 0], arms, _turned, marker="o", markersize=2.5)
    lane = next(iter(arms.values()))[0][0]
    values = settings(run, lane)
    if values.l2:
        expected = float(angular_update(*values))
        label = "√(2ηλ/(1+γ)) of the first phase"
        axes[0, 0].axhline(expected, color=GREY, linewidth=0.8, linestyle="--", label=label)
    for axis in axes[:, 0]:
        axis.set_yscale("log")
    axes[0, 0].set_ylabel("angle of a step (rad)")
    axes[1, 0].set_ylabel("angle since the last\nmeasurement (rad)")
    axes[1, 0].set_xlabel("step")
    _finish(fig, axes[:, 0], arms)
    return Figure("angle", "How fast the weights turn", "All trained weights as one vector; a line a seed.", fig)


def _turned(arrays: Arrays) -> tuple[Any, Any]:
    step, angle = arrays["direction/step"], arrays["direction/angle"]
    return step[angle > 0], angle[angle > 0]


def _twins(arms: Arms) -> list[tuple[str, list[str]]]:
    """Each arm that others equal as functions, or not on purpose, with those."""
    found = []
    for prefix in ("", "group_", "layer_", "instance_"):
        for reference, others in (
            ("weight_decay", ("texp", "wd_free", "texp_uncorrected", "texp_no_drop", "texp_half_step", "one_ulp")),
            ("cosine", ("cosine_wd_free",)),
            ("l2_decay", ("texp_no_drop",)),
        ):
            present = [prefix + name for name in others if prefix + name in arms]
            if prefix + reference in arms and present:
                found.append((prefix + reference, present))
    return found


def _distance(arms: Arms, twins: list[tuple[str, list[str]]]) -> Figure:
    fig, axes = canvas(len(twins), 1, height=3.2 * len(twins), sharex=True)
    for axis, (reference, others) in zip(axes[:, 0], twins, strict=True):
        axis.set(xscale="log", yscale="log")  # before there is data, which may have nothing positive
        for name, colour in zip(others, COLOURS, strict=False):
            for place, ((_, one), (_, other)) in enumerate(zip(arms[reference], arms[name], strict=True)):
                steps, distance = logit_distance(one, other)
                shown = steps > 0
                axis.plot(
                    steps[shown], distance[shown], "o-", color=colour, markersize=2.5, alpha=0.85,
                    label=f"{name} against {reference}" if place == 0 else None,
                )  # fmt: skip
        seeds = [arrays for _, arrays in arms[reference]]
        if len(seeds) > 1:
            steps, distance = logit_distance(seeds[0], seeds[1])
            label = "two seeds of one arm" if axis is axes[0, 0] else None
            axis.plot(steps[steps > 0], distance[steps > 0], color=GREY, linestyle="--", label=label)
        axis.set_ylabel("largest difference of logits")
    axes[-1, 0].set_xlabel("step")
    legend_below(fig, 2)
    caption = (
        "On the first 256 test images. Equal in exact arithmetic; in float32 rounding grows with training (a ReLU that opens "
        "one step earlier is enough), so that late differences are those of two seeds. one_ulp: the run with weight decay at a "
        "rate that differs by one rounding."
    )
    return Figure("function_distance", "Distance of the twins as functions", caption, fig)


def _toy(arms: Arms) -> Figure:
    fig, axes = canvas(3, 1, height=7.2)
    exact = {name: lanes for name, lanes in arms.items() if name.startswith("exact")}
    noisy = {name: lanes for name, lanes in arms.items() if name.startswith("noisy")}
    _lines(
        axes[0, 0],
        {name: lanes[:1] for name, lanes in exact.items()},
        lambda a: (np.arange(len(a["step/loss"][:SHOWN])), np.maximum(a["step/loss"][:SHOWN], 1e-20)),
    )
    axes[0, 0].set_yscale("log")
    axes[0, 0].set_ylabel("loss x²/(x²+y²)")
    norms = {name: lanes[:1] for name, lanes in exact.items()}
    _lines(axes[1, 0], norms, lambda a: (np.arange(len(a["step/loss"][:SHOWN])), a["step/log10_norm"][:SHOWN]))
    axes[1, 0].set_ylabel("log10 |w|")
    names = dict(zip(noisy, COLOURS[2:], strict=False))
    for name, colour in names.items():
        for place, (_, arrays) in enumerate(noisy[name]):
            label = name if place == 0 else None
            axes[2, 0].plot(
                arrays["target_angle/step"],
                arrays["target_angle/angle"],
                color=colour,
                alpha=0.7,
                linewidth=0.9,
                label=label,
            )
    axes[2, 0].set_yscale("log")
    axes[2, 0].set_ylabel("angle to the target (rad)")
    axes[2, 0].set_xlabel("step")
    for axis in axes[:, 0]:
        thousands(axis)
    legend_below(fig, 3)
    caption = (
        f"Above: one input, exact gradients, the first {SHOWN} steps: with weight decay the weights shrink until a step "
        "overshoots, again and again. "
        "Below: a halfspace learned from batches of 8 of 65,536 examples, every seed."
    )
    return Figure("toy", "Normalisation and weight decay in one linear unit", caption, fig)
