"""Checks of assumption 2, that H and K have one top eigenvector and proportional eigenvalues, and of how close K is to G."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.break_even import detectors
from lrjax.papers.break_even.checks import by_rate, rate_of
from lrjax.papers.break_even.detectors import Series
from lrjax.papers.break_even.phase_checks import columns, each_rate, rank_correlation, told_by_rate
from lrjax.papers.break_even.recorded import curve, sizes
from lrjax.papers.claim import Finding, NotMeasured
from lrjax.papers.premises import Held, Premise
from lrjax.papers.statistics import positive, within

ALIGNED = float(np.sqrt(0.5))  # |cos| of 45 degrees: closer to parallel than to perpendicular; ours
POWER = 0.5  # around 1, of lambda_K as a power of lambda_H: ours
GROWS = float(np.log(2))  # by how much log lambda_H rises where a power is fitted: ours
FEW = 3  # measurements that a power is fitted to, at least
SHARE = 0.05  # of the training set for H: the paper's
EXAMPLES = 512  # or more: below, `lrjax.spectra.subset` warns that curvature may be several times off
CLOSE = 0.1  # of the spectral norm, by which that of G may differ from that of K: ours
LEAST = 0.01  # of it: a smaller share counts as this one, of which there is a logarithm


def growth_ends(arrays: Mapping[str, Any]) -> float:
    """The step at which the smoothed lambda_H is largest: up to it the paper's model of the early phase is judged.

    Raises:
        NotMeasured: lambda_H was not recorded.
    """
    top = curve(arrays, "lambda_h1")
    if not top.steps.size:
        raise NotMeasured("lambda_h1 was never finite")
    return float(top.steps[int(np.argmax(detectors.smoothed(top.values)))])


def early(arrays: Mapping[str, Any], *names: str) -> list[Series]:
    """Some series at the steps up to the peak of lambda_H at which all of them were measured."""
    found, end = [curve(arrays, name) for name in names], growth_ends(arrays)
    steps = found[0].steps[found[0].steps <= end]
    for other in found[1:]:
        steps = np.intersect1d(steps, other.steps)
    return [np.interp(steps, *one) for one in found]


def same_direction(run: RunResult) -> Finding:
    """The mean of |cos| of the angle between the top eigenvectors of H and K up to the peak of lambda_H."""

    def mean(lane: dict[str, Any], arrays: Mapping[str, Any]) -> float:
        (values,) = early(arrays, "cos_hk")
        if not values.size:
            raise NotMeasured("cos_hk was not measured up to the peak of lambda_H")
        return float(values.mean())

    found = each_rate(run, mean)
    above = [[value - ALIGNED for value in own] for own in columns(found)]
    return Finding(positive(*above), f"mean |cos| up to the peak of lambda_H, {told_by_rate(found)}")


def proportional(run: RunResult) -> Finding:
    """The power with which lambda_K grows with lambda_H up to the peak of lambda_H, by least squares of logarithms."""

    def power(lane: dict[str, Any], arrays: Mapping[str, Any]) -> float:
        noise, top = early(arrays, "lambda_k1_raw", "lambda_h1")
        sound = (noise > 0) & (top > 0)
        if sound.sum() < FEW or np.ptp(top[sound]) == 0:
            raise NotMeasured(f"{sound.sum()} measurements up to the peak of lambda_H are too few for a power")
        return float(np.polyfit(np.log(top[sound]), np.log(noise[sound]), 1)[0])

    found = each_rate(run, power)
    away = [[value - 1 for value in own] for own in columns(found)]
    return Finding(within(*away, margin=POWER), f"lambda_K grows as lambda_H to the power, {told_by_rate(found)}")


def close_to_uncentred(run: RunResult) -> Finding:
    """|g|^2 over lambda_K of single examples, the most by which the spectral norm of G = K + g g^T differs from that of K."""

    def share(lane: dict[str, Any], arrays: Mapping[str, Any]) -> float:
        # An infinite scale, where |g|^2 is not told from zero, is a share of zero.
        ratio, scale = curve(arrays, "trace_over_lambda"), curve(arrays, "noise_scale", infinite=True)
        steps = np.intersect1d(ratio.steps, scale.steps)
        if not steps.size:
            raise NotMeasured("the gradient noise scale was not recorded: its probe was off")
        return float(np.median(np.interp(steps, *ratio) / scale.values[np.searchsorted(scale.steps, steps)]))

    found = each_rate(run, share)
    below = [np.log(CLOSE / np.maximum(own, LEAST * CLOSE)) for own in columns(found)]
    return Finding(positive(*below), f"median of |g|^2 / lambda_K through training, {told_by_rate(found)}")


def stretch_follows(run: RunResult) -> Finding:
    """Rank correlation of alpha* and lambda_K up to the peak of lambda_H."""

    def correlation(lane: dict[str, Any], arrays: Mapping[str, Any]) -> float:
        stretch, noise = early(arrays, "next_step/alpha_star", "lambda_k1_raw")
        if stretch.size < FEW or np.ptp(stretch) == 0:
            raise NotMeasured(f"{stretch.size} measurements of alpha* are too few for a correlation, or all are equal")
        return rank_correlation(stretch, noise)

    found = each_rate(run, correlation)
    against = [[-value for value in own] for own in columns(found)]
    return Finding(positive(*against), f"rank correlation up to the peak of lambda_H, {told_by_rate(found)}")


def _grows(run: RunResult) -> Held:
    found = []
    for lane, arrays in by_rate(run):
        (top,) = early(arrays, "lambda_h1")
        found.append((float(np.ptp(np.log(top[top > 0]))) if (top > 0).any() else 0.0, lane))
    rise, lane = min(found, key=lambda pair: pair[0])
    told = f"lambda_H spans a factor of {np.exp(rise):.2f} up to its peak at eta {rate_of(lane):g}, seed {lane['seed']}"
    return Held(rise >= GROWS, told + ", the least")


RISES = Premise("rises", f"lambda_H spans a factor of {np.exp(GROWS):g} up to its peak in every lane", _grows)


def _subset(run: RunResult) -> Held:
    count = int(run.config["spectra"]["examples"])
    total = max(sizes(run, lane).num_examples for lane, _ in by_rate(run))
    used = count or total
    return Held(used >= max(EXAMPLES, SHARE * total) or used >= total, f"{used} of {total} examples")


SUBSET = Premise(
    "subset",
    f"H is measured on {SHARE:.0%} of the training set, as in the paper, and on {EXAMPLES} examples or more",
    _subset,
)
