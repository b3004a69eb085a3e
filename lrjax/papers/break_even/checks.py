"""Checks behind the claims about learning rates and batch sizes: run files -> finding."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from lrjax.experiment.rundir.lanes import Lanes, diverged, recorded
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.break_even import detectors
from lrjax.papers.break_even.recorded import (
    accuracy_at,
    crossing,
    curve,
    detections,
    mark_of,
    parting_of,
    sizes,
    stability_of,
)
from lrjax.papers.claim import Finding, NotMeasured

PEAK_EPOCHS = 5  # largest distance of the peak from the accuracy that the paper marks
CORRELATED = 0.8
HOVERS = (0.5, 1.5)  # times 2 / eta


class Maximum(NamedTuple):
    """The largest value of a series, raw and after smoothing, and whether it was still rising when the run ended."""

    raw: float
    smoothed: float
    rising: bool


def maximum(arrays: dict[str, Any], name: str) -> Maximum:
    """The maximum of a series over a trajectory as far as it was run.

    Raises:
        NotMeasured: it was not recorded.
    """
    found = curve(arrays, name)
    if not found.values.size:
        raise NotMeasured(f"{name} was never finite")
    mean = detectors.smoothed(found.values)
    rising = detectors.peak(*found).note == "still rising at the end"
    return Maximum(float(found.values.max()), float(mean.max()), rising)


def trained(run: RunResult, keep: Callable[[dict[str, Any]], bool] = lambda lane: True) -> Lanes:
    """Lanes that did not diverge, with their arrays."""
    sound = [(lane, arrays) for lane, arrays in recorded(run) if not diverged(lane) and keep(lane)]
    if not sound:
        raise NotMeasured("this run has no such lane that did not diverge")
    return sound


def rank_correlation(a: Any, b: Any) -> float:
    """Spearman's.

    Example:
        >>> round(rank_correlation([1, 2, 3], [1, 8, 27]), 6)
        1.0
    """
    from scipy.stats import spearmanr  # here: every run imports this module, and that import takes a second

    found: Any = spearmanr(a, b)
    return float(found.statistic)


def by_rate(run: RunResult) -> Lanes:
    """Lanes that differ by their rate (and seed), none of a sweep over batch sizes."""
    return trained(run, lambda lane: not lane["arm"].startswith("batch_"))


def verdict(orders: list[bool | None]) -> str:
    """The word for comparisons that came out right (True), wrong (False) or open (None).

    Example:
        >>> verdict([True, True]), verdict([False, False]), verdict([True, False]), verdict([True, None])
        ('supported', 'contradicted', 'inconclusive', 'inconclusive')
    """
    if not orders:
        raise NotMeasured("there are no two lanes to compare")
    return "supported" if all(orders) else "contradicted" if all(o is False for o in orders) else "inconclusive"


def _ordered(lanes: Lanes, of: Callable, name: str, sign: int) -> tuple[list[bool | None], str]:
    """Whether max `name` falls (sign -1) or rises (+1) with `of`, for neighbours of each seed; and the numbers in words."""
    orders: list[bool | None] = []
    texts = []
    for seed in sorted({lane["seed"] for lane, _ in lanes}):
        own = sorted([pair for pair in lanes if pair[0]["seed"] == seed], key=lambda pair: of(pair[0]))
        tops = [maximum(arrays, name) for _, arrays in own]
        for (low, before), (high, after) in zip(
            zip(own, tops, strict=True), list(zip(own, tops, strict=True))[1:], strict=False
        ):
            if of(low[0]) == of(high[0]):
                continue
            right = sign * (after.raw - before.raw) > 0
            # What is too small so far may still become the larger one; a common start may be the maximum of both.
            is_open = (before if sign < 0 else after).rising or after.raw == before.raw
            orders.append(True if right else None if is_open else False)
        parts = [
            f"{of(lane):g}: {top.raw:.3g} (smoothed {top.smoothed:.3g}{', still rising' if top.rising else ''})"
            for (lane, _), top in zip(own, tops, strict=True)
        ]
        texts.append(f"seed {seed}: " + ", ".join(parts))
    return orders, "; ".join(texts)


def rate_order(name: str, sign: int) -> Callable[[Any], Finding]:
    """A check: over trajectories max `name` falls (sign -1) or rises (+1) with the learning rate, in every seed."""

    def check(run: RunResult) -> Finding:
        lanes = by_rate(run)
        orders, text = _ordered(lanes, lambda lane: lane["learning_rate"], name, sign)
        return Finding(verdict(orders), f"max by eta: {text}{_ratio(lanes, name)}")

    return check


def _ratio(lanes: Lanes, name: str) -> str:
    """The ratio of the maxima at the smallest and the largest rate, over seeds."""
    rates = sorted({lane["learning_rate"] for lane, _ in lanes})
    tops = {rate: [maximum(a, name).raw for lane, a in lanes if lane["learning_rate"] == rate] for rate in rates}
    if len(rates) < 2:
        return ""
    return f"; ratio of eta {rates[0]:g} to {rates[-1]:g}: {np.mean(tops[rates[0]]) / np.mean(tops[rates[-1]]):.2f}"


def batch_order(name: str, sign: int) -> Callable[[Any], Finding]:
    """A check: max `name` rises (+1) or falls (-1) with the batch size, in every seed."""

    def check(run: RunResult) -> Finding:
        lanes = trained(run, lambda lane: lane["arm"].startswith("batch_"))
        orders, text = _ordered(lanes, lambda lane: sizes(run, lane).batch_size, name, sign)
        return Finding(verdict(orders), f"max by S: {text}")

    return check


def momentum_order(run: RunResult) -> Finding:
    """Max lambda_K against momentum."""
    orders, text = _ordered(trained(run), lambda lane: lane["values"]["optimizer.momentum"], "lambda_k1_raw", -1)
    return Finding(verdict(orders), f"max lambda_K by momentum: {text}")


def peak_accuracy(run: RunResult) -> Finding:
    """Distance of the peak of lambda_K from the epoch at which the marked accuracy is first exceeded."""
    mark, near, texts = mark_of(run), [], []
    for lane, arrays in by_rate(run):
        epoch = sizes(run, lane).steps_per_epoch
        top, crossed = detectors.peak(*curve(arrays, "lambda_k1_raw")), crossing(arrays, mark)
        name = f"eta {lane['learning_rate']:g}, seed {lane['seed']}"
        if top.step is None or crossed.step is None:
            near.append(None)
            texts.append(f"{name}: peak {top.note or 'seen'}, accuracy {mark:g} {crossed.note or 'reached'}")
            continue
        distance = (top.step - crossed.step) / epoch
        near.append(abs(distance) <= PEAK_EPOCHS)
        seen = accuracy_at(arrays, top.step)
        texts.append(f"{name}: {distance:+.1f} epochs, at training accuracy {seen:.2f}")
    return Finding(verdict(near), "; ".join(texts))


def correlation(run: RunResult) -> Finding:
    """Spearman correlation of lambda_K and lambda_H up to the peak of lambda_H, and after it."""
    high, texts = [], []
    for lane, arrays in by_rate(run):
        noise, top = curve(arrays, "lambda_k1_raw"), curve(arrays, "lambda_h1")
        steps = np.intersect1d(noise.steps, top.steps)
        if steps.size < 4:
            raise NotMeasured("fewer than four measurements")
        k, h = np.interp(steps, *noise), np.interp(steps, *top)
        peak = int(np.argmax(detectors.smoothed(h)))
        name = f"eta {lane['learning_rate']:g}, seed {lane['seed']}"
        if peak < 3:
            high.append(None)
            texts.append(f"{name}: the peak of lambda_H is measurement {peak + 1}, too early for a correlation")
            continue
        before = rank_correlation(k[: peak + 1], h[: peak + 1])
        high.append(before > CORRELATED)
        after = f", after it {rank_correlation(k[peak:], h[peak:]):.2f}" if steps.size - peak > 3 else ""
        texts.append(f"{name}: {before:.2f} up to the peak of lambda_H ({peak + 1} measurements){after}")
    return Finding(verdict(high), "; ".join(texts))


def break_even_order(run: RunResult) -> Finding:
    """D1 of every lane: the larger the rate, the earlier, and the smaller lambda_H there."""
    lanes, orders, texts = by_rate(run), [], []
    for seed in sorted({lane["seed"] for lane, _ in lanes}):
        seen = []
        for lane, arrays in sorted((p for p in lanes if p[0]["seed"] == seed), key=lambda p: p[0]["learning_rate"]):
            found = detections(run, lane, arrays)["D1"]
            at = None if found.step is None else float(np.interp(found.step, *curve(arrays, "lambda_h1")))
            seen.append((found.step, at))
            words = found.note if found.step is None else f"step {found.step:.0f} at lambda_H {at:.3g}"
            texts.append(f"eta {lane['learning_rate']:g}, seed {seed}: {words} (2/eta {2 / lane['learning_rate']:g})")
        for (late, high), (early, low) in zip(seen, seen[1:], strict=False):
            known = None not in (late, high, early, low)
            orders.append(bool(early < late and low < high) if known else None)
    return Finding(verdict(orders), "; ".join(texts))


def hovers(run: RunResult) -> Finding:
    """lambda_H after the break-even point, in units of 2 / eta."""
    inside, texts = [], []
    for lane, arrays in by_rate(run):
        found = detections(run, lane, arrays)["D1"]
        steps, parts = stability_of(run, lane, arrays)
        name = f"eta {lane['learning_rate']:g}, seed {lane['seed']}"
        top = f"max {parts.full_batch.max():.2f}"
        if found.at is None or (steps >= found.at).sum() < 3:
            inside.append(None)
            texts.append(f"{name}: break-even {found.note or 'too late to say'}, {top}")
            continue
        later = parts.full_batch[steps >= found.at]
        middle = float(np.median(later))
        inside.append(HOVERS[0] <= middle <= HOVERS[1])
        texts.append(f"{name}: median {middle:.2f}, from {later.min():.2f} to {later.max():.2f}, {top} over the run")
    return Finding(verdict(inside), "eta lambda_H / 2 after break-even: " + "; ".join(texts))


def step_stretch(run: RunResult) -> Finding:
    """alpha* at the break-even point, and how it goes with lambda_K before."""
    near, texts = [], []
    for lane, arrays in by_rate(run):
        stretch, found = curve(arrays, "next_step/alpha_star"), detections(run, lane, arrays)["D1"]
        lowest = float(stretch.values.min())
        name = f"eta {lane['learning_rate']:g}, seed {lane['seed']}"
        if found.step is None:
            near.append(None)
            texts.append(f"{name}: break-even {found.note}, alpha* at least {lowest:.2f}")
            continue
        at = float(np.interp(found.step, *stretch))
        near.append(1.0 <= at <= 4.0)
        texts.append(f"{name}: alpha* {at:.2f} at break-even (eta lambda {2.095 / at:.2f}), at least {lowest:.2f}")
    return Finding(verdict(near), "; ".join(texts))


def parting(run: RunResult) -> Finding:
    """Distance to the trajectory of the next larger rate, before and after lambda_K exceeds the maximum of that run."""
    grew, texts = [], []
    for lane, arrays in by_rate(run):
        try:
            found = parting_of(run, lane, arrays)
        except NotMeasured:
            continue  # the largest rate has no other to part from
        larger = [r["learning_rate"] for r in run.lanes if r["learning_rate"] > lane["learning_rate"]]
        top = max(maximum(a, "lambda_k1_raw").raw for r, a in by_rate(run) if r["learning_rate"] == min(larger))
        noise = curve(arrays, "lambda_k1_raw")
        steps = np.asarray(arrays["predictions/step"], np.float64)[: found.distance.size]
        above = np.interp(steps, *noise) > top
        name = f"eta {lane['learning_rate']:g} from {min(larger):g}, seed {lane['seed']}"
        if not above.any() or above.all():
            grew.append(None)
            texts.append(f"{name}: lambda_K is {'always' if above.all() else 'never'} above {top:.3g}")
            continue
        before, after = float(np.mean(found.distance[~above])), float(np.mean(found.distance[above]))
        grew.append(after > before)
        left = found.detection
        words = left.note if left.step is None else f"leaves its neighbourhood at step {left.step:.0f}"
        texts.append(f"{name}: mean distance {before:.3g} below and {after:.3g} above {top:.3g}; {words}")
    return Finding(verdict(grew), "; ".join(texts))
