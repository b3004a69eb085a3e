"""Synthetic runs of L5, L6 and L10: the cause of the stages, rules, and averaging."""

from typing import Any

import numpy as np

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.lr_decay.cause_checks import AVERAGED, BARRIER, LINE, TRAIN_COMPLEX
from lrjax.papers.lr_decay.checks import COMPLEX
from lrjax.papers.lr_decay.synthetic_series import (
    Levels,
    Noise,
    at_level,
    change_of,
    longer,
    maker,
    of,
    spread,
    synthetic,
)
from lrjax.papers.synthetic import Synthetic, changed

SIMPLE, LOSS = "subsets/train_simple", "subsets/train_loss"
TOP, RESIDUALS = "spectrum/lambda_h1", "spectrum/hessian_residuals"
SAVED = 0.105  # of the logarithm of steps: the paper's 10 %


def _full(effect: int) -> Levels:
    plain, decayed = {1: (0.99, 0.99), 0: (0.975, 0.985), -1: (0.8, 0.95)}[effect]
    ends = {"full_batch": plain, "full_batch_decay": decayed, "gradient_descent": 0.99, "sgd": 0.75, "sgd_decay": 0.98}
    return {arm: {TRAIN_COMPLEX: (level,)} for arm, level in ends.items()}


def _cause(effect: int) -> Levels:
    sgd, sgd_decay, full, full_decay = {
        1: (0.76, 0.98, 0.99, 0.99),
        0: (0.76, 0.9, 0.76, 0.9),
        -1: (0.9, 0.9, 0.76, 0.98),
    }[effect]
    ends = {"sgd": sgd, "sgd_decay": sgd_decay, "full_batch": full, "full_batch_decay": full_decay}
    return {arm: {TRAIN_COMPLEX: (level,), SIMPLE: (0.98,)} for arm, level in ends.items()}


def _curvature(effect: int) -> Levels:
    top = 20.0 * float(np.exp(0.4 * effect))
    return {"gradient_descent": {TRAIN_COMPLEX: (0.99,), TOP: (top,), RESIDUALS: (0.001,)}}


def _saves(effect: int) -> Levels:
    course = {COMPLEX: (0.63, 0.97, 0.99), LOSS: (0.7, 0.25, 0.15)}
    return {"step_decay": course, "auto_decay": {COMPLEX: (0.99,)}}


_FIXED = maker("L6", _saves, Noise({"": 0.001}))


def _stopped(effect: float, generator: np.random.Generator) -> RunResult:
    """Runs whose lanes of AutoDecay stop after a time that differs by 3 % between seeds."""
    run = _FIXED(effect, generator)
    length = next(lane["steps"] for lane in run.lanes if lane["arm"] == "step_decay")

    def record(lane: dict[str, Any]) -> dict[str, Any]:
        if lane["arm"] != "auto_decay":
            return lane
        return dict(lane, stopped_at=round(length * float(np.exp(generator.normal(-SAVED * effect, 0.03)))))

    return run._replace(lanes=[record(lane) for lane in run.lanes])


def _growing(effect: int) -> Levels:
    under = {1: 0.0, 0: 0.01, -1: 0.03}[effect]
    ends = {"growing_batch_1": 0.63, "growing_batch_3": 0.99 - under}
    return {arm: {COMPLEX: (level,)} for arm, level in ends.items()} | {"step_decay": {COMPLEX: (0.63, 0.97, 0.99)}}


def _average(effect: int) -> Levels:
    share = {1: 0.25, 0: 0.5, -1: 0.9}[effect]
    return {"constant": {COMPLEX: (0.65,), AVERAGED: (0.65 + 0.3 * share,)}, "decay": {COMPLEX: (0.65, 0.95)}}


_FLAT = maker("L10", lambda effect: {"decay_after": {COMPLEX: (0.65, 0.95)}}, Noise({"": 0.012}))


