"""Checks of the theorems on short runs: twins compute the same functions, step by step."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.claim import Finding, NotMeasured
from lrjax.papers.exp_lr.conditions import Differences, wrong_variant
from lrjax.papers.exp_lr.observe import Pair, compared, logit_distance, paired
from lrjax.papers.premise import Premise, in_float64
from lrjax.papers.premises import exact, seeds
from lrjax.papers.statistics import mean_of, positive

CLOSE = 1e-3  # in logits, whose spread is about 1: no decision but a tie depends on it
CLOSE_64 = 1e-8  # in float64, whose rounding is 1e-14 in logits and doubles a few times in these steps
SHARE = 0.1  # of the distance of a wrong variant, which gives the size of a fault
AS_WRONG = 0.5  # of that distance, from which on a twin is contradicted
FURTHER = 10.0  # times as far as the control of one rounding; rounding alone took a twin 100 times as far as it once
SMALLEST = 1e-16  # of a distance, for ratios


def distances(reference: str, *others: str) -> Differences:
    """run -> [n]: the largest difference of logits to a reference arm over all steps and these arms, a seed."""

    def found(run: RunResult) -> NDArray[np.float64]:
        one, *twins = paired(run, reference, *others)
        return np.max([[_largest(a, b) for a, b in zip(one, twin, strict=True)] for twin in twins], axis=0)

    return found


def _largest(one: Pair, other: Pair) -> float:
    steps, distance = logit_distance(one, other)
    if not (steps > 0).any():
        raise NotMeasured("no logits were recorded after the first step")
    return float(distance[steps > 0].max())


def same_functions(*twins: str, wrong: str, prefixes: Sequence[str] = ("",)) -> Any:
    """The logits of twins agree at every step, in every seed.

    Args:
        *twins: arms that equal the arm "weight_decay".
        wrong: an arm that does not.
        prefixes: of the names of arms, one a setting.

    Returns:
        The check. Contradicted only where a twin parts in every seed about as far as the wrong variant does, and further
        than rounding explains.
    """

    def check(run: RunResult) -> Finding:
        wide = in_float64(run)
        told, verdicts = [], []
        for prefix in prefixes:
            reference = f"{prefix}weight_decay"
            control, fault = (distances(reference, f"{prefix}{arm}")(run) for arm in ("one_ulp", wrong))
            allowed = np.minimum(CLOSE_64 if wide else CLOSE, SHARE * fault)
            for twin in twins:
                apart = distances(reference, f"{prefix}{twin}")(run)
                told.append(
                    f"{prefix}{twin} {_listed(apart)} (one rounding {_listed(control)}, fault {_listed(fault)})"
                )
                far = bool(np.all((apart > AS_WRONG * fault) & (apart > FURTHER * control)))
                close = bool(np.all(apart <= allowed))
                verdicts.append("supported" if close else "contradicted" if far else "inconclusive")
        verdict = next((word for word in ("contradicted", "inconclusive") if word in verdicts), "supported")
        return Finding(
            verdict, f"largest difference of logits in {'float64' if wide else 'float32'}: {'; '.join(told)}"
        )

    return check


def _listed(values: NDArray[np.float64]) -> str:
    return ", ".join(f"{value:.1e}" for value in values)


def premises(*twins: str, wrong: str, prefixes: Sequence[str] = ("",)) -> tuple[Premise, ...]:
    """Those of `same_functions`: all arms have run, float64 or a close control, and a wrong variant that parts."""
    arms = ("weight_decay", *twins, "one_ulp", wrong)

    def of(arm: str) -> Differences:
        return lambda run: np.concatenate([distances(f"{p}weight_decay", f"{p}{arm}")(run) for p in prefixes])

    every = seeds(1, compared(*(f"{prefix}{arm}" for prefix in prefixes for arm in arms)))
    return every, exact(of("one_ulp"), CLOSE), wrong_variant(of(wrong), of("one_ulp"), 1 / SHARE, wrong)


def correction_matters(run: RunResult) -> Finding:
    """Without the correction of the buffer at step 0 the logits part at least ten times further than with it."""
    right = np.maximum(distances("weight_decay", "texp")(run), SMALLEST)
    wrong = np.maximum(distances("weight_decay", "texp_uncorrected")(run), SMALLEST)
    factors = np.log10(wrong / right)
    told = f"log10 of uncorrected over corrected {mean_of(factors)} ({_listed(wrong)} over {_listed(right)})"
    return Finding(positive(factors - 1.0), f"{told}; 1 is asked for")
