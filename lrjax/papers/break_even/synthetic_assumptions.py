"""Synthetic runs for the claims on assumption 2, on K against G, on alpha* and on the start with BatchNorm."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.break_even.assumption_checks import ALIGNED, CLOSE, POWER
from lrjax.papers.break_even.synthetic_phase import Arrays, Lane, broken_ways, few, runs_of
from lrjax.papers.break_even.synthetic_series import MEASUREMENTS, PLACES, SPREAD, hill, rough, uneven
from lrjax.papers.synthetic import Draw, Synthetic

RISE = np.linspace(0, 1, MEASUREMENTS)


def configured(draw: Draw, **spectra: Any) -> Draw:
    """The runs of `draw` with other keys of `config.spectra`."""

    def other(effect: float, generator: np.random.Generator) -> RunResult:
        run = draw(effect, generator)
        return run._replace(config=run.config | {"spectra": run.config["spectra"] | spectra})

    return other


def _cosines(lane: Lane, effect: float, generator: np.random.Generator) -> Arrays:
    level = ALIGNED + 0.25 * effect + generator.normal(0, 0.05)
    return {"break_even/cos_hk": np.full(MEASUREMENTS, level)}


def _powers(lane: Lane, effect: float, generator: np.random.Generator) -> Arrays:
    away = POWER * {1.0: 0.0, 0.0: 1.0, -1.0: 3.0}[effect] + generator.normal(0, 0.1)
    return {"break_even/lambda_k1_raw": hill(1.0) ** (1 - away), "break_even/lambda_h1": hill(1.0)}


def _flat(lane: Lane, arrays: Arrays) -> None:
    arrays["break_even/lambda_h1"] = 1 + hill(0.5)


def _uncentred(lane: Lane, effect: float, generator: np.random.Generator) -> Arrays:
    level = CLOSE * 2.0**-effect * np.exp(generator.normal(0, SPREAD))
    ratio = hill(10.0)
    return {"break_even/trace_over_lambda": ratio, "break_even/noise_scale": ratio / level}


def _stretches(lane: Lane, effect: float, generator: np.random.Generator) -> Arrays:
    own, other = generator.normal(size=(2, MEASUREMENTS))
    found = np.exp(-effect * 2 * RISE + (0.3 if effect else 1.0) * other)
    steps = np.round(PLACES * lane["steps"]).astype(int)
    sharp = {"break_even/lambda_h1": 1 + hill(1.0, 0.9, 0.5), "break_even/lambda_k1_raw": np.exp(2 * RISE + 0.3 * own)}
    return sharp | {"next_step/alpha_star": found, "next_step/step": steps}


def _starts(lane: Lane, effect: float, generator: np.random.Generator) -> Arrays:
    start, later = np.exp(generator.normal(0, SPREAD, 2))
    values = np.full(MEASUREMENTS, later)
    values[:2] = start * 4.0**effect
    return {"break_even/lambda_k1_raw": values}


def _at_effect(draw: Draw, spoil: Callable[[RunResult], RunResult]) -> Callable[[np.random.Generator], RunResult]:
    return lambda generator: spoil(draw(1.0, generator))


def _assumption(draw: Draw, words: str, **ways: Callable) -> Synthetic:
    small = configured(draw, examples=128)
    more = {"instrument(0.05)": _at_effect(draw, rough), "subset": lambda generator: small(1.0, generator)}
    return Synthetic(draw, words, {**broken_ways(draw, sampled=few, **ways), **more})


_COSINES, _POWERS = runs_of("E2", _cosines), runs_of("E2", _powers)
_UNCENTRED, _STRETCHES, _STARTS = runs_of("E3", _uncentred), runs_of("E2", _stretches), runs_of("E6", _starts)
_MATCHED = "matched(measurements, L, M)"
SYNTHETIC: dict[str, Synthetic] = {
    "same_direction": _assumption(_COSINES, "a mean |cos| of 0.96, that of 17 degrees, seeds 0.05 apart"),
    "proportional": _assumption(_POWERS, "a power of 1, seeds 0.1 apart", rises=_flat),
    "close_to_uncentred": Synthetic(
        _UNCENTRED,
        "a share of 0.05, half the bound, seeds 0.15 apart in its logarithm",
        {**broken_ways(_UNCENTRED), _MATCHED: _at_effect(_UNCENTRED, uneven)},
    ),
    "stretch_against_noise": Synthetic(
        _STRETCHES, "a fall by e^2 with noise of 0.3", broken_ways(_STRETCHES, sampled=few)
    ),
    "norm_starts_high": Synthetic(
        _STARTS,
        "a fall to a quarter, seeds 0.15 apart in the logarithm",
        {**broken_ways(_STARTS), _MATCHED: _at_effect(_STARTS, uneven)},
    ),
}
