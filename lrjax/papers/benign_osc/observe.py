"""Quantities of a run on the synthetic data: visits of strong examples, accumulation, oscillation, end values.

All that the probes do not record themselves. Labels are in the order (+1, -1). What is one number a lane goes through
`lrjax.experiment.rundir.reading.derived`, under a name without e: a lane has one.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrjax.experiment.rundir.lanes import Arrays, recorded
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.experiment.rundir.reading import derived
from lrjax.papers.benign_osc.cubic_map import SIGN_STABLE_LIMIT, mean_residual, phase, residual_floor
from lrjax.papers.benign_osc.theory import capacity

LABELS = (1.0, -1.0)
DELTAS = (0.2, 0.8)  # Assumption 4 asks for a delta between these
EARLY = 4000  # steps of the oscillating window where V has not ended it
FITTED = 0.01  # |1 - y f| up to which an example counts as fitted
ROUNDING = 1e-3  # of float32 logs and sums, on quantities of order 1 and more


class Visits(NamedTuple):
    """Visits of strong examples of one label: the steps, and z = y f before each."""

    step: NDArray[np.int64]
    z: NDArray[np.float64]


def visits(arrays: Arrays, label: float) -> Visits:
    """Visits of the strong examples of a label in a run with one example a step."""
    example = arrays["step/example"].astype(int)
    wanted = arrays["data/strong"][example] & (arrays["data/y"][example] == label)
    step = np.flatnonzero(wanted)
    return Visits(step, arrays["step/margin"][step].astype(np.float64))


class Accumulation(NamedTuple):
    """Running sums over the strong visits of one label at the logged steps.

    Attributes:
        step: logged steps [T].
        count, total, squares: visits, S = sum (1 - z) and sum (1 - z)^2 so far [T].
        bound: lower bound of S from the growth of <w, y u> of one neuron, (log(a_T / a_0) + sum x^2 / (2 (1 + max(x, 0)))) / e
            with x = e (1 - z) [T]. The closed form e sum (1 - z)^2 / (2 (1 + e)) needs z >= 0.
        min_q: smallest multiplier 1 + e (1 - z) so far [T]; the bound is meant while it is positive.
    """

    step: NDArray[Any]
    count: NDArray[Any]
    total: NDArray[Any]
    squares: NDArray[Any]
    bound: NDArray[Any]
    min_q: NDArray[Any]

    def holds(self) -> bool:
        """S >= bound at every logged step while every multiplier was positive."""
        meant = self.min_q > 0
        return bool(np.all(self.total[meant] >= self.bound[meant] - ROUNDING))


def accumulation(arrays: Arrays, label: float, e: float) -> Accumulation:
    """S_y, its lower bound and the smallest multiplier at every logged step."""
    seen = visits(arrays, label)
    x = e * (1.0 - seen.z)
    logged = arrays["features/step"]
    upto = np.searchsorted(seen.step, logged)  # visits before each logged step

    def running(values: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([[0.0], np.cumsum(values)])[upto]

    own = arrays["features/inner_u"][:, LABELS.index(label)].astype(np.float64) * label  # [T, m]
    neuron = int(np.argmax(own[0]))
    with np.errstate(divide="ignore", invalid="ignore"):
        growth = np.log(own[:, neuron] / own[0, neuron])
    bound = (growth + running(np.square(x) / (2.0 * (1.0 + np.maximum(x, 0.0))))) / e
    lowest = np.minimum.accumulate(np.concatenate([[np.inf], 1.0 + x]))[upto]
    return Accumulation(logged, upto, running(x) / e, running(np.square(x)) / e**2, bound, lowest)


@functools.cache
def delta_of(e: float) -> float:
    """delta of Assumption 4 for a rate: the map's smallest residual where that is at least 0.2, else 0.2."""
    floor = float(residual_floor(e)) if 1.0 < e < SIGN_STABLE_LIMIT else 0.0
    return float(np.clip(floor, *DELTAS))


def first_hit(step: NDArray[Any], values: NDArray[Any], threshold: float) -> int | None:
    """First recorded step at which a value exceeds the threshold."""
    above = np.flatnonzero(values > threshold)
    return int(step[above[0]]) if above.size else None


class Oscillation(NamedTuple):
    """Residuals |y f - 1| on strong visits of both labels within a window."""

    visits: float
    minimum: float
    quantile_5: float
    rms: float
    share_02: float  # share of visits with |y f - 1| >= 0.2
    alternation: float  # share of consecutive visits of one label at which the sign of y f - 1 changes


