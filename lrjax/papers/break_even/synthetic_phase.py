"""Synthetic runs for the claims on the early phase and on its causes; see `lrjax.papers.synthetic`."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.break_even.causal_checks import EARLY, SWITCHED
from lrjax.papers.break_even.detectors import sampling_factor
from lrjax.papers.break_even.phase_checks import FACTOR, HOVERS, PEAK_EPOCHS
from lrjax.papers.break_even.synthetic_series import (
    MEASUREMENTS,
    PLACES,
    SEEDS,
    SPREAD,
    hill,
    lane_arrays,
    late,
    uneven,
)
from lrjax.papers.synthetic import Draw, Synthetic, blank, changed, filled, one_seed

Lane = dict[str, Any]
Arrays = dict[str, np.ndarray]


def runs_of(experiment: str, arrays_of: Callable[[Lane, float, np.random.Generator], Arrays]) -> Draw:
    """Runs of an experiment whose lanes have series of their own, from (lane, effect, generator), beside plain ones."""

    def draw(effect: float, generator: np.random.Generator) -> RunResult:
        run = blank("break_even", experiment, sweep__seed=SEEDS)
        return filled(run, lambda lane: lane_arrays(lane, generator, arrays_of(lane, effect, generator)))

    return draw


def broken_ways(draw: Draw, **ways: Callable[[Lane, Arrays], Any]) -> dict[str, Callable]:
    """One seed, and for each premise in `ways` the change of a lane's arrays that breaks it."""
    made = {name: lambda generator, way=way: changed(draw(1.0, generator), way) for name, way in ways.items()}
    return {"seeds(3)": lambda generator: one_seed(draw(1.0, generator)), **made}


def _sizes_of_e3() -> tuple[int, int]:
    """Training examples and batch size of E3, with which its synthetic runs are read."""
    config = blank("break_even", "E3", sweep__seed=SEEDS).config
    return int(config["data"]["num_train"]), int(config["batch_size"])


