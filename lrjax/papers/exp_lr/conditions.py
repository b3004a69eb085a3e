"""Premises of this paper's claims beside those of `lrjax.papers.premises`."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lrjax.experiment.rundir.lanes import NotMeasured
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.exp_lr.observe import compared, phases, settings
from lrjax.papers.premises import Held, Premise, Selector, last_of, learned, resolved
from lrjax.papers.statistics import mean_of, within
from lrjax.transforms.equilibrium import time_to_equilibrium

Differences: TypeAlias = Callable[[RunResult], NDArray[np.float64]]

FOLDINGS = 3.0  # of |w|^2 under decay, after which 5 % of the start is left
PUBLISHED = 0.949  # test accuracy of step decay, read off a plot in the authors' blog
READ_ACCURACY = last_of("accuracy/test_accuracy")
TEST_IMAGES = 10_000


def above_chance(*arms: str) -> Premise:
    """These arms have learned at least half of what the best arm of the run has: equal ignorance is no equality."""
    return learned(compared(*arms), 0.5, read=READ_ACCURACY, chance=0.1, examples=TEST_IMAGES)


def as_published(arm: str) -> Premise:
    """An arm has 95 % of the accuracy that the paper reports for step decay: 90.2 %."""
    return learned(compared(arm), 0.95, read=READ_ACCURACY, chance=0.1, examples=TEST_IMAGES, level=PUBLISHED)


def widest(differences: Sequence[Differences]) -> Differences:
    """Of several comparisons that have the longest interval."""
    return lambda run: max((each(run) for each in differences), key=lambda values: mean_of(values).half_width)


def fails(
    name: str, decide: Callable[[RunResult], str], told: Callable[[RunResult], str]
) -> Callable[[RunResult], bool]:
    """The control of `resolved`: the check must refuse a wrong variant, and not leave it open.

    Args:
        name: of the wrong variant.
        decide: run -> the verdict of the check on it.
        told: run -> its number.

    Returns:
        run -> whether it passes; raises `NotMeasured` where it is left open.
    """

    def control(run: RunResult) -> bool:
        verdict = decide(run)
        if verdict == "inconclusive":
            raise NotMeasured(f"the wrong variant {name} is {told(run)} off, which the check leaves open")
        return verdict == "supported"

    return control


def tells_apart(margin: float, right: Sequence[Differences], name: str, wrong: Sequence[Differences]) -> Premise:
    """`resolved` for "the same within a margin": a wrong variant must come out as different.

    Args:
        margin: in the unit of the differences.
        right: those that the claim compares.
        name: of the wrong variant.
        wrong: its differences.
    """
    control = fails(
        name,
        lambda run: within(*(each(run) for each in wrong), margin=margin),
        lambda run: ", ".join(str(mean_of(each(run))) for each in wrong),
    )
    return resolved(margin, widest(right), control)


def in_equilibrium(select: Selector, share: float, foldings: float = FOLDINGS) -> Premise:
    """The first phase has forgotten the first length of the weights before the judged stretch begins.

    Args:
        select: lanes with weight decay.
        share: of the first phase, at which the judged stretch begins.
        foldings: factors of e by which decay alone has shrunk |w|^2 until then.

    Example:
        >>> in_equilibrium(compared("weight_decay"), 0.5).name
        'equilibrium(3)'
    """

    def evaluate(run: RunResult) -> Held:
        found = []
        for lane, arrays in select(run):
            start, stop = phases(arrays)[0]
            time = time_to_equilibrium(*settings(run, lane))
            found.append((share * (stop - start) / time, f"{lane['arm']} seed {lane['seed']}"))
        least, where = min(found)
        return Held(least >= foldings, f"{least:.2g} e-foldings in {where}, the fewest; {foldings:g} are asked for")

    statement = f"decay alone shrinks |w|^2 by {foldings:g} e-foldings before the judged stretch begins"
    return Premise(f"equilibrium({foldings:g})", statement, evaluate)


def wrong_variant(distance: Differences, control: Differences, times: float, name: str) -> Premise:
    """A wrong variant beside the twins parts further than rounding does, in every seed: these steps can show a fault.

    Args:
        distance: run -> [n], how far it has parted.
        control: run -> [n], how far the control of one rounding has.
        times: smallest ratio of the two.
        name: of the variant.
    """

    def evaluate(run: RunResult) -> Held:
        parted, rounding = distance(run), control(run)
        worst = int(np.argmin(parted / np.maximum(rounding, 1e-300)))
        told = (
            f"{name} parts by {parted[worst]:.1e}, one rounding by {rounding[worst]:.1e}; {times:g} times is asked for"
        )
        return Held(bool(np.all(parted >= times * rounding)), told)

    statement = f"a wrong variant run beside parts {times:g} times as far as the control of one rounding, or further"
    return Premise("wrong_variant", statement, evaluate)
