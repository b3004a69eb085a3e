"""Adam without weight decay that equals AdamW on a scale-invariant loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lrjax.errors import check
from lrjax.transforms.log_space import compensated, exp_split
from lrjax.transforms.plan import per_step, split_power, wd_free_plan
from lrjax.transforms.recursion import Value
from lrjax.transforms.settings import at_step, check_num_steps, check_open
from lrjax.transforms.sgd import buffer_like, leafwise

if TYPE_CHECKING:
    from jaxtyping import Array, ArrayLike, Float, Int32, PyTree


class WDFreeAdamState(NamedTuple):
    """State of `wd_free_adamw`.

    Attributes:
        count: updates so far.
        mu, nu: moments of the gradient, like the parameters.
        gauge: int32 k of `gauge_rescale`: parameters are stored as 2^k theta~, mu as 2^-k, nu as 2^-2k. 0 unless it is called.
        alpha: P_t / P_{t-1}, of the step before; 1 at the first.
        log_scale, log_scale_error: log P as a compensated sum; P is exp(log_scale + log_scale_error).

    Example:
        >>> state = wd_free_adamw(1e-3, weight_decay=0.1).init({"conv": jnp.ones((3, 3))})
        >>> int(state.count), state.mu["conv"].shape, float(state.log_scale)
        (0, (3, 3), 0.0)
    """

    count: Int32[ArrayLike, ""]
    mu: PyTree
    nu: PyTree
    gauge: Int32[Array, ""]
    alpha: Float[Array, ""]
    log_scale: Float[Array, ""]
    log_scale_error: Float[Array, ""]


class _Row(NamedTuple):
    """One step of the plan; rate and eps are mantissa * 2^exponent."""

    rate: tuple[Any, Any]
    eps: tuple[Any, Any]  # P_t
    alpha: Any  # of the step before


def wd_free_adamw(
    learning_rate: Value,
    b1: optax.ScalarOrSchedule = 0.9,
    b2: optax.ScalarOrSchedule = 0.999,
    eps: optax.ScalarOrSchedule = 1e-8,
    weight_decay: Value = 1e-4,
    *,
    num_steps: int | None = None,
    rescaled: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Adam with no weight decay and an exponential learning rate, the same functions as AdamW.

    .. math::
        \alpha_{t+1} = 1 - \eta_t \lambda_t, \quad P_{t+1} = \alpha_{t+1} P_t, \quad
        \tilde m' = b_1 \alpha_t \tilde m + (1 - b_1) \tilde g, \quad
        \tilde v' = b_2 \alpha_t^2 \tilde v + (1 - b_2) \tilde g^2, \\
        \tilde\theta' = \tilde\theta - \frac{\eta_t}{P_{t+1}}
            \frac{\tilde m' / (1 - b_1^{t+1})}{\sqrt{\tilde v' / (1 - b_2^{t+1})} + \epsilon P_t},
        \qquad \theta_t = P_t \tilde\theta_t

    Only one power of P divides the rate, because the step of Adam does not depend on the size of the gradient: the growth is
    1 / alpha a step. Start from the same parameters.

    Args:
        learning_rate, weight_decay: of AdamW; a scalar, an `optax.Schedule`, or with num_steps an array [T].
        b1, b2, eps: of AdamW; scalars or schedules.
        num_steps: T for the table form, planned in float64 on the host, whose updates are NaN beyond T steps. Without it the
            state carries log P, and values may be traced (`vmap`, `inject_hyperparams`).
        rescaled: True where the loop calls `gauge_rescale`, so that the rate may leave the range of floats.

    Returns:
        An optax transformation with state `WDFreeAdamState`. It counts its own updates, also under `optax.MultiSteps`.

    Raises:
        LrjaxError: in the table form: a traced rate or decay, the first step with learning_rate * weight_decay >= 1, the
            first step whose rate leaves the range of floats; else an array, None, a number that is not finite or out of
            range.

    References:
        Loshchilov & Hutter (2019), Decoupled Weight Decay Regularization, Algorithm 2: the update, as `optax.adamw` has it.
        Li & Arora (2020), An Exponential Learning Rate Schedule for Deep Learning, Theorem 2.13: the argument, there for SGD.

    Example:
        >>> tx = wd_free_adamw(optax.cosine_decay_schedule(1e-3, 100), weight_decay=0.1, num_steps=100)
        >>> params = {"conv": jnp.ones((3, 3))}
        >>> updates, state = tx.update({"conv": jnp.ones((3, 3))}, tx.init(params))
        >>> round(float(updates["conv"][0, 0]), 7)
        -0.0010001
    """
    if num_steps is None:
        check_open("wd_free_adamw", learning_rate=learning_rate, weight_decay=weight_decay)
    check_open("wd_free_adamw", b1=b1, b2=b2, eps=eps)
    rows = None if num_steps is None else _table(learning_rate, weight_decay, num_steps, rescaled)

    def init(params: PyTree) -> WDFreeAdamState:
        # An array each: a training step that donates its state may not be given one buffer twice.
        log_scale, error = (jnp.zeros((), float) for _ in range(2))
        mu, nu = (buffer_like(params, has_momentum=True) for _ in range(2))
        return WDFreeAdamState(jnp.int32(0), mu, nu, jnp.int32(0), jnp.ones((), float), log_scale, error)

    def update(updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any) -> tuple[PyTree, Any]:
        if rows is None:
            row, recursion = _recursion(state, learning_rate, weight_decay)
        else:
            row = jax.tree.map(lambda a: jnp.take(jnp.asarray(a), state.count, mode="fill"), rows)
            recursion = (state.alpha, state.log_scale, state.log_scale_error)
        count = optax.safe_increment(state.count)
        moments = (at_step(name, b, state.count) for name, b in {"b1": b1, "b2": b2, "eps": eps}.items())
        updates, mu, nu = _adam(updates, state, row, count, *moments)
        return updates, WDFreeAdamState(count, mu, nu, state.gauge, *recursion)

    return optax.GradientTransformationExtraArgs(init, update)


