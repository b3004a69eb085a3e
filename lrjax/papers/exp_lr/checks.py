"""The checks of the claims on accuracy; seeds are paired, and differences are in points."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrjax.experiment.rundir.lanes import Arrays, Lanes, NotMeasured
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.experiment.rundir.reading import derived
from lrjax.papers.claim import Finding
from lrjax.papers.exp_lr.conditions import Differences, fails, tells_apart
from lrjax.papers.exp_lr.observe import MOST_PHASES, final_accuracy, paired, phases, settings
from lrjax.papers.premise import lane_name
from lrjax.papers.premises import Premise, resolved
from lrjax.papers.statistics import mean_of, positive, within
from lrjax.transforms.equilibrium import time_to_equilibrium

# Points of accuracy within which two arms count as the same. The paper's own curves of step decay and TEXP end 0.2 apart, and
# a rate that does not drop costs 5 or more (its 88 to 90 % before a drop and 94.9 % after).
POINT = 1.0
LASTING = 2.0  # points, less than half of the 5 that a drop gains for good there (88 to 90 % before, 93 to 94 % after)

Level = Callable[[Arrays], float]


def _accuracies(lanes: Lanes, level: Level) -> NDArray[np.float64]:
    return 100 * np.array([level(arrays) for _, arrays in lanes])


def points(reference: str, other: str, level: Level = final_accuracy) -> Differences:
    """run -> [n]: test accuracy of an arm less that of the reference, in points, a seed."""

    def differences(run: RunResult) -> NDArray[np.float64]:
        one, two = paired(run, reference, other)
        return _accuracies(two, level) - _accuracies(one, level)

    return differences


def _told(run: RunResult, level: Level, *arms: str) -> str:
    values = [_accuracies(lanes, level) for lanes in paired(run, *arms)]
    listed = [
        "{} {:.2f} % ({})".format(arm, own.mean(), ", ".join(f"{v:.1f}" for v in own))
        for arm, own in zip(arms, values, strict=True)
    ]
    return "; ".join(listed)


def same_accuracy(reference: str, *twins: str, level: Level = final_accuracy) -> Any:
    """Mean test accuracies of these arms are those of the reference up to a point, by two one-sided tests."""

    def check(run: RunResult) -> Finding:
        differences = {twin: points(reference, twin, level)(run) for twin in twins}
        verdict = within(*differences.values(), margin=POINT)
        apart = "; ".join(f"{twin} - {reference} {mean_of(own)} points" for twin, own in differences.items())
        return Finding(verdict, f"{_told(run, level, reference, *twins)}: {apart}")

    return check


def resolves_point(reference: str, *twins: str, wrong: str, level: Level = final_accuracy) -> Premise:
    """The premise of `same_accuracy`: intervals of a point at most, and a wrong variant that is more than a point off."""
    return tells_apart(
        POINT, [points(reference, twin, level) for twin in twins], wrong, [points(reference, wrong, level)]
    )


def higher(above: str, below: str) -> Any:
    """One arm ends above another, by a paired t test."""

    def check(run: RunResult) -> Finding:
        gains = points(below, above)(run)
        return Finding(positive(gains), f"{_told(run, final_accuracy, above, below)}: gain {mean_of(gains)} points")

    return check


def resolves_gain(above: str, below: str, same: tuple[str, str]) -> Premise:
    """The premise of `higher`: an interval of a point at most, and no gain between two arms of the same functions."""
    return resolved(POINT, points(below, above), lambda run: positive(points(*same)(run)) == "supported")


def l2_decay_suffices(run: RunResult) -> Finding:
    """Dropping weight decay instead of the rate ends at most a point below step decay."""
    gains = points("step_decay", "l2_decay")(run)
    told = f"{_told(run, final_accuracy, 'l2_decay', 'step_decay')}: l2_decay - step_decay {mean_of(gains)} points"
    return Finding(positive(gains + POINT), told)


def resolves_loss() -> Premise:
    """The premise of `l2_decay_suffices`: an interval of a point at most, and a run in which nothing drops is worse."""
    lost = points("step_decay", "constant")
    control = fails("constant", lambda run: positive(lost(run) + POINT), lambda run: f"{mean_of(lost(run))} points")
    return resolved(POINT, points("step_decay", "l2_decay"), control)


def gains_after_drops(arm: str) -> Callable[[RunResult], tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """run -> (early, late), [n] each: train accuracy of an arm less that of "no_drops", in points, a seed.

    Early is while the rate grows tenfold again after a drop by ten, late the second half of the phase; means over phases.
    """

    def gains(run: RunResult) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        dropped, constant = paired(run, arm, "no_drops")
        found = []
        for (lane, one), (beside, other) in zip(dropped, constant, strict=True):
            regrowth = math.ceil(math.log(10) * time_to_equilibrium(*settings(run, lane)))
            name = f"gains of step/accuracy over {lane_name(beside)}, early in {regrowth} steps and late"
            found.append(derived(one, name, lambda own, o=other, r=regrowth: _early_and_late(own, o, r)))
        early, late = np.array(found).T
        return early, late

    return gains


def _early_and_late(one: Arrays, other: Arrays, regrowth: int) -> tuple[float, float]:
    gain = 100 * (np.asarray(one["step/accuracy"], np.float64) - other["step/accuracy"])
    stretches = phases(one)[1:]
    if not 0 < len(stretches) < MOST_PHASES - 1:  # of more phases only the first are known
        raise NotMeasured("no drop of the rate was recorded, or more drops than are compared")
    early = [gain[start : min(start + regrowth, (start + stop + 1) // 2)].mean() for start, stop in stretches]
    late = [gain[(start + stop) // 2 : stop].mean() for start, stop in stretches]
    return float(np.mean(early)), float(np.mean(late))


def _passes(run: RunResult, arm: str) -> str:
    early, late = gains_after_drops(arm)(run)
    return positive(early, LASTING - late)


def drop_passes(run: RunResult) -> Finding:
    """Under a constant exponent a drop of the rate gains at first, and less than two points in the second half of the phase."""
    early, late = gains_after_drops("drops")(run)
    told = f"gain {mean_of(early)} points of train accuracy until the rate has grown again, {mean_of(late)} in the second half"
    return Finding(_passes(run, "drops"), told)


def resolves_drops() -> Premise:
    """The premise of `drop_passes`: an interval of two points at most, and the gain under TEXP, which tapers, does last."""
    control = fails(
        "tapered",
        lambda run: _passes(run, "tapered"),
        lambda run: f"{mean_of(gains_after_drops('tapered')(run)[1])} points in the second half",
    )
    return resolved(LASTING, lambda run: gains_after_drops("drops")(run)[1], control)