def oscillation(arrays: Arrays, start: int, stop: int) -> Oscillation:
    """The oscillation report of the window [start, stop)."""
    name = f"oscillation from step {start} to {stop}"
    return Oscillation(*derived(arrays, name, lambda own: _oscillation(own, start, stop)).tolist())


def early_oscillation(arrays: Arrays, e: float) -> Oscillation:
    """The oscillation report of the oscillating window, see `window_end`."""
    name = "oscillation in the oscillating window"
    return Oscillation(*derived(arrays, name, lambda own: _oscillation(own, 0, window_end(own, e))).tolist())


def _oscillation(arrays: Arrays, start: int, stop: int) -> Oscillation:
    residuals, changes = [], []
    for label in LABELS:
        seen = visits(arrays, label)
        z = seen.z[(seen.step >= start) & (seen.step < stop)]
        residuals.append(np.abs(z - 1.0))
        changes.append(np.diff(np.sign(z - 1.0)) != 0)
    r, c = np.concatenate(residuals), np.concatenate(changes)
    if r.size == 0:
        return Oscillation(0.0, np.nan, np.nan, np.nan, np.nan, np.nan)
    rms, share = float(np.sqrt(np.mean(r * r))), float(np.mean(r >= DELTAS[0]))
    return Oscillation(
        r.size, float(r.min()), float(np.quantile(r, 0.05)), rms, share, float(np.mean(c)) if c.size else np.nan
    )


def window_end(arrays: Arrays, e: float) -> int:
    """End of the oscillating window: the first logged step with V > delta/4 for both labels, at most `EARLY`."""

    def end(own: Arrays) -> int:
        hit = first_hit(own["features/step"], own["features/weak"].min(axis=1), delta_of(e) / 4.0)
        return min(EARLY, hit if hit is not None else EARLY)

    return int(derived(arrays, "end of the oscillating window", end))


def largest_weak(arrays: Arrays) -> float:
    """V of the label with the smaller one, at its largest."""
    return float(derived(arrays, "largest V of the smaller label", lambda own: own["features/weak"].min(axis=1).max()))


def smaller_weak(arrays: Arrays, place: int) -> float:
    """V of the label with the smaller one, at a record: 0 is the first, -1 the last."""
    return float(
        derived(arrays, f"V of the smaller label at record {place}", lambda own: own["features/weak"][place].min())
    )


def positive_weak(arrays: Arrays, place: int) -> float:
    """V of the label +1 at a record: 0 is the first, -1 the last."""
    return float(derived(arrays, f"V of the label +1 at record {place}", lambda own: own["features/weak"][place, 0]))


