"""Real images: training loss at step level, learning rate and test accuracies, large against small rate."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib import figure
from matplotlib.axes import Axes

from lrjax.experiment.rundir.lanes import Arrays, Lanes, diverged, recorded
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.plots.drawing import (
    BLUE,
    GREY,
    PURPLE,
    VERMILLION,
    Figure,
    canvas,
    envelope,
    legend_below,
    plain_log,
    thousands,
)

_MODELS = {"simple_cnn": "SimpleCNN", "resnet18": "ResNet-18", "augmented": "ResNet-18,\naugmented"}
_RATES = {"large": VERMILLION, "small": BLUE, "decayed": PURPLE}
_NAMES = {"large": "large rate", "small": "small rate", "decayed": "small rate, dropped"}
_TESTS = {"test": "without patch", "patched": "with patch", "conflict": "with a wrong patch"}
_ROWS = ("train loss,\nevery step", r"learning rate $\eta$", "test accuracy")
_FEW = 25  # measurements that are marked by dots


def training(run: RunResult) -> Figure | None:
    """Training loss of every step, learning rate, and test accuracy, a column a model."""
    columns, note = _columns(run)
    if not columns:
        return None
    fig, axes = canvas(3, len(columns), height=6.6, width=_width(columns), sharex="col", sharey="row")
    for column, (model, lanes) in zip(axes.T, columns.items(), strict=True):
        column[0].set_title(_MODELS.get(model, model))
        for lane, arrays in lanes:
            _loss(column[0], lane, arrays)
            rates = arrays["step/learning_rate"]
            column[1].plot(*envelope(np.arange(len(rates)), rates), color=_colour(lane))
            _test_accuracy(column[2], lane, arrays, "test")
        column[2].set_xlabel("step")
        thousands(column[2])
    for axis in axes[:2].flat:
        plain_log(axis)
    _chance(axes[2], run)
    for axis, label in zip(axes[:, 0], _ROWS, strict=True):
        axis.set_ylabel(label)
    _rates_legend(fig, axes[0, 0])
    caption = (
        "Loss of the batch before each step (of long runs the least and greatest of short stretches, so that no spike "
        "is lost), the learning rate that was used, and accuracy on the test images. The settings are ours, not the "
        "paper's."
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
            for lane, arrays in lanes:
                _test_accuracy(axis, lane, arrays, test)
        column[-1].set_xlabel("step")
        thousands(column[-1])
    _chance(axes.flat, run)
    for axis, test in zip(axes[:, 0], tests, strict=True):
        axis.set_ylabel(f"accuracy\n{_TESTS[test]}")
    _rates_legend(fig, axes[0, 0])
    caption = (
        "The patch is the strong feature, the image itself the weak one: accuracy without the patch is what was "
        "learned of the image; with a wrong patch, low accuracy means that the patch decides. Grey line: chance. This "
        "analogue is ours."
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


def _colour(lane: dict[str, Any]) -> str:
    return _RATES.get(lane["arm"].rpartition("_")[2], "black")


def _width(columns: dict[str, Lanes]) -> float:
    return max(4.6, 1.0 + 2.2 * len(columns))


def _loss(axis: Axes, lane: dict[str, Any], arrays: Arrays) -> None:
    step, loss = envelope(np.arange(len(arrays["step/loss"])), arrays["step/loss"])
    axis.plot(step, np.where(loss > 0, loss, np.nan), color=_colour(lane), linewidth=0.8, alpha=0.9)
    if diverged(lane) and step.size:
        axis.plot(step[-1:], loss[-1:], "x", color="black")
        axis.annotate("diverged", (step[-1], loss[-1]), ha="right", va="bottom", fontsize=8.5)


def _test_accuracy(axis: Axes, lane: dict[str, Any], arrays: Arrays, test: str) -> None:
    values = arrays.get(f"accuracy/{test}_accuracy", np.zeros(0))
    if len(values):
        style = "o-" if len(values) <= _FEW else "-"
        axis.plot(arrays["accuracy/step"], values, style, color=_colour(lane), markersize=3, alpha=0.9)


def _chance(axes: Iterable[Axes], run: RunResult) -> None:
    """A line at chance, and axes from 0, once all is drawn: the axes share their scale."""
    chance = 1.0 / len(run.config["data"].get("classes") or range(10))
    for axis in axes:
        axis.axhline(chance, color=GREY, linewidth=0.8, zorder=0)
        axis.set_ylim(0.0, max(2.0 * chance, axis.get_ylim()[1]))


def _rates_legend(fig: figure.Figure, axis: Axes) -> None:
    for rate, colour in _RATES.items():
        axis.plot([], [], color=colour, label=_NAMES[rate])
    legend_below(fig, 3)
