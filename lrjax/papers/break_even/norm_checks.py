"""Checks behind the claims about BatchNorm and about the estimator of K."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lrjax.experiment.rundir.lanes import Lanes, diverged, lanes
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.break_even.checks import maximum, trained
from lrjax.papers.break_even.phase_checks import rank_correlation
from lrjax.papers.break_even.recorded import accuracy_at, curve
from lrjax.papers.claim import Finding, NotMeasured
from lrjax.papers.premises import Held, Premise
from lrjax.papers.statistics import mean_of, positive

CHANCE = 0.1
APART = 0.1  # of training accuracy, that counts as training where the other does not: ours
FOLLOWS = 0.5  # rank correlation of an estimator that follows another: ours
SAMPLES = 10


def _lanes(run: RunResult, arm: str, rate: float) -> Lanes:
    return lanes(run, arm, allow_diverged=True, learning_rate=rate)


def at_one(run: RunResult) -> Lanes:
    """The lanes at eta = 1, diverged or not: to diverge is what one of them is expected to do."""
    return [*_lanes(run, "batch_norm", 1.0), *_lanes(run, "plain", 1.0)]


def _by_seed(found: Lanes, value: Any) -> dict[int, float]:
    return {lane["seed"]: float(value(lane, arrays)) for lane, arrays in found}


def _end(lane: dict[str, Any], arrays: Mapping[str, Any]) -> float:
    return CHANCE if diverged(lane) else accuracy_at(arrays, lane["steps"]) or CHANCE


def trains_with_norm_only(run: RunResult) -> Finding:
    """Training accuracy at eta = 1 with BatchNorm above that without, where a diverged run is at chance."""
    with_norm = _by_seed(_lanes(run, "batch_norm", 1.0), _end)
    plain = _lanes(run, "plain", 1.0)
    without = _by_seed(plain, _end)
    both = sorted(set(with_norm) & set(without))
    gains = [with_norm[seed] - without[seed] - APART for seed in both]
    broke = sum(diverged(lane) for lane, _ in plain)
    told = f"SimpleCNN-BN: training accuracy {mean_of(list(with_norm.values()))}; SimpleCNN: {broke} of {len(plain)} diverged"
    if gains and broke < len(plain):  # it trains, if badly: the claim says that it diverges
        word = positive(gains)
        return Finding("inconclusive" if word == "supported" else word, told)
    return Finding(positive(gains), told)


def _learns(run: RunResult) -> Held:
    best = max(
        float(np.mean([_end(lane, arrays) for lane, arrays in _lanes(run, arm, rate)]))
        for arm, rate in (("batch_norm", 0.1), ("plain", 0.01))
    )
    return Held(best >= 0.5, f"training accuracy {best:.2f} at most at the smaller rates")


LEARNS = Premise("learns", "at the smaller rates a network of the run has a training accuracy of 0.5 or more", _learns)


def norm_alone(run: RunResult) -> Finding:
    """Conditioning of K: BatchNorm at a small rate, no BatchNorm, and BatchNorm at a large rate."""
    settings = (("BN, 0.001", "batch_norm", 0.001), ("no BN, 0.01", "plain", 0.01), ("BN, 1.0", "batch_norm", 1.0))
    found = {
        name: _by_seed(_lanes(run, arm, rate), lambda lane, arrays: maximum(arrays, "trace_over_lambda").smoothed)
        for name, arm, rate in settings
    }
    norm, plain, large = found.values()
    both = sorted(set(norm) & set(plain) & set(large))
    if not both:
        raise NotMeasured("no seed is in all three settings")
    adds = [np.log(large[s] / norm[s]) - abs(np.log(norm[s] / plain[s])) for s in both]
    ratios = [
        f"{arm} at {rate:g}: {curve(arrays, 'g_over_g5').values.max():.2f} ({curve(arrays, 'g_over_g5').values.min():.2f})"
        for arm, rate in (("batch_norm", 0.001), ("plain", 0.01))
        for _, arrays in _lanes(run, arm, rate)[:1]
        if len(arrays.get("break_even/g_over_g5", ()))
    ]
    told = ", ".join(f"{name}: {mean_of(list(own.values()))}" for name, own in found.items())
    told += f"; difference of logarithms {mean_of(adds)}"
    return Finding(
        positive(adds), f"max Tr(K)/lambda_K {told}" + (f"; |g|/|g5| max (min) {', '.join(ratios)}" if ratios else "")
    )


def starts_high(run: RunResult) -> Finding:
    """lambda_K with BatchNorm at the first measurement after the start, over its mean in the second half of the run."""
    falls, told = [], []
    for rate in (0.01, 0.1, 1.0):
        own = []
        for _, arrays in _lanes(run, "batch_norm", rate):
            found = curve(arrays, "lambda_k1_raw")
            values = found.values[found.steps > 0]  # at the start the running statistics are still empty
            if values.size < 4 or np.any(values <= 0):
                raise NotMeasured(f"{values.size} measurements of lambda_K after the start, or one is not positive")
            own.append(float(np.log(values[0] / values[values.size // 2 :].mean())))
        falls.append(own)
        told.append(f"eta {rate:g}: {mean_of(own)}")
    return Finding(positive(*falls), f"log of the first lambda_K over the mean of the second half, {', '.join(told)}")


def gamma_falls(run: RunResult) -> Finding:
    """The length of the scales of the last BatchNorm layer in the first half of a run, at eta = 1.0 and 0.1."""
    falls, told = [], []
    for rate in (1.0, 0.1):
        own = []
        for _, arrays in _lanes(run, "batch_norm", rate):
            found = curve(arrays, "gamma_norm").values
            if found.size < 3:
                raise NotMeasured("fewer than three measurements of gamma")
            # The mean, not the lowest: the lowest of noise lies below the start whatever happens.
            own.append(float(np.log(found[0] / found[1 : max(2, found.size // 2)].mean())))
        falls.append(own)
        told.append(f"eta {rate:g}: {mean_of(own)}")
    return Finding(positive(*falls), f"log of the initial length over the mean of the first half, {', '.join(told)}")


def _cells(arrays: Mapping[str, Any]) -> tuple[np.ndarray, list[tuple[int, int]], tuple[int, int]]:
    values = np.asarray(arrays.get("noise_grid/lambda_k1_per_example", np.zeros((0, 0))))
    if not len(values):
        raise NotMeasured("the noise_grid probe was off")
    pairs = list(
        zip(arrays["noise_grid/batches"][0].tolist(), arrays["noise_grid/batch_size"][0].tolist(), strict=True)
    )
    single = max((pair for pair in pairs if pair[1] == 1), default=None)
    if (25, 128) not in pairs or single is None:
        raise NotMeasured("the noise_grid lacks (25, 128) or single examples")
    return values, pairs, single


def estimator(run: RunResult) -> Finding:
    """lambda_K per example of (25, 128), and of the largest number of single examples, at the same states."""
    above, told = [], []
    for _, arrays in trained(run):
        values, pairs, single = _cells(arrays)
        above.append(rank_correlation(values[:, pairs.index((25, 128))], values[:, pairs.index(single)]) - FOLLOWS)
        best = values[:, pairs.index(single)]
        told = [f"{pair}: {float(np.median(values[:, i] / best)):.2f}" for i, pair in enumerate(pairs)]
    mean = mean_of([value + FOLLOWS for value in above])
    return Finding(
        positive(above),
        f"rank correlation {mean}; medians relative to single examples, last seed: {', '.join(told)}",
    )


def _states(run: RunResult) -> Held:
    count = min(len(_cells(arrays)[0]) for _, arrays in trained(run))
    return Held(count >= SAMPLES, f"{count} states in each lane or more")


STATES = Premise("states", f"{SAMPLES} states or more in every lane", _states)
