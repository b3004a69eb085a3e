"""Figures of the PS10 runs: accuracy by subset through the stages, and memorised noise."""

import numpy as np
from matplotlib.axes import Axes

from lrjax.experiment.rundir.lanes import Lanes, by_arm, recorded
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.drawn import Draw, judged_here
from lrjax.papers.lr_decay.checks import COMPLEX
from lrjax.papers.lr_decay.drawing import SEEDS, colours, mark_decays, mark_judged, name_of, panels
from lrjax.papers.lr_decay.noise_checks import GIVEN, LEVEL
from lrjax.papers.lr_decay.observe import decays
from lrjax.plots.drawing import BLUE, GREEN, GREY, Figure, canvas, legend_below

SUBSETS = {"simple": "simple patterns", "complex": "complex patterns", "all": "all"}
KINDS = {"label": "wrong labels", "point": "random points among complex patterns", "joint": "random points"}
_NOISY = {"decay": "black", "constant_1": BLUE, "constant_2": GREEN}


def accuracy_by_subset(run: RunResult) -> Figure | None:
    """Test accuracy on simple, complex and all patterns through the stages, an arm a colour."""
    arms = by_arm(recorded(run, "subsets/test_complex"))
    if not arms:
        return None
    fig, axes = panels({f"subsets/test_{k}": label for k, label in SUBSETS.items()}, arms)
    decayed = arms.get("decay", next(iter(arms.values())))
    for axis in axes[:, 0]:
        mark_decays(axis, decayed)
    mark_judged(axes[0, 0], decayed, stage_1=True)
    legend_below(fig, 2)
    caption = (
        f"Accuracy on test samples of the same patterns, without noise. {SEEDS} Dotted lines are the decays. Up to the first "
        "decay the decayed run is the constant one at its first rate. What is judged are the values at the end of stage 1 and "
        "of training, and the best before and after the first decay."
    )
    return Figure("accuracy_by_subset", "Simple patterns first, complex ones after the decay", caption, fig)


def gain_by_stage(run: RunResult) -> Figure | None:
    """Accuracy at the end of each stage of the decayed run, and of the constant runs at the same steps."""
    arms = by_arm(recorded(run, "subsets/test_complex"))
    if "decay" not in arms:
        return None
    last = [*decays(arms["decay"][0][1]), int(arms["decay"][0][0]["steps"])]
    fig, axes = canvas(1, 2, height=3.2, sharey=True)
    shades = colours(list(arms))
    for axis, kind in zip(axes[0], ("simple", "complex"), strict=True):
        for place, (arm, own) in enumerate(arms.items()):
            rows = []
            for _, arrays in own:
                steps = np.asarray(arrays["subsets/step"])
                rows.append([arrays[f"subsets/test_{kind}"][np.flatnonzero(steps <= end)[-1]] for end in last])
            x = np.arange(len(last)) + 0.14 * (place - 1.5)
            axis.vlines(x, np.min(rows, axis=0), np.max(rows, axis=0), color=shades[arm], linewidth=3, alpha=0.25)
            axis.plot(x, np.mean(rows, axis=0), "o", color=shades[arm], markersize=5, label=name_of(own[0][0]))
            for row in rows:
                axis.plot(x, row, "_", color=shades[arm], alpha=0.8)
        axis.set(xlabel="stage", title=SUBSETS[kind])
        axis.set_xticks(range(len(last)), [str(i + 1) for i in range(len(last))])
    for stage in (0, len(last) - 1):
        axes[0, 1].annotate(
            "judged", (stage, 0.01), xycoords=axes[0, 1].get_xaxis_transform(), ha="center", fontsize=8.5
        )
    axes[0, 0].set_ylabel("test accuracy at its end")
    legend_below(fig, 2)
    caption = (
        "Means of seeds as dots, seeds as dashes, bars from the lowest to the highest, at the steps at which the stages of the "
        "decayed run end. What is judged is the rise of the decayed run from the first stage to the last."
    )
    return Figure("gain_by_stage", "What each stage adds", caption, fig)


