"""TEXP: the tapered exponential schedule that equals step decay with weight decay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from lrjax.errors import check, refuse
from lrjax.transforms.plan import refuse_traced, split_power
from lrjax.transforms.recursion import no_momentum
from lrjax.transforms.settings import check_num_steps, check_scalar, numbers, whole_numbers
from lrjax.transforms.sgd import buffer_like, leafwise, sgd_step
from lrjax.transforms.texp_rate import rate_at, rate_tables

if TYPE_CHECKING:
    from jaxtyping import Array, ArrayLike, Float64, Int32, Int64, PyTree


class Phases(NamedTuple):
    """Phases of constant rate and decay, and the exponential phases that equal them; float64, [K] each.

    Attributes:
        starts: T_I, the first step that uses the rate of phase I.
        alpha, log_alpha: the larger root of x^2 - (1 + gamma - lambda eta) x + gamma = 0.
        kappa: (1 / alpha - 1) / eta, the share of the weights in the buffer that this root stands for.
        log_scale: log P at T_I.
        log_lr: log of the rate at T_I; it grows by -2 log_alpha a step.
    """

    starts: Int64[np.ndarray, " K"]
    alpha: Float64[np.ndarray, " K"]
    log_alpha: Float64[np.ndarray, " K"]
    kappa: Float64[np.ndarray, " K"]
    log_scale: Float64[np.ndarray, " K"]
    log_lr: Float64[np.ndarray, " K"]


class TEXPState(NamedTuple):
    """State of `texp`.

    Attributes:
        count: updates so far.
        trace: the buffer, like the parameters; () without momentum.
        gauge: k of `gauge_rescale`, as in `WDFreeState`.

    Example:
        >>> state = texp((100,), (0.1, 0.01), 5e-4, momentum=0.9).init(jnp.ones(2))
        >>> int(state.count), state.trace.tolist(), int(state.gauge)
        (0, [0.0, 0.0], 0)
    """

    count: Int32[ArrayLike, ""]
    trace: PyTree
    gauge: Int32[Array, ""]


def larger_root(
    learning_rate: ArrayLike, weight_decay: ArrayLike, momentum: float
) -> tuple[Float64[np.ndarray, "*K"], Float64[np.ndarray, "*K"]]:
    """Fixed point (1 - alpha, kappa) of the recursion for constant values, without cancellation.

    Args:
        learning_rate, weight_decay: numbers or arrays [K].
        momentum: of the heavy ball.

    Returns:
        1 - alpha, with alpha the larger root of x^2 - (1 + gamma - lambda eta) x + gamma, and kappa = (1 / alpha - 1) / eta;
        NaN where the roots are complex.

    Example:
        >>> shrink, kappa = larger_root(0.1, 5e-4, 0.9)
        >>> round(float(shrink), 9), round(float(kappa), 7)
        (0.000502272, 0.0050252)
    """
    weight_decay = np.asarray(weight_decay, np.float64)
    d = np.asarray(learning_rate, np.float64) * weight_decay
    with np.errstate(invalid="ignore", divide="ignore"):
        divisor = 1 - momentum + d + np.sqrt((1 - momentum) ** 2 - 2 * (1 + momentum) * d + d * d)
        shrink = 2 * d / divisor
        return shrink, 2 * weight_decay / divisor / (1 - shrink)


def texp_phases(
    boundaries: Sequence[int],
    learning_rates: Sequence[float],
    weight_decay: float | Sequence[float],
    momentum: float,
    instant_drop: bool = True,
) -> Phases:
    """Exponential phases that equal step decay with weight decay.

    Args:
        boundaries, learning_rates, weight_decay, momentum, instant_drop: as for `texp_schedule`.

    Returns:
        The phases, float64.

    Raises:
        LrjaxError: as `texp_schedule`, but for the range of floats.

    Example:
        >>> phases = texp_phases((10,), (0.1, 0.01), 5e-4, 0.9)
        >>> phases.alpha.round(7).tolist()
        [0.9994977, 0.99995]
    """
    settings = dict(learning_rates=learning_rates, weight_decay=weight_decay, momentum=momentum)
    refuse_traced("texp", **{f"a value of {k}": t for k, v in settings.items() for t in jax.tree.leaves(v)})
    check(np.ndim(boundaries) == 1, f"boundaries must be a sequence of steps, not {boundaries!r}")
    starts = np.concatenate([[0], whole_numbers(boundaries, "boundaries")])
    eta = numbers(learning_rates, "learning_rates")
    check_scalar("momentum", momentum, "texp takes a number")
    check(eta.ndim == 1 and eta.size == starts.size, f"{starts.size - 1} boundaries need {starts.size} learning rates")
    check(bool((np.diff(starts) > 0).all()), f"boundaries must be positive and increase, not {list(boundaries)}")
    check(
        bool((np.isfinite(eta) & (eta > 0)).all()),
        f"learning rates of phases must be positive, not {list(learning_rates)}",
    )
    lam = numbers(weight_decay, "weight_decay")
    check(
        lam.ndim == 0 or lam.shape == eta.shape,
        f"weight_decay must be one number or {eta.size}, one a phase, not of shape {lam.shape}",
    )
    check(bool(np.isfinite(lam).all()), f"weight_decay must be finite, not {weight_decay}")
    lam = np.broadcast_to(lam, eta.shape)
    if not instant_drop:  # the same functions as a constant rate and a decay that drops (Li & Arora 2020, TEXP--)
        eta, lam = np.full_like(eta, eta[0]), lam * eta / eta[0]
    shrink, kappa = larger_root(eta, lam, momentum)
    limit = (1 - math.sqrt(momentum)) ** 2
    bad = ~(eta * lam <= limit) | ~(shrink < 1)
    check(
        not bool(bad.any()),
        f"no exponential schedule equals this run from step {starts[int(np.argmax(bad))]} on: learning_rate * weight_decay is "
        f"{(eta * lam)[int(np.argmax(bad))]:.3g} and momentum {momentum:g} allows {limit:.3g}; lower one of the three",
    )
    log_alpha = np.log1p(-shrink)
    log_scale = np.concatenate([[0.0], np.cumsum(np.diff(starts) * log_alpha[:-1])])
    return Phases(starts, 1 - shrink, log_alpha, kappa, log_scale, np.log(eta) - log_alpha - 2 * log_scale)


def texp_schedule(
    boundaries: Sequence[int],
    learning_rates: Sequence[float],
    weight_decay: float | Sequence[float],
    momentum: float = 0.0,
    *,
    instant_drop: bool = True,
    num_steps: int | None = None,
) -> optax.Schedule:
    r"""The learning rate of TEXP: exponential growth, at each phase start a drop and a smaller exponent.

    .. math::
        \log\tilde\eta_t = \log\eta_I - (2 (t - T_I) + 1) \log\alpha_I - 2 \sum_{J<I} (T_{J+1} - T_J) \log\alpha_J

    Without momentum it is exact for `optax.sgd(schedule)`. With momentum the buffer must be corrected at t = 0 and at phase
    starts, which `texp` does. Called with a plain number or array it computes in float64.

    Args:
        boundaries: [K - 1], in steps, the first of phases 1, 2, ...: the step taken at a boundary already uses the next rate.
        learning_rates: [K], positive, of the run with weight decay.
        weight_decay: of that run; one value, or one a phase.
        momentum: of both runs, heavy ball.
        instant_drop: False for TEXP--, which leaves the drop of the rate out and keeps the exponents.
        num_steps: length of the run, if known: whether it stays in range is then settled at once.

    Returns:
        An `optax.Schedule`. Beyond the range of floats it is infinite inside a compiled program.

    Raises:
        LrjaxError: the first step at which learning_rate * weight_decay is beyond (1 - sqrt(momentum))^2; the step at which
            the rate leaves float32 (float64 where JAX has it enabled), if a boundary, num_steps or a call lies beyond it.

    References:
        Li & Arora (2020), An Exponential Learning Rate Schedule for Deep Learning, Theorem 2.12; its experiments for TEXP--.

    Example:
        >>> schedule = texp_schedule((80 * 391, 120 * 391), (0.1, 0.01, 0.001), 5e-4, 0.9)
        >>> [f"{float(schedule(epoch * 391)):.1e}" for epoch in (0, 79, 80, 120)]
        ['1.0e-01', '3.0e+12', '4.5e+11', '2.1e+11']
        >>> schedule = texp_schedule((), (0.1,), 5e-4, 0.9, num_steps=500 * 391)
        Traceback (most recent call last):
        lrjax.errors.LrjaxError: the learning rate leaves float32 at step 90591; ...
    """
    phases = texp_phases(boundaries, learning_rates, weight_decay, momentum, instant_drop)
    beyond = _first_beyond(phases)
    num_steps = None if num_steps is None else check_num_steps(num_steps, "texp_schedule")
    _check_in_range(beyond, max(int(phases.starts[-1]), (num_steps or 1) - 1))
    tables = rate_tables(phases.starts, phases.log_lr, phases.log_alpha)

    def schedule(count: Any) -> jax.Array:
        if isinstance(count, Tracer):
            rate, power = rate_at(tables, count)[:2]
            return jnp.ldexp(rate, power)
        steps = np.asarray(count)
        _check_in_range(beyond, int(np.max(steps, initial=0)))
        phase = np.searchsorted(phases.starts, steps, side="right") - 1
        log_lr = phases.log_lr[phase] - 2 * (steps - phases.starts[phase]) * phases.log_alpha[phase]
        return jnp.asarray(np.exp(log_lr), float)

    return schedule


def texp(
    boundaries: Sequence[int],
    learning_rates: Sequence[float],
    weight_decay: float | Sequence[float],
    momentum: float = 0.0,
    *,
    instant_drop: bool = True,
    correct_start: bool = True,
    correct_phases: bool = True,
) -> optax.GradientTransformationExtraArgs:
    r"""SGD along `texp_schedule` with the momentum corrections: equals SGD with step decay and weight decay.

    Once a phase, before the step at t = T_I (also t = 0, with :math:`\kappa_{-1} = 0`):

    .. math::
        \tilde v \leftarrow \tilde v - P_{T_I}^2 (\kappa_I - \kappa_{I-1}) \tilde\theta, \qquad
        \kappa_I = (1 / \alpha_I - 1) / \eta_I

    The correction at t = 0 is first order in learning_rate * weight_decay; leaving it out changes the functions visibly at
    once. Those at phase starts are second order: about 1e-6 in the logits at the paper's values.

    Args:
        boundaries, learning_rates, weight_decay, momentum, instant_drop: as for `texp_schedule`.
        correct_start: whether the buffer is corrected at t = 0.
        correct_phases: whether it is corrected at the later phase starts.

    Returns:
        An optax transformation with state `TEXPState`. Its `update` needs `params` where it corrects. `gauge_rescale` keeps
        runs in range that are too long for `texp_schedule`.

    Raises:
        LrjaxError: as `texp_schedule`, but for the range of floats; in `update`, a correction without `params`.

    References:
        Li & Arora (2020), An Exponential Learning Rate Schedule for Deep Learning, Theorem 2.12 (heavy ball, L2).

    Example:
        >>> tx = texp((100, 200), (0.1, 0.01, 0.001), 5e-4, momentum=0.9)
        >>> params = jnp.ones(())
        >>> updates, state = tx.update(jnp.ones(()), tx.init(params), params)
        >>> round(float(updates), 5)
        -0.0996
    """
    phases = texp_phases(boundaries, learning_rates, weight_decay, momentum, instant_drop)
    tables = rate_tables(phases.starts, phases.log_lr, phases.log_alpha)
    plain = no_momentum(momentum)
    change = np.diff(phases.kappa, prepend=0.0) * np.where(phases.starts == 0, correct_start, correct_phases)
    corrects = not plain and bool((change != 0).any())
    # Buffers and weights of a rescaled run differ by 2^(2k) in their ratio.
    amount, exponent = split_power(2 * phases.log_scale / math.log(2.0))
    amount = amount * change

    def init(params: PyTree) -> TEXPState:
        return TEXPState(jnp.int32(0), buffer_like(params, not plain), jnp.int32(0))

    def update(updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any) -> tuple[PyTree, Any]:
        rate, power, phase = rate_at(tables, state.count)
        trace = state.trace
        if corrects:
            if params is None:
                refuse("texp corrects its buffer by the parameters; call update(gradients, state, params)")
            share = jnp.ldexp(jnp.asarray(amount, float)[phase], jnp.asarray(exponent)[phase] - 2 * state.gauge)
            share = jnp.where(state.count == jnp.asarray(tables.starts)[phase], share, 0)
            trace = leafwise(lambda v, p: v - share.astype(v.dtype) * p, trace, params)
        learning_rate = jnp.ldexp(rate, power + 2 * state.gauge)
        updates, trace = sgd_step(updates, trace, learning_rate, None if plain else momentum)
        return updates, TEXPState(optax.safe_increment(state.count), trace, state.gauge)

    return optax.GradientTransformationExtraArgs(init, update)


def _first_beyond(phases: Phases) -> float:
    # The first step whose rate is not a finite float, or infinity.
    most = math.log(float(jnp.finfo(jax.dtypes.canonicalize_dtype(np.float64)).max))
    for start, end, log_lr, log_alpha in zip(
        phases.starts, [*phases.starts[1:], math.inf], phases.log_lr, phases.log_alpha, strict=True
    ):
        first = (
            start if log_lr > most else start + 1 + (most - log_lr) // (-2 * log_alpha) if log_alpha < 0 else math.inf
        )
        if first < end:
            return first
    return math.inf


def _check_in_range(beyond: float, step: int) -> None:
    dtype = np.dtype(jax.dtypes.canonicalize_dtype(np.float64)).name
    check(
        step < beyond,
        f"the learning rate leaves {dtype} at step {beyond:.0f}; end the run before, or use texp and call gauge_rescale "
        "between chunks of steps",
    )
