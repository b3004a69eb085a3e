"""Checks behind the claims about BatchNorm and about the estimator of K."""

import numpy as np

from lrjax.experiment.rundir.lanes import Lanes, diverged, lanes
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.break_even.checks import CORRELATED, maximum, rank_correlation, trained, verdict
from lrjax.papers.break_even.recorded import accuracy_at, curve
from lrjax.papers.claim import Finding, NotMeasured

CHANCE = 0.1


def _lanes(run: RunResult, arm: str, rate: float) -> Lanes:
    return lanes(run, arm, allow_diverged=True, learning_rate=rate)


def trains_with_norm_only(run: RunResult) -> Finding:
    """Training at eta = 1 with and without BatchNorm."""
    with_norm, plain = _lanes(run, "batch_norm", 1.0), _lanes(run, "plain", 1.0)
    ends = [accuracy_at(arrays, lane["steps"]) or 0.0 for lane, arrays in with_norm]
    alive = [not diverged(lane) for lane, _ in with_norm]
    learned = all(alive) and min(ends) > 2 * CHANCE
    broke = [lane.get("diverged_at") for lane, _ in plain]
    text = f"SimpleCNN-BN: training accuracy {', '.join(f'{end:.2f}' for end in ends)} after {with_norm[0][0]['steps']} steps"
    at = ", ".join("did not diverge" if step is None else f"diverged at step {step}" for step in broke)
    ok = learned and all(step is not None for step in broke)
    return Finding("supported" if ok else "contradicted", f"{text}; SimpleCNN: {at}")


def norm_alone(run: RunResult) -> Finding:
    """Conditioning of K: BatchNorm at a small rate, no BatchNorm, and BatchNorm at a large rate."""
    found = {
        name: float(np.mean([maximum(arrays, "trace_over_lambda").raw for _, arrays in _lanes(run, arm, rate)]))
        for name, arm, rate in (
            ("BN, 0.001", "batch_norm", 0.001),
            ("no BN, 0.01", "plain", 0.01),
            ("BN, 1.0", "batch_norm", 1.0),
        )
    }
    norm, plain, large = found.values()
    ratios = [
        f"{arm} at {rate:g}: {curve(arrays, 'g_over_g5').values.max():.2f} ({curve(arrays, 'g_over_g5').values.min():.2f})"
        for arm, rate in (("batch_norm", 0.001), ("plain", 0.01))
        for _, arrays in _lanes(run, arm, rate)[:1]
    ]
    ok = large - norm > abs(norm - plain)
    text = ", ".join(f"{name}: {value:.2f}" for name, value in found.items())
    return Finding(
        "supported" if ok else "contradicted", f"max Tr(K)/lambda_K {text}; |g|/|g5| max (min) {', '.join(ratios)}"
    )


def gamma_falls(run: RunResult) -> Finding:
    """The length of the scales of the last BatchNorm layer early in training, at eta = 1.0 and 0.1."""
    falls, texts = [], []
    for rate in (1.0, 0.1):
        for lane, arrays in _lanes(run, "batch_norm", rate):
            found = curve(arrays, "gamma_norm").values
            if found.size < 3:
                raise NotMeasured("fewer than three measurements of gamma")
            early = found[1 : max(2, found.size // 2)]
            falls.append(bool(early.min() < found[0]))
            texts.append(
                f"eta {rate:g}, seed {lane['seed']}: {found[0]:.3f} at first, {early.min():.3f} in the first half"
            )
    return Finding(verdict(falls), "; ".join(texts))


def estimator(run: RunResult) -> Finding:
    """lambda_K per example of (25, 128) and (25, 1), and of the largest number of single examples, at the same states."""
    close, texts = [], []
    for lane, arrays in trained(run):
        values = np.asarray(arrays.get("noise_grid/lambda_k1_per_example", np.zeros((0, 0))))
        if len(values) < 4:
            raise NotMeasured("fewer than four measurements of the noise_grid probe")
        pairs = list(
            zip(arrays["noise_grid/batches"][0].tolist(), arrays["noise_grid/batch_size"][0].tolist(), strict=True)
        )
        single = max((pair for pair in pairs if pair[1] == 1), default=None)
        if (25, 128) not in pairs or single is None:
            raise NotMeasured("the noise_grid lacks (25, 128) or single examples")
        paper, best = values[:, pairs.index((25, 128))], values[:, pairs.index(single)]
        relation = rank_correlation(paper, best)
        close.append(relation > CORRELATED)
        ratio = float(np.median(paper / best))
        texts.append(
            f"seed {lane['seed']}: rank correlation {relation:.2f} with {single[0]} single examples, ratio {ratio:.2f}"
        )
        texts += [
            f"({count}, {size}): {float(np.median(values[:, i] / best)):.2f}" for i, (count, size) in enumerate(pairs)
        ]
    return Finding(verdict(close), "; ".join(texts) + " (medians over states, relative to single examples)")
