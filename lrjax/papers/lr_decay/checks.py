"""Checks behind the claims on PS10 without noise: run files -> finding."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lrjax.experiment.rundir.lanes import Lanes, end, lanes
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.claim import Finding, NotMeasured, decided
from lrjax.papers.lr_decay.observe import at_step, decays, stages

SIMPLE, COMPLEX, ALL = "subsets/test_simple", "subsets/test_complex", "subsets/test_all"
CONSTANTS = ("constant_0", "constant_1", "constant_2")
LEARNED, UNLEARNED = 0.95, 0.75  # simple at least, complex at most, at the end of the first stage
ABOUT = 0.01  # "about the accuracy of" another run
GAIN = 0.2  # of complex accuracy, that counts as a clear gap


def span(values: NDArray[np.float64]) -> str:
    """mean (sd) of seeds.

    Example:
        >>> span(np.array([0.5, 0.7]))
        '0.600 (0.141)'
    """
    return f"{np.mean(values):.3f} ({np.std(values, ddof=1):.3f})" if values.size > 1 else f"{values[0]:.3f}"


def compared(first: NDArray[np.float64], second: NDArray[np.float64]) -> int:
    """1 where the first mean is higher, -1 where it is lower, 0 within two standard errors of the difference of seeds.

    Raises:
        NotMeasured: there are not two seeds of each.

    Example:
        >>> compared(np.array([0.9, 0.91]), np.array([0.5, 0.52]))
        1
    """
    if min(first.size, second.size) < 2:
        raise NotMeasured("two seeds or more are needed to compare")
    error = np.sqrt(np.var(first, ddof=1) / first.size + np.var(second, ddof=1) / second.size)
    difference = float(np.mean(first) - np.mean(second))
    return 0 if abs(difference) <= 2 * error else int(np.sign(difference))


def by_sides(sides: Sequence[int]) -> str:
    """The verdict of comparisons as `compared` gives them: all higher, any lower, or neither.

    Example:
        >>> by_sides([1, 1]), by_sides([1, -1]), by_sides([1, 0])
        ('supported', 'contradicted', 'inconclusive')
    """
    return "supported" if min(sides) > 0 else "contradicted" if min(sides) < 0 else "inconclusive"


def by_stage(found: Lanes, name: str) -> NDArray[np.float64]:
    """The last value of each stage: [lanes, stages]."""
    return np.array([[stage.end for stage in stages(arrays, name)] for _, arrays in found])


def simple_first(run: RunResult) -> Finding:
    """Accuracy by subset at the end of the first stage."""
    found = lanes(run, "decay")
    simple, hard = by_stage(found, SIMPLE)[:, 0], by_stage(found, COMPLEX)[:, 0]
    ok = simple.mean() >= LEARNED and hard.mean() <= UNLEARNED
    return Finding(
        decided(ok), f"at the end of stage 1 simple {span(simple)}, complex {span(hard)} (mean, sd of seeds)"
    )


def gain_is_complex(run: RunResult) -> Finding:
    """Share of each subset in the rise of total accuracy over the first two decays."""
    found = lanes(run, "decay")
    simple, hard = np.diff(by_stage(found, SIMPLE)), np.diff(by_stage(found, COMPLEX))
    rise = (simple + hard).sum(axis=1)
    share = np.divide(hard.sum(axis=1), rise, out=np.zeros_like(rise), where=rise > 0)
    text = ", ".join(
        f"stage {i + 2}: simple {simple[:, i].mean():+.3f}, complex {hard[:, i].mean():+.3f}"
        for i in range(hard.shape[1])
    )
    ok = np.all(share > 0.5) and hard.sum(axis=1).min() > 0
    return Finding(decided(ok), f"{text}; complex patterns bring {100 * share.mean():.1f} % of the rise")


def smaller_rate_more_complex(run: RunResult) -> Finding:
    """Complex accuracy at the end of the constant rates, from the largest to the smallest."""
    values = [end(lanes(run, arm), COMPLEX) for arm in CONSTANTS]
    rates = [lanes(run, arm)[0][0]["learning_rate"] for arm in CONSTANTS]
    rising = [compared(b, a) for a, b in zip(values, values[1:], strict=False)]
    return Finding(
        by_sides(rising), "complex " + ", ".join(f"{r:g}: {span(v)}" for r, v in zip(rates, values, strict=True))
    )


def smallest_rate_reaches(run: RunResult) -> Finding:
    """Total accuracy of the smallest constant rate against that of decay, both at the end."""
    small, decay = end(lanes(run, CONSTANTS[-1]), ALL), end(lanes(run, "decay"), ALL)
    best = max(CONSTANTS, key=lambda arm: end(lanes(run, arm), ALL).mean())
    ok = small.mean() >= decay.mean() - ABOUT
    return Finding(decided(ok), f"total {span(small)} against {span(decay)} with decay; best constant rate: {best}")


def decay_is_best(run: RunResult) -> Finding:
    """Complex accuracy of decay against each constant rate, at the end."""
    decay = end(lanes(run, "decay"), COMPLEX)
    sides, text = [], []
    for arm in CONSTANTS:
        found = lanes(run, arm)
        sides.append(compared(decay, end(found, COMPLEX)))
        text.append(f"{found[0][0]['learning_rate']:g}: {span(end(found, COMPLEX))}")
    return Finding(by_sides(sides), f"decay {span(decay)}; constant {', '.join(text)}")


def gap(run: RunResult, decay: str = "decay", control: str = "constant_0", name: str = COMPLEX) -> tuple[float, float]:
    """Mean over lanes of (best after the first decay - best before it, the same for the control up to the same step)."""
    after, undecayed = [], []
    for (_, own), (_, other) in zip(lanes(run, decay), lanes(run, control), strict=True):
        first, second, *_ = stages(own, name)
        after.append(second.best - first.best)
        steps = np.asarray(other["subsets/step" if name.startswith("subsets") else "accuracy/step"])
        inside = (steps > first.last) & (steps <= second.last)
        undecayed.append(float(np.max(np.asarray(other[name])[inside])) - first.best)
    return float(np.mean(after)), float(np.mean(undecayed))


def before_and_after(run: RunResult) -> Finding:
    """The gap at the first decay of PS10, against the run that was not decayed."""
    found, control = gap(run)
    return Finding(
        decided(found >= GAIN and found - control >= GAIN / 2),
        f"best complex accuracy after the first decay minus best before: {found:+.3f}; without decay to the same step: "
        f"{control:+.3f}",
    )


def full_batch_needs_none(run: RunResult) -> Finding:
    """Complex training accuracy of full-batch runs with and without decay."""
    name = "subsets/train_complex"
    plain, decayed = end(lanes(run, "full_batch"), name), end(lanes(run, "full_batch_decay"), name)
    descent = end(lanes(run, "gradient_descent"), name)
    ok = plain.min() >= 0.99 and descent.min() >= 0.99 and abs(decayed.mean() - plain.mean()) <= ABOUT
    text = f"complex, full batch {plain.mean():.3f}, with decay {decayed.mean():.3f}, without momentum {descent.mean():.3f}"
    return Finding(decided(ok), text)


def noise_is_the_cause(run: RunResult) -> Finding:
    """Gain by decay with mini-batches and with the full batch, at the same rate and number of steps."""
    name = "subsets/train_complex"
    sgd, sgd_decay = end(lanes(run, "sgd"), name).mean(), end(lanes(run, "sgd_decay"), name).mean()
    full, full_decay = end(lanes(run, "full_batch"), name).mean(), end(lanes(run, "full_batch_decay"), name).mean()
    ok = sgd_decay - sgd >= GAIN and full_decay - full <= ABOUT
    return Finding(
        decided(ok),
        f"decay brings {sgd_decay - sgd:+.3f} with mini-batches ({sgd:.3f} -> {sgd_decay:.3f}) and {full_decay - full:+.3f} "
        f"with the full batch ({full:.3f} -> {full_decay:.3f})",
    )


def average_is_not_decay(run: RunResult) -> Finding:
    """Share of decay's gain in complex accuracy that the averaged weights of the undecayed run have."""
    found, control = lanes(run, "decay"), lanes(run, "constant")
    at = decays(found[0][1])[0]
    before = at_step(control, COMPLEX, at)
    decayed, averaged = end(found, COMPLEX), end(control, "subsets/averaged_test_complex")
    if np.any(decayed <= before):
        raise NotMeasured("decay brought no complex accuracy here")
    share = (averaged - before) / (decayed - before)
    word = "supported" if np.all(share < 0.5) else "contradicted" if np.all(share > 0.9) else "inconclusive"
    return Finding(
        word,
        f"complex at the branching {span(before)}, undecayed {span(end(control, COMPLEX))}, its average {span(averaged)}, "
        f"decayed {span(decayed)}: averaging alone has {100 * share.mean():.0f} % of the gain",
    )


