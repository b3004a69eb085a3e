"""Premises of the paper's claims."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lrjax.experiment.rundir.lanes import Lanes, NotMeasured
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.break_even import detectors
from lrjax.papers.break_even.checks import SHARE, by_rate, rate_of, trained
from lrjax.papers.break_even.phase_checks import direct
from lrjax.papers.break_even.recorded import curve
from lrjax.papers.premises import FEWEST, Held, Premise, Selector, instrument, matched, peaked, seeds

RESIDUAL = 0.05  # of the top eigenvalue of H, relative: the differences that are judged are many times as large
PROBE = "break_even"
OF_HESSIAN = ("lambda_h1", "trace_h_over_lambda")
TOP = 5  # eigenvalues of H whose sum stands for Tr(H): the paper's


def every(run: RunResult) -> Lanes:
    """All lanes that did not diverge."""
    return trained(run)


def _spectra(key: str) -> Any:
    return lambda run, lane, arrays: run.config["spectra"][key]


SAME = matched(
    {
        "measurements": lambda run, lane, arrays: len(arrays.get(f"{PROBE}/step", ())),
        "L": _spectra("noise_batches"),
        "M": _spectra("noise_batch_size"),
    },
    every,
)


def maxima(name: str, select: Selector = every) -> tuple[Premise, ...]:
    """What a comparison of maxima over trajectories needs.

    Args:
        name: the series.
        select: the compared lanes.
    """
    found = (seeds(3, select), SAME, peaked(f"{PROBE}/{name}", select, detectors.smoothed))
    return (*found, accurate(select)) if name in OF_HESSIAN else found


def accurate(select: Selector) -> Premise:
    """`instrument` for the top eigenvalue of H, in units of it.

    Args:
        select: the compared lanes.
    """
    return instrument(f"{PROBE}/hessian_residuals", RESIDUAL, select, of=f"{PROBE}/lambda_h1")


def _breaks_even(run: RunResult) -> Held:
    found = [direct(run, lane, arrays)[0] / lane["steps"] for lane, arrays in by_rate(run)]
    return Held(True, f"equation 1 is crossed from below at {min(found):.0%} to {max(found):.0%} of each run")


BREAKS_EVEN = Premise(
    "breaks_even",
    "every compared lane is stable by equation 1 at its first measurement and unstable later: elsewhere the theorem is silent",
    _breaks_even,
)


def _sampled(run: RunResult) -> Held:
    found = []
    for lane, arrays in by_rate(run):
        noise, top = curve(arrays, "lambda_k1_raw"), curve(arrays, "lambda_h1")
        steps = np.intersect1d(noise.steps, top.steps)
        if not steps.size:
            raise NotMeasured("lambda_K and lambda_H were not measured at the same steps")
        found.append((int(np.argmax(detectors.smoothed(np.interp(steps, *top)))) + 1, lane))
    count, lane = min(found, key=lambda pair: pair[0])
    return Held(count >= FEWEST, f"{count} up to the peak of lambda_H at eta {rate_of(lane):g}, the fewest")


SAMPLED = Premise("sampled", f"{FEWEST} measurements or more up to the peak of lambda_H in every lane", _sampled)


def _top_five(run: RunResult) -> Held:
    count = int(run.config["spectra"]["k"])
    return Held(count >= TOP, f"{count} eigenvalue{'s' * (count != 1)} of H")


TOP_FIVE = Premise(
    "top_five", f"{TOP} eigenvalues of H are computed, whose sum stands for Tr(H) as in the paper", _top_five
)


def _passes(run: RunResult) -> Held:
    tops = [(float(curve(arrays, "train_accuracy").values.max()), lane) for lane, arrays in by_rate(run)]
    top, lane = min(tops, key=lambda pair: pair[0])
    told = f"training accuracy {top:.2f} at most at eta {rate_of(lane):g}, seed {lane['seed']}, the lowest"
    return Held(top >= SHARE[1], told)


PASSES = Premise("passes", f"training accuracy reaches {SHARE[1]:g} in every compared lane", _passes)


def named(premises: Sequence[Premise]) -> list[str]:
    """Names of premises, for tests.

    Example:
        >>> named(maxima("lambda_h1"))
        ['seeds(3)', 'matched(measurements, L, M)', 'peaked(break_even/lambda_h1)', 'instrument(0.05)']
    """
    return [premise.name for premise in premises]
