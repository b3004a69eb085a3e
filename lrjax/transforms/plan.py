"""The plan of a run without weight decay: host arrays in float64, and the tables that a compiled step reads."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from lrjax.errors import check
from lrjax.transforms.recursion import DECAYS, Value, next_step, no_momentum
from lrjax.transforms.settings import check_num_steps, numbers

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Float64, Int32


class WDFreePlan(NamedTuple):
    """The conversion of a run with weight decay into one without, step by step; float64, on the host.

    With P_t = exp(log_scale[t]), before step t of both runs on the same batches:

        theta_t = P_t * theta~_t,    v~_t = Q_t * (v_t - kappa_t * theta_t),    Q_t = exp(log_buffer_scale[t]).

    Attributes:
        log_lr: log of the rate of the run without weight decay, [T]; -inf where the rate is 0.
        log_scale: log P_t, [T + 1].
        alpha: P_{t+1} / P_t, [T].
        kappa: the share of the weights in the buffer of the run with weight decay, [T + 1]; 0 where decay is decoupled.
        log_buffer_scale: log Q_t, [T + 1]: log P_t for L2 decay, log P_{t-1} where decay is decoupled.
        momentum: factor of the buffer, [T]; None without momentum.
        gain: factor of the gradient on its way into the buffer, [T]; None where it is 1.
        ahead: the shares of old buffer and gradient in Nesterov's step, [T] each; None where the step is the new buffer.

    References:
        Li & Arora (2020), An Exponential Learning Rate Schedule for Deep Learning, Theorem 2.13.

    Example:
        >>> plan = wd_free_plan(0.1, 5e-4, 0.9, num_steps=3)
        >>> plan.alpha.round(6).tolist(), plan.log_scale.shape
        ([0.99995, 0.999905, 0.999864], (4,))
    """

    log_lr: Float64[np.ndarray, " T"]
    log_scale: Float64[np.ndarray, " T+1"]
    alpha: Float64[np.ndarray, " T"]
    kappa: Float64[np.ndarray, " T+1"]
    log_buffer_scale: Float64[np.ndarray, " T+1"]
    momentum: Float64[np.ndarray, " T"] | None
    gain: Float64[np.ndarray, " T"] | None
    ahead: tuple[Float64[np.ndarray, " T"], Float64[np.ndarray, " T"]] | None


class WDFreeTables(NamedTuple):
    """Tables of a plan, a row a step, as a compiled step reads them; may be traced, stacked and vmapped, one plan a grid point.

    Attributes:
        mantissa, exponent: the rate as mantissa * 2^exponent, [T] each, so that a change of gauge by powers of two changes no
            bit of the product.
        momentum: factor of the buffer, [T]; None without momentum.
        gain: factor of the gradient on its way into the buffer, [T]; None where it is 1.
        ahead: the shares of old buffer and gradient in Nesterov's step, [T] each; None where the step is the new buffer.
        correction: share of the parameters that the buffer loses before the step (`texp_tables`), as mantissa and exponent,
            [T] each; None where it loses nothing.

    References:
        Li & Arora (2020), An Exponential Learning Rate Schedule for Deep Learning, Theorems 2.12 and 2.13.

    Example:
        >>> tables = wd_free_tables(wd_free_plan(0.1, 5e-4, 0.9, num_steps=3))
        >>> tables.mantissa.shape, tables.exponent.tolist(), tables.gain
        ((3,), [-4, -4, -4], None)
    """

    mantissa: Float[Array | np.ndarray, "*T"]
    exponent: Int32[Array | np.ndarray, "*T"]
    momentum: Float[Array | np.ndarray, "*T"] | None
    gain: Float[Array | np.ndarray, "*T"] | None = None
    ahead: tuple[Float[Array | np.ndarray, "*T"], Float[Array | np.ndarray, "*T"]] | None = None
    correction: tuple[Float[Array | np.ndarray, "*T"], Int32[Array | np.ndarray, "*T"]] | None = None


def refuse_traced(where: str, **values: Any) -> None:
    """Raises LrjaxError for a traced value."""
    for name, value in values.items():
        check(
            not isinstance(value, Tracer),
            f"{where} is planned on the host and {name} is traced; use wd_free_sgd with num_steps=None, or plan outside of "
            "the traced function and pass the tables to follow_plan",
        )


def per_step(value: Value, num_steps: int, name: str) -> np.ndarray:
    """A scalar, schedule or table as float64 [num_steps], evaluated on the host even inside a traced function.

    Args:
        value: a scalar, a schedule, an array with num_steps numbers or more, or None for 0.
        num_steps: steps of the run.
        name: of the setting, for messages.

    Returns:
        A number a step.

    Raises:
        LrjaxError: traced, shorter than num_steps, or not finite.

    Example:
        >>> import optax
        >>> per_step(optax.linear_schedule(0.0, 0.1, 4), 3, "learning_rate")
        array([0.   , 0.025, 0.05 ])
    """
    refuse_traced("a table form", **{name: value})
    if callable(value):
        table = _evaluated(value, num_steps)
    else:
        table = numbers(0.0 if value is None else value, name)
    if table.ndim == 0:
        table = np.full(num_steps, table)
    check(table.ndim == 1, f"{name} must be a scalar, a schedule or one number a step, not of shape {table.shape}")
    check(
        table.size >= num_steps, f"{name} holds {table.size} steps but the run has {num_steps}; give it a value a step"
    )
    table = table[:num_steps]
    check(bool(np.isfinite(table).all()), f"{name} is not finite at step {int(np.argmin(np.isfinite(table)))}")
    return table


def _evaluated(schedule: Any, num_steps: int) -> np.ndarray:
    with (
        jax.ensure_compile_time_eval(),
        jax.enable_x64(True),
        jax.default_device(jax.local_devices(backend="cpu")[0]),
    ):
        try:  # compiled, at int32 counts, as in optax's own chain: the rates of the run with weight decay to the last bit
            return np.asarray(jax.lax.map(schedule, jnp.arange(num_steps, dtype=jnp.int32)), np.float64)
        except (TypeError, ValueError):  # a schedule in plain Python, or one that returns a plain number
            return np.asarray([float(schedule(t)) for t in range(num_steps)], np.float64)


def wd_free_plan(
    learning_rate: Value,
    weight_decay: Value,
    momentum: Value,
    num_steps: int,
    *,
    nesterov: bool = False,
    decay: str = "l2",
) -> WDFreePlan:
    r"""Plan of the run without weight decay that equals SGD with weight decay on a scale-invariant loss (TEXP++).

    .. math::
        c_t = \gamma_t \kappa_t + \lambda_t, \quad \alpha_{t+1} = 1 - \eta_t c_t, \quad
        \kappa_{t+1} = c_t / \alpha_{t+1}, \quad \tilde\eta_t = \eta_t / (P_t P_{t+1}), \quad P_{t+1} = \alpha_{t+1} P_t

    Any schedules will do, also a rate of 0 and a scheduled weight decay or momentum.

    Args:
        learning_rate, weight_decay, momentum: of the run with weight decay; each a scalar, an `optax.Schedule`, or an array
            [T] with a number a step. Schedules are evaluated on the host in float64.
        num_steps: T, optimizer steps of the run; with gradient accumulation, real updates.
        nesterov: as in `optax.sgd`.
        decay: "l2" for `chain(add_decayed_weights(wd), sgd(lr, momentum))`; "decoupled" for SGDW,
            `chain(trace(momentum), add_decayed_weights(wd), scale_by_learning_rate(lr))`.

    Returns:
        The plan, float64.

    Raises:
        LrjaxError: a traced value; a table shorter than the run; or the first step at which no positive alpha exists,
            because learning_rate * weight_decay was too long beyond (1 - sqrt(momentum))^2, or for Nesterov's momentum
            beyond ((1 - momentum) / (1 + momentum))^2.

    References:
        Li & Arora (2020), An Exponential Learning Rate Schedule for Deep Learning, Theorem 2.13 (heavy ball, L2).

    Example:
        >>> plan = wd_free_plan(0.1, 5e-4, 0.9, num_steps=1000)
        >>> round(float(np.exp(391 * (plan.log_lr[-1] - plan.log_lr[-2]))), 4)  # growth in 391 steps
        1.4812
        >>> wd_free_plan(1.0, 6e-3, 0.9, num_steps=100)
        Traceback (most recent call last):
        lrjax.errors.LrjaxError: no exponential schedule equals this run from step 38 on: alpha would be ...
    """
    check(decay in DECAYS, f"decay must be one of {', '.join(DECAYS)}, not {decay!r}")
    num_steps = check_num_steps(num_steps, "a table form")
    eta = per_step(learning_rate, num_steps, "learning_rate")
    lam = per_step(weight_decay, num_steps, "weight_decay")
    gamma = per_step(momentum, num_steps, "momentum")
    _check_range(eta, gamma)
    kappas, alpha, steps = [0.0], 1.0, []
    for t, values in enumerate(zip(eta.tolist(), lam.tolist(), gamma.tolist(), strict=True)):
        step = next_step(kappas[-1], alpha, *values, nesterov, decay)
        alpha = 1.0 - step.shrink
        _check_alpha(t, alpha, *values, nesterov, decay)
        kappas.append(step.c / alpha)
        steps.append(step)
    shrink = np.asarray([step.shrink for step in steps])
    log_scale = np.concatenate([[0.0], np.cumsum(np.log1p(-shrink))])
    with np.errstate(divide="ignore"):
        log_lr = np.log(eta) - log_scale[:-1] - log_scale[1:]
    shifted = np.concatenate([[0.0], log_scale[:-1]])
    has_buffer = not no_momentum(momentum)
    first = steps[0]
    return WDFreePlan(
        log_lr=log_lr,
        log_scale=log_scale,
        alpha=1.0 - shrink,
        kappa=np.asarray(kappas),
        log_buffer_scale=shifted if decay == "decoupled" else log_scale,
        momentum=np.asarray([s.momentum for s in steps]) if has_buffer else None,
        gain=None if first.gain is None or not has_buffer else np.asarray([s.gain for s in steps]),
        ahead=None if first.ahead is None or not has_buffer else tuple(np.asarray([s.ahead for s in steps]).T),
    )


def _check_range(eta: np.ndarray, gamma: np.ndarray) -> None:
    check(bool((eta >= 0).all()), f"learning_rate is negative at step {int(np.argmax(eta < 0))}")
    inside = (gamma >= 0) & (gamma < 1)
    check(bool(inside.all()), f"momentum is outside of [0, 1) at step {int(np.argmin(inside))}")


def _check_alpha(t: int, alpha: float, eta: float, lam: float, gamma: float, nesterov: bool, decay: str) -> None:
    limit = ((1 - gamma) / (1 + gamma)) ** 2 if nesterov else (1 - math.sqrt(gamma)) ** 2
    limit = 1.0 if decay == "decoupled" else limit
    check(
        alpha > 0,
        f"no exponential schedule equals this run from step {t} on: alpha would be {alpha:.3g}, where learning_rate * "
        f"weight_decay is {eta * lam:.3g} and momentum {gamma:g} allows {limit:.3g} in the long run; lower one of the three",
    )


def wd_free_tables(plan: WDFreePlan, *, rescaled: bool = False) -> WDFreeTables:
    """Tables of a plan, in JAX's default float.

    Args:
        plan: of `wd_free_plan`, T steps.
        rescaled: True where the loop calls `gauge_rescale` between chunks, so that the rate may leave the range of floats.

    Returns:
        `WDFreeTables` of host arrays [T].

    Raises:
        LrjaxError: the first step whose rate is beyond the largest float, unless rescaled.

    References:
        Li & Arora (2020), An Exponential Learning Rate Schedule for Deep Learning, Theorem 2.13.

    Example:
        >>> tables = wd_free_tables(wd_free_plan(0.1, 5e-4, 0.9, num_steps=3))
        >>> np.ldexp(tables.mantissa, tables.exponent).round(5).tolist()
        [0.1000000..., 0.1000199..., 0.1000400...]
    """
    dtype = jax.dtypes.canonicalize_dtype(np.float64)
    beyond = plan.log_lr > math.log(float(jnp.finfo(dtype).max))
    check(
        rescaled or not bool(beyond.any()),
        f"the learning rate leaves {np.dtype(dtype).name} at step {int(np.argmax(beyond))}; end the run before, or call "
        "gauge_rescale between chunks of steps and pass rescaled=True",
    )
    mantissa, exponent = split_power(plan.log_lr / math.log(2.0))
    rest = jax.tree.map(lambda a: a.astype(dtype), (plan.momentum, plan.gain, plan.ahead))
    return WDFreeTables(mantissa.astype(dtype), exponent, *rest)


def split_power(log2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """2^log2 as mantissa in [1, 2) (0 where log2 is -inf) and int32 exponent.

    Example:
        >>> split_power(np.array([3.5, -np.inf]))
        (array([1.41421356, 0.        ]), array([3, 0], dtype=int32))
    """
    exponent = np.where(np.isfinite(log2), np.floor(log2), 0.0)
    return np.exp2(log2 - exponent), exponent.astype(np.int32)
