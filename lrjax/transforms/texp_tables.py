"""TEXP as arrays with a row a step, for a compiled loop to read, stack and vmap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np

from lrjax.transforms.plan import WDFreeTables, split_power
from lrjax.transforms.recursion import no_momentum
from lrjax.transforms.settings import check_num_steps
from lrjax.transforms.texp import Phases, texp_phases

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Float64, Int32


def texp_tables(
    boundaries: Sequence[int],
    learning_rates: Sequence[float],
    weight_decay: float | Sequence[float],
    momentum: float,
    num_steps: int,
    *,
    instant_drop: bool = True,
    correct_start: bool = True,
    correct_phases: bool = True,
) -> tuple[WDFreeTables, Float64[np.ndarray, " T+1"]]:
    """Rates and buffer corrections of `texp`, step by step, for `follow_plan`.

    Args:
        boundaries, learning_rates, weight_decay, momentum, instant_drop, correct_start, correct_phases: as for `texp`.
        num_steps: T, steps of the run.

    Returns:
        `WDFreeTables` of host arrays [T] in JAX's default float; and log P [T + 1] in float64, with theta = P theta~.

    Raises:
        LrjaxError: as `texp`.

    References:
        Li & Arora (2020), An Exponential Learning Rate Schedule for Deep Learning, Theorem 2.12.

    Example:
        >>> tables, log_scale = texp_tables((2,), (0.1, 0.01), 5e-4, 0.9, num_steps=4)
        >>> [round(float(rate), 4) for rate in np.ldexp(tables.mantissa, tables.exponent)]
        [0.1001, 0.1002, 0.01, 0.01]
        >>> tables.correction[0].nonzero()[0].tolist()
        [0, 2]
    """
    num_steps = check_num_steps(num_steps, "texp_tables")
    phases = texp_phases(boundaries, learning_rates, weight_decay, momentum, instant_drop)
    log_lr, log_scale = rates_of(phases, num_steps)
    correction = np.zeros(num_steps), np.zeros(num_steps, np.int32)
    change = np.diff(phases.kappa, prepend=0.0) * np.where(phases.starts == 0, correct_start, correct_phases)
    for start, amount in zip(phases.starts, change, strict=True):
        if start < num_steps:
            mantissa, exponent = split_power(np.asarray([2 * log_scale[start] / math.log(2.0)]))
            correction[0][start], correction[1][start] = amount * mantissa[0], exponent[0]
    return table_of(log_lr, momentum, correction), log_scale


def rates_of(phases: Phases, num_steps: int) -> tuple[Float64[np.ndarray, " T"], Float64[np.ndarray, " T+1"]]:
    """Log of the rate [T] and log P [T + 1] of phases.

    Args:
        phases: of `texp_phases`.
        num_steps: T, steps of the run.

    Returns:
        Both in float64.

    Example:
        >>> log_lr, log_scale = rates_of(texp_phases((2,), (0.1, 0.01), 5e-4, 0.9), 4)
        >>> np.exp(log_lr).round(4).tolist(), log_scale.shape
        ([0.1001, 0.1002, 0.01, 0.01], (5,))
    """
    steps = np.arange(num_steps + 1)
    phase = np.searchsorted(phases.starts, steps, side="right") - 1
    since = (steps - phases.starts[phase]) * phases.log_alpha[phase]
    return (phases.log_lr[phase] - 2 * since)[:-1], phases.log_scale[phase] + since


def table_of(
    log_lr: Float64[np.ndarray, " T"],
    momentum: float,
    correction: tuple[Float[Array | np.ndarray, " T"], Int32[Array | np.ndarray, " T"]] | None = None,
) -> WDFreeTables:
    """Tables of rates at a constant momentum.

    Args:
        log_lr: log of the rates.
        momentum: of the heavy ball; no buffer at 0.
        correction: as in `WDFreeTables`.

    Returns:
        Host arrays [T] in JAX's default float.

    Example:
        >>> table_of(np.log([0.1, 0.2]), 0.9).momentum.round(3).tolist() == np.full(2, 0.9, "float32").tolist()
        True
    """
    dtype = jax.dtypes.canonicalize_dtype(np.float64)
    mantissa, exponent = split_power(log_lr / math.log(2.0))
    kept = None if no_momentum(momentum) else np.full(log_lr.size, momentum, dtype)
    corrected = None if correction is None else (correction[0].astype(dtype), correction[1])
    return WDFreeTables(mantissa.astype(dtype), exponent, kept, correction=corrected)
