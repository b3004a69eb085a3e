"""Synthetic runs for the theorems on short runs and for the toy; see `lrjax.papers.synthetic`."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.exp_lr.synthetic_series import Arrays, zeros
from lrjax.papers.exp_lr.twin_checks import CLOSE
from lrjax.papers.synthetic import Synthetic, blank, filled, one_seed

SPREAD = 0.25  # of log10 of a distance between functions; three seeds of the run at small scale were 0.3 apart
ANGLES = 0.08  # of the log of an angle in the toy; its three seeds were 0.05 apart
QUARTERS, EACH = 4, 20

Distances = Mapping[str, float]  # end of an arm's name -> its distance to the run with weight decay, at the last step


def _logits(experiment: str, distance_of: Callable[[str], float]) -> RunResult:
    """A run whose arms part evenly up to a distance; lanes are those of small scale, in float32."""

    def arrays(lane: dict[str, Any]) -> Arrays:
        steps = lane["steps"]
        parts = np.linspace(0, distance_of(lane["arm"]), steps + 1)
        logits = np.broadcast_to(parts[:, None, None], (steps + 1, 2, 3))
        return {"step/loss": zeros(steps), "outputs/step": np.arange(steps + 1), "outputs/logits": logits}

    return filled(blank("exp_lr", experiment, compute_dtype="float32"), arrays)


def _parted(experiment: str, twin: float, control: float, wrong: float, variant: str) -> RunResult:
    def distance_of(arm: str) -> float:
        for end, distance in ((variant, wrong), ("one_ulp", control), ("weight_decay", 0.0)):
            if arm.endswith(end):
                return distance
        return twin

    return _logits(experiment, distance_of)


def exact_twins(experiment: str, variant: str) -> Synthetic:
    """Twins that stay together; those that part as little as rounding could explain; and those that part for certain."""
    right, control, wrong = CLOSE / 5, CLOSE / 10, 100 * CLOSE
    cases = {1.0: (right, control), 0.0: (3 * CLOSE, 0.8 * CLOSE), -1.0: (wrong, control)}

    def draw(effect: float, generator: np.random.Generator) -> RunResult:
        return _parted(experiment, *cases[effect], wrong, variant)

    def without_twin(generator: np.random.Generator) -> RunResult:
        run = draw(1.0, generator)
        kept = [pair for pair in zip(run.lanes, run.arrays, strict=True) if not pair[0]["arm"].endswith("texp")]
        return run._replace(lanes=[lane for lane, _ in kept], arrays=[own for _, own in kept])

    broken = {
        "seeds(1)": without_twin,
        "exact": lambda generator: _parted(experiment, right, 5 * CLOSE, wrong, variant),
        "wrong_variant": lambda generator: _parted(experiment, right, control, CLOSE / 2, variant),
    }
    words = f"twins {right:g} apart; a wrong twin {3 * CLOSE:g} apart where rounding makes {0.8 * CLOSE:g}"
    return Synthetic(draw, words, broken, exact=True)


def _uncorrected(effect: float, generator: np.random.Generator, control: float = 1e-4) -> RunResult:
    factor = {1.0: 2.0, 0.0: 1.0, -1.0: 0.0}[effect]
    right = 2e-4
    distances = {"weight_decay": 0.0, "texp": right, "wd_free": right, "one_ulp": control}

    def distance_of(arm: str) -> float:
        if arm in distances:
            return distances[arm]
        return right * 10 ** (factor + generator.normal(0, SPREAD))

    return _logits("twins", distance_of)


CORRECTION = Synthetic(
    _uncorrected,
    f"100 times as far, seeds {SPREAD:g} apart in log10",
    {
        "seeds(3)": lambda generator: one_seed(_uncorrected(1.0, generator)),
        "exact": lambda generator: _uncorrected(1.0, generator, control=5e-3),
    },
)


def _toy_exact(effect: float, generator: np.random.Generator) -> RunResult:
    """Losses that leave the minimum throughout; in seven tenths of the run alone; never."""
    last = {1.0: 1.0, 0.0: 0.7, -1.0: 0.0}[effect]

    def arrays(lane: dict[str, Any]) -> Arrays:
        steps = np.arange(lane["steps"])
        spikes = (steps % 80 == 40) & (steps < last * lane["steps"]) & (lane["arm"] == "exact_both")
        return {"step/loss": np.where(spikes, 0.1, 1e-12).astype(np.float32)}

    return filled(blank("exp_lr", "E7"), arrays)


TOY_EXACT = Synthetic(
    _toy_exact,
    "returns every 80 steps; a wrong variant whose returns end at 70 % of the run",
    {"seeds(3)": lambda generator: one_seed(_toy_exact(1.0, generator))},
    exact=True,
)


def _toy_noisy(effect: float, generator: np.random.Generator) -> RunResult:
    """Angles by quarters: both twice as far as either at the end, and normalisation alone falls by 40 %; or no difference."""
    falls = np.log([1.0, 0.75, 0.65, 0.6]) * np.abs(effect)
    base = {"noisy_decay": np.zeros(QUARTERS), "noisy_norm": falls - falls[-1] * effect}
    both = np.full(QUARTERS, np.log(2.0)) * effect
    if effect < 0:  # both together come to the target, normalisation alone does not
        base["noisy_norm"], both = np.zeros(QUARTERS), falls - np.log(2.0)

    def arrays(lane: dict[str, Any]) -> Arrays:
        logs = np.repeat(base.get(lane["arm"], both) + generator.normal(0, ANGLES, QUARTERS), EACH)
        angles = 0.1 * np.exp(logs + generator.normal(0, 0.1, logs.size))
        return {"step/loss": zeros(lane["steps"]), "target_angle/angle": angles}

    return filled(blank("exp_lr", "E7"), arrays)


TOY_NOISY = Synthetic(
    _toy_noisy,
    f"twice the angle, normalisation alone falls by 40 %, seeds {ANGLES:g} apart in its log",
    {"seeds(3)": lambda generator: one_seed(_toy_noisy(1.0, generator))},
)
