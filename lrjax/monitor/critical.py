"""How far along a step the loss of its batch stays below its start."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lrjax.spectra.stretch import bracket


def critical_multiple(loss_at: Callable[[float], float], *, largest: float = 64.0, precision: float = 1.1) -> float:
    """The largest multiple c of a step found by doubling with L_B(theta + c u) <= L_B(theta), then by bisection.

    The first crossing that doubling sees from c = 1 / 8 on; headroom on the batch that made the step, so no reason to raise
    the rate by c: Adam at ten times its best rate still shows c = 3.

    Args:
        loss_at: c -> L_B(theta + c u).
        largest: no multiple above it is tried.
        precision: the ratio within which the crossing is found.

    Returns:
        c, between 0 and `largest`; NaN where the loss at 0 is not finite.

    References:
        arXiv 2601.16979 (read as an abstract): the critical learning rate.

    Example:
        >>> 1.8 <= critical_multiple(lambda c: (1 - c) ** 2) <= 2.0
        True
    """
    low, _, crossed, start = bracket(
        lambda multiple: np.array([loss_at(float(multiple[0]))]),
        1,
        lambda loss, start: ~(loss <= start),
        cap=largest,
        precision=precision,
    )
    if not np.isfinite(start[0]):
        return float("nan")
    return float(low[0]) if crossed[0] else largest