def residual_power(arrays: Arrays, last: int) -> float:
    """log2 S(last) / S(last / 2) of the label with the smaller one, S = sum (1 - z); -1 for a sum without a fixed sign."""

    def power(own: Arrays) -> float:
        found = []
        for label in LABELS:
            seen = visits(own, label)
            sums = np.cumsum(1.0 - seen.z)
            half, whole = np.searchsorted(seen.step, (last // 2, last)) - 1
            if half < 0 or sums[half] <= 0 or sums[whole] <= 0:
                return -1.0
            found.append(float(np.log2(sums[whole] / sums[half])))
        return min(found)

    return float(derived(arrays, f"power of S from step {last // 2} to {last}", power))


def sign_changes(arrays: Arrays) -> int:
    """Neurons for which the sign of <w_jr, j u> differs between the first and the last record."""
    signed = arrays["features/inner_u"] * np.array(LABELS, np.float32)[None, :, None]
    return int(np.sum(np.sign(signed[0]) != np.sign(signed[-1])))


class Stability(NamedTuple):
    """eta lambda / 2 at the end, means over examples, see `stability`."""

    signal: float
    formula: float
    power: float
    fitted: float
    largest_difference: float


def stability(arrays: Arrays, learning_rate: float, loss_curvature: float = 2.0) -> Stability:
    """eta lambda / 2 at the end: by formula without and with the noise part, and by power iteration (means over examples).

    `largest_difference` compares formula and power iteration at the `fitted` examples, where the formula is exact up to
    (1 - y f) / 2.

    Args:
        learning_rate: eta.
        loss_curvature: d2l/df2, 2 for (f - y)^2 and 1 for (f - y)^2 / 2.
    """

    def measured(own: Arrays) -> Stability:
        signal = float(np.mean(_signal_gradient(own))) * loss_curvature
        formula, power = own["curvature/formula"][-1], own["curvature/power"][-1]
        fitted = np.abs(np.abs(own["curvature/output"][-1]) - 1.0) <= FITTED
        differences = np.abs(power / np.maximum(formula, 1e-30) - 1.0)[fitted]
        return Stability(
            signal=learning_rate * signal / 2.0,
            formula=learning_rate * float(np.mean(formula)) / 2.0,
            power=learning_rate * float(np.mean(power)) / 2.0,
            fitted=float(np.sum(fitted)),
            largest_difference=float(np.max(differences, initial=0.0)),
        )

    name = f"eta lambda / 2 at the end for l'' = {loss_curvature:g}"
    return Stability(*derived(arrays, name, measured).tolist())


def _signal_gradient(arrays: Arrays) -> NDArray[Any]:
    """|grad f|^2 without the noise patch, by label: (4/m)(U |u|^2 + V |v|^2), from the recorded components."""
    strong, weak = arrays["features/strong"][-1], arrays["features/weak"][-1]
    width = arrays["features/inner_u"].shape[-1]
    return 4.0 / width * (strong * arrays["data/u_norm"] ** 2 + weak * arrays["data/v_norm"] ** 2)


def summary(lane: dict[str, Any], arrays: Arrays, loss_curvature: float = 2.0) -> dict[str, Any]:
    """Measurements of one lane beside the predictions, for observations.json.

    Args:
        lane: an entry of `RunResult.lanes`.
        arrays: that lane's arrays.
        loss_curvature: see `stability`.
    """
    e = lane["e"]
    found: dict[str, Any] = {"lane": lane["lane"], "arm": lane["arm"], "seed": lane["seed"], "e": e}
    found |= {"learning_rate": lane["learning_rate"], "steps": lane["steps"], "diverged_at": lane.get("diverged_at")}
    inside = 1.0 < e < SIGN_STABLE_LIMIT
    found["predicted"] = {
        "phase": phase(e) if e > 0 else "at rest",
        "capacity": float(capacity(e)) if e > 0 else 0.0,
        "mean_residual": float(mean_residual(e)) if inside else 0.0,
        "delta": delta_of(e),
    }
    if "features/weak" in arrays:
        weak = arrays["features/weak"]
        found["weak"], found["strong"] = weak[-1].tolist(), arrays["features/strong"][-1].tolist()
        found["loss"] = float(arrays["features/loss"][-1])
        found["train_accuracy"] = float(arrays["features/train_accuracy"][-1])
        found["first_step_above_delta_quarter"] = first_hit(
            arrays["features/step"], weak.min(axis=1), delta_of(e) / 4.0
        )
        found["neurons_that_changed_sign"] = sign_changes(arrays)
        if "step/example" in arrays:
            sums = [accumulation(arrays, label, e) for label in LABELS]
            found["residual_sum"] = [float(s.total[-1]) for s in sums]
            found["residual_sum_bound"] = [float(s.bound[-1]) for s in sums]
            found["strong_visits"] = [int(s.count[-1]) for s in sums]
            found["squared_residual_sum"] = [float(s.squares[-1]) for s in sums]
            found["bound_holds"] = [s.holds() for s in sums]
            found["min_multiplier"] = [float(s.min_q[-1]) for s in sums]
            found["oscillation"] = early_oscillation(arrays, e)._asdict()
    if "test_accuracy/weak_accuracy" in arrays:
        for name in ("weak_accuracy", "strong_accuracy", "mixture_accuracy"):
            found[name] = float(arrays[f"test_accuracy/{name}"][-1])
        found["margin"] = arrays["test_accuracy/margin"][-1].tolist()
        weak_accuracy = arrays["test_accuracy/weak_accuracy"]
        found["first_step_of_full_weak_accuracy"] = first_hit(arrays["test_accuracy/step"], weak_accuracy, 0.9999)
    if "curvature/power" in arrays and len(arrays["curvature/power"]) and "features/strong" in arrays:
        found["stability"] = stability(arrays, lane["learning_rate"], loss_curvature)._asdict()
    return found


def observations(run: RunResult) -> list[dict[str, Any]]:
    """`summary` of every lane of a run on the synthetic data; [] for images."""
    if run.config["data"]["name"] != "signal_noise":
        return []
    curvature = {"square": 2.0, "half_square": 1.0}[run.config["loss"]]
    return [summary(lane, arrays, curvature) for lane, arrays in recorded(run)]
