"""Synthetic runs on which this paper's checks are tested: claim id -> `Synthetic`; see `lrjax.papers.synthetic`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.exp_lr import synthetic_norms, synthetic_twins
from lrjax.papers.exp_lr.checks import LASTING, POINT
from lrjax.papers.exp_lr.synthetic_series import (
    BETWEEN,
    Arrays,
    accuracies,
    moved,
    rates,
    rising,
    shortened,
    spread_out,
    worse,
    zeros,
)
from lrjax.papers.synthetic import Synthetic, blank, filled, one_seed

FAR = -4.0  # points, of a wrong variant
PAPERS_LEVEL = 94.9
LATE = 0.4  # points between seeds of train accuracy over half a phase; 25,600 images at small scale leave as much


def _same(experiment: str, twin: str, wrong: str, level: float = PAPERS_LEVEL) -> Synthetic:
    """One twin apart or not, others at the level, and a wrong variant far below."""

    def offsets(effect: float) -> Mapping[str, float]:
        return {twin: -worse(effect, POINT), wrong: FAR}

    draw = accuracies(experiment, level, offsets)
    no_control = accuracies(experiment, level, lambda effect: {})
    broken = {
        "seeds(3)": lambda generator: one_seed(draw(1.0, generator)),
        "learned(0.5)": lambda generator: moved(draw(1.0, generator), 12.0 - level, but=wrong),
        "resolved(1)": lambda generator: no_control(1.0, generator),
    }
    if experiment == "E1":
        broken["converged(0.05)"] = lambda generator: rising(draw(1.0, generator))
    words = f"equal accuracies, or {POINT:g} point apart; differences of paired seeds {BETWEEN:g} points apart"
    return Synthetic(draw, words, broken)


def _direction(experiment: str, arm: str, gains: Mapping[float, float], words: str, **others: float) -> Synthetic:
    """One arm above the others by a gain for each effect."""
    draw = accuracies(experiment, PAPERS_LEVEL, lambda effect: others | {arm: gains[effect]})
    broken = {
        "seeds(3)": lambda generator: one_seed(draw(1.0, generator)),
        "learned(0.95)": lambda generator: moved(draw(1.0, generator), -20.0),
        "matched(steps)": lambda generator: shortened(draw(1.0, generator), arm),
        "resolved(1)": lambda generator: spread_out(draw(1.0, generator), arm),
    }
    return Synthetic(draw, f"{words}; differences of paired seeds {BETWEEN:g} points apart", broken)


def _dropped(effect: float, generator: np.random.Generator, tapered: float = 8.0) -> RunResult:
    """Train accuracy of E4: a gain at first, and late; without an effect none at first, and one of the margin late."""
    early, late = {1.0: (2 * LASTING, 0.0), 0.0: (0.0, LASTING), -1.0: (0.0, 3 * LASTING)}[effect]
    run = blank("exp_lr", "E4")

    def arrays(lane: dict[str, Any]) -> Arrays:
        steps = lane["steps"]
        into = np.arange(steps) % (steps // 3) / (steps // 3)
        gain = np.where(into < 0.5, early + generator.normal(0, LATE), late + generator.normal(0, LATE))
        gain = {"drops": gain, "tapered": tapered + generator.normal(0, LATE)}.get(lane["arm"], 0.0)
        accuracy = 0.3 + gain / 100 * (np.arange(steps) >= steps // 3)
        return {"step/loss": zeros(steps), "step/learning_rate": rates(run, lane), "step/accuracy": accuracy}

    return filled(run, arrays)


DROP_PASSES = Synthetic(
    _dropped,
    f"a gain of {2 * LASTING:g} points at first and none late; seeds {LATE:g} points apart",
    {
        "seeds(3)": lambda generator: one_seed(_dropped(1.0, generator)),
        "resolved(2)": lambda generator: _dropped(1.0, generator, tapered=0.5),
    },
)

TWICE = {1.0: 2 * POINT, 0.0: 0.0, -1.0: -2 * POINT}
SYNTHETIC = {
    "constant_rate": _same("E1", "texp", "no_decay", level=89.0),
    "norm_follows_rate": synthetic_norms.FOLLOWS,
    "equilibrium_angle": synthetic_norms.TURNING,
    "early_logits": synthetic_twins.exact_twins("twins", "texp_uncorrected"),
    "correction_matters": synthetic_twins.CORRECTION,
    "across_drop": synthetic_twins.exact_twins("twins_drop", "texp_no_drop"),
    "no_momentum": synthetic_twins.exact_twins("twins_plain", "texp_half_step"),
    "norm_layers": synthetic_twins.exact_twins("twins_norms", "texp_uncorrected"),
    "step_decay": _same("E2", "texp", "texp_no_drop"),
    "angles": synthetic_norms.ANGLES,
    "re_equilibration": synthetic_norms.AFTER_DROP,
    "drop_needed": _direction(
        "E3", "texp_no_drop", {effect: -gain for effect, gain in TWICE.items()}, f"a gain of {2 * POINT:g} points"
    ),
    "drop_passes": DROP_PASSES,
    "cosine_twin": _same("E5", "cosine_wd_free", "no_decay"),
    "cosine_wins": _direction(
        "E5", "step_decay", {effect: -gain for effect, gain in TWICE.items()}, f"a gain of {2 * POINT:g} points"
    ),
    "l2_decay": _direction(
        "E6", "l2_decay", {1.0: 0.0, 0.0: -POINT, -1.0: -3 * POINT}, "no loss, or one of a point", constant=FAR
    ),
    "no_drop_twin": _same("E6", "texp_no_drop", "constant"),
    "toy_exact": synthetic_twins.TOY_EXACT,
    "toy_noisy": synthetic_twins.TOY_NOISY,
    "equilibrium_norm": synthetic_norms.LENGTH,
}
