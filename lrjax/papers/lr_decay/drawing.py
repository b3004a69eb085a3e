"""What the figures of this paper share: an arm's colour and name, its curve, its decays, and the rate at a measurement."""

from typing import Any

import matplotlib
import numpy as np
from matplotlib import figure
from matplotlib.axes import Axes
from numpy.typing import NDArray

from lrjax.experiment.rundir.lanes import Arrays, Lanes
from lrjax.experiment.rundir.reading import derived
from lrjax.papers.drawn import judged_here, seeds_and_mean
from lrjax.papers.lr_decay.observe import decays
from lrjax.plots.drawing import BLUE, GREEN, GREY, PURPLE, VERMILLION, canvas, thousands

MOST_MARKED = 8  # decays that are marked; a schedule that falls at every step has no stages
KINDS = ("label_", "point_", "joint_")  # of noise, with which names of arms begin
SEEDS = "Thin lines are seeds, thick ones their means, bands reach from the lowest to the highest seed."
_SHADES = (VERMILLION, BLUE, GREEN, PURPLE)


def colours(arms: list[str]) -> dict[str, Any]:
    """A colour for each arm; decay is black.

    Example:
        >>> colours(["decay", "constant"])["decay"]
        'black'
    """
    rest = [arm for arm in arms if arm != "decay"]
    many = matplotlib.colormaps["tab10"].colors  # type: ignore[attr-defined]
    shades = _SHADES if len(rest) <= len(_SHADES) else many
    return {arm: shades[i % len(shades)] for i, arm in enumerate(rest)} | {"decay": "black"}


def name_of(lane: dict[str, Any]) -> str:
    """An arm in words: its name without a kind of noise, or its rate where it is constant.

    Example:
        >>> name_of({"arm": "label_constant_1", "learning_rate": 0.01}), name_of({"arm": "full_batch"})
        ('constant 0.01', 'full batch')
    """
    arm = lane["arm"]
    arm = arm.split("_", 1)[1] if arm.startswith(KINDS) else arm
    if arm.startswith("constant_"):
        return f"constant {lane['learning_rate']:g}"
    return arm.replace("_", " ")


def curves(axis: Axes, own: Lanes, name: str, colour: Any, label: str, place: int = 0, **style: Any) -> None:
    """Seeds thinly, their mean and their band; of lanes of different lengths as far as all of them go.

    Args:
        axis: to draw on; on a logarithmic one the mean is that of logarithms.
        own: the lanes of an arm.
        name: of an array of a probe.
        colour, label, place, **style: see `lrjax.papers.drawn.seeds_and_mean`.
    """
    stream = name.split("/")[0]
    series = [(np.asarray(arrays[f"{stream}/step"]), np.asarray(arrays[name], np.float64)) for _, arrays in own]
    shortest = min(len(steps) for steps, _ in series)
    seeds_and_mean(axis, [(x[:shortest], y[:shortest]) for x, y in series], colour, label, place, **style)
    for x, y in series:
        axis.plot(x[shortest - 1 :], y[shortest - 1 :], color=colour, linewidth=0.6, alpha=0.5)


def ends(axis: Axes, own: Lanes, name: str, colour: Any) -> None:
    """A dot at the end of each seed: what is judged there."""
    stream = name.split("/")[0]
    for _, arrays in own:
        axis.plot([arrays[f"{stream}/step"][-1]], [arrays[name][-1]], "o", color=colour, markersize=3.5, zorder=4)


def mark_decays(axis: Axes, own: Lanes) -> None:
    """Dotted vertical lines where the rate falls, if it does so a few times."""
    at = decays(own[0][1])
    for step in at if len(at) <= MOST_MARKED else []:
        axis.axvline(step, color=GREY, linewidth=0.8, linestyle=":", zorder=0)


def mark_judged(axis: Axes, own: Lanes, *, stage_1: bool = False) -> None:
    """Marks the end of a run as judged, and with `stage_1` the end of its first stage."""
    at = decays(own[0][1])[:1] if stage_1 else []
    for step, text in [*((step, "stage 1, judged") for step in at), (own[0][0]["steps"], "end, judged")]:
        judged_here(axis, step, text=text)


def panels(
    names: dict[str, str], arms: dict[str, Lanes], *, accuracy: bool = True
) -> tuple[figure.Figure, NDArray[Any]]:
    """An axis an array, one below the other, with the curves of all arms that recorded it.

    Args:
        names: array -> label.
        arms: name -> lanes.
        accuracy: whether the axes reach from 0 to 1.
    """
    shades = colours(list(arms))
    fig, axes = canvas(len(names), 1, height=1.9 * len(names) + 0.9, sharex=True)
    for axis, (name, label) in zip(axes[:, 0], names.items(), strict=True):
        for place, (arm, own) in enumerate(arms.items()):
            if all(len(arrays.get(name, ())) for _, arrays in own):
                curves(axis, own, name, shades[arm], name_of(own[0][0]), place)
        axis.set_ylabel(label)
        if accuracy:
            axis.set_ylim(-0.02, 1.04)
    axes[-1, 0].set_xlabel("step")
    thousands(axes[-1, 0])
    return fig, axes


def rates_at(arrays: Arrays, stream: str) -> NDArray[np.float64]:
    """The learning rate that led to each measurement of a probe; to one before the first step, that of this step.

    Example:
        >>> lane = {"spectrum/step": np.array([0, 2, 3]), "step/learning_rate": np.array([1.0, 1.0, 0.1])}
        >>> rates_at(lane, "spectrum").tolist()
        [1.0, 1.0, 0.1]
    """

    def read(own: Arrays) -> NDArray[np.float64]:
        steps = np.asarray(own[f"{stream}/step"], int)
        return np.asarray(own["step/learning_rate"], np.float64)[np.maximum(steps - 1, 0)]

    return derived(arrays, f"rates at {stream}/step", read)
