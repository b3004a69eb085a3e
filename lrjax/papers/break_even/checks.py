"""Checks of the conjectures: maxima over trajectories, and values at equal training accuracy, by rate, batch and momentum."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrjax.experiment.rundir.lanes import Lanes, diverged, recorded
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.break_even import detectors
from lrjax.papers.break_even.recorded import curve, sizes
from lrjax.papers.claim import Finding, NotMeasured
from lrjax.papers.statistics import logs_apart, mean_of, positive

CONTROL = "again"  # the arm of a smaller rate in another order of the same batches, which only `parting` reads
SHARE = (0.3, 0.6)  # of training accuracy, where figure 1 of the paper lets trajectories be compared
BY_SEED = dict[float, dict[int, float]]  # setting -> seed -> number


class Maximum(NamedTuple):
    """The largest value of a series, raw and after smoothing, and whether it was still rising when the run ended."""

    raw: float
    smoothed: float
    rising: bool


def maximum(arrays: Mapping[str, Any], name: str) -> Maximum:
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


def by_rate(run: RunResult) -> Lanes:
    """Lanes that differ by their rate (and seed), none of a sweep over batch sizes and none that is a control."""
    return trained(run, lambda lane: not lane["arm"].startswith(("batch_", CONTROL)))


def by_batch(run: RunResult) -> Lanes:
    """Lanes of a sweep over batch sizes."""
    return trained(run, lambda lane: lane["arm"].startswith("batch_"))


def rate_of(lane: Mapping[str, Any]) -> float:
    """The learning rate of a lane."""
    return float(lane["learning_rate"])


def grouped(lanes: Lanes, of: Callable[[dict[str, Any]], float], value: Callable[[dict, Any], float]) -> BY_SEED:
    """value(lane, arrays) by setting and seed, settings ascending.

    Raises:
        NotMeasured: there are no two settings.
    """
    found: BY_SEED = {}
    for lane, arrays in lanes:
        found.setdefault(of(lane), {})[lane["seed"]] = value(lane, arrays)
    if len(found) < 2:
        raise NotMeasured("there are no two settings to compare")
    return dict(sorted(found.items()))


def paired(low: Mapping[int, float], high: Mapping[int, float]) -> NDArray[np.float64]:
    """log(high / low) over the seeds that both have.

    Example:
        >>> paired({0: 1.0, 1: 2.0}, {0: 1.0, 2: 5.0}).tolist()
        [0.0]
    """
    both = sorted(set(low) & set(high))
    if not both:
        raise NotMeasured("no seed is in both settings")
    return logs_apart([high[seed] for seed in both], [low[seed] for seed in both])


def in_order(found: BY_SEED, sign: int, name: str) -> Finding:
    """Whether a number falls (sign -1) or rises (+1) from each setting to the next larger one, seeds paired."""
    settings = list(found)
    steps = [sign * paired(found[a], found[b]) for a, b in zip(settings, settings[1:], strict=False)]
    told = ", ".join(f"{s:g}: {np.mean(list(own.values())):.3g} (n = {len(own)})" for s, own in found.items())
    ends = mean_of(paired(found[settings[-1]], found[settings[0]]))
    low, high = np.exp(ends.low), np.exp(ends.high)
    told += f"; ratio of {name} {settings[0]:g} to {settings[-1]:g}: {np.exp(ends.mean):.2f}"
    return Finding(positive(*steps), told + (f" [{low:.2f}, {high:.2f}]" if ends.count > 1 else " (one seed)"))


def _order(select: Callable[[RunResult], Lanes], name: str, sign: int, letter: str) -> Callable[[Any], Finding]:
    def check(run: RunResult) -> Finding:
        def setting(lane: dict[str, Any]) -> float:
            return rate_of(lane) if letter == "eta" else float(sizes(run, lane).batch_size)

        found = grouped(select(run), setting, lambda lane, arrays: maximum(arrays, name).smoothed)
        finding = in_order(found, sign, letter)
        return finding._replace(measured=f"smoothed maximum by {letter}: {finding.measured}")

    return check


def rate_order(name: str, sign: int) -> Callable[[Any], Finding]:
    """A check: over trajectories the maximum of `name` falls (sign -1) or rises (+1) with the learning rate."""
    return _order(by_rate, name, sign, "eta")


def batch_order(name: str, sign: int) -> Callable[[Any], Finding]:
    """A check: the maximum of `name` rises (+1) or falls (-1) with the batch size."""
    return _order(by_batch, name, sign, "S")


def momentum_order(run: RunResult) -> Finding:
    """Max lambda_K against momentum."""
    found = grouped(
        trained(run),
        lambda lane: float(lane["values"]["optimizer.momentum"]),
        lambda lane, arrays: maximum(arrays, "lambda_k1_raw").smoothed,
    )
    finding = in_order(found, -1, "momentum")
    return finding._replace(measured=f"smoothed maximum of lambda_K by momentum: {finding.measured}")


def at_accuracies(arrays: Mapping[str, Any], name: str, accuracies: ArrayLike) -> NDArray[np.float64]:
    """A smoothed series where the training accuracy first reaches given values; NaN where it does not.

    Example:
        >>> arrays = {"break_even/step": np.arange(3), "break_even/train_accuracy": np.array([0.1, 0.3, 0.5])}
        >>> at_accuracies(arrays | {"break_even/x": np.array([1.0, 3.0, 5.0])}, "break_even/train_accuracy", [0.2, 0.9])
        array([0.25,  nan])
    """
    accuracy, found = curve(arrays, "train_accuracy"), curve(arrays, name)
    reached = np.maximum.accumulate(accuracy.values)
    values = np.interp(accuracy.steps, found.steps, detectors.smoothed(found.values, 3))
    wanted = np.asarray(accuracies, np.float64)
    inside = (wanted >= reached[0]) & (wanted <= reached[-1])
    rising, first = np.unique(reached, return_index=True)
    return np.where(inside, np.interp(wanted, rising, values[first]), np.nan)


def at_equal_accuracy(run: RunResult) -> Finding:
    """lambda_K of a smaller rate over that of the next larger one where both know as much of the training set."""
    grid = np.linspace(*SHARE, 7)
    lanes = by_rate(run)
    found: dict[float, dict[int, NDArray[np.float64]]] = {}
    for lane, arrays in lanes:
        found.setdefault(rate_of(lane), {})[lane["seed"]] = np.log(at_accuracies(arrays, "lambda_k1_raw", grid))
    rates, ratios, told = sorted(found), [], []
    for small, large in zip(rates, rates[1:], strict=False):
        both = sorted(set(found[small]) & set(found[large]))
        each = [found[small][seed] - found[large][seed] for seed in both]
        known = [own[np.isfinite(own)] for own in each]
        if not known or any(own.size == 0 for own in known):
            raise NotMeasured(f"no training accuracy from {SHARE[0]:g} to {SHARE[1]:g} is passed by both rates")
        ratios.append(np.array([own.mean() for own in known]))
        mean = mean_of(ratios[-1])
        told.append(
            f"eta {small:g} over {large:g}: {np.exp(mean.mean):.2f} [{np.exp(mean.low):.2f}, {np.exp(mean.high):.2f}]"
        )
    if not ratios:
        raise NotMeasured("there are no two settings to compare")
    return Finding(positive(*ratios), f"lambda_K at equal training accuracy, {'; '.join(told)}")
