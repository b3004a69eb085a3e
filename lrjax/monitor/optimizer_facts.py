"""Settings of an optimizer, read off its own updates: momentum, the decays of Adam's moments, eps, weight decay.

optax keeps them in closures. They need no guess: an update from a gradient of zero, with moments of one, returns each decay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax  # noqa: F401 -- of the example

from lrjax.monitor.virtual_step import accumulators, caller, micro_batches, transformation_of, whole_step
from lrjax.spectra.frameworks import Tree
from lrjax.spectra.second_moments import plain

_ADAM, _TRACE = "ScaleByAdamState", "TraceState"
# Classes of states that make a step something else than SGD, heavy ball or Adam.
_KNOWN = {
    _ADAM, _TRACE, "EmptyState", "ScaleByScheduleState", "InjectStatefulHyperparamsState", "InjectHyperparamsState",
    "MultiStepsState", "MaskedState", "PartitionState", "MultiTransformState", "ApplyIfFiniteState", "MaskedNode",
    "WrappedScheduleState", "ScaleState", "ClipState", "ClipByGlobalNormState", "AddDecayedWeightsState",
    "AdaptiveGradClipState", "ZeroNansState", "tuple", "list", "dict", "State",
}  # fmt: skip


class Facts(NamedTuple):
    """What is known of an optimizer.

    Attributes:
        kind: "sgd", "heavy_ball", "adam", or "other", for which no line of stability and no equilibrium is stated.
        momentum: of the heavy ball; None elsewhere.
        b1: of Adam's first moments.
        b2: of its second.
        eps: beside the root of the second moments.
        count: updates that Adam has made.
        accumulation: micro-batches a step, of `optax.MultiSteps`.
        nesterov: whether the gradient is ahead of the momentum.
    """

    kind: str
    momentum: float | None = None
    b1: float | None = None
    b2: float | None = None
    eps: float | None = None
    count: int = 0
    accumulation: int = 1
    nesterov: bool = False


def _nodes(state: Tree) -> list[Any]:
    """States by class, the arrays left out; those of `optax.partition` too."""
    found = []

    def visit(node: Any) -> None:
        found.append(node)
        if type(node).__name__ in (_ADAM, _TRACE):
            return
        pairs = jax.tree.leaves(node, is_leaf=lambda inner: inner is not node)
        if not (len(pairs) == 1 and pairs[0] is node):
            for child in pairs:
                visit(child)

    visit(state)
    return found


def _ones(state: Tree, first: float = 1.0, second: float = 1.0) -> Tree:
    """The state with all moments set to a number."""

    def is_moments(node: Any) -> bool:
        return type(node).__name__ in (_ADAM, _TRACE)

    def filled(tree: Tree, value: float) -> Tree:
        return jax.tree.map(lambda leaf: jnp.full_like(leaf, value), tree)

    def change(node: Any) -> Any:
        if type(node).__name__ == _ADAM:
            return node._replace(mu=filled(node.mu, first), nu=filled(node.nu, second))
        return node._replace(trace=filled(node.trace, first)) if type(node).__name__ == _TRACE else node

    return jax.tree.map(change, state, is_leaf=is_moments)


def _first(tree: Tree) -> float:
    leaves = [np.asarray(leaf).ravel() for leaf in jax.tree.leaves(tree)]
    return float(next(leaf[0] for leaf in leaves if leaf.size))


def _same(values: list[float]) -> float | None:
    return values[0] if values and np.allclose(values, values[0], rtol=1e-5) else None


def _decays(call: Callable, state: Tree, params: Tree) -> tuple[list[Any], list[Any]]:
    """Adam's and the heavy ball's states after an update from moments of one and a gradient of zero at parameters of zero."""
    zeros = jax.tree.map(jnp.zeros_like, params)
    after = call(zeros, whole_step(call, zeros, _ones(state), zeros), zeros)[1]
    nodes = _nodes(after)
    return (
        [node for node in nodes if type(node).__name__ == _ADAM],
        [node for node in nodes if type(node).__name__ == _TRACE],
    )


def _ratios(call: Callable, state: Tree, params: Tree) -> tuple[float, float]:
    """Sizes of the update from second moments of four, and of none, over that of one: 1/2 and 1 / eps for Adam."""
    zeros = jax.tree.map(jnp.zeros_like, params)

    def size(second: float) -> float:
        start = whole_step(call, zeros, _ones(state, 1.0, second), zeros)
        update = call(zeros, start, zeros)[0]
        return max((float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(update) if leaf.size), default=0.0)

    one = size(1.0)
    return (size(4.0) / one, size(0.0) / one) if one > 0 and np.isfinite(one) else (np.nan, np.nan)


def _is_nesterov(call: Callable, state: Tree, params: Tree, decay: float, fresh: float) -> bool:
    """Whether the gradient acts more than its share of the momentum does.

    Args:
        decay: b1 or the momentum.
        fresh: the share of a gradient in the new momentum: 1 - b1, or 1 for the heavy ball.
    """
    zeros = jax.tree.map(jnp.zeros_like, params)
    tiny = jax.tree.map(lambda p: jnp.full_like(p, 1e-6), params)  # too small to be clipped

    def size(moment: float, gradient: Tree) -> float:
        start = whole_step(call, gradient, _ones(state, moment), zeros)
        update = call(gradient, start, zeros)[0]
        return max((float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(update) if leaf.size), default=0.0)

    old, new = size(1e-6, zeros), size(0.0, tiny)
    return bool(old > 0 and decay > 0 and new / old > 1.01 * fresh / decay)


def optimizer_facts(optimizer: Any, opt_state: Tree, params: Tree, keywords: dict[str, Any] | None = None) -> Facts:
    """Kind and settings of an optimizer, from its updates.

    An update from moments of one and a gradient of zero leaves moments of b1 and b2, or a buffer of the momentum. Where no
    rate is in the way (a schedule that starts at 0), eps follows from second moments of zero.

    Args:
        optimizer: of optax.
        opt_state: its state.
        params: the parameters.
        keywords: what its update needs beside these.

    Returns:
        The `Facts`.

    Example:
        >>> tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3, b1=0.8, b2=0.99, eps=1e-6))
        >>> facts = optimizer_facts(tx, tx.init(jnp.ones(3)), jnp.ones(3))
        >>> facts.kind, round(facts.b1, 4), round(facts.b2, 4), round(facts.eps, 9)
        ('adam', 0.8, 0.99, 1e-06)
        >>> tx = optax.sgd(0.1, momentum=0.9)
        >>> round(optimizer_facts(tx, tx.init(jnp.ones(3)), jnp.ones(3)).momentum, 4)
        0.9
        >>> [optimizer_facts(tx, tx.init(jnp.ones(3)), jnp.ones(3)).nesterov for tx in (optax.adam(0.1), optax.nadam(0.1))]
        [False, True]
    """
    state, params = plain(opt_state), plain(params)
    call = caller(transformation_of(optimizer), keywords or {})
    several = micro_batches(call, state, params) if accumulators(state) else []
    accumulation = max((int(size) for size in several), default=1)
    names = {type(node).__name__ for node in _nodes(state) if not hasattr(node, "dtype")}
    others = {name for name in names if name.endswith("State")} - _KNOWN
    adams, traces = _decays(call, state, params)
    if others or (adams and traces):
        return Facts("other", accumulation=accumulation)
    if not adams and not traces:
        return Facts("sgd", accumulation=accumulation)
    if traces:
        momentum = _same([_first(node.trace) for node in traces if jax.tree.leaves(node.trace)])
        if momentum is None:
            return Facts("other", accumulation=accumulation)
        ahead = _is_nesterov(call, state, params, momentum, 1.0)
        return Facts("heavy_ball", momentum=momentum, accumulation=accumulation, nesterov=ahead)
    b1 = _same([_first(node.mu) for node in adams if jax.tree.leaves(node.mu)])
    b2 = _same([_first(node.nu) for node in adams if jax.tree.leaves(node.nu)])
    halved, inverse = _ratios(call, state, params)
    count = int(np.asarray(adams[0].count)) - 1
    # Yogi does not forget at a gradient of zero; adamax divides by nu itself, not by its root.
    if b1 is None or b2 is None or b2 >= 1 or not (np.isnan(halved) or abs(halved - 0.5) < 0.05):
        return Facts("other", accumulation=accumulation, count=count)
    ahead, eps = _is_nesterov(call, state, params, b1, 1 - b1), _eps(inverse, b2, count)
    return Facts("adam", b1=b1, b2=b2, eps=eps, count=count, accumulation=accumulation, nesterov=ahead)


def _eps(inverse: float, b2: float, count: int) -> float | None:
    """From |u(nu = 0)| / |u(nu = 1)| = (root + eps) / eps, with root that of nu without its bias."""
    if not np.isfinite(inverse) or inverse <= 1:
        return 0.0 if np.isinf(inverse) else None
    root = np.sqrt(b2 / -np.expm1((count + 1) * np.log(b2)))
    return float(root / (inverse - 1))
