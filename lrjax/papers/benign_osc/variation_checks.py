"""Checks behind the claims on what was varied: noise, weak examples, schedule, batch, width, order: run files -> finding."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.experiment.rundir.reading import derived
from lrjax.papers.benign_osc import observe
from lrjax.papers.benign_osc.compared import GAIN, all_of, apart, cell, told, values
from lrjax.papers.claim import Finding
from lrjax.papers.premises import Held, Premise, Selector, last_of
from lrjax.papers.statistics import mean_of, positive, within

KEPT = 0.05  # of accuracy that a decay may cost, a tenth of the way from a guess to all
POWER = 0.25  # half of the distance to the power 1/2, which a time that goes as |u| / |v| would have
ONE_LOG = 0.22  # of the slope: a factor log(1/sigma_0), which O~ allows, lowers it by 1 / log(1/sigma_0) at 0.01
STARTS = (0.0025, 0.005, 0.01, 0.02)
LENGTHS = {0.1: "reference", 0.0707: "weaker", 0.05: "weaker"}
VARIANTS = ("wide", "iid", "cyclic", "unshared_filters")


def gains(pairs: Mapping[str, tuple[Selector, Selector]]) -> Callable[[RunResult], Finding]:
    """A check: weak-only accuracy of the first of each pair is higher by more than a half of what there is to gain."""

    def check(run: RunResult) -> Finding:
        found = {name: apart(run, *pair) for name, pair in pairs.items()}
        levels = {name: [values(run, select).mean() for select in pair] for name, pair in pairs.items()}
        text = [f"{told(name, own)} ({levels[name][0]:.3f}, {levels[name][1]:.3f})" for name, own in found.items()]
        return Finding(positive(*(own - GAIN for own in found.values())), "gain " + "; ".join(text))

    return check


EDGES = {
    "kn = 4 over 12 at e = 0.5": (cell("noise", 0.5, data__kn=4), cell("noise", 0.5, data__kn=12)),
    "kn = 12 over 40 at e = 1.1": (cell("noise", 1.1, data__kn=12), cell("noise", 1.1, data__kn=40)),
}
NO_WEAK = {
    "e = 1.25 over 0.9 with no weak example": (
        cell("n_weak", 1.25, data__n_weak=0),
        cell("n_weak", 0.9, data__n_weak=0),
    )
}
FULL_BATCH = {"e_gd = 1.25 over 0.9": (cell("full_batch_oscillating"), cell("full_batch_stable"))}
LABEL_NOISE = {"noise over none at e = 0.9": (cell("label_noise"), cell("stable"))}
ROBUST = {name: (cell(name), cell(f"{name}_stable")) for name in VARIANTS}
BATCHES = {f"batch of {size}": (cell(f"batch_{size}"), cell(f"batch_{size}_stable")) for size in (16, 32)}


def compared(pairs: Mapping[str, tuple[Selector, Selector]]) -> Selector:
    """All lanes of some pairs."""
    return all_of(*(select for pair in pairs.values() for select in pair))


SCHEDULE = all_of(cell("decay_8k"), cell("decay_2k"))


def kept(lane: dict[str, Any], arrays: Any) -> float:
    """Weak-only accuracy at the end minus that at the decay after 8000 steps."""
    steps, found = arrays["test_accuracy/step"], arrays["test_accuracy/weak_accuracy"]
    return float(found[-1]) - float(found[np.searchsorted(steps, 8000)])


def schedule(run: RunResult) -> Finding:
    """A long large-rate phase is kept after the decay, and is worth more than a short one."""
    change, gain = values(run, cell("decay_8k"), kept), apart(run, cell("decay_8k"), cell("decay_2k"))
    text = f"{told('after the decay at 8k', change)}, {told('decay at 8k over decay at 2k', gain)}"
    return Finding(positive(change + KEPT, gain - GAIN), text)


def _slopes(x: list[float], y: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Slope of a straight line through log y over log x, for each seed."""
    return np.polyfit(np.log(x), np.log(np.stack(y)), 1)[0]


