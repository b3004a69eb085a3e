"""Ranges of settings. Values that are traced have no number yet and are not looked at."""

from __future__ import annotations

from typing import Any

import jax
import jax.core
import numpy as np

from lrjax.errors import check, refuse

Numbers = float | np.ndarray | jax.Array  # a number, or an array that broadcasts

RANGES = {
    "0 or more": lambda x: x >= 0,
    "above 0": lambda x: x > 0,
    "1 or more": lambda x: x >= 1,
    "2 or more": lambda x: x >= 2,
    "from 0 to below 1": lambda x: (x >= 0) & (x < 1),
    "between 0 and 1": lambda x: (x > 0) & (x < 1),
}


def traced(*values: Any) -> bool:
    """Whether a value has no number yet, under `jax.jit` and its like."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))


def in_range(name: str, value: Any, words: str, *, gaps: bool = False) -> None:
    """Refuses a setting outside a range.

    Args:
        name: of the setting, in the message.
        value: a number or an array.
        words: a key of `RANGES`.
        gaps: let NaN and infinity pass in arrays, where they mark what was not measured.

    Raises:
        LrjaxError: names the setting and its first bad value.

    Example:
        >>> in_range("momentum", 0.9, "from 0 to below 1")
    """
    if traced(value):
        return
    try:
        numbers = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        refuse(f"{name} must be a number or an array, {words}, not {value!r}")
    with np.errstate(invalid="ignore"):
        right = RANGES[words](numbers) & np.isfinite(numbers)
    if gaps and numbers.ndim:
        right |= np.isnan(numbers) | (numbers == np.inf)
    if not right.all():
        first = value if numbers.ndim == 0 else numbers[~right][0]
        check(False, f"{name} must be {words}, not {first}")
