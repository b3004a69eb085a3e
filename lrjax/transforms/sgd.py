"""SGD without weight decay that equals SGD with weight decay on a scale-invariant loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrjax.errors import check, path_of
from lrjax.transforms.leaves import canonical
from lrjax.transforms.log_space import compensated, exp_split
from lrjax.transforms.plan import WDFreeTables, wd_free_plan, wd_free_tables
from lrjax.transforms.recursion import DECAYS, Value, next_step, no_momentum
from lrjax.transforms.settings import at_step, check_num_steps, check_open

if TYPE_CHECKING:
    from jaxtyping import Array, ArrayLike, Float, Int32, PyTree


class WDFreeState(NamedTuple):
    """State of the table forms.

    Attributes:
        count: updates so far.
        trace: the buffer, like the parameters; () without momentum.
        gauge: k of `gauge_rescale`: parameters are stored as 2^k theta~, the buffer as 2^-k v~. 0 unless it is called.

    Example:
        >>> wd_free_sgd(0.1, 5e-4, 0.9, num_steps=10).init({"conv": jnp.ones(2)}).trace
        {'conv': Array([0., 0.], dtype=float32)}
    """

    count: Int32[ArrayLike, ""]
    trace: PyTree
    gauge: Int32[Array, ""]


class OpenWDFreeState(NamedTuple):
    """State of the open-ended form: as `WDFreeState`, and the recursion of `wd_free_plan` at step `count`.

    Attributes:
        count, trace, gauge: as in `WDFreeState`.
        kappa, alpha: of the step before; 0 and 1 at the first.
        log_scale, log_scale_error: log P as a compensated sum; P is exp(log_scale + log_scale_error).

    Example:
        >>> state = wd_free_sgd(0.1, 5e-4, 0.9).init({"conv": jnp.ones(2)})
        >>> float(state.kappa), float(state.alpha), float(state.log_scale)
        (0.0, 1.0, 0.0)
    """

    count: Int32[ArrayLike, ""]
    trace: PyTree
    gauge: Int32[Array, ""]
    kappa: Float[Array, ""]
    alpha: Float[Array, ""]
    log_scale: Float[Array, ""]
    log_scale_error: Float[Array, ""]


def wd_free_sgd(
    learning_rate: Value,
    weight_decay: Value,
    momentum: Value = 0.0,
    *,
    nesterov: bool = False,
    decay: str = "l2",
    num_steps: int | None = None,
    rescaled: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""SGD with no weight decay and an exponential learning rate, the same functions as SGD with weight decay (TEXP++).

    .. math::
        \tilde v_{t+1} = \gamma_t \tilde v_t + \tilde g_t, \qquad
        \tilde\theta_{t+1} = \tilde\theta_t - \frac{\eta_t}{P_t P_{t+1}} \tilde v_{t+1}, \qquad
        \theta_t = P_t \tilde\theta_t

    where :math:`P_t` comes from `wd_free_plan`. Start from the same parameters; no correction of the buffer is needed.

    With num_steps, the rates are planned on the host in float64, once, and a step looks them up (the *table form*). Beyond
    the last step updates are NaN: a table that repeats its last rate would silently train on. Without num_steps, the state
    carries the recursion in log space (the *open-ended form*): it takes traced values, `vmap` and `inject_hyperparams`;
    where no positive alpha exists it turns NaN, because a running program cannot raise.

    A step reads gradient and buffer and writes update and buffer: the parameters that `add_decayed_weights` reads are not
    needed. It counts its own updates, so under `optax.MultiSteps` the rate grows once per real update.

    Args:
        learning_rate, weight_decay, momentum: of the run with weight decay, each a scalar or an `optax.Schedule` (a table form
            also takes arrays with a number a step). No buffer is kept where momentum is None or 0.
        nesterov: as in `optax.sgd`.
        decay: "l2" for `chain(add_decayed_weights(wd), sgd(lr, momentum))`; "decoupled" for SGDW,
            `chain(trace(momentum), add_decayed_weights(wd), scale_by_learning_rate(lr))`.
        num_steps: steps of the run, for the table form.
        rescaled: True where the loop calls `gauge_rescale`, so that the rate may leave the range of floats.

    Returns:
        An optax transformation; its state is `WDFreeState`, or `OpenWDFreeState` without num_steps.

    Raises:
        LrjaxError: in the table form: a traced value, the first step without a positive alpha, the first step whose rate
            leaves the range of floats; in the open-ended form: an array, None, a number that is not finite or out of range; in
            `init`: a parameter that is no array of floats.

    References:
        Li & Arora (2020), An Exponential Learning Rate Schedule for Deep Learning, Theorem 2.13 (heavy ball, L2).

    Example:
        >>> tx = wd_free_sgd(optax.cosine_decay_schedule(0.1, 100), 5e-4, momentum=0.9, num_steps=100)
        >>> params = {"conv": jnp.ones((3, 3))}
        >>> updates, state = tx.update({"conv": jnp.ones((3, 3))}, tx.init(params))
        >>> round(float(updates["conv"][0, 0]), 6)
        -0.100005
    """
    check(decay in DECAYS, f"decay must be one of {', '.join(DECAYS)}, not {decay!r}")
    if num_steps is None:
        return _open_ended(learning_rate, weight_decay, momentum, nesterov, decay)
    num_steps = check_num_steps(num_steps, "wd_free_sgd with num_steps")
    plan = wd_free_plan(learning_rate, weight_decay, momentum, num_steps, nesterov=nesterov, decay=decay)
    return follow_plan(wd_free_tables(plan, rescaled=rescaled))