def passes(lane: dict[str, Any], arrays: Any) -> float:
    """Step at which V passes delta/4 for both labels, between records by log V; infinite where it never does."""
    level = np.log(observe.delta_of(lane["e"]) / 4)

    def step(own: Any) -> float:
        steps, weak = own["features/step"], np.log(np.maximum(own["features/weak"].min(axis=1), 1e-30))
        above = np.flatnonzero(weak > level)
        if not above.size:
            return np.inf
        last = int(above[0])
        return float(np.interp(level, weak[max(last - 1, 0) : last + 1], steps[max(last - 1, 0) : last + 1]))

    return float(derived(arrays, "step at which V passes delta/4", step))


def of_length(v_norm: float) -> Selector:
    """The lanes with a weak feature of this length."""
    return cell(LENGTHS[v_norm], **({} if v_norm == 0.1 else {"data__v_norm": v_norm}))


TIMES = all_of(*(of_length(v_norm) for v_norm in LENGTHS))


def reached(select: Selector) -> Premise:
    """A time is known only of a lane that got there."""

    def evaluate(run: RunResult) -> Held:
        found = [np.isfinite(passes(lane, arrays)) for lane, arrays in select(run)]
        return Held(all(found), f"{sum(found)} of {len(found)} lanes passed delta/4")

    return Premise("reached", "every compared lane passed delta/4", evaluate)


def time_scale(run: RunResult) -> Finding:
    """The power of |u|^2 / |v|^2 with which the time to pass delta/4 grows."""
    times = [values(run, of_length(v_norm), passes) for v_norm in LENGTHS]
    powers = _slopes([v_norm**-2 for v_norm in LENGTHS], times)
    text = ", ".join(f"|v| = {v_norm:g}: {own.mean():.0f} steps" for v_norm, own in zip(LENGTHS, times, strict=True))
    return Finding(within(powers - 1.0, margin=POWER), f"{told('power', powers)}; {text}")


def largest_inner(lane: dict[str, Any], arrays: Any) -> float:
    """max |<w, v>| / |v| at the end."""
    largest = derived(arrays, "largest |<w, v>| at the end", lambda own: np.max(np.abs(own["features/inner_v"][-1])))
    return float(largest / arrays["data/v_norm"])


def start_slopes(run: RunResult, arm: str) -> NDArray[np.float64]:
    """Slope of log max |<w, v>| over log sigma_0 at the end, for each seed of an arm."""
    return _slopes(list(STARTS), [values(run, cell(arm, model__init_scale=start), largest_inner) for start in STARTS])


SMALL_STARTS = all_of(*(cell("start", model__init_scale=start) for start in STARTS))


def proposition_6(run: RunResult) -> Finding:
    """The power of sigma_0 with which the weak-signal component at the end of a small-rate run goes."""
    slopes = start_slopes(run, "start")
    text = f"max |<w, v>| goes as sigma_0 to the power {mean_of(slopes)} at e = 0.5"
    return Finding(within(slopes - 1.0, margin=ONE_LOG), text)


def large_rate_forgets_start(run: RunResult) -> Held:
    """The interval is shorter than the margin, and the large rate, whose end knows no sigma_0, fails the same check."""
    half = mean_of(start_slopes(run, "start")).half_width
    large = start_slopes(run, "start_oscillating")
    wrong = within(large - 1.0, margin=ONE_LOG)
    text = f"half of the interval is {half:.2g} of the margin {ONE_LOG:g}; power {mean_of(large)} at e = 1.25"
    return Held(half <= ONE_LOG and wrong != "supported", text)


AVERAGED = cell("averaged")


def averaging(run: RunResult) -> Finding:
    """Averaged iterates against the last one while the run still oscillates."""
    mean, last = values(run, AVERAGED, last_of("test_accuracy/averaged_weak_accuracy")), values(run, AVERAGED)
    losses = [values(run, AVERAGED, last_of(f"features/{name}loss")) for name in ("averaged_", "")]
    ahead = np.log(losses[1] / losses[0])
    text = f"weak-only accuracy {told('averaged minus last', mean - last)} ({mean.mean():.3f}, {last.mean():.3f}), "
    return Finding(positive(mean - last, ahead), text + told("log of training loss, last over averaged", ahead))


RESOLVED = Premise(
    f"resolved({ONE_LOG:g})",
    "the interval is at most the margin, and e = 1.25 fails the same check",
    large_rate_forgets_start,
)
