"""Checks of the early phase: peaks, the break-even point by equation 1, and where trajectories part."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.break_even import detectors, recorded
from lrjax.papers.break_even.checks import CONTROL, by_rate, grouped, maximum, paired, rate_of, trained
from lrjax.papers.break_even.recorded import (
    accuracy_at,
    crossing,
    curve,
    distance_to,
    mark_of,
    point_steps,
    sizes,
    stability_of,
)
from lrjax.papers.claim import Finding, NotMeasured
from lrjax.papers.statistics import mean_of, positive, within

PEAK_EPOCHS = 5.0  # "close to" the epoch that the paper's figures mark: ours
HOVERS = 0.5  # of 2 / eta, on either side: ours
STRETCH = 2.0  # alpha* at break-even, as the submission reports it
FACTOR = 2.0  # on either side of it: ours

Value = Callable[[dict[str, Any], Mapping[str, Any]], float]


def told_by_rate(found: dict[float, dict[int, float]], unit: str = "") -> str:
    """The mean of each rate with its interval, in words."""
    return ", ".join(f"eta {rate:g}: {mean_of(list(own.values()))}{unit}" for rate, own in found.items())


def each_rate(run: RunResult, value: Value) -> dict[float, dict[int, float]]:
    """value(lane, arrays) by rate and seed, rates ascending."""
    found: dict[float, dict[int, float]] = {}
    for lane, arrays in by_rate(run):
        found.setdefault(rate_of(lane), {})[lane["seed"]] = value(lane, arrays)
    return dict(sorted(found.items()))


def columns(found: dict[float, dict[int, float]]) -> list[list[float]]:
    """The numbers of the seeds of each rate."""
    return [list(own.values()) for own in found.values()]


def peak_accuracy(run: RunResult) -> Finding:
    """Distance of the peak of lambda_K from the epoch at which the marked accuracy is first exceeded."""
    mark = mark_of(run)

    def distance(lane: dict[str, Any], arrays: Mapping[str, Any]) -> float:
        top, crossed = detectors.peak(*curve(arrays, "lambda_k1_raw")), crossing(arrays, mark)
        if top.step is None or crossed.step is None:
            raise NotMeasured(f"peak {top.note or 'seen'}, accuracy {mark:g} {crossed.note or 'reached'}")
        return (top.step - crossed.step) / sizes(run, lane).steps_per_epoch

    found = each_rate(run, distance)
    seen = [
        accuracy_at(arrays, detectors.peak(*curve(arrays, "lambda_k1_raw")).step) or 0 for _, arrays in by_rate(run)
    ]
    told = f"{told_by_rate(found, ' epochs after')}; training accuracy at the peaks {min(seen):.2f} to {max(seen):.2f}"
    return Finding(within(*columns(found), margin=PEAK_EPOCHS), told)


def rank_correlation(a: Any, b: Any) -> float:
    """Spearman's.

    Example:
        >>> round(rank_correlation([1, 2, 3], [1, 8, 27]), 6)
        1.0
    """
    from scipy.stats import spearmanr  # here: every run imports this module, and that import takes a second

    found: Any = spearmanr(a, b)
    return float(found.statistic)


def correlation(run: RunResult) -> Finding:
    """Spearman correlation of lambda_K and lambda_H up to the peak of lambda_H."""

    def before(lane: dict[str, Any], arrays: Mapping[str, Any]) -> float:
        noise, top = curve(arrays, "lambda_k1_raw"), curve(arrays, "lambda_h1")
        steps = np.intersect1d(noise.steps, top.steps)
        k, h = np.interp(steps, *noise), np.interp(steps, *top)
        peak = int(np.argmax(detectors.smoothed(h))) if h.size else 0
        if peak < 3:
            raise NotMeasured(f"the peak of lambda_H is measurement {peak + 1}, too early for a correlation")
        return rank_correlation(k[: peak + 1], h[: peak + 1])

    found = each_rate(run, before)
    return Finding(positive(*columns(found)), f"rank correlation up to the peak of lambda_H, {told_by_rate(found)}")


def direct(run: RunResult, lane: dict[str, Any], arrays: Mapping[str, Any]) -> tuple[float, float]:
    """D1, the first step at which equation 1 says unstable, and lambda_H there.

    Raises:
        NotMeasured: it was not reached, or from the first measurement on.
    """
    found = recorded.direct(run, lane, arrays)
    if found.step is None or found.note:
        raise NotMeasured(f"break-even of eta {rate_of(lane):g}, seed {lane['seed']}: {found.note}")
    return found.step, float(np.interp(found.step, *curve(arrays, "lambda_h1")))


def break_even_order(run: RunResult) -> Finding:
    """D1 of every lane: the larger the rate, the earlier, and the smaller lambda_H there."""
    lanes = by_rate(run)
    steps = grouped(lanes, rate_of, lambda lane, arrays: direct(run, lane, arrays)[0])
    tops = grouped(lanes, rate_of, lambda lane, arrays: direct(run, lane, arrays)[1])
    rates = list(steps)
    falls = [-paired(own[a], own[b]) for own in (steps, tops) for a, b in zip(rates, rates[1:], strict=False)]
    told = ", ".join(
        f"eta {rate:g}: step {np.mean(list(steps[rate].values())):.0f} at lambda_H {np.mean(list(tops[rate].values())):.3g}"
        f" (2/eta {2 / rate:g}, n = {len(steps[rate])})"
        for rate in rates
    )
    return Finding(positive(*falls), told)


def hovers(run: RunResult) -> Finding:
    """lambda_H after the break-even point, in units of 2 / eta."""

    def middle(lane: dict[str, Any], arrays: Mapping[str, Any]) -> float:
        at, _ = direct(run, lane, arrays)
        steps, parts = stability_of(run, lane, arrays)
        if (steps >= at).sum() < 3:
            raise NotMeasured(f"break-even of eta {rate_of(lane):g}, seed {lane['seed']}, comes too late to say")
        return float(np.median(parts.full_batch[steps >= at]))

    found = each_rate(run, middle)
    away = [[value - 1 for value in own] for own in columns(found)]
    return Finding(within(*away, margin=HOVERS), f"median of eta lambda_H / 2 after break-even, {told_by_rate(found)}")


def step_stretch(run: RunResult) -> Finding:
    """alpha* at the break-even point."""

    def at(lane: dict[str, Any], arrays: Mapping[str, Any]) -> float:
        return float(np.interp(direct(run, lane, arrays)[0], *curve(arrays, "next_step/alpha_star")))

    found = each_rate(run, at)
    away = [np.log(np.array(own) / STRETCH) for own in columns(found)]
    return Finding(within(*away, margin=float(np.log(FACTOR))), f"alpha* at break-even, {told_by_rate(found)}")


def _growth(distance: np.ndarray, above: np.ndarray) -> float:
    return float(np.log(np.mean(distance[above]) / np.mean(distance[~above])))


def parting(run: RunResult) -> Finding:
    """How much further a trajectory is from that of a larger rate once its lambda_K exceeds that run's maximum.

    Beside it, the same for a trajectory of the same rate and another order of batches: two trajectories part anyway.
    """
    lanes = by_rate(run)
    rates = sorted({rate_of(lane) for lane, _ in lanes})
    control = {
        (rate_of(lane), lane["seed"]): (arrays, lane["lane"])
        for lane, arrays in trained(run)
        if lane["arm"].startswith(CONTROL)
    }
    own = {(rate_of(lane), lane["seed"]): (arrays, lane["lane"]) for lane, arrays in lanes}
    more, told = [], []
    for small, large in zip(rates, rates[1:], strict=False):
        gains = []
        for seed in sorted(s for rate, s in control if rate == small and (large, s) in own):
            arrays, other = own[small, seed][0], own[large, seed]
            noise = np.interp(point_steps(arrays), *curve(arrays, "lambda_k1_raw"))
            above = noise > maximum(other[0], "lambda_k1_raw").smoothed
            if not above.any() or above.all():
                raise NotMeasured(
                    f"lambda_K of eta {small:g} is {'always' if above.any() else 'never'} above that maximum"
                )
            far, near = (distance_to(arrays, *a) + 1e-12 for a in (other, control[small, seed]))
            gains.append(_growth(far, above) - _growth(near, above))
        if gains:
            more.append(gains)
            told.append(f"eta {small:g} from {large:g}: times {np.exp(np.mean(gains)):.2f} (n = {len(gains)})")
    if not more:
        raise NotMeasured(f"no arm {CONTROL} has a smaller rate in another order of batches")
    return Finding(positive(*more), f"growth of the distance over that to another order of batches, {'; '.join(told)}")
