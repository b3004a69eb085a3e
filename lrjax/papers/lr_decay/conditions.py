"""Premises of this paper's claims beyond those of `lrjax.papers.premises`, and what several of them share."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrjax.experiment.rundir.lanes import Lanes, lanes
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.claim import NotMeasured
from lrjax.papers.lr_decay.observe import decays
from lrjax.papers.premises import Held, Premise, Selector
from lrjax.papers.statistics import LEVEL, mean_of

CIFAR10_TEST = 10_000  # images, where a config takes all of them
FLAT = 0.05  # relative change of the loss: the threshold of AutoDecay, lrjax's default
LAST_OF_STAGE = 0.25  # as AutoDecay's window of 5 epochs is of a stage of 20


def both(*verdicts: str) -> str:
    """The verdict of a claim in parts: supported where all are, contradicted where one is.

    Example:
        >>> both("supported", "supported"), both("supported", "contradicted"), both("supported", "inconclusive")
        ('supported', 'contradicted', 'inconclusive')
    """
    if all(verdict == "supported" for verdict in verdicts):
        return "supported"
    return "contradicted" if "contradicted" in verdicts else "inconclusive"


def named(begins: str = "", contains: str = "") -> Selector:
    """A `Selector`: the lanes of the arms whose names begin with, and contain, some words.

    Args:
        begins: with what a name begins.
        contains: what it has.

    Example:
        >>> named("label_").__name__
        'label_*'
    """

    def select(run: RunResult) -> Lanes:
        arms = sorted({lane["arm"] for lane in run.lanes})
        chosen = [arm for arm in arms if arm.startswith(begins) and contains in arm]
        if not chosen:
            raise NotMeasured(f"this run has no arm {begins}*{contains}")
        return [pair for arm in chosen for pair in lanes(run, arm)]

    select.__name__ = f"{begins}*{contains}"
    return select


def gained(what: str, gains: Callable[[RunResult], Mapping[str, NDArray[Any]]]) -> Premise:
    """There is a gain to take a share of: its 95 % interval over seeds lies above zero.

    Args:
        what: the gain, in words.
        gains: run -> name -> [n], one gain a seed; all of them must be clear.

    Example:
        >>> gained("the gain", lambda run: {"decay": np.array([0.3, 0.31, 0.32])}).evaluate(None)
        Held(holds=True, measured='decay: 0.31 [0.285, 0.335], the least clear')
    """

    def evaluate(run: RunResult) -> Held:
        found = {name: mean_of(values, LEVEL) for name, values in gains(run).items()}
        name = min(found, key=lambda key: found[key].low)
        return Held(found[name].low > 0, f"{name}: {found[name]}, the least clear")

    return Premise("gained", f"{what} is above zero by its 95 % interval over seeds", evaluate)


def tested_on(least: int) -> Premise:
    """The test set has examples enough for an estimate of mutual information.

    Args:
        least: examples.

    Example:
        >>> tested_on(10_000).name
        'tested_on(10000)'
    """

    def evaluate(run: RunResult) -> Held:
        count = run.config["data"]["num_test"] or CIFAR10_TEST
        return Held(count >= least, f"{count} test examples")

    return Premise(f"tested_on({least})", f"the estimate is made from {least} test examples or more", evaluate)


def flat_stages(arm: str) -> Premise:
    """The loss is flat at the end of each stage of a schedule: those have epochs that a rule could save.

    Args:
        arm: the schedule that a rule is compared with.

    Example:
        >>> flat_stages("step_decay").name
        'flat_stages'
    """

    def evaluate(run: RunResult) -> Held:
        found = []
        for lane, arrays in lanes(run, arm):
            steps, loss = (np.asarray(arrays[f"subsets/{name}"], np.float64) for name in ("step", "train_loss"))
            for first, last in zip([0, *decays(arrays)], decays(arrays), strict=False):
                late = (steps > last - LAST_OF_STAGE * (last - first)) & (steps <= last)
                if late.sum() < 3:
                    late = (steps <= last) & (np.cumsum(steps <= last) > (steps <= last).sum() - 3)
                line = np.polynomial.Polynomial.fit(steps[late], loss[late], 1)
                fall = float(line(steps[late][0]) - line(steps[late][-1])) / float(loss[late].min())
                found.append((fall, f"before step {last} of seed {lane['seed']}"))
        if not found:
            raise NotMeasured(f"{arm} has no decay")
        fall, place = max(found)
        return Held(fall <= FLAT, f"the training loss still falls by {fall:.1%} {place}, the most")

    statement = (
        f"over the last {LAST_OF_STAGE:.0%} of each stage of {arm} the training loss falls by {FLAT:.0%} at most"
    )
    return Premise("flat_stages", statement, evaluate)
