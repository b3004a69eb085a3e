"""Numbers of a run by seed, their pairs, and the premises that claims on the synthetic data share."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrjax.errors import check
from lrjax.experiment.rundir.lanes import Lanes, NotMeasured, lanes
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.premises import Premise, Reader, Selector, converged, last_of, learned, same_steps, seeds
from lrjax.papers.statistics import mean_of

WEAK = "test_accuracy/weak_accuracy"
_ACCURACY = last_of(WEAK)
HALFWAY = 0.75  # weak-only accuracy halfway between a guess and all points
GAIN = 0.25  # half of what there is to gain, from a guess to all points
SHARE = 0.95  # of the training set that every compared lane must have fitted
SETTLED = 0.1  # of its range that weak-only accuracy may still move by at the end


def cell(arm: str, e: float | None = None, **values: float) -> Selector:
    """A `Selector`: the lanes of an arm at a rate and at values of the sweep, all seeds.

    Args:
        arm: its name.
        e: of the lanes; None takes all.
        **values: of swept keys, with `__` for a dot.

    Returns:
        run -> lanes. It raises `NotMeasured` where there are none or where one diverged, so that survivors decide nothing.

    Example:
        >>> cell("noise", 0.5, data__kn=4.0).__name__
        'noise e=0.5 kn=4'
    """
    swept = {key.replace("__", "."): value for key, value in values.items()}
    rate = {} if e is None else {"e": e}
    named = {key.rsplit(".", 1)[-1]: value for key, value in (rate | swept).items()}
    name = " ".join([arm, *(f"{key}={value:g}" for key, value in named.items())])

    def select(run: RunResult) -> Lanes:
        found = [pair for pair in lanes(run, arm, allow_diverged=True, **rate) if _at(pair[0], swept)]
        if not found:
            raise NotMeasured(f"this run has no lane {name}")
        for lane, _ in found:
            if lane["diverged_at"] is not None:
                raise NotMeasured(f"{name} seed {lane['seed']} diverged at step {lane['diverged_at']}")
        return found

    select.__name__ = name
    return select


def _at(lane: dict[str, Any], swept: dict[str, float]) -> bool:
    return all(abs(float(lane["values"].get(key, np.nan)) - value) < 1e-9 for key, value in swept.items())


def all_of(*selectors: Selector) -> Selector:
    """A `Selector`: the lanes of several cells."""

    def select(run: RunResult) -> Lanes:
        return [pair for each in selectors for pair in each(run)]

    select.__name__ = ", ".join(each.__name__ for each in selectors)
    return select


def by_seed(run: RunResult, select: Selector, read: Reader) -> dict[int, float]:
    """seed -> the number of its lane.

    Raises:
        LrjaxError: two lanes of one seed.
    """
    found = [(lane["seed"], read(lane, arrays)) for lane, arrays in select(run)]
    check(len(dict(found)) == len(found), f"two lanes of {select.__name__} have the same seed")
    return dict(found)


def values(run: RunResult, select: Selector, read: Reader = _ACCURACY) -> NDArray[np.float64]:
    """[n] of a cell, by seed in ascending order."""
    found = by_seed(run, select, read)
    return np.array([found[seed] for seed in sorted(found)])


def apart(run: RunResult, first: Selector, second: Selector, read: Reader = _ACCURACY) -> NDArray[np.float64]:
    """[n], first minus second of each seed that both have.

    Raises:
        NotMeasured: they have no seed in common.
    """
    one, other = by_seed(run, first, read), by_seed(run, second, read)
    common = sorted(one.keys() & other.keys())
    if not common:
        raise NotMeasured(f"{first.__name__} and {second.__name__} have no seed in common")
    return np.array([one[seed] - other[seed] for seed in common])


def told(name: str, found: NDArray[np.float64]) -> str:
    """A name with mean and 95 % interval over seeds.

    Example:
        >>> told("gain", np.array([1.0, 2.0, 3.0]))
        'gain 2 [-0.484, 4.48]'
    """
    return f"{name} {mean_of(found)}"


def trained(select: Selector) -> Premise:
    """Each compared lane has fitted its training set, so that what it lacks on test points is no lack of training."""
    read = last_of("features/train_accuracy")
    return learned(select, SHARE, read=read, chance=0.5, examples=64, level=1.0)


def settled(select: Selector) -> Premise:
    """Weak-only accuracy has stopped moving, in the controls too."""
    return converged(select, SETTLED, WEAK)


def usual(select: Selector) -> tuple[Premise, ...]:
    """Premises of a claim on weak-only accuracy: three seeds, a fitted training set, as many steps."""
    return (seeds(3, select), trained(select), same_steps(select))
