"""Checks behind the claims on a single example (E1): exact up to rounding, which the seeds of the planted start vary."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lrjax.experiment.rundir.lanes import NotMeasured
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.experiment.rundir.reading import derived
from lrjax.papers.benign_osc import observe
from lrjax.papers.benign_osc.checks import reaches
from lrjax.papers.benign_osc.compared import all_of, cell, told, values
from lrjax.papers.benign_osc.theory import half_capacity_time, single_example_end
from lrjax.papers.claim import Finding
from lrjax.papers.premises import Premise, Reader, exact
from lrjax.papers.statistics import within

RATES, SMALL_RATES = (1.1, 1.2, 1.25), (0.2, 0.5, 0.9)
OSCILLATING, STABLE = all_of(*(cell("main", e) for e in RATES)), all_of(*(cell("main", e) for e in SMALL_RATES))
END, HALF = (
    0.02,
    0.05,
)  # of the law: 2 eps, as it is of first order in eps; (e - 1)^2 < 0.07, as it averages over a cycle
STAYS = 0.1  # of log V: fitting the strong feature alone adds 2 eps log(1 / U_0) = 0.024


def rounding(read: Reader, select: Callable[[RunResult], Any], most: float) -> Premise:
    """What the seeds of a planted start differ by: they turn the features, which changes nothing but rounding.

    Args:
        read: the judged number of a lane.
        select: the compared lanes; those of one rate are each other's controls.
        most: the largest difference that still decides.
    """

    def deviation(run: RunResult) -> float:
        found: dict[float, list[float]] = {}
        for lane, arrays in select(run):
            found.setdefault(lane["e"], []).append(read(lane, arrays))
        if min(len(own) for own in found.values()) < 2:
            raise NotMeasured("no second lane differs by rounding alone")
        return max(float(np.ptp(own)) for own in found.values())

    return exact(deviation, most)


def log_weak(lane: dict[str, Any], arrays: Any) -> float:
    """log of V at the end over V at the start."""

    def grown(own: Any) -> float:
        return np.log(own["features/weak"][-1, 0] / own["features/weak"][0, 0])

    return float(derived(arrays, "log of V of the label +1 at the end over the start", grown))


def log_end(lane: dict[str, Any], arrays: Any) -> float:
    """log of V at the end."""
    return float(np.log(observe.positive_weak(arrays, -1)))


def over_threshold(lane: dict[str, Any], arrays: Any) -> float:
    """log(V / (delta / 4)) at the end; the example has the label +1."""
    window = observe.oscillation(arrays, 0, observe.EARLY)
    return log_end(lane, arrays) - float(np.log(min(window.quantile_5, observe.DELTAS[1]) / 4))


def _law(lane: dict[str, Any], arrays: Any) -> tuple[float, float]:
    """The law's end of V, and its half-capacity time."""
    eps = float(arrays["data/v_norm"] / arrays["data/u_norm"]) ** 2
    return float(single_example_end(lane["e"], eps)), half_capacity_time(
        observe.positive_weak(arrays, 0), lane["e"], eps
    )


def end_off(lane: dict[str, Any], arrays: Any) -> float:
    """V at the end over the law's, minus one."""
    return observe.positive_weak(arrays, -1) / _law(lane, arrays)[0] - 1.0


def half_time(lane: dict[str, Any], arrays: Any) -> int:
    """First recorded step with V above half its capacity; the last step for a lane that never has it."""

    def passed(own: Any) -> int:
        steps = own["features/step"]
        half = observe.first_hit(steps, own["features/weak"][:, 0], 0.5 * (1.0 - 1.0 / lane["e"]))
        return int(steps[-1]) if half is None else half

    return int(derived(arrays, "step with V at half its capacity", passed))


def half_off(lane: dict[str, Any], arrays: Any) -> float:
    """Half-capacity time over the law's, minus one."""
    return half_time(lane, arrays) / _law(lane, arrays)[1] - 1.0


theorem_2 = reaches(*(cell("main", e) for e in RATES), read=over_threshold)


def capacity_law(run: RunResult) -> Finding:
    """End value and half-capacity time of V for a single example against the averaged law."""
    parts, ends, halves = [], [], []
    for e in RATES:
        end, half = (values(run, cell("main", e), read) for read in (end_off, half_off))
        ends, halves = [*ends, end / END], [*halves, half / HALF]
        parts.append(f"e={e:g}: V {end.mean():+.2%}, half-way time {half.mean():+.2%}")
    return Finding(within(*ends, *halves, margin=1.0), "off the law by " + "; ".join(parts))


def small_rates_keep_weak(run: RunResult) -> Finding:
    """For e < 1 a single example leaves V where it was."""
    found = {e: values(run, cell("main", e), log_weak) for e in SMALL_RATES}
    text = ", ".join(told(f"e={e:g}", own) for e, own in found.items())
    return Finding(within(*found.values(), margin=STAYS), f"log(V_end / V_start) {text}")
