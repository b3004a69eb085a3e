"""The checks of the toy: one linear unit."""

import numpy as np

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.claim import Finding
from lrjax.papers.exp_lr.observe import finished

HIGH = 1e-3  # a loss that counts as having left the minimum
RETURNS = 50
CONVERGED = 1e-6


def returns(loss: np.ndarray, level: float = HIGH) -> int:
    """How often a loss comes back above a level after it was below.

    Example:
        >>> returns(np.array([1.0, 0.0, 1.0, 1.0, 0.0, 1.0]))
        2
    """
    above = loss > level
    return int(np.sum(above[1:] & ~above[:-1]))


def exact(run: RunResult) -> Finding:
    """On L = x^2 / (x^2 + y^2), normalisation alone converges; with weight decay the loss comes back again and again."""
    alone = [float(arrays["step/loss"][-1]) for _, arrays in finished(run, "exact_norm")]
    both = [returns(arrays["step/loss"]) for _, arrays in finished(run, "exact_both")]
    good = max(alone) < CONVERGED and min(both) > RETURNS
    bad = max(alone) >= CONVERGED or max(both) == 0
    told = (
        f"last loss without weight decay {max(alone):.1e}; returns above {HIGH:g} with it {', '.join(map(str, both))}"
    )
    return Finding("supported" if good else "contradicted" if bad else "inconclusive", told)


def noisy(run: RunResult) -> Finding:
    """With batches of a large set: both together stay further from the target than either alone, and come no nearer."""
    medians: dict[str, np.ndarray] = {}
    later: dict[str, np.ndarray] = {}
    for name in ("noisy_decay", "noisy_norm", "noisy_both"):
        angles = [arrays["target_angle/angle"] for _, arrays in finished(run, name)]
        medians[name] = np.array([np.median(own[len(own) // 2 :]) for own in angles])
        quarters = [
            (np.median(own[len(own) // 2 : 3 * len(own) // 4]), np.median(own[3 * len(own) // 4 :])) for own in angles
        ]
        later[name] = np.array([last / first for first, last in quarters])
    both = medians["noisy_both"]
    apart = (both > medians["noisy_decay"]).all() and (both > medians["noisy_norm"]).all()
    stays = later["noisy_both"].mean() > later["noisy_norm"].mean()
    words = {"noisy_decay": "weight decay alone", "noisy_norm": "normalisation alone", "noisy_both": "both"}
    told = "; ".join(
        f"{words[name]} {own.mean():.3f} rad (last quarter over the one before: {later[name].mean():.2f})"
        for name, own in medians.items()
    )
    return Finding("supported" if apart and stays else "contradicted" if not apart else "inconclusive", told)
