"""Real images: training loss at step level, learning rate and test accuracies, large against small rate."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from lrjax.experiment.rundir.lanes import Lanes, diverged, recorded
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.experiment.rundir.reading import entries
from lrjax.papers.benign_osc.image_checks import BEFORE, SPIKE
from lrjax.papers.drawn import averaged, judged_here, look, seeds_and_mean, thinned
from lrjax.plots.drawing import BLUE, GREY, PURPLE, VERMILLION, Figure, canvas, legend_below, plain_log, thousands

_MODELS = {"simple_cnn": "SimpleCNN", "resnet18": "ResNet-18", "augmented": "ResNet-18,\naugmented"}
_RATES = {"large": VERMILLION, "small": BLUE, "decayed": PURPLE}
_NAMES = {"large": "large rate", "small": "small rate", "decayed": "small rate, dropped"}
_TESTS = {"test": "without patch", "patched": "with patch", "conflict": "with a wrong patch"}
_ROWS = ("train loss,\nevery step", r"learning rate $\eta$", "test accuracy")
_MOST = 300  # points of a seed's curve
_SEEDS = "Thin lines: seeds; thick: their mean; bands: from the lowest to the highest."


def training(run: RunResult) -> Figure | None:
    """Training loss of every step, learning rate, and test accuracy, a column a model."""
    columns, note = _columns(run)
    if not columns:
        return None
    fig, axes = canvas(3, len(columns), height=6.6, width=_width(columns), sharex="col", sharey="row")
    for column, (model, lanes) in zip(axes.T, columns.items(), strict=True):
        column[0].set_title(_MODELS.get(model, model))
        column[0].set_yscale("log")
        for place, (rate, own) in enumerate(_by_rate(lanes).items()):
            _losses(column[0], own, rate, place)
            for _, arrays in own[:1]:
                steps, rates = thinned(arrays, "step/learning_rate", _MOST)
                column[1].plot(steps, rates, color=_RATES.get(rate, "black"), **look(place))
            _test_accuracy(column[2], own, rate, "test", place)
        _judged_at_end(column[2], lanes)
        column[2].set_xlabel("step")
        thousands(column[2])
    for axis in axes[:2].flat:
        plain_log(axis)
    _chance(axes[2], run)
    for axis, label in zip(axes[:, 0], _ROWS, strict=True):
        axis.set_ylabel(label)
    legend_below(fig, 3)
    caption = (
        f"Loss of the batch before each step (thin: at most {_MOST} points a seed, the least and greatest of short stretches, "
        "so that no spike is lost; thick: mean of longer stretches and of seeds), the learning rate of the first seed, and "
        f"accuracy on the test images. {_SEEDS} Judged, in seeds paired: accuracy at the end, and the spikes, steps whose "
        f"loss is over {SPIKE:g} times the median of the {BEFORE} steps before. The settings are ours, not the paper's."
    )
    return Figure("training", "Training on images: large against small rate", caption + note, fig)


def planted_accuracy(run: RunResult) -> Figure | None:
    """Accuracy on test images without the planted patch, with it, and with that of a wrong class."""
    columns, note = _columns(run)
    tests = [name for name in _TESTS if recorded(run, f"accuracy/{name}_accuracy")]
    if not columns or tests in ([], ["test"]):
        return None
    height = 1.9 * len(tests) + 0.6
    fig, axes = canvas(len(tests), len(columns), height=height, width=_width(columns), sharex="col", sharey=True)
    for column, (model, lanes) in zip(axes.T, columns.items(), strict=True):
        column[0].set_title(_MODELS.get(model, model))
        for axis, test in zip(column, tests, strict=True):
            for place, (rate, own) in enumerate(_by_rate(lanes).items()):
                _test_accuracy(axis, own, rate, test, place)
        _judged_at_end(column[0], lanes)
        column[-1].set_xlabel("step")
        thousands(column[-1])
    _chance(axes.flat, run)
    for axis, test in zip(axes[:, 0], tests, strict=True):
        axis.set_ylabel(f"accuracy\n{_TESTS[test]}")
    legend_below(fig, 3)
    caption = (
        "The patch is the strong feature, the image itself the weak one: accuracy without the patch is what was "
        "learned of the image; with a wrong patch, low accuracy means that the patch decides. Grey line: chance. "
        f"{_SEEDS} Judged is accuracy without the patch at the end, in seeds paired, as a mean over all settings of the patch. "
        "This analogue is ours."
    )
    return Figure("planted_accuracy", "With and without the planted feature", caption + note, fig)


def _columns(run: RunResult) -> tuple[dict[str, Lanes], str]:
    """Lanes by model, and a sentence if only one of several settings is shown: that of the config, else the first."""
    lanes = recorded(run, "step/loss", "step/learning_rate")
    settings = [tuple((k, v) for k, v in lane["values"].items() if k != "seed") for lane, _ in lanes]
    note = ""
    if len(set(settings)) > 1:
        usual = tuple((key, _value(run.config, key)) for key, _ in settings[0])
        chosen = usual if usual in settings else settings[0]
        lanes = [pair for pair, setting in zip(lanes, settings, strict=True) if setting == chosen]
        note = (
            f" Shown: {', '.join(f'{key} = {value}' for key, value in chosen)}, one of {len(set(settings))} settings."
        )
    columns: dict[str, Lanes] = {}
    for pair in lanes:
        columns.setdefault(_model(pair[0]), []).append(pair)
    known = [*_MODELS, *sorted(columns)]
    return {model: columns[model] for model in dict.fromkeys(known) if model in columns}, note


def _value(config: dict[str, Any], key: str) -> Any:
    for part in key.split("."):
        config = config.get(part, {})
    return config


def _model(lane: dict[str, Any]) -> str:
    name, _, rate = lane["arm"].rpartition("_")
    return name if rate in _RATES else lane["arm"]


def _width(columns: dict[str, Lanes]) -> float:
    return max(4.6, 1.0 + 2.2 * len(columns))


def _losses(axis: Axes, lanes: Lanes, rate: str, place: int) -> None:
    """The loss of each seed step by step, and the mean of what is left of it in longer stretches."""
    for lane, arrays in lanes:
        step, loss = thinned(arrays, "step/loss", _MOST)
        axis.plot(step, np.where(loss > 0, loss, np.nan), color=_RATES.get(rate, "black"), linewidth=0.5, alpha=0.35)
        if diverged(lane) and step.size:
            axis.plot(step[-1:], loss[-1:], "x", color="black")
            axis.annotate("diverged", (step[-1], loss[-1]), ha="right", va="bottom", fontsize=8.5)
    means = [averaged(arrays, "step/loss") for lane, arrays in lanes if not diverged(lane)]
    positive = [(steps, np.where(means > 0, means, np.nan)) for steps, means in means]
    seeds_and_mean(axis, positive, _RATES.get(rate, "black"), _NAMES.get(rate, rate), place)


def _test_accuracy(axis: Axes, lanes: Lanes, rate: str, test: str, place: int) -> None:
    name = f"accuracy/{test}_accuracy"
    found = [thinned(arrays, name, _MOST) for _, arrays in lanes if entries(arrays, name)]
    seeds_and_mean(axis, found, _RATES.get(rate, "black"), _NAMES.get(rate, rate), place)


def _judged_at_end(axis: Axes, lanes: Lanes) -> None:
    judged_here(axis, max(lane["steps"] for lane, _ in lanes), text="judged")


def _by_rate(lanes: Lanes) -> dict[str, Lanes]:
    """Lanes by "large", "small" or "decayed", in that order; of another arm by its name."""
    found: dict[str, Lanes] = {}
    for pair in lanes:
        rate = pair[0]["arm"].rpartition("_")[2]
        found.setdefault(rate if rate in _RATES else pair[0]["arm"], []).append(pair)
    return {rate: found[rate] for rate in dict.fromkeys([*_RATES, *found]) if rate in found}


def _chance(axes: Iterable[Axes], run: RunResult) -> None:
    """A line at chance, and axes from 0, once all is drawn: the axes share their scale."""
    chance = 1.0 / len(run.config["data"].get("classes") or range(10))
    for axis in axes:
        axis.axhline(chance, color=GREY, linewidth=0.8, zorder=0)
        axis.set_ylim(0.0, max(2.0 * chance, axis.get_ylim()[1]))
