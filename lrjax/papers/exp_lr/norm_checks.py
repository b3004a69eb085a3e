"""The checks of the claims on the length of the weights and on how fast they turn."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lrjax.experiment.rundir.lanes import Arrays, NotMeasured
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.claim import Finding
from lrjax.papers.exp_lr.conditions import Differences, tells_apart
from lrjax.papers.exp_lr.observe import log10_rates, paired, phases, settings
from lrjax.papers.premises import Premise
from lrjax.papers.statistics import mean_of, within
from lrjax.transforms.equilibrium import angular_update, time_to_equilibrium

SLOPE = 0.01  # of "grows exactly as": 0.14 decades of the 14 of half the paper's run, less than its curves are wide
ANGLE = 0.1  # a quarter of the distance to the formula without momentum, which gives 1.38 times the angle
POWER = 0.025  # a tenth of the power 1/4
PACE = 0.15  # gradients lengthen the weights by 0.13 of what decay takes; none, or twice as large ones, change that by as much
SETTLES = 3.0  # memories of the buffer, 1 / (1 - gamma) steps each, left out after a drop


def _slope(values: NDArray, start: int, stop: int) -> float:
    """Slope of the line of least squares, a step."""
    stretch = np.asarray(values[start:stop], np.float64)
    steps = np.arange(stretch.size) - (stretch.size - 1) / 2
    return float(steps @ stretch / (steps @ steps))


def _growth(arm: str) -> Differences:
    """run -> [n]: slope of log |w|^2 of an arm over that of the log of TEXP's rate, less 1, over the second half."""

    def excess(run: RunResult) -> NDArray[np.float64]:
        found = []
        for (_, texp), (_, arrays) in zip(*paired(run, "texp", arm), strict=True):
            steps = len(texp["step/log10_norm"])
            rate = _slope(log10_rates(texp), steps // 2, steps)
            found.append(2 * _slope(arrays["step/log10_norm"], steps // 2, steps) / rate - 1)
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
            first = slice(start, min(stop, start + math.ceil(time_to_equilibrium(*values) / 2)))
            angles = arrays["step/angle"][slice((start + stop) // 2, stop) if late else first]
            found.append(np.sqrt(np.mean(np.square(angles, dtype=np.float64))) / float(angular_update(*values)) - 1)
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
            steps = len(short["step/log10_norm"])
            stretch = slice(int(from_share * steps), max(int(to_share * steps), 1))
            apart = np.mean(long["step/log10_norm"][stretch]) - np.mean(short["step/log10_norm"][stretch])
            found.append(apart / ratio - 0.25)
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
            if len(phases(arrays)) < 2:
                raise NotMeasured("no drop of the rate was recorded")
            drop, stop = phases(arrays)[1]
            before, rate = (float(arrays["step/learning_rate"][at]) for at in (drop - 1, drop))
            _, l2, momentum = settings(run, lane)
            time = time_to_equilibrium(rate, l2, momentum)
            settled = drop + round(SETTLES / (1 - momentum))
            length = min(stop, drop + int(time / 4)) - settled
            if length < 10:
                raise NotMeasured("the phase after the first drop is too short")
            start = settled if after else max(drop - length, 0)
            until = settled + length if after else drop
            log10_norm = np.asarray(arrays["step/log10_norm"], np.float64)
            share = rate / before * np.mean(10 ** (4 * (log10_norm[drop] - log10_norm[start:until])))
            shrinks = -2 * math.log(10) * _slope(log10_norm, start, until) * time
            found.append(shrinks / (1 - share) - 1)
        return np.array(found)

    return excess


def re_equilibration(run: RunResult) -> Finding:
    """After the first drop |w|^2 shrinks as decay and the gradients of before make it at the lower rate."""
    excess = _pace(after=True)(run)
    return Finding(within(excess, margin=PACE), f"measured over predicted {mean_of(excess + 1)}")


def resolves_pace() -> Premise:
    """The premise of `re_equilibration`: before the drop |w|^2 does not shrink like that."""
    return tells_apart(PACE, [_pace(after=True)], "stretch before the drop", [_pace(after=False)])