def follow_plan(tables: WDFreeTables) -> optax.GradientTransformationExtraArgs:
    """SGD along given tables, which may be traced: a grid of plans is one vmapped program.

    Args:
        tables: of `wd_free_tables`; stack those of several plans and `jax.vmap` over them.

    Returns:
        An optax transformation with state `WDFreeState`; updates are NaN beyond the end of the tables.

    Raises:
        LrjaxError: in `update`, tables with a correction and no `params`.

    References:
        Li & Arora (2020), An Exponential Learning Rate Schedule for Deep Learning, Theorems 2.12 and 2.13.

    Example:
        >>> plans = [wd_free_plan(lr, 5e-4, 0.9, num_steps=10) for lr in (0.1, 0.2)]
        >>> stacked = jax.tree.map(lambda *a: jnp.stack(a), *[wd_free_tables(plan) for plan in plans])
        >>> def first_update(tables):
        ...     tx = follow_plan(tables)
        ...     return tx.update(jnp.ones(()), tx.init(jnp.ones(())))[0]
        >>> jax.vmap(first_update)(stacked).round(4).tolist()
        [-0.09999..., -0.19999...]
    """
    tables = jax.tree.map(jnp.asarray, tables)

    def update(updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any) -> tuple[PyTree, Any]:
        row = jax.tree.map(lambda a: jnp.take(a, state.count, mode="fill"), tables)
        return follow_row(row).update(updates, state, params)

    return optax.GradientTransformationExtraArgs(follow_row(tables).init, update)


def follow_row(row: WDFreeTables) -> optax.GradientTransformationExtraArgs:
    """One step of a plan, for a loop that looks the row up itself.

    Args:
        row: scalars in place of the arrays of `wd_free_tables`, of the step that is taken; the state only counts along.

    Returns:
        An optax transformation with state `WDFreeState`; with a correction its `update` needs `params`.

    Raises:
        LrjaxError: in `update`, a row with a correction and no `params`.

    References:
        Li & Arora (2020), An Exponential Learning Rate Schedule for Deep Learning, Theorems 2.12 and 2.13.

    Example:
        >>> tables = wd_free_tables(wd_free_plan(0.1, 5e-4, 0.9, num_steps=10))
        >>> tx = follow_row(jax.tree.map(lambda a: a[0], tables))
        >>> round(float(tx.update(jnp.ones(()), tx.init(jnp.ones(())))[0]), 4)
        -0.1
    """

    def init(params: PyTree) -> WDFreeState:
        return WDFreeState(jnp.int32(0), buffer_like(params, row.momentum is not None), jnp.int32(0))

    def update(updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any) -> tuple[PyTree, Any]:
        trace = state.trace
        if row.correction is not None and row.momentum is not None:
            check(
                params is not None, "the buffer is corrected by the parameters; call update(gradients, state, params)"
            )
            # Buffers and weights of a rescaled run differ by 2^(2k) in their ratio.
            share = jnp.ldexp(row.correction[0], row.correction[1] - 2 * state.gauge)
            trace = leafwise(lambda v, p: v - share.astype(v.dtype) * p, trace, params)
        learning_rate = jnp.ldexp(row.mantissa, row.exponent + 2 * state.gauge)
        updates, trace = sgd_step(updates, trace, learning_rate, row.momentum, row.gain, row.ahead)
        return updates, WDFreeState(optax.safe_increment(state.count), trace, state.gauge)

    return optax.GradientTransformationExtraArgs(init, update)