def _lined(effect: float, generator: np.random.Generator) -> RunResult:
    """Runs with a line from the average at a loss of .2 to the weights, at .6 when the rate decays and at .2 in the end."""
    share = np.linspace(0.0, 1.0, 11)
    hill = 4 * share * (1 - share)
    height = 0.4 * {1: 0.0, 0: 0.1, -1: 0.4}[round(effect)]

    def measured(lane: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        if lane["arm"] != "decay_after":
            return
        high, end = 0.6 + generator.normal(scale=0.02), 0.2 + generator.normal(scale=0.004)
        barrier = max(height + generator.normal(scale=0.008), 0.0)
        arrays[BARRIER] = np.array([0.0, barrier])
        arrays[LINE] = np.array([0.2 + (high - 0.2) * share, 0.2 + (end - 0.2) * share + barrier * hill])

    return changed(_FLAT(effect, generator), measured)


def _unmoved(lane: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    arrays[LINE][0] = arrays[LINE][1] - 0.01


def _falling(lane: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    arrays[LOSS] *= np.linspace(4.0, 1.0, len(arrays[LOSS]))


def _rough(lane: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    arrays[RESIDUALS] = 0.2 * arrays[TOP]


CAUSES: dict[str, Synthetic] = {
    "full_batch_needs_no_decay": synthetic(
        maker("L5", _full, Noise({"": 0.0012})),
        "decay brings nothing to .99; none: the margin, .01; seeds .0012",
        {
            "matched(steps)": lambda run: longer(run, "sgd"),
            "resolved(0.01)": change_of(of("full_batch_decay", spread(TRAIN_COMPLEX, 0.02))),
        },
    ),
    "noise_is_the_cause": synthetic(
        maker("L5", _cause, Noise({"": 0.01})),
        "decay brings .22 with mini-batches, nothing without; none: .14 in both; seeds .01",
        {
            "matched(steps)": lambda run: longer(run, "sgd"),
            "learned(0.9)": change_of(of("sgd", at_level(SIMPLE, 0.5))),
        },
    ),
    "quadratic_rule_fails": synthetic(
        maker("L5", _curvature, Noise({"": 0.005, TOP: 2.0, RESIDUALS: 0.0}, steady=0.0)),
        "largest eta lambda_max / 2 1.5; none: 1; seeds .1",
        {
            "learned(0.9)": change_of(of("gradient_descent", at_level(TRAIN_COMPLEX, 0.5))),
            "instrument(0.05)": change_of(of("gradient_descent", _rough)),
        },
    ),
    "auto_decay_saves": synthetic(
        _stopped,
        "10 % fewer steps (the paper's), 3 % between seeds, equal accuracy; none: as many steps",
        {
            "learned(0.9)": change_of(of("step_decay", at_level(COMPLEX, 0.5))),
            "flat_stages": change_of(of("step_decay", _falling)),
        },
    ),
    "growing_batch_is_decay": synthetic(
        maker("L6", _growing, Noise({"": 0.0012})),
        "no difference; none: the margin, .01; seeds .0012",
        {
            "learned(0.9)": change_of(of("step_decay", at_level(COMPLEX, 0.5))),
            "resolved(0.01)": change_of(of("growing_batch_3", spread(COMPLEX, 0.02))),
        },
    ),
    "average_is_not_decay": synthetic(
        maker("L10", _average, Noise({"": 0.012})),
        "a quarter of a gain of .3; none: half of it; seeds .012",
        {
            "matched(steps)": lambda run: longer(run, "constant"),
            "gained": change_of(of("decay", at_level(COMPLEX, 0.6))),
            "unsaturated": change_of(of("constant", at_level(AVERAGED, 0.99))),
        },
    ),
    "average_is_in_the_valley": synthetic(
        _lined,
        "no barrier where decay takes .4 off the loss; none: a barrier of .04; seeds .008",
        {
            "learned(0.9)": change_of(of("decay_after", at_level(COMPLEX, 0.5))),
            "gained": change_of(of("decay_after", _unmoved)),
        },
    ),
}