def _table(learning_rate: Value, weight_decay: Value, num_steps: int, rescaled: bool) -> _Row:
    num_steps = check_num_steps(num_steps, "wd_free_adamw with num_steps")
    plan = wd_free_plan(learning_rate, weight_decay, None, num_steps, decay="decoupled")
    log_scale, dtype = plan.log_scale, jax.dtypes.canonicalize_dtype(np.float64)
    with np.errstate(divide="ignore"):
        log_rate = np.log(per_step(learning_rate, num_steps, "learning_rate")) - log_scale[1:]
    beyond = log_rate > np.log(float(jnp.finfo(dtype).max))
    check(
        rescaled or not bool(beyond.any()),
        f"the learning rate leaves {np.dtype(dtype).name} at step {int(np.argmax(beyond))}; end the run before, or call "
        "gauge_rescale between chunks of steps and pass rescaled=True",
    )
    rate, eps = (split_power(log / np.log(2.0)) for log in (log_rate, log_scale[:-1]))
    before = np.concatenate([[1.0], plan.alpha[:-1]])
    return _Row((rate[0].astype(dtype), rate[1]), (eps[0].astype(dtype), eps[1]), before.astype(dtype))


def _recursion(state: WDFreeAdamState, learning_rate: Any, weight_decay: Any) -> tuple[_Row, tuple]:
    eta = at_step("learning_rate", learning_rate, jnp.asarray(state.count))
    shrink = eta * at_step("weight_decay", weight_decay, jnp.asarray(state.count))
    increment = jnp.log1p(-shrink)
    rate, power = exp_split(-state.log_scale, -state.log_scale_error - increment)
    row = _Row((eta * rate, power), exp_split(state.log_scale, state.log_scale_error), state.alpha)
    return row, (1 - shrink, *compensated(state.log_scale, state.log_scale_error, increment))


def _adam(
    gradient: PyTree, state: WDFreeAdamState, row: _Row, count: Any, b1: jax.Array, b2: jax.Array, eps: jax.Array
) -> tuple[PyTree, PyTree, PyTree]:
    # In a gauge k gradients are 2^-k g~: eps shrinks with them, the rate grows with the weights.
    rate = jnp.ldexp(row.rate[0], row.rate[1] + state.gauge)
    eps = eps * jnp.ldexp(row.eps[0], row.eps[1] - state.gauge)
    decay1, decay2 = b1 * row.alpha, b2 * row.alpha**2
    unbiased1, unbiased2 = 1 - b1**count, 1 - b2**count

    def first(g: jax.Array, m: jax.Array) -> jax.Array:
        return decay1.astype(g.dtype) * m + (1 - b1).astype(g.dtype) * g

    def second(g: jax.Array, v: jax.Array) -> jax.Array:
        return decay2.astype(g.dtype) * v + (1 - b2).astype(g.dtype) * g * g

    def step(g: jax.Array, m: jax.Array, v: jax.Array) -> jax.Array:
        m, v = first(g, m) / unbiased1.astype(g.dtype), second(g, v) / unbiased2.astype(g.dtype)
        return -rate.astype(g.dtype) * m / (jnp.sqrt(v) + eps.astype(g.dtype))

    updates = leafwise(step, gradient, state.mu, state.nu)
    mu = leafwise(lambda m, g: first(g, m), state.mu, gradient)
    return updates, mu, leafwise(lambda v, g: second(g, v), state.nu, gradient)
