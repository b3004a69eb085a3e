"""The checks of the toy: one linear unit."""

import numpy as np
from numpy.typing import NDArray

from lrjax.experiment.rundir.lanes import Arrays
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.experiment.rundir.reading import derived
from lrjax.papers.claim import Finding
from lrjax.papers.exp_lr.observe import paired
from lrjax.papers.statistics import mean_of, positive

HIGH = 1e-3  # a loss that counts as having left the minimum, of losses of order 1
CONVERGED = 1e-6  # ten roundings of float32 of a loss of order 1
TENTHS = 10  # of the run: "again and again" is in each of them
QUARTERS = 4  # of the run, in the first and last of which the noisy toy is compared


def returns(loss: np.ndarray, level: float = HIGH) -> int:
    """How often a loss comes back above a level after it was below.

    Example:
        >>> returns(np.array([1.0, 0.0, 1.0, 1.0, 0.0, 1.0]))
        2
    """
    above = loss > level
    return int(np.sum(above[1:] & ~above[:-1]))


def returns_by_part(arrays: Arrays) -> NDArray[np.int64]:
    """How often the loss comes back above `HIGH` in each tenth of the run: [10]."""

    def counts(own: Arrays) -> list[int]:
        return [returns(part) for part in np.array_split(own["step/loss"], TENTHS)]

    return derived(arrays, f"returns of step/loss above {HIGH:g} in {TENTHS} parts", counts)


def exact(run: RunResult) -> Finding:
    """On L = x^2 / (x^2 + y^2), normalisation alone converges; with weight decay the loss comes back in each tenth of the run.

    Contradicted where in every seed it does not: no convergence alone, or no return in the last half together.
    """
    pairs = list(zip(*paired(run, "exact_norm", "exact_both"), strict=True))
    alone = np.array([derived(arrays, "last step/loss", lambda own: own["step/loss"][-1]) for (_, arrays), _ in pairs])
    counts = np.array([returns_by_part(arrays) for _, (_, arrays) in pairs])
    good = bool((alone < CONVERGED).all() and (counts > 0).all())
    bad = bool((alone >= CONVERGED).all() or (counts[:, TENTHS // 2 :] == 0).all())
    fewest = ", ".join(f"{own.sum()} (at least {own.min()} in a tenth of the run)" for own in counts)
    told = f"last loss without weight decay {alone.max():.1e}; returns above {HIGH:g} with it {fewest}"
    return Finding("supported" if good else "contradicted" if bad else "inconclusive", told)


def _medians(run: RunResult) -> dict[str, NDArray[np.float64]]:
    """Arm -> [n, 4]: log of the median angle to the target in each quarter of the run."""
    arms = ("noisy_decay", "noisy_norm", "noisy_both")
    found = {}
    for arm, lanes in zip(arms, paired(run, *arms), strict=True):
        quarters = [
            np.array_split(np.asarray(arrays["target_angle/angle"], np.float64), QUARTERS) for _, arrays in lanes
        ]
        found[arm] = np.log([[np.median(part) for part in own] for own in quarters])
    return found


def noisy(run: RunResult) -> Finding:
    """With batches of a large set: both together end further from the target than either alone, and come no nearer as fast.

    Three comparisons of logs, over paired seeds: the angle of both over that of weight decay and of normalisation, in the
    last quarter; and how far it falls from the first quarter to the last, beside normalisation alone.
    """
    logs = _medians(run)
    both, decay, norm = (logs[arm] for arm in ("noisy_both", "noisy_decay", "noisy_norm"))
    stays = (both[:, -1] - both[:, 0]) - (norm[:, -1] - norm[:, 0])
    over_decay, over_norm = both[:, -1] - decay[:, -1], both[:, -1] - norm[:, -1]
    told = "; ".join(f"{arm} {np.exp(own[:, -1]).mean():.3f} rad" for arm, own in logs.items())
    told += f"; log of both over weight decay {mean_of(over_decay)}, over normalisation {mean_of(over_norm)}"
    told += f"; falls less than normalisation by {mean_of(stays)}"
    return Finding(positive(over_decay, over_norm, stays), told)
