"""How far a step can be stretched before its loss crosses a level."""

from collections.abc import Callable

import numpy as np

FIRST, LEAST = 0.125, 1e-3
Losses = Callable[[np.ndarray], np.ndarray]


def bracket(
    loss_at: Losses,
    lanes: int,
    is_high: Callable[[np.ndarray, np.ndarray], np.ndarray],
    *,
    cap: float,
    precision: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The first crossing of a level that doubling from 1/8 on sees, in each lane, between two stretches.

    Args:
        loss_at: stretch [lanes] -> loss [lanes].
        lanes: how many.
        is_high: `(loss, loss at 0) -> bool`, each [lanes]: whether the loss is beyond the level.
        cap: no larger stretch is tried.
        precision: the ratio of the two stretches that is reached, unless the lower is 0 and the upper at most 1e-3.

    Returns:
        `(low, up, crossed, start)`, each [lanes]: stretches below and beyond the crossing, whether there is one up to
        `cap`, and the loss at 0.

    Example:
        >>> low, up, crossed, start = bracket(
        ...     lambda c: (1 - c) ** 2, 1, lambda loss, start: loss > start, cap=64.0, precision=1.1
        ... )
        >>> bool(low[0] <= 2 <= up[0]), bool(up[0] <= 1.1 * low[0]), bool(crossed[0]), start.item()
        (True, True, True, 1.0)
    """
    start = np.asarray(loss_at(np.zeros(lanes)), np.float64)

    def high(stretch: np.ndarray) -> np.ndarray:
        return is_high(np.asarray(loss_at(stretch), np.float64), start)

    low, up = np.zeros(lanes), np.full(lanes, FIRST)
    crossed = high(up)
    while not (crossed | (up >= cap)).all():
        low = np.where(crossed, low, up)
        up = np.where(crossed, up, np.minimum(2 * up, cap))
        crossed = crossed | high(up)
    while (crossed & (up > low * precision) & (up > LEAST)).any():
        middle = np.where(low > 0, np.sqrt(low * up), up / 2)
        above = high(middle)
        low, up = np.where(above, low, middle), np.where(above, middle, up)
    return low, up, crossed, start
