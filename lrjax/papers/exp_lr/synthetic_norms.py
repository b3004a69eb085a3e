"""Synthetic runs for the claims on the length of the weights and on how fast they turn; see `lrjax.papers.synthetic`."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.exp_lr.norm_checks import ANGLE, PACE, POWER, SLOPE
from lrjax.papers.exp_lr.observe import settings
from lrjax.papers.exp_lr.synthetic_series import Arrays, rates, relaxed, worse, zeros
from lrjax.papers.synthetic import Synthetic, blank, changed, filled, one_seed
from lrjax.transforms.equilibrium import angular_update, time_to_equilibrium

LONG, SHORT = 6240, 3900  # steps at constant rate: 6.2 and 3.9 e-foldings of |w|^2
GROWTH = 4.36e-4  # log10 of TEXP's rate, a step
NORM_NOISE = 1e-3  # of log10 |w| from step to step
# Of the log of a mean angle in a phase: 0.04 over the 2 measurements of a phase at small scale, of 40 or more at paper scale.
PHASES_APART = 0.015
# Deviations of seeds; in runs at small scale, which are 70 times as short, the first two were 0.008 and 0.002.
SLOPES, TURNS, POWERS, PACES = 0.002, 0.02, 0.004, 0.03
PREDICTED = 0.875  # e-foldings of |w|^2 after the drop, in those of decay alone

Draw = Callable[..., RunResult]


def _noisy(series: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return series + generator.normal(0, NORM_NOISE, series.size)


def _drifting(run: RunResult) -> RunResult:
    """The run with weights under decay that shrink to its end, by as much in each part of it."""

    def drift(lane: dict[str, Any], arrays: Arrays) -> None:
        if lane["arm"] == "weight_decay":
            arrays["step/log10_norm"] = np.linspace(0.3, 0.0, lane["steps"])

    return changed(run, drift)


def _grown(effect: float, generator: np.random.Generator, steps: int = LONG, copied: bool = False) -> RunResult:
    run = blank("exp_lr", "E1", scale="paper", steps=steps)
    at = np.arange(steps)

    def arrays(lane: dict[str, Any]) -> Arrays:
        start = relaxed(steps, 0.3, 0.0, 300)
        own = {"step/loss": zeros(steps), "step/learning_rate": rates(run, lane)}
        if lane["arm"] == "texp" or (copied and lane["arm"] == "no_decay"):
            excess = worse(effect, SLOPE) + generator.normal(0, SLOPES)
            own["step/log10_learning_rate"] = GROWTH * at
            return own | {"step/log10_norm": _noisy(start + (1 + excess) * GROWTH * at / 2, generator)}
        return own | {
            "step/log10_norm": _noisy(start if lane["arm"] == "weight_decay" else 0.1 * at / steps, generator)
        }

    return filled(run, arrays)


FOLLOWS = Synthetic(
    _grown,
    f"slopes equal, or {SLOPE:g} apart; seeds {SLOPES:g} apart",
    {
        "seeds(3)": lambda generator: one_seed(_grown(1.0, generator)),
        "equilibrium(3)": lambda generator: _grown(1.0, generator, steps=SHORT),
        "converged(0.05)": lambda generator: _drifting(_grown(1.0, generator)),
        "resolved(0.01)": lambda generator: _grown(1.0, generator, copied=True),
    },
)


def _turned(effect: float, generator: np.random.Generator, steps: int = LONG, spread: float = TURNS) -> RunResult:
    run = blank("exp_lr", "E1", scale="paper", steps=steps)

    def arrays(lane: dict[str, Any]) -> Arrays:
        expected = float(angular_update(*settings(run, lane)))
        pace = expected * (1 + worse(effect, ANGLE) + generator.normal(0, spread))
        return {
            "step/loss": zeros(steps),
            "step/learning_rate": rates(run, lane),
            "step/log10_norm": _noisy(relaxed(steps, 0.3, 0.0, 300), generator),
            "step/angle": np.where(np.arange(steps) < 600, 0.6 * expected, pace),
        }

    return filled(run, arrays)


TURNING = Synthetic(
    _turned,
    f"the angle of the formula, or {ANGLE:.0%} off; seeds {TURNS:.0%} apart",
    {
        "seeds(3)": lambda generator: one_seed(_turned(1.0, generator)),
        "equilibrium(3)": lambda generator: _turned(1.0, generator, steps=SHORT),
        "converged(0.05)": lambda generator: _drifting(_turned(1.0, generator)),
        "resolved(0.1)": lambda generator: _turned(1.0, generator, spread=0.3),
    },
)


def _lengthened(effect: float, generator: np.random.Generator, steps: int = LONG, spread: float = POWERS) -> RunResult:
    run = blank("exp_lr", "E8", scale="paper", steps=steps)
    apart = math.log10(256) / 2  # of eta / lambda, on either side of the middle

    def arrays(lane: dict[str, Any]) -> Arrays:
        power = 0.25 + worse(effect, POWER) + generator.normal(0, spread / math.sqrt(2))
        end = apart * power * (1 if lane["arm"] == "high" else -1)
        series = _noisy(relaxed(steps, 0.0, end, 300), generator)
        return {"step/loss": zeros(steps), "step/learning_rate": rates(run, lane), "step/log10_norm": series}

    return filled(run, arrays)


def _still_moving(generator: np.random.Generator) -> RunResult:
    def drift(lane: dict[str, Any], arrays: Arrays) -> None:
        arrays["step/log10_norm"] = arrays["step/log10_norm"] - np.linspace(0.0, 2.0, lane["steps"])

    return changed(_lengthened(1.0, generator), drift)


LENGTH = Synthetic(
    _lengthened,
    f"a power of 1/4, or {POWER:g} off; seeds {POWERS:g} apart",
    {
        "seeds(3)": lambda generator: one_seed(_lengthened(1.0, generator)),
        "equilibrium(3)": lambda generator: _lengthened(1.0, generator, steps=SHORT),
        "converged(0.05)": _still_moving,
        "resolved(0.025)": lambda generator: _lengthened(1.0, generator, spread=0.1),
    },
)


def _dropped(effect: float, generator: np.random.Generator, drop: int = 4000, spread: float = PACES) -> RunResult:
    run = blank("exp_lr", "E2", scale="paper", steps=8000, schedule__milestones=(drop, 7500))

    def arrays(lane: dict[str, Any]) -> Arrays:
        rate, l2, momentum = settings(run, lane)
        pace = PREDICTED * (1 - min(worse(effect, PACE), 3 * PACE) + generator.normal(0, spread))
        after = np.maximum(np.arange(lane["steps"]) - drop, 0) / time_to_equilibrium(rate / 10, l2, momentum)
        series = relaxed(lane["steps"], 0.3, 0.0, 300) - pace * after / (2 * math.log(10))
        return {
            "step/loss": zeros(lane["steps"]),
            "step/learning_rate": rates(run, lane),
            "step/log10_norm": _noisy(series, generator),
        }

    return filled(run, arrays)


AFTER_DROP = Synthetic(
    _dropped,
    f"the predicted pace, or {PACE:.0%} slower; seeds {PACES:.0%} apart",
    {
        "seeds(3)": lambda generator: one_seed(_dropped(1.0, generator)),
        "equilibrium(3)": lambda generator: _dropped(1.0, generator, drop=2000),
        "resolved(0.15)": lambda generator: _dropped(1.0, generator, spread=0.5),
    },
)


def _directed(effect: float, generator: np.random.Generator, wrong: float = 2.0) -> RunResult:
    run = blank("exp_lr", "E2", scale="paper", steps=3000, schedule__milestones=(800, 1200))
    paces = np.array([0.36, 0.1, 0.005])  # of the published plot

    def arrays(lane: dict[str, Any]) -> Arrays:
        at = np.arange(0, lane["steps"] + 1, 50)
        phase = np.searchsorted([800, 1200], at, side="left")
        logs = {"texp": worse(effect, ANGLE), "texp_no_drop": wrong}.get(lane["arm"], 0.0)
        seed = generator.normal(0, PHASES_APART / math.sqrt(2), 3)
        return {
            "step/loss": zeros(lane["steps"]),
            "step/learning_rate": rates(run, lane),
            "direction/step": at,
            "direction/angle": paces[phase] * np.exp(logs + seed[phase] + generator.normal(0, 0.02, at.size)),
        }

    return filled(run, arrays)


ANGLES = Synthetic(
    _directed,
    f"equal angles, or {ANGLE:g} apart in their log; seeds {PHASES_APART:g} apart",
    {
        "seeds(3)": lambda generator: one_seed(_directed(1.0, generator)),
        "resolved(0.1)": lambda generator: _directed(1.0, generator, wrong=0.0),
    },
)
