"""Checks behind the claims on noise: what is memorised at the end, and at matched accuracy."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lrjax.experiment.rundir.lanes import end, lanes
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.claim import Finding
from lrjax.papers.lr_decay.checks import COMPLEX, SIMPLE, by_sides, compared, span
from lrjax.papers.lr_decay.observe import matched

GIVEN = "subsets/train_noise_given"
NO_DIFFERENCE = 0.02
CONTROLS = ("constant_1", "constant_2")


def _against(run: RunResult, kind: str, name: str, wanted: int) -> Finding:
    """Decay against both small constant rates, at the end: `wanted` is 1 for higher and -1 for lower."""
    decay = end(lanes(run, f"{kind}_decay"), name)
    sides, text = [], []
    for control in CONTROLS:
        found = lanes(run, f"{kind}_{control}")
        sides.append(wanted * compared(decay, end(found, name)))
        text.append(f"constant {found[0][0]['learning_rate']:g} {span(end(found, name))}")
    return Finding(by_sides(sides), f"decay {span(decay)}, {', '.join(text)}")


def simple(kind: str) -> Callable[[Any], Finding]:
    """No real difference on simple patterns."""

    def check(run: RunResult) -> Finding:
        values = {arm: end(lanes(run, f"{kind}_{arm}"), SIMPLE) for arm in ("decay", *CONTROLS)}
        means = [float(v.mean()) for v in values.values()]
        word = "supported" if max(means) - min(means) <= NO_DIFFERENCE else "contradicted"
        return Finding(word, "simple, " + ", ".join(f"{arm} {span(v)}" for arm, v in values.items()))

    return check


def complex_(kind: str) -> Callable[[Any], Finding]:
    """Decay learns more of the complex patterns."""
    return lambda run: _against(run, kind, COMPLEX, 1)


def memorised(kind: str) -> Callable[[Any], Finding]:
    """Decay memorises less noise, at the end."""
    return lambda run: _against(run, kind, GIVEN, -1)


def memorised_at_matched(kind: str) -> Callable[[Any], Finding]:
    """Noise memorised by decay when its complex test accuracy is what a constant rate ends with."""

    def check(run: RunResult) -> Finding:
        decay = lanes(run, f"{kind}_decay")
        sides, text = [], []
        for control in CONTROLS:
            found = lanes(run, f"{kind}_{control}")
            level = float(end(found, COMPLEX).mean())
            own = np.array([matched(arrays[COMPLEX], arrays[GIVEN], level) for _, arrays in decay])
            sides.append(compared(end(found, GIVEN), own))
            rate = found[0][0]["learning_rate"]
            text.append(f"at complex {level:.3f}: decay {span(own)}, constant {rate:g} {span(end(found, GIVEN))}")
        word = "supported" if min(sides) > 0 else "contradicted" if max(sides) < 0 else "inconclusive"
        return Finding(word, "; ".join(text))

    return check
