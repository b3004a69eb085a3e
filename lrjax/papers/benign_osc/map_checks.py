"""Checks behind the claims on the cubic map, from the recorded orbits of one neuron: run files -> finding."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.benign_osc.cubic_map import (
    SIGN_STABLE_LIMIT,
    STABILITY_LIMIT,
    TWO_CYCLE_LIMIT,
    mean_residual,
    period_two,
)
from lrjax.papers.claim import Finding, NotMeasured, decided

LAST = 400  # steps at the end of an orbit that represent its attractor
NEAR = 0.02  # next to a bifurcation an orbit settles too slowly to be judged


def _orbits(run: RunResult) -> tuple[NDArray[Any], NDArray[Any]]:
    """(e, y f over the last steps) of every lane."""
    e = np.array([lane["e"] for lane in run.lanes])
    return e, np.stack([arrays["step/margin"][-LAST:] for arrays in run.arrays]).astype(np.float64)


def _clear_of(e: NDArray[Any], *limits: float) -> NDArray[np.bool_]:
    return np.all([np.abs(e - limit) > NEAR for limit in limits], axis=0)


def onset(run: RunResult) -> Finding:
    """The output settles at its label below e = 1 and never above."""
    e, z = _orbits(run)
    swing = np.max(np.abs(z - 1.0), axis=1)
    below = (e < STABILITY_LIMIT) & _clear_of(e, STABILITY_LIMIT) & (e > NEAR)
    above = (e > STABILITY_LIMIT) & _clear_of(e, STABILITY_LIMIT) & (e < SIGN_STABLE_LIMIT)
    if not below.any() or not above.any():
        raise NotMeasured("the run has no rates on both sides of e = 1")
    ok = swing[below].max() < 1e-3 and swing[above].min() > 0.05
    text = f"largest |yf - 1| at the end: at most {swing[below].max():.1e} over {below.sum()} rates below 1, "
    return Finding(decided(ok), text + f"at least {swing[above].min():.3f} over {above.sum()} rates above")


def two_cycle(run: RunResult) -> Finding:
    """The recorded cycle and its mean residual against the closed forms, for 1 < e < sqrt(5) - 1."""
    e, z = _orbits(run)
    inside = (e > STABILITY_LIMIT) & (e < TWO_CYCLE_LIMIT) & _clear_of(e, STABILITY_LIMIT, TWO_CYCLE_LIMIT)
    if not inside.any():
        raise NotMeasured("the run has no rate inside the 2-cycle range")
    errors, residuals = [], []
    for rate, orbit in zip(e[inside], z[inside], strict=True):
        high, low = sorted(period_two(float(rate))[1], reverse=True)
        pairs = np.stack([orbit[::2], orbit[1::2]])
        errors.append(max(np.max(np.abs(pairs.max(axis=0) - high)), np.max(np.abs(pairs.min(axis=0) - low))))
        residuals.append(abs(np.mean(1.0 - orbit) - float(mean_residual(float(rate)))))
    ok = max(errors) < 1e-4 and max(residuals) < 1e-4
    text = f"{inside.sum()} rates: cycle points within {max(errors):.1e}, "
    return Finding(decided(ok), text + f"mean residual within {max(residuals):.1e} of (e-1)/(2e)")


def sign_stability(run: RunResult) -> Finding:
    """Neurons keep their sign up to e = 3 sqrt(3)/2 - 1; a flipped one is dead for its class and its output is zero."""
    e, z = _orbits(run)
    dead = np.all(z == 0.0, axis=1)
    below, above = e < SIGN_STABLE_LIMIT, e > SIGN_STABLE_LIMIT
    if not above.any():
        raise NotMeasured("the run has no rate beyond 1.598")
    first = f"{e[dead].min():.3f}" if dead.any() else "none"
    ok = not dead[below].any() and bool(dead[above].any())
    return Finding(decided(ok), f"smallest rate with a flipped neuron: {first} (limit {SIGN_STABLE_LIMIT:.4f})")