def _peak(lane: Lane, effect: float, generator: np.random.Generator) -> Arrays:
    """Peaks at the marked accuracy (effect 1), at the margin (0), or three times as far (-1)."""
    num_examples, batch_size = _sizes_of_e3()
    epochs = lane["steps"] / (num_examples // batch_size)
    passed = (0.6 - 0.1) / 0.85  # where accuracy, a line from 0.1 to 0.95, passes the mark
    away = PEAK_EPOCHS * {1.0: 0.0, 0.0: 1.0, -1.0: 3.0}[effect] + generator.normal(0, 0.5)
    at = passed - away / epochs  # before the mark, since no peak may lie near the end
    fine = np.linspace(0, 1, 401)  # often enough that the place is not rounded
    at = max(at, 0.02)
    noise = np.interp(
        fine, [0, at - min(0.03, at / 2), at, at + 0.03, 1], [0.05, 0.3, 1.0, 0.3, 0.2]
    )  # noise moves no peak
    steps = np.round(fine * lane["steps"]).astype(int)
    rest = {name: np.interp(fine, PLACES, values) for name, values in _plain(lane, generator).items()}
    return rest | {"break_even/lambda_k1_raw": noise, "break_even/step": steps}


def _plain(lane: Lane, generator: np.random.Generator) -> Arrays:
    found = lane_arrays(lane, generator, {})
    return {name: found[name] for name in found if name.startswith("break_even/") and found[name].ndim == 1}


def _untrained(lane: Lane, arrays: Arrays) -> None:
    arrays["break_even/train_accuracy"] *= 0.5


def _correlated(lane: Lane, effect: float, generator: np.random.Generator) -> Arrays:
    rise = np.linspace(0, 1, MEASUREMENTS)
    own = generator.normal(size=MEASUREMENTS)
    noise = np.exp(effect * 2 * rise + (0.3 if effect else 1.0) * own)
    return {"break_even/lambda_k1_raw": noise, "break_even/lambda_h1": 1 + hill(1.0, 0.9, 0.5)}


def few(lane: Lane, arrays: Arrays) -> None:
    """lambda_H peaks before ten measurements."""
    arrays["break_even/lambda_h1"] = 1 + hill(1.0, 0.2)


def _crossing(lane: Lane, factor: float, at: float) -> np.ndarray:
    """lambda_H that crosses 2 / eta at a place of the run and goes on to `factor` times it."""
    return 2 / lane["learning_rate"] * np.interp(PLACES, [0, at, at + 0.04, 1], [0.1, 1.0, factor, factor])


def _order(lane: Lane, effect: float, generator: np.random.Generator) -> Arrays:
    """lambda_H is constant and curvatures of single examples spread until equation 1 is crossed, at a step of one's choice.

    With the effect the small rate crosses at four times the step and four times the curvature, without it at the same.
    """
    side = effect * (1 if lane["learning_rate"] < 0.05 else -1)
    step, sharpness = (c * 2.0**side * np.exp(generator.normal(0, SPREAD)) for c in (300.0, 6.0))
    rate = lane["learning_rate"]
    edge = np.sqrt((1 - (1 - rate * sharpness) ** 2) / sampling_factor(*_sizes_of_e3()[::-1])) / rate
    spread = edge * np.interp(PLACES * lane["steps"], [0, step, 2 * step], [0.5, 1.0, 1.5])
    return {"break_even/lambda_h1": np.full(MEASUREMENTS, sharpness), "break_even/curvature_std": spread}


def _starts_above(lane: Lane, arrays: Arrays) -> None:
    arrays["break_even/lambda_h1"] = arrays["break_even/lambda_h1"] + 3 / lane["learning_rate"]


def _hovers(lane: Lane, effect: float, generator: np.random.Generator) -> Arrays:
    factor = {1.0: 1.1, 0.0: 1.0 + HOVERS, -1.0: 1.0 + 3 * HOVERS}[effect] + generator.normal(0, 0.05)
    return {"break_even/lambda_h1": _crossing(lane, factor, 0.3)}


def _stretch(lane: Lane, effect: float, generator: np.random.Generator) -> Arrays:
    away = {1.0: 1.0, 0.0: FACTOR, -1.0: FACTOR**3}[effect]
    found = np.full(MEASUREMENTS, 2.0 * away * np.exp(generator.normal(0, 0.1)))
    steps = np.round(PLACES * lane["steps"]).astype(int)
    return {"next_step/alpha_star": found, "next_step/step": steps, "break_even/lambda_h1": _crossing(lane, 1.15, 0.3)}


def _parting(lane: Lane, effect: float, generator: np.random.Generator) -> Arrays:
    """Trajectories of one course, each with a direction of its own, which grow apart to twice their distance anyway.

    With the effect those of the small rate leave the other together, for five times as far; reversed, they leave each other.
    """
    small, again = lane["learning_rate"] < 0.05, lane["arm"].startswith("again")
    above = PLACES > 0.4
    grows = 2.0 * np.exp(generator.normal(0, SPREAD)) * (5.0 if again and effect < 0 else 1.0)
    points = np.zeros((MEASUREMENTS, 5))
    points[:, 0] = 10 * PLACES
    points[:, 1 + small + again] = 0.1 * np.where(above, grows, 1.0)
    points[:, 4] = small * above * max(effect, 0) * 1.0
    steps = np.round(PLACES * lane["steps"]).astype(int)
    noise = hill(3.0, 0.9, 0.9) if small else hill(1.0)
    return {"break_even/lambda_k1_raw": noise, "predictions/probabilities": points[:, None], "predictions/step": steps}


GAP = 4.0  # of the two unswitched rates' values
KEPT = {1.0: 0.9, 0.0: 0.5, -1.0: 0.1}  # share of the first rate's value after a switch


def _switched(name: str) -> Callable[[Lane, float, np.random.Generator], Arrays]:
    def arrays(lane: Lane, effect: float, generator: np.random.Generator) -> Arrays:
        arm = lane["arm"]
        first, then = (SWITCHED | EARLY).get(arm, (arm, arm))
        kept = KEPT[effect] if arm in SWITCHED else 0.0
        place = kept * (first == "small") + (1 - kept) * (then == "small")
        level = GAP**place * np.exp(generator.normal(0, SPREAD / 3))
        grows = np.interp(PLACES, [0, 0.3 if first == "small" else 0.0], [0.1, 1.0])
        sharp = {"break_even/lambda_h1": grows}
        return sharp | {f"break_even/{name}": level * (grows if name == "lambda_h1" else np.ones(MEASUREMENTS))}

    return arrays


def _same(name: str) -> Callable[[Lane, Arrays], None]:
    def level(lane: Lane, arrays: Arrays) -> None:
        arrays[f"break_even/{name}"] = arrays[f"break_even/{name}"] / arrays[f"break_even/{name}"][-1]

    return level


def _misplaced(lane: Lane, arrays: Arrays) -> None:
    found = arrays["break_even/lambda_h1"]
    arrays["break_even/lambda_h1"] = found[-1] * np.where(PLACES > 0.75, 1.0, 0.1)


def _causal(name: str) -> Synthetic:
    draw = runs_of("E10", _switched(name))
    words = "nine tenths kept of a ratio of 4, seeds 0.05 apart in its logarithm"
    return Synthetic(draw, words, broken_ways(draw, placed=_misplaced, **{f"apart({name})": _same(name)}))


def _with_maxima(draw: Draw, words: str, **ways: Callable) -> Synthetic:
    name = "break_even/lambda_k1_raw"
    more = {
        "matched(measurements, L, M)": lambda generator: uneven(draw(1.0, generator)),
        f"peaked({name})": lambda generator: late(draw(1.0, generator), name),
    }
    return Synthetic(draw, words, {**broken_ways(draw, **ways), **more})


_PEAK, _GROWTH = runs_of("E3", _peak), runs_of("E3", _correlated)
_ORDER, _HOVERS, _STRETCH = runs_of("E3", _order), runs_of("E3", _hovers), runs_of("E2", _stretch)
_PARTING = runs_of("E1", _parting)
SYNTHETIC: dict[str, Synthetic] = {
    "peak_accuracy": _with_maxima(_PEAK, "a peak at the mark, seeds half an epoch apart", passes=_untrained),
    "correlated_growth": Synthetic(_GROWTH, "a rise of e^2 with noise of 0.3", broken_ways(_GROWTH, sampled=few)),
    "break_even_order": Synthetic(
        _ORDER,
        "steps and lambda_H that differ by a factor of 4, seeds 0.15 apart in the logarithm",
        broken_ways(_ORDER, breaks_even=_starts_above),
    ),
    "stays_at_break_even": Synthetic(
        _HOVERS, "a median of 1.1, seeds 0.05 apart", broken_ways(_HOVERS, breaks_even=_starts_above)
    ),
    "step_stretch": Synthetic(
        _STRETCH, "alpha* of 2, seeds 0.1 apart in its logarithm", broken_ways(_STRETCH, breaks_even=_starts_above)
    ),
    "parting": Synthetic(
        _PARTING,
        "five times as far, against noise of 0.15 in its logarithm",
        {
            "seeds(3)": lambda generator: one_seed(_PARTING(1.0, generator)),
            "matched(measurements, L, M)": lambda generator: uneven(_PARTING(1.0, generator)),
        },
    ),
    "early_rate_decides_lambda_k": _causal("lambda_k1_raw"),
    "early_rate_decides_lambda_h": _causal("lambda_h1"),
    "early_rate_decides_conditioning": _causal("trace_over_lambda"),
}
