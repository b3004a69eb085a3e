"""The checks of the claims on the length of the weights and on how fast they turn."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrjax.experiment.rundir.lanes import Arrays, NotMeasured
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.experiment.rundir.reading import derived, entries
from lrjax.papers.claim import Finding
from lrjax.papers.exp_lr.conditions import Differences, tells_apart
from lrjax.papers.exp_lr.observe import RATE, mean_power, paired, phases, settings, slope, value_at
from lrjax.papers.premises import Premise
from lrjax.papers.statistics import mean_of, within
from lrjax.transforms.equilibrium import angular_update, time_to_equilibrium

NORM = "step/log10_norm"
SLOPE = 0.01  # of "grows exactly as": 0.14 decades of the 14 of half the paper's run, less than its curves are wide
ANGLE = 0.1  # a quarter of the distance to the formula without momentum, which gives 1.38 times the angle
POWER = 0.025  # a tenth of the power 1/4
PACE = 0.15  # gradients lengthen the weights by 0.13 of what decay takes; none, or twice as large ones, change that by as much
SETTLES = 3.0  # memories of the buffer, 1 / (1 - gamma) steps each, left out after a drop


def _growth(arm: str) -> Differences:
    """run -> [n]: slope of log |w|^2 of an arm over that of the log of TEXP's rate, less 1, over the second half."""

    def excess(run: RunResult) -> NDArray[np.float64]:
        found = []
        for (_, texp), (_, arrays) in zip(*paired(run, "texp", arm), strict=True):
            steps = entries(texp, NORM)
            rate = slope(texp, RATE, steps // 2, steps)
            found.append(2 * slope(arrays, NORM, steps // 2, steps) / rate - 1)
        return np.array(found)

    return excess


def norm_follows_rate(run: RunResult) -> Finding:
    """log |w|^2 and log of the rate grow at the same slope over the second half."""
    excess, drift = _growth("texp")(run), _growth("weight_decay")(run) + 1
    told = f"slope of log |w|^2 over that of log rate {mean_of(excess + 1)}; with weight decay {mean_of(drift)}"
    return Finding(within(excess, margin=SLOPE), told)


def resolves_growth() -> Premise:
    """The premise of `norm_follows_rate`: the weights of a run without decay and growth do not grow like that."""
    return tells_apart(SLOPE, [_growth("texp")], "no_decay", [_growth("no_decay")])


def _angles(arm: str, phase: int) -> Differences:
    """run -> [n]: log of the mean angle between measurements in a phase, over that with weight decay."""

    def ratios(run: RunResult) -> NDArray[np.float64]:
        reference, twin = paired(run, "weight_decay", arm)
        pairs = zip(reference, twin, strict=True)
        return np.log([_mean_angle(b, phase) / _mean_angle(a, phase) for (_, a), (_, b) in pairs])

    return ratios


def _mean_angle(arrays: Arrays, phase: int) -> float:
    start, stop = phases(arrays)[phase]
    step = arrays["direction/step"]
    inside = (step > start) & (step <= stop)
    if not inside.any():
        raise NotMeasured(f"no angle was measured in phase {phase + 1}")
    return float(arrays["direction/angle"][inside].mean())


PHASES = (0, 1, 2)


def angles_agree(run: RunResult) -> Finding:
    """The angle between measurements, averaged over a phase, is the same with and without weight decay, in each phase."""
    ratios = [_angles("texp", phase)(run) for phase in PHASES]
    told = ", ".join(str(mean_of(own)) for own in ratios)
    return Finding(within(*ratios, margin=ANGLE), f"log of TEXP over weight decay by phase: {told}")


def resolves_angles() -> Premise:
    """The premise of `angles_agree`: TEXP-- turns at another pace."""
    right, wrong = ([_angles(arm, phase) for phase in PHASES] for arm in ("texp", "texp_no_drop"))
    return tells_apart(ANGLE, right, "texp_no_drop", wrong)


def _turning(late: bool) -> Differences:
    """run -> [n]: angle of a step (root mean square) over the formula's, less 1.

    Args:
        late: over the second half of the first phase; or over the half e-folding of |w|^2 with which it begins.
    """

    def excess(run: RunResult) -> NDArray[np.float64]:
        found = []
        for lane, arrays in paired(run, "weight_decay")[0]:
            start, stop = phases(arrays)[0]
            values = settings(run, lane)
            first = (start, min(stop, start + math.ceil(time_to_equilibrium(*values) / 2)))
            squared = mean_power(arrays, "step/angle", *(((start + stop) // 2, stop) if late else first), power=2)
            found.append(math.sqrt(squared) / float(angular_update(*values)) - 1)
        return np.array(found)

    return excess


def equilibrium_angle(run: RunResult) -> Finding:
    """In the second half of the run steps turn the weights by sqrt(2 eta lambda / (1 + gamma)) (root mean square)."""
    excess = _turning(late=True)(run)
    return Finding(within(excess, margin=ANGLE), f"measured over predicted {mean_of(excess + 1)}")


def resolves_turning() -> Premise:
    """The premise of `equilibrium_angle`: the formula is not met before equilibrium."""
    return tells_apart(ANGLE, [_turning(late=True)], "start of the run", [_turning(late=False)])


def _power(from_share: float, to_share: float) -> Differences:
    """run -> [n]: power of eta / lambda by which |w| differs between the arms of E8, less 1/4, over a stretch of the run."""

    def excess(run: RunResult) -> NDArray[np.float64]:
        found = []
        for (low, short), (high, long) in zip(*paired(run, "low", "high"), strict=True):
            ratio = math.log10(_ratio(settings(run, high)) / _ratio(settings(run, low)))
            steps = entries(short, NORM)
            stretch = int(from_share * steps), max(int(to_share * steps), 1)
            found.append((mean_power(long, NORM, *stretch) - mean_power(short, NORM, *stretch)) / ratio - 0.25)
        return np.array(found)

    return excess


def _ratio(values: Sequence[float]) -> float:
    return values[0] / values[1]


def equilibrium_norm(run: RunResult) -> Finding:
    """Over the second half of the run |w| is as (eta / lambda)^(1/4)."""
    excess = _power(0.5, 1.0)(run)
    return Finding(within(excess, margin=POWER), f"power {mean_of(excess + 0.25)}")


def resolves_power() -> Premise:
    """The premise of `equilibrium_norm`: the first weights, which are the same, do not show that power."""
    return tells_apart(POWER, [_power(0.5, 1.0)], "at the start", [_power(0.0, 0.0)])


def after_drop(run: RunResult, lane: Mapping[str, Any], arrays: Arrays) -> tuple[int, int]:
    """The steps over which `re_equilibration` judges: a quarter of an e-folding after the first drop, once the buffer forgot.

    Raises:
        NotMeasured: there was no drop, or the phase after it is too short.
    """
    if len(phases(arrays)) < 2:
        raise NotMeasured("no drop of the rate was recorded")
    drop, stop = phases(arrays)[1]
    _, l2, momentum = settings(run, lane)
    time = time_to_equilibrium(value_at(arrays, "step/learning_rate", drop), l2, momentum)
    settled = drop + round(SETTLES / (1 - momentum))
    length = min(stop, drop + int(time / 4)) - settled
    if length < 10:
        raise NotMeasured("the phase after the first drop is too short")
    return settled, settled + length


def _pace(after: bool) -> Differences:
    """run -> [n]: slope of -log |w|^2 over that predicted for the rate after the first drop, less 1.

    Decay alone gives one e-folding in (1 - gamma) / (2 eta lambda) steps. Before the drop gradients made up for it; with the
    same ones at the lower rate they make up for a share of (eta / eta_before) (|w_drop| / |w|)^4.

    Args:
        after: over a quarter of that e-folding after the drop; or over as many steps before it.
    """

    def excess(run: RunResult) -> NDArray[np.float64]:
        found = []
        for lane, arrays in paired(run, "weight_decay")[0]:
            start, until = after_drop(run, lane, arrays)
            drop = phases(arrays)[1][0]
            before, rate = (value_at(arrays, "step/learning_rate", at) for at in (drop - 1, drop))
            _, l2, momentum = settings(run, lane)
            time = time_to_equilibrium(rate, l2, momentum)
            start, until = (start, until) if after else (max(drop - (until - start), 0), drop)
            share = rate / before * _shares(arrays, drop, start, until)
            shrinks = -2 * math.log(10) * slope(arrays, NORM, start, until) * time
            found.append(shrinks / (1 - share) - 1)
        return np.array(found)

    return excess


def _shares(arrays: Arrays, drop: int, start: int, stop: int) -> float:
    """Mean of (|w_drop| / |w|)^4 over [start, stop)."""

    def mean(own: Arrays) -> float:
        log10_norm = np.asarray(own[NORM], np.float64)
        return float(np.mean(10 ** (4 * (log10_norm[drop] - log10_norm[start:stop]))))

    return float(derived(arrays, f"mean of (|w| at step {drop} over |w|)^4 over steps {start} to {stop}", mean))


def re_equilibration(run: RunResult) -> Finding:
    """After the first drop |w|^2 shrinks as decay and the gradients of before make it at the lower rate."""
    excess = _pace(after=True)(run)
    return Finding(within(excess, margin=PACE), f"measured over predicted {mean_of(excess + 1)}")


def resolves_pace() -> Premise:
    """The premise of `re_equilibration`: before the drop |w|^2 does not shrink like that."""
    return tells_apart(PACE, [_pace(after=True)], "stretch before the drop", [_pace(after=False)])
