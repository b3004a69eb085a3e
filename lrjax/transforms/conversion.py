"""Conversion of a checkpoint between the two representations of a run: with weight decay, and without."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lrjax.errors import check, refuse
from lrjax.transforms.adamw import WDFreeAdamState
from lrjax.transforms.leaves import canonical_tree, is_array
from lrjax.transforms.plan import WDFreePlan
from lrjax.transforms.sgd import OpenWDFreeState
from lrjax.transforms.texp import TEXPState

if TYPE_CHECKING:
    from jaxtyping import PyTree

LN2 = float(np.log(2.0))
FAR = 32  # octaves between weights of the two runs from which on a gauge is set
BUFFERS = {"trace": 1, "mu": 1, "nu": 2}  # field of an optimizer state -> power of Q_t that it is multiplied by


def to_wd_free(
    params: optax.Params, opt_state: optax.OptState, plan: WDFreePlan, step: int, into: optax.OptState
) -> tuple[optax.Params, optax.OptState]:
    r"""Converts a run with weight decay, before its step `step`, to the run without that computes the same functions.

    .. math::
        \tilde\theta = \theta / P_t, \qquad \tilde v = Q_t (v - \kappa_t \theta)

    Once P_t < 2^-32, weights are stored times a power of two near P_t, as `gauge_rescale` would, if `into` has a state with a
    gauge (`WDFreeState`, `OpenWDFreeState`); so they stay in range at any step, and the rates follow by themselves.

    Args:
        params: weights that the plan is for, floating-point arrays of any shapes.
        opt_state: state of the optimizer with weight decay, such as `chain(add_decayed_weights(wd), sgd(lr, momentum))` or
            `optax.adamw`, whose plan is `wd_free_plan(lr, wd, None, num_steps, decay="decoupled")`; under
            `optax.partition`, the `inner_states[label]` of the group.
        plan: `wd_free_plan` of this run.
        step: updates so far.
        into: what `init` of the optimizer without weight decay returned, such as `wd_free_sgd` in either form: its structure
            and dtypes are kept; buffer, counters and scale are replaced.

    Returns:
        params and opt_state of the run without weight decay. Weights that are masked out of the state stay as they are.

    Raises:
        LrjaxError: a step beyond the plan; a state with more than one buffer, of `texp`, or of Adam with a plan of SGD's;
            gradients half accumulated by `MultiSteps`.

    References:
        Li & Arora (2020), An Exponential Learning Rate Schedule for Deep Learning, section 2: the equivalence of
        states.

    Example:
        >>> from lrjax.transforms import wd_free_plan, wd_free_sgd
        >>> with_decay = optax.chain(optax.add_decayed_weights(0.01), optax.sgd(0.2, momentum=0.9))
        >>> without = wd_free_sgd(0.2, 0.01, 0.9, num_steps=20)
        >>> params = jnp.array([3.0, 4.0])
        >>> state = with_decay.init(params)
        >>> for _ in range(10):
        ...     updates, state = with_decay.update(jnp.array([-0.4, 0.3]), state, params)
        ...     params = optax.apply_updates(params, updates)
        >>> plan = wd_free_plan(0.2, 0.01, 0.9, num_steps=20)
        >>> free, free_state = to_wd_free(params, state, plan, 10, without.init(params))
        >>> back, back_state = from_wd_free(free, free_state, plan, 10, with_decay.init(params))
        >>> bool(jnp.allclose(back, params)), int(free_state.count)
        (True, 10)
    """
    params, opt_state, into = (canonical_tree(tree) for tree in (params, opt_state, into))
    scale, buffer_scale, kappa = _at(plan, step)
    _check_between_updates(opt_state)
    octaves = round(scale / LN2)
    gauge = octaves if _gauge(into) is not None and abs(octaves) > FAR else 0
    weights, log_buffer = _powers(gauge * LN2 - scale), buffer_scale - gauge * LN2
    buffers = _buffers(opt_state, plan)

    def buffer(v: jax.Array, p: jax.Array, power: int) -> jax.Array:
        return _times(v - jnp.asarray(kappa, v.dtype) * p, _powers(power * log_buffer))

    new_params, new_buffers = _all(params, buffers, lambda p: _times(p, weights), buffer)
    return new_params, _filled(into, new_buffers, step, plan, gauge)


def from_wd_free(
    params: optax.Params, opt_state: optax.OptState, plan: WDFreePlan, step: int, into: optax.OptState
) -> tuple[optax.Params, optax.OptState]:
    r"""Converts a run without weight decay to its equal with weight decay; the inverse of `to_wd_free`.

    .. math::
        \theta = P_t \tilde\theta, \qquad v = \tilde v / Q_t + \kappa_t \theta

    Args:
        params, opt_state: of the run without weight decay; a gauge in its state is taken into account.
        plan: `wd_free_plan` of this run.
        step: updates so far.
        into: what `init` of the optimizer with weight decay returned; its buffer and counters are replaced.

    Returns:
        params and opt_state of the run with weight decay.

    Raises:
        LrjaxError: as `to_wd_free`.

    References:
        Li & Arora (2020), An Exponential Learning Rate Schedule for Deep Learning, section 2.

    Example:
        >>> from lrjax.transforms import wd_free_plan, wd_free_sgd
        >>> with_decay = optax.chain(optax.add_decayed_weights(0.01), optax.sgd(0.2, momentum=0.9))
        >>> free, params = wd_free_sgd(0.2, 0.01, 0.9, num_steps=20), jnp.array([3.0, 4.0])
        >>> updates, state = free.update(jnp.array([-0.4, 0.3]), free.init(params))
        >>> plan = wd_free_plan(0.2, 0.01, 0.9, num_steps=20)
        >>> decayed, _ = from_wd_free(params + updates, state, plan, 1, with_decay.init(params))
        >>> decayed.round(3).tolist()  # 0.998 * (3, 4) - 0.2 * (-0.4, 0.3)
        [3.07..., 3.93...]
    """
    params, opt_state, into = (canonical_tree(tree) for tree in (params, opt_state, into))
    scale, buffer_scale, kappa = _at(plan, step)
    _check_between_updates(opt_state)
    gauge = _gauge(opt_state) or 0
    weights, log_buffer = _powers(scale - gauge * LN2), gauge * LN2 - buffer_scale
    buffers = _buffers(opt_state, plan)

    def buffer(v: jax.Array, p: jax.Array, power: int) -> jax.Array:
        share = jnp.asarray(kappa, v.dtype) * _times(p, weights).astype(v.dtype)
        return _times(v, _powers(power * log_buffer)) + share

    new_params, new_buffers = _all(params, buffers, lambda p: _times(p, weights), buffer)
    return new_params, _filled(into, new_buffers, step, plan, 0)


def _at(plan: WDFreePlan, step: int) -> tuple[float, float, float]:
    last = plan.log_scale.size - 1
    check(0 <= step <= last, f"step {step} is not in the plan, which holds steps 0 to {last}")
    return float(plan.log_scale[step]), float(plan.log_buffer_scale[step]), float(plan.kappa[step])


def _found(state: PyTree, name: str) -> list[Any]:
    return [value for _, value in optax.tree.get_all_with_path(state, name)]


def _gauge(state: PyTree) -> int | None:
    values = {int(value) for value in _found(state, "gauge")}
    check(len(values) <= 1, f"the state holds {len(values)} gauges; convert a group at a time, from its inner state")
    return values.pop() if values else None


def _buffers(state: PyTree, plan: WDFreePlan) -> dict[str, PyTree]:
    check(
        not any(map(_is_texp, jax.tree.leaves(state, is_leaf=_is_texp))),
        "a state of texp has no plan of wd_free_plan: its scale has jumps of its own; convert from and into wd_free_sgd, "
        "which trains the same functions",
    )
    found = {name: [value for value in _found(state, name) if jax.tree.leaves(value)] for name in BUFFERS}
    for buffers in found.values():
        check(
            len(buffers) <= 1,
            f"the state holds {len(buffers)} buffers; convert a group at a time, from its inner state",
        )
    known = {name: buffers[0] for name, buffers in found.items() if buffers}
    check(
        not ({"mu", "nu"} & set(known) and bool(plan.kappa.any())),
        "the state is Adam's, whose weight decay is decoupled and whose moments hold no weights; make its plan by "
        "wd_free_plan(learning_rate, weight_decay, None, num_steps, decay='decoupled')",
    )
    return known


def _check_between_updates(state: PyTree) -> None:
    check(
        all(int(value) == 0 for value in _found(state, "mini_step")),
        "MultiSteps is in the middle of an update; convert the state after its last mini-step",
    )


def _powers(log: float) -> tuple[float, int]:
    # exp(log) as mantissa and exponent: the number itself may be out of range.
    exponent = int(np.floor(log / LN2))
    return float(np.exp(log - exponent * LN2)), exponent


def _times(leaf: jax.Array, factor: tuple[float, int]) -> jax.Array:
    if not is_array(leaf):  # an integer or a key among the parameters has no scale
        return leaf
    wide = leaf.astype(jnp.float32 if jnp.finfo(leaf.dtype).bits < 32 else leaf.dtype)
    return jnp.ldexp(wide * jnp.asarray(factor[0], wide.dtype), factor[1]).astype(leaf.dtype)


def _all(params: PyTree, buffers: dict[str, PyTree], weight: Any, buffer: Any) -> tuple[PyTree, dict[str, PyTree]]:
    # Weights that a partition masks out of the buffer belong to another group.
    if not buffers:
        return jax.tree.map(weight, params), {}

    def is_node(leaf: Any) -> bool:
        return isinstance(leaf, optax.MaskedNode)

    any_buffer = next(iter(buffers.values()))
    new_params = jax.tree.map(lambda v, p: p if is_node(v) else weight(p), any_buffer, params, is_leaf=is_node)

    def moved(v: Any, p: Any, power: int) -> Any:
        return v if is_node(v) or not is_array(v) else buffer(v, p, power)

    new_buffers = {
        name: jax.tree.map(lambda v, p, power=BUFFERS[name]: moved(v, p, power), tree, params, is_leaf=is_node)
        for name, tree in buffers.items()
    }
    return new_params, new_buffers


def _filled(into: PyTree, buffers: dict[str, PyTree], step: int, plan: WDFreePlan, gauge: int) -> PyTree:
    old = _buffers(into, plan)
    for name in buffers:
        if name not in old:
            refuse(
                "the optimizer to convert into keeps no buffer but this run has one; build it with the same momentum"
            )
    values: dict[str, Any] = {"count": step, "gradient_step": step, "gauge": gauge}
    if any(map(_is_open, jax.tree.leaves(into, is_leaf=_is_open))):
        values["log_scale"] = head = np.float32(plan.log_scale[step])
        values["log_scale_error"] = plan.log_scale[step] - head
        values["kappa"], values["alpha"] = plan.kappa[step], plan.alpha[step - 1] if step else 1.0
    for name, value in values.items():
        for like in _found(into, name)[:1]:
            into = optax.tree.set(into, **{name: jnp.asarray(value, jnp.asarray(like).dtype)})
    for name, tree in buffers.items():
        new = jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), tree, old[name])
        into = optax.tree.set(into, **{name: new})
    return into


def _is_open(node: Any) -> bool:
    return isinstance(node, OpenWDFreeState | WDFreeAdamState)


def _is_texp(node: Any) -> bool:
    return isinstance(node, TEXPState)
