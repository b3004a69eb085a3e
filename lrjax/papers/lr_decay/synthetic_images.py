"""Synthetic runs of the experiments on images and of transfer.

Lanes are those of small scale with the seeds of paper scale, or those of paper scale where small scale lacks an arm.
"""

from typing import Any

import numpy as np

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.lr_decay.image_checks import LOSS, PATCH, TEST
from lrjax.papers.lr_decay.synthetic_series import (
    Levels,
    Noise,
    at_level,
    change_of,
    drifting,
    longer,
    maker,
    of,
    spread,
    synthetic,
)
from lrjax.papers.lr_decay.transfer_checks import MODES, PATTERNS
from lrjax.papers.synthetic import Synthetic

MU, INFORMATION = "explained/mu", "explained/information"
SEEDS: dict[str, Any] = dict(sweep__seed=(0, 1, 2))
_UNLEARNED = change_of(of("", at_level(TEST, 0.12)))
_LONGER = {"matched(steps)": lambda run: longer(run, "constant")}


def _descent(effect: int) -> Levels:
    more, factor = {1: (0.0, 1.0), 0: (0.01, 1 / 1.1), -1: (0.03, 0.7)}[effect]
    decayed = {TEST: (0.6, 0.8 + more), LOSS: (1.0, 0.3 * factor)}
    return {"constant": {TEST: (0.7, 0.79, 0.8), LOSS: (0.5, 0.33, 0.3)}, "decay_1": decayed, "decay_2": decayed}


def _accuracy_gap(effect: int) -> Levels:
    before, after = {1: (0.87, 0.92), 0: (0.9, 0.9), -1: (0.92, 0.87)}[effect]
    return {"constant": {TEST: (before,)}} | dict.fromkeys(("decay_1", "decay_2"), {TEST: (before, after)})


def _loss_gap(effect: int) -> Levels:
    after = {1: 0.25, 0: 0.5, -1: 0.8}[effect]
    decayed = {TEST: (0.9, 0.92), LOSS: (0.5, after)}
    return {"constant": {TEST: (0.9,), LOSS: (0.5,)}, "decay_1": decayed, "decay_2": decayed}


def _linear(effect: int) -> Levels:
    shares = {1: (0.6, 0.5, 0.45), 0: (0.95, 0.95, 0.95), -1: (0.99, 1.1, 1.15)}[effect]
    whole = (1.2, 1.6, 1.8)
    mu = tuple(share * own for share, own in zip(shares, whole, strict=True))
    return {"decay": {TEST: (0.5, 0.55, 0.6), INFORMATION: whole, MU: mu}}


def _patches(effect: int) -> Levels:
    half, last, other, better = {1: (0.2, 0.8, 0.8, 0.05), 0: (0.8, 0.8, 0.8, 0.0), -1: (0.8, 0.6, 0.6, -0.05)}[effect]
    return {"large": {PATCH: (half, last), TEST: (0.5, 0.55 + better)}, "small": {PATCH: (other,), TEST: (0.55,)}}


def _transferred(name: str, source: tuple[float, ...], targets: tuple[str, ...], gains: tuple[float, float]) -> Levels:
    after = (0.4, 0.4 + gains[0], 0.4 + sum(gains))
    arms = {
        f"{target}_{mode}_{number}": {name: (level,)}
        for target in targets
        for mode in MODES
        for number, level in enumerate(after, start=1)
    }
    return {"source": {name: source}, **arms}


def _later(effect: int) -> Levels:
    gains = (0.09, {1: 0.0, 0: 0.03, -1: 0.1}[effect])
    return _transferred(TEST, (0.55, 0.7, 0.75), ("caltech256", "cub200", "indoors", "sketch"), gains)


def _sketches(effect: int) -> Levels:
    return _transferred(TEST, (0.55, 0.7, 0.75), ("sketch",), (0.09, -0.03 * effect))


def _patterns(effect: int) -> Levels:
    gains = (0.09, {1: 0.0, 0: 0.03, -1: 0.1}[effect])
    return _transferred(PATTERNS, (0.75, 0.9, 0.95), ("new",), gains)


def _weaker(lane: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    for name in (TEST, PATTERNS):
        if name in arrays:
            arrays[name] *= 0.85


def _few_tests(run: RunResult) -> RunResult:
    return run._replace(config={**run.config, "data": {**run.config["data"], "num_test": 1000}})


def _uninformed(lane: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    arrays[MU] *= 0.1
    arrays[INFORMATION] *= 0.1


_noise = Noise({"": 0.004})
_sgd = _LONGER | {"learned(0.9)": _UNLEARNED}
IMAGES: dict[str, Synthetic] = {
    "gradient_descent_gains_nothing": synthetic(
        maker("L1", _descent, Noise({"": 0.0012, LOSS: 0.003}), **SEEDS),
        "no difference; none: the margins, .01 and 10 %; seeds .0012 and 1 %",
        _LONGER
        | {
            "converged(0.02)": change_of(of("constant", drifting(LOSS))),
            "resolved(0.01)": change_of(of("decay_1", spread(TEST, 0.02))),
        },
    ),
    "gap_before_and_after": synthetic(
        maker("L2", _accuracy_gap, Noise({"": 0.005}), **SEEDS), "a gap of .05; none: no gap; seeds .005", _sgd
    ),
    "loss_gap_before_and_after": synthetic(
        maker("L2", _loss_gap, Noise({"": 0.005, LOSS: 0.02}), **SEEDS),
        "half of the loss; none: the same; seeds 4 %",
        _sgd,
    ),
    "linear_first": synthetic(
        maker("L9", _linear, Noise({"": 0.01}, starts={MU: 0.475, INFORMATION: 0.5})),
        "shares of .7, .6 and .45; none: .95 throughout; seeds .01 bit",
        {
            "learned(0.9)": _UNLEARNED,
            "tested_on(10000)": _few_tests,
            "gained": change_of(of("decay", _uninformed)),
        },
    ),
    "small_rate_takes_patches": synthetic(
        maker("L8", _patches, Noise({"": 0.008}), **SEEDS),
        "patch alone .2 against .8 half way, .8 in the end, clean .05 better; none: equal; seeds .008",
        {
            "matched(steps)": lambda run: longer(run, "small"),
            "learned(0.5)": change_of(of("", at_level(PATCH, 0.1))),
        },
    ),
    "later_stages_transfer_less": synthetic(
        maker("L7", _later, Noise({"": 0.0025}), scale="paper"),
        "T_2 .6, T_3 0 on four targets in two modes; none: both .6; seeds .0025",
        {"learned(0.9)": change_of(of("source", _weaker)), "gained": change_of(of("source", at_level(TEST, 0.69)))},
    ),
    "last_stage_hurts_sketches": synthetic(
        maker("L7", _sketches, _noise, scale="paper"),
        ".03 lost by the last stage; none: nothing; seeds .004",
        {"learned(0.9)": change_of(of("source", _weaker)), "gained": change_of(of("source", at_level(TEST, 0.69)))},
    ),
    "later_patterns_transfer_less": synthetic(
        maker("L7_ps10", _patterns, _noise),
        "T_2 .6, T_3 0; none: both .6; seeds .004",
        {
            "learned(0.9)": change_of(of("source", _weaker)),
            "gained": change_of(of("source", at_level(PATTERNS, 0.9005))),
        },
    ),
}