def _rule(run: RunResult, arm: str) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    found = lanes(run, arm)
    steps = np.array([lane.get("stopped_at", lane["steps"]) for lane, _ in found], float)
    return end(found, COMPLEX), steps, int(np.mean([len(decays(arrays)) for _, arrays in found]))


def auto_decay_saves(run: RunResult) -> Finding:
    """Steps and final complex accuracy of AutoDecay against step decay; the other rules beside."""
    reference, length, _ = _rule(run, "step_decay")
    complex_, steps, _ = _rule(run, "auto_decay")
    shorter, worse = steps.mean() < length.mean(), complex_.mean() < reference.mean() - ABOUT
    parts = []
    for arm in ("step_decay", "auto_decay", "plateau", "sasa", "cosine", "wsd", "cooldown", "growing_batch_3"):
        values, used, count = _rule(run, arm)
        parts.append(
            f"{arm} {values.mean():.3f} in {used.mean():.0f} steps" + (f", {count} decays" if count < 9 else "")
        )
    free = end(lanes(run, "schedule_free"), "subsets/averaged_test_complex")
    parts.append(f"schedule_free {free.mean():.3f}")
    word = "supported" if shorter and not worse else "inconclusive" if not worse else "contradicted"
    return Finding(word, "; ".join(parts))