def _noisy(axis: Axes, own: Lanes, colour: str, width: float) -> None:
    """Noise memorised against complex accuracy: seeds thinly with a dot at the end, their mean at equal steps thickly."""
    pairs = [(np.asarray(arrays[COMPLEX], float), np.asarray(arrays[GIVEN], float)) for _, arrays in own]
    for x, y in pairs:
        axis.plot(x, y, color=colour, alpha=0.45, linewidth=0.6)
        axis.plot(x[-1:], y[-1:], "o", color=colour, markersize=3.5)
    shortest = min(len(x) for x, _ in pairs)
    mean = np.mean([(x[:shortest], y[:shortest]) for x, y in pairs], axis=0)
    lane = own[0][0]
    label = "decay" if lane["arm"].endswith("decay") else f"constant {lane['learning_rate']:g}"
    axis.plot(*mean, color=colour, linewidth=width, label=label)


def memorised_noise(run: RunResult) -> Figure | None:
    """Accuracy on noise against complex test accuracy: both through training, one panel a kind of noise."""
    arms = by_arm(recorded(run, GIVEN))
    kinds = [k for k in KINDS if any(arm.startswith(k) for arm in arms)]
    if not kinds:
        return None
    fig, axes = canvas(len(kinds), 1, height=2.4 * len(kinds) + 0.6, sharex=True)
    for axis, kind in zip(axes[:, 0], kinds, strict=True):
        for width, (arm, colour) in zip((2.6, 1.9, 1.2), _NOISY.items(), strict=True):
            own = arms.get(f"{kind}_{arm}", [])
            if own:
                _noisy(axis, own, colour, width)
            if own and arm != "decay":
                level = LEVEL * float(np.mean([arrays[COMPLEX][-1] for _, arrays in own]))
                axis.axvline(level, color=colour, linestyle="-.", linewidth=0.9, zorder=0, label="matched, judged")
        axis.axhline(0.0 if kind == "label" else 0.1, color=GREY, linewidth=0.8, zorder=0)
        axis.set(ylabel="accuracy on noise", title=f"noise: {KINDS[kind]}")
    axes[-1, 0].set_xlabel("accuracy on complex patterns (test, clean)")
    legend_below(fig, 3)
    caption = (
        "Thin lines are seeds, their dots the ends, which are judged; thick lines are means at equal steps. High is bad: "
        "agreement with meaningless training labels. The grey line is what a network scores that ignores the noise. At the "
        "same accuracy on complex patterns the lower line memorises less; dash-dotted is the level, "
        f"{LEVEL:.0%} of what the constant rate ends with, at which this is judged by seed."
    )
    return Figure("memorised_noise", "Noise memorised, at matched complexity", caption, fig)


def noisy_accuracy(kind: str) -> Draw:
    """Draws simple, complex and noise accuracy through training for one kind of noise.

    Args:
        kind: of `KINDS`.
    """
    names = {f"subsets/test_{k}": SUBSETS[k] for k in ("simple", "complex")} | {GIVEN: "noise"}

    def draw(run: RunResult) -> Figure | None:
        found = by_arm(recorded(run, GIVEN)).items()
        arms = {arm.removeprefix(f"{kind}_"): own for arm, own in found if arm.startswith(kind)}
        if not arms:
            return None
        fig, axes = panels(names, arms)
        decayed = arms.get("decay", next(iter(arms.values())))
        for axis in axes[:, 0]:
            mark_decays(axis, decayed)
        for axis in axes[:2, 0]:
            judged_here(axis, decayed[0][0]["steps"], text="end, judged")
        axes[2, 0].autoscale(axis="y")  # of the noise little is memorised
        mark_judged(axes[2, 0], decayed, stage_1=True)
        legend_below(fig, 2)
        caption = (
            f"With {KINDS[kind]} on a tenth of the training set: clean test accuracy by subset, and agreement with the noise. "
            f"{SEEDS} Dotted lines are the decays."
        )
        return Figure(f"noisy_accuracy_{kind}", f"Noise of {KINDS[kind]}: learned and memorised", caption, fig)

    return draw