def buffer_like(params: PyTree, has_momentum: bool) -> PyTree:
    """Zeros like the parameters, or () without momentum."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        dtype = getattr(leaf, "dtype", None)
        check(
            dtype is not None and bool(jnp.issubdtype(dtype, jnp.inexact)),
            f"only arrays of floats can be stepped, and {path_of(path)!r} is {dtype or type(leaf).__name__}: leave it out of "
            "the parameters, or mask it with optax.masked",
        )
    return jax.tree.map(jnp.zeros_like, params) if has_momentum else ()


def leafwise(function: Callable, tree: PyTree, *rest: PyTree) -> PyTree:
    """Map a function over the leaves of several trees, in float32 at least; the dtype of the first tree is kept.

    A leaf stays as it is where one of them is None.
    """

    def one(leaf: Any, *others: Any) -> Any:
        if leaf is None or any(other is None for other in others):
            return leaf
        arrays = [canonical(a, "a gradient or buffer") for a in (leaf, *others)]
        dtype = arrays[0].dtype
        check(
            bool(jnp.issubdtype(dtype, jnp.inexact)),
            f"only gradients of floats can be stepped, not {dtype}: leave its parameter out, or mask it with optax.masked",
        )
        wide = _wide(dtype)
        return function(*(a.astype(wide) for a in arrays)).astype(dtype)

    return jax.tree.map(one, tree, *rest, is_leaf=lambda leaf: leaf is None)


def sgd_step(
    updates: PyTree,
    trace: PyTree,
    learning_rate: ArrayLike,
    momentum: ArrayLike | None,
    gain: ArrayLike | None = None,
    ahead: tuple[ArrayLike, ArrayLike] | None = None,
) -> tuple[PyTree, PyTree]:
    """One step of SGD; a leaf whose gradient is None keeps its buffer.

    Args:
        updates, trace: gradient and buffer.
        learning_rate: a scalar.
        momentum, gain, ahead: a row of `WDFreeTables`.

    Returns:
        Updates and the new buffer.
    """
    if momentum is None:
        return leafwise(lambda g: -_like(g, learning_rate) * g, updates), ()

    def new_buffer(g: jax.Array, v: jax.Array) -> jax.Array:
        return _like(g, momentum) * v + (g if gain is None else _like(g, gain) * g)

    if ahead is None:
        step = leafwise(lambda g, v: -_like(g, learning_rate) * new_buffer(g, v), updates, trace)
    else:
        old, fresh = (learning_rate * share for share in ahead)
        step = leafwise(lambda g, v: -(_like(g, old) * v + _like(g, fresh) * g), updates, trace)
    return step, leafwise(lambda v, g: new_buffer(g, v), trace, updates)


def _wide(dtype: Any) -> Any:
    return jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype


def _like(leaf: jax.Array, value: Any) -> jax.Array:
    return jnp.asarray(value, leaf.dtype)


def _open_ended(
    learning_rate: Value, weight_decay: Value, momentum: Value, nesterov: bool, decay: str
) -> optax.GradientTransformationExtraArgs:
    plain = no_momentum(momentum)
    settings = {"learning_rate": learning_rate, "weight_decay": weight_decay, "momentum": 0.0 if plain else momentum}
    check_open("wd_free_sgd", **settings)

    def init(params: PyTree) -> OpenWDFreeState:
        # An array each: a training step that donates its state may not be given one buffer twice.
        kappa, log_scale, error = (jnp.zeros((), float) for _ in range(3))
        trace = buffer_like(params, not plain)
        return OpenWDFreeState(jnp.int32(0), trace, jnp.int32(0), kappa, jnp.ones((), float), log_scale, error)

    def update(updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any) -> tuple[PyTree, Any]:
        eta, lam, gamma = (at_step(name, setting, state.count) for name, setting in settings.items())
        step = next_step(state.kappa, state.alpha, eta, lam, gamma, nesterov, decay)
        alpha = 1 - step.shrink
        increment = jnp.log1p(-step.shrink)
        rate, power = exp_split(-2 * state.log_scale, -2 * state.log_scale_error - increment)
        learning_rate_ = eta * jnp.ldexp(rate, power + 2 * state.gauge)
        coefficients = (None, None, None) if plain else (step.momentum, step.gain, step.ahead)
        updates, trace = sgd_step(updates, state.trace, learning_rate_, *coefficients)
        log_scale, error = compensated(state.log_scale, state.log_scale_error, increment)
        count = optax.safe_increment(state.count)
        return updates, OpenWDFreeState(count, trace, state.gauge, step.c / alpha, alpha, log_scale, error)

    return optax.GradientTransformationExtraArgs(init, update)
