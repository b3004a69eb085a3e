"""The weight-decay clock: how much of the weights decay takes in a step, and where it leads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax  # noqa: F401 -- of the example

from lrjax.monitor.accumulation import whole_step
from lrjax.monitor.optimizer_facts import Facts
from lrjax.spectra.frameworks import Tree
from lrjax.transforms import adamw_angular_update, angular_update

DECAY_FORM = 0.05  # relative: a dependence on theta that is further from -c theta is no weight decay


class Decay(NamedTuple):
    """How an update depends on the parameters; arrays with an entry a leaf.

    Attributes:
        rate: c of u(2 theta) - u(theta) = -c theta: eta lambda of decoupled decay, and of SGD with decay in the gradient.
        rest: how far the difference is from that form, relative; above `DECAY_FORM` it is something else.
        coupled: whether the decay passes through the momentum.
    """

    rate: Any
    rest: Any
    coupled: Any


def decay_per_step(call: Callable, opt_state: Tree, params: Tree, init: Callable | None = None) -> Decay:
    """The share of each leaf that weight decay takes in a step, from updates at theta and at twice theta.

    A pull towards the start of the training or towards an average of the parameters is no decay: states that hold copies of
    the parameters are told by `init`. Nor is a trust ratio, whose share depends on the gradient.

    Args:
        call: `update(gradient, state, params) -> (update, state)`, as of an optax optimizer.
        opt_state: its state.
        params: theta.
        init: of the optimizer.

    Returns:
        The `Decay`; traced values where the arguments are.

    Example:
        >>> tx, w = optax.adamw(0.1, weight_decay=0.5), jnp.array([1.0, 2.0])
        >>> decay = decay_per_step(tx.update, tx.init(w), w)
        >>> round(float(decay.rate[0]), 4), bool(decay.rest[0] < 1e-4), bool(decay.coupled)
        (0.05, True, False)
    """
    zeros, double = jax.tree.map(jnp.zeros_like, params), jax.tree.map(lambda p: 2 * p, params)
    other = jax.tree.map(lambda p: jnp.sqrt(jnp.mean(p**2)) * _pattern(p), params)
    near, far, coupled = _two(call, zeros, opt_state, params, double)
    near_other, far_other, _ = _two(call, other, opt_state, params, double)
    opposite = jax.tree.map(jnp.negative, other)
    near_opposite, far_opposite, _ = _two(call, opposite, opt_state, params, double)
    anchored = jnp.array(False) if init is None else _differ(init(params), init(double))
    rates, rests = [], []
    made = (params, near, far, near_other, far_other, near_opposite, far_opposite)
    for arrays in zip(*map(jax.tree.leaves, made), strict=True):
        theta, one, two, first, second, third, fourth = (jnp.ravel(array).astype(jnp.float32) for array in arrays)
        change, square = two - one, jnp.sum(theta**2)
        rate, *others = (
            -jnp.sum(theta * difference) / jnp.where(square > 0, square, 1)
            for difference in (change, second - first, fourth - third)
        )
        size = jnp.sum(change**2)
        rest = jnp.sqrt(jnp.sum((change + rate * theta) ** 2) / jnp.where(size > 0, size, 1))
        rounding = 1e-6 * jnp.sqrt(jnp.sum(second**2) / jnp.where(square > 0, square, 1))
        same = (jnp.max(jnp.abs(jnp.stack(others) - rate)) <= DECAY_FORM * jnp.abs(rate) + rounding) & ~anchored
        rests.append(jnp.where(same | (rate == 0), rest, jnp.inf))
        rates.append(rate)
    return Decay(jnp.stack(rates), jnp.stack(rests), coupled)


def _two(call: Callable, gradient: Tree, opt_state: Tree, params: Tree, double: Tree) -> tuple[Tree, Tree, jax.Array]:
    """Updates at theta and at twice theta from the same gradient, and whether the states after them differ."""
    state = whole_step(call, gradient, opt_state, params)
    (near, one), (far, two) = call(gradient, state, params), call(gradient, state, double)
    return near, far, _differ(one, two)


def _differ(one: Tree, two: Tree) -> jax.Array:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
    found = [jnp.any(a != b) for a, b in pairs if jnp.issubdtype(jnp.asarray(a).dtype, jnp.floating)]
    return jnp.any(jnp.stack(found)) if found else jnp.array(False)


def _pattern(leaf: jax.Array) -> jax.Array:
    """Numbers from -1 to 1 that no parameters are along: multiples of the golden section less their integers, of numbers
    small enough for float32, since a cosine of each would take longer than a training step of a small network."""
    steps = 0.618034 * (jnp.arange(leaf.size) & 1023).astype(jnp.float32)
    return (2 * (steps - jnp.floor(steps)) - 1).reshape(leaf.shape).astype(leaf.dtype)


class Clock(NamedTuple):
    """Weight decay of a group.

    Attributes:
        decay: c, the share of the weights that a call of the optimizer takes; 0 without decay; NaN where the update depends on
            the weights in another way. Under `optax.MultiSteps` a call is a micro-batch.
        steps: tau, calls in which decay alone shrinks the weights by e: 1 / c, (1 - b) / c through a momentum of b.
        angle: that of a whole step at equilibrium, radians; None where no formula is known for this optimizer.
    """

    decay: float
    steps: float
    angle: float | None


def decay_clock(decay: float, facts: Facts, *, coupled: bool) -> Clock:
    """When weight decay acts, and the angle that scale-invariant weights then turn by in a step.

    Args:
        decay: c of `decay_per_step`, at this step, over the micro-batches of a step.
        facts: of the optimizer.
        coupled: whether the decay is in the gradient (L2), not beside it (AdamW).

    Returns:
        The `Clock`.

    References:
        Wan et al. 2021, Spherical Motion Dynamics; Kosson et al. 2024, Rotational Equilibrium, arXiv 2305.17212, for AdamW.

    Example:
        >>> clock = decay_clock(1e-4, Facts("adam", b1=0.9, b2=0.999), coupled=False)
        >>> round(clock.steps), round(clock.angle, 5)
        (10000, 0.00324)
    """
    if not decay > 0:
        return Clock(decay, float("inf") if decay == 0 else float("nan"), None)
    through = facts.momentum if facts.kind == "heavy_ball" and coupled and facts.momentum else 0.0
    angle, whole = None, decay * facts.accumulation
    if facts.kind == "adam" and not coupled and facts.b1 is not None and not facts.nesterov:
        angle = float(adamw_angular_update(whole, 1.0, facts.b1))
    elif facts.kind in ("sgd", "heavy_ball") and (coupled or facts.kind == "sgd") and not facts.nesterov:
        angle = float(angular_update(whole, 1.0, facts.momentum or 0.0))
    # Nesterov's step has its gradient, and the decay in it, 1 + b times.
    ahead = 1 + through if facts.nesterov else 1.0
    return Clock(decay, (1 - through) * ahead / decay, angle)


def by_group(decay: Decay, groups: Sequence[str], sizes: Sequence[int]) -> dict[str, float]:
    """c of each group: the mean over its parameters; NaN where a leaf's dependence on theta is no decay.

    Example:
        >>> by_group(Decay(np.array([0.1, 0.0]), np.array([0.0, 0.0]), False), ("a", "a"), (1, 1))
        {'a': 0.05}
    """
    found: dict[str, float] = {}
    rates, rests = np.asarray(decay.rate, np.float64), np.asarray(decay.rest, np.float64)
    for name in dict.fromkeys(groups):
        rows = [index for index, group in enumerate(groups) if group == name]
        regular = [rests[i] <= DECAY_FORM or rates[i] == 0 for i in rows]
        weights = np.asarray([sizes[i] for i in rows], np.float64)
        mean = float(np.sum(rates[rows] * weights) / max(np.sum(weights), 1))
        found[name] = mean if all(regular) else float("nan")
    return found
