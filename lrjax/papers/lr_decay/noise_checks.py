"""Checks behind the claims on noise (L4): what is memorised at the end of stage 1, at the end, and at matched accuracy."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrjax.experiment.rundir.lanes import Lanes, NotJudged, end, lanes
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.claim import Finding, NotMeasured
from lrjax.papers.lr_decay.checks import COMPLEX, SIMPLE
from lrjax.papers.lr_decay.observe import at_step, decays, matched, paired
from lrjax.papers.statistics import mean_of, positive, within

GIVEN = "subsets/train_noise_given"
NO_DIFFERENCE = 0.02  # of simple accuracy: a fifth of the noise, which is what a model that memorised it all could lose
LEVEL = 0.98  # of the constant rate's final accuracy, at which both are compared: reached before its plateau

Check = Callable[[RunResult], Finding]


def pairs(run: RunResult, kind: str) -> dict[str, tuple[Lanes, Lanes]]:
    """The small constant rates of a kind of noise, by name: (lanes of decay, lanes of the constant rate), by seed."""
    arms = sorted({lane["arm"] for lane in run.lanes if lane["arm"].startswith(f"{kind}_constant")})
    if not arms:
        raise NotMeasured(f"this run has no small constant rate with noise {kind}")
    found = {}
    for arm in arms:
        decay, control = paired(lanes(run, f"{kind}_decay"), lanes(run, arm))
        found[f"{control[0][0]['learning_rate']:g}"] = decay, control
    return found


def apart(run: RunResult, kind: str, name: str) -> dict[str, NDArray[np.float64]]:
    """An array at the end of decay minus that of each small constant rate, by seed."""
    return {rate: end(decay, name) - end(control, name) for rate, (decay, control) in pairs(run, kind).items()}


def _told(values: dict[str, NDArray[np.float64]]) -> str:
    return ", ".join(f"constant {rate} by {mean_of(own)}" for rate, own in values.items())


def simple(kind: str) -> Check:
    """No real difference on simple patterns."""

    def check(run: RunResult) -> Finding:
        found = apart(run, kind, SIMPLE)
        word = within(*found.values(), margin=NO_DIFFERENCE)
        return Finding(
            word, f"simple, decay {end(lanes(run, f'{kind}_decay'), SIMPLE).mean():.3f}, above {_told(found)}"
        )

    return check


def first_measured_is_like_decay(kind: str) -> Callable[[RunResult], bool]:
    """Whether constant rates at their first measurement pass the check of simple patterns: they must not."""

    def passes(run: RunResult) -> bool:
        early = [
            end(decay, SIMPLE) - np.array([arrays[SIMPLE][0] for _, arrays in control])
            for decay, control in pairs(run, kind).values()
        ]
        return within(*early, margin=NO_DIFFERENCE) == "supported"

    return passes


def complex_(kind: str) -> Check:
    """Decay learns more of the complex patterns."""

    def check(run: RunResult) -> Finding:
        found = apart(run, kind, COMPLEX)
        text = f"complex, decay {end(lanes(run, f'{kind}_decay'), COMPLEX).mean():.3f}, above {_told(found)}"
        return Finding(positive(*found.values()), text)

    return check


def memorised(kind: str) -> Check:
    """Decay memorises less noise, at the end."""

    def check(run: RunResult) -> Finding:
        found = {rate: -values for rate, values in apart(run, kind, GIVEN).items()}
        text = f"noise memorised, decay {end(lanes(run, f'{kind}_decay'), GIVEN).mean():.3f}, under {_told(found)}"
        return Finding(positive(*found.values()), text)

    return check


def memorised_in_stage_1(kind: str) -> Check:
    """The large rate memorises less noise than small constant rates do in as many steps."""

    def check(run: RunResult) -> Finding:
        found = {}
        for rate, (decay, control) in pairs(run, kind).items():
            step = decays(decay[0][1])[0]
            found[rate] = at_step(control, GIVEN, step) - at_step(decay, GIVEN, step)
        return Finding(positive(*found.values()), f"noise memorised at the end of stage 1, under {_told(found)}")

    return check


def _at_level(arrays: Mapping[str, Any], level: float) -> float:
    try:
        return matched(arrays[COMPLEX], arrays[GIVEN], level)
    except NotMeasured as reason:
        raise NotJudged(f"complex patterns: {reason}") from reason


def memorised_at_matched(kind: str) -> Check:
    """Noise memorised when complex test accuracy first is what a constant rate all but ends with."""

    def check(run: RunResult) -> Finding:
        found = {}
        for rate, (decay, control) in pairs(run, kind).items():
            levels = LEVEL * end(control, COMPLEX)
            own = [_at_level(arrays, level) for (_, arrays), level in zip(decay, levels, strict=True)]
            other = [_at_level(arrays, level) for (_, arrays), level in zip(control, levels, strict=True)]
            found[rate] = np.array(other) - np.array(own)
        text = f"noise memorised at {LEVEL:.0%} of the constant rate's complex accuracy, decay under {_told(found)}"
        return Finding(positive(*found.values()), text)

    return check
