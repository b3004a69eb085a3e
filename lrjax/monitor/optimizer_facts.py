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

from lrjax.monitor.accumulation import accumulators, micro_batches, whole_step
from lrjax.monitor.trees import wide
from lrjax.monitor.virtual_step import caller, transformation_of
from lrjax.spectra.frameworks import Tree
from lrjax.spectra.second_moments import plain

_ADAM, _TRACE = "ScaleByAdamState", "TraceState"
# States that a schedule reads its count from.
_COUNTERS = ("ScaleByScheduleState", "WrappedScheduleState", "InjectHyperparamsState", "InjectStatefulHyperparamsState")
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


def _set(state: Tree, first: float, second: float, count: int) -> Tree:
    """The state with all moments set to numbers, at the first update; its schedules at `count`, or where they are for -1."""

    def is_settable(node: Any) -> bool:
        return type(node).__name__ in (_ADAM, _TRACE, *_COUNTERS)

    def filled(tree: Tree, value: float) -> Tree:
        return jax.tree.map(lambda leaf: jnp.full_like(leaf, value), tree)

    def change(node: Any) -> Any:
        name = type(node).__name__
        if name == _ADAM:
            return node._replace(mu=filled(node.mu, first), nu=filled(node.nu, second), count=filled(node.count, 0))
        if name == _TRACE:
            return node._replace(trace=filled(node.trace, first))
        if name not in _COUNTERS:
            return node
        inner = {
            field: jax.tree.map(change, value, is_leaf=is_settable)
            for field, value in node._asdict().items()
            if field in ("inner_state", "hyperparams_states")
        }
        at = jnp.where(count < 0, node.count, count).astype(jnp.asarray(node.count).dtype)
        return node._replace(count=at, **inner)

    return jax.tree.map(change, state, is_leaf=is_settable)


def _first(tree: Tree) -> float:
    leaves = [np.asarray(leaf).ravel() for leaf in jax.tree.leaves(tree)]
    return float(next(leaf[0] for leaf in leaves if leaf.size))


def _same(values: list[float]) -> float | None:
    return values[0] if values and np.allclose(values, values[0], rtol=1e-5) else None


class _Steps:
    """Updates of an optimizer from moments, gradients and parameters that are chosen: one program for all of them."""

    def __init__(self, call: Callable, state: Tree, params: Tree):
        def pattern(scale: jax.Array, phase: float) -> Tree:
            return jax.tree.map(lambda p: (scale * _wave(p.size, phase).reshape(p.shape)).astype(p.dtype), params)

        def step(first: Any, second: Any, gradient: Any, theta: Any, count: Any, state: Tree) -> tuple[Tree, Tree]:
            g, at = pattern(gradient, 1.0), pattern(theta, 2.0)
            return call(g, whole_step(call, g, _set(state, first, second, count), at), at)

        self._step, self._state, self.count = jax.jit(step), state, -1

    def after(self) -> list[Any]:
        """States after an update from moments of one and a gradient of zero at parameters of zero."""
        return _nodes(self._step(1.0, 1.0, 0.0, 0.0, self.count, self._state)[1])

    def update(self, first: float, second: float, gradient: float, theta: float = 0.0) -> list[jax.Array]:
        """The update, a flat array a leaf."""
        made = self._step(first, second, gradient, theta, self.count, self._state)[0]
        return [jnp.ravel(wide(leaf)) for leaf in jax.tree.leaves(made) if leaf.size]

    def sizes(self, *arguments: float) -> np.ndarray:
        """The largest number in the update of each leaf."""
        return np.array([float(jnp.max(jnp.abs(leaf))) for leaf in self.update(*arguments)])

    def start(self) -> bool:
        """Goes to a count at which the rate is not 0 (a warm-up may begin with 0); False where there is none."""
        for self.count in (-1, 1, 10, 100, 1000, 10_000):
            if np.max(self.sizes(0.0, 1.0, _TINY), initial=0) > 0:
                return True
        self.count = -1
        return False


_TINY = 1e-6  # a gradient that no clipping sees
_PERIOD = 97  # so that single precision holds each number of a pattern


def _wave(size: int, phase: float) -> jax.Array:
    return jnp.cos(phase + jnp.arange(size) % _PERIOD)


def _is_linear(steps: _Steps) -> bool:
    """Whether fresh moments and a small gradient give -c g, c a number a leaf, wherever the parameters are.

    Signs, orthogonalised and normalised gradients do not, and trust ratios depend on the parameters.
    """
    one, two = steps.update(0.0, 1.0, _TINY), steps.update(0.0, 1.0, 2 * _TINY)
    there, rest = steps.update(0.0, 1.0, _TINY, _TINY), steps.update(0.0, 1.0, 0.0, _TINY)
    for small, large, moved, decay in zip(one, two, there, rest, strict=True):
        direction = -_wave(small.size, 1.0)
        along = direction * jnp.sum(small * direction) / jnp.sum(direction**2)
        differences = jnp.stack([small - along, large - 2 * small, moved - decay - small])
        if jnp.max(jnp.abs(differences)) > 0.05 * jnp.max(jnp.abs(small)) or jnp.sum(small * direction) < 0:
            return False
    return True


def _all_have_moments(steps: _Steps) -> bool:
    """Whether every leaf that a gradient moves is moved by its moments too."""
    by_gradient, by_moments = steps.sizes(0.0, 1.0, _TINY), steps.sizes(_TINY, 1.0, 0.0)
    return bool(np.all((by_moments > 0) | (by_gradient == 0)))


def _ratios(steps: _Steps) -> tuple[float, float, bool]:
    """Sizes of updates from second moments of four, and of none, over those of one: 1/2 and 1 / eps for Adam.

    The third: whether the first is the same for all leaves. The first moments are small, so that no clipping sees them.
    """
    one, four, none = (steps.sizes(1e-10, second, 0.0) for second in (1.0, 4.0, 0.0))
    moved = one > 0
    if not moved.any() or not np.isfinite(one).all():
        return np.nan, np.nan, True
    halves = four[moved] / one[moved]
    with np.errstate(over="ignore"):
        return float(halves[0]), float(none[moved][0] / one[moved][0]), bool(np.allclose(halves, halves[0], rtol=0.02))


def _is_nesterov(steps: _Steps, decay: float, fresh: float) -> bool:
    """Whether the gradient acts more than its share of the momentum does.

    Args:
        decay: b1 or the momentum.
        fresh: the share of a gradient in the new momentum: 1 - b1, or 1 for the heavy ball.
    """
    old, new = (np.max(steps.sizes(*one), initial=0) for one in ((_TINY, 1.0, 0.0), (0.0, 1.0, _TINY)))
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
    accumulation = _accumulation(call, state, params)
    named = [node for node in _nodes(state) if hasattr(node, "_fields") or type(node).__name__.endswith("State")]
    names = {type(node).__name__ for node in named}
    other = Facts("other", accumulation=accumulation)
    if names - _KNOWN:
        return other
    steps = _Steps(call, state, params)
    awake, after = steps.start(), steps.after()
    adams, traces = ([node for node in after if type(node).__name__ == name] for name in (_ADAM, _TRACE))
    if (adams and traces) or (awake and not _is_linear(steps)):
        return other
    if not adams and not traces:
        return Facts("sgd", accumulation=accumulation)
    if awake and not _all_have_moments(steps):
        return other
    if traces:
        momentum = _same([_first(node.trace) for node in traces if jax.tree.leaves(node.trace)])
        if momentum is None:
            return other
        ahead = _is_nesterov(steps, momentum, 1.0)
        return Facts("heavy_ball", momentum=momentum, accumulation=accumulation, nesterov=ahead)
    b1 = _same([_first(node.mu) for node in adams if jax.tree.leaves(node.mu)])
    b2 = _same([_first(node.nu) for node in adams if jax.tree.leaves(node.nu)])
    halved, inverse, same = _ratios(steps)
    count = max(int(np.asarray(node.count)) for node in _nodes(state) if type(node).__name__ == _ADAM)
    # Yogi does not forget at a gradient of zero; adamax divides by nu itself, RAdam by nothing at first.
    if b1 is None or b2 is None or b2 >= 1 or not same or not (np.isnan(halved) or abs(halved - 0.5) < 0.05):
        return other._replace(count=count)
    ahead, eps = _is_nesterov(steps, b1, 1 - b1), _eps(inverse, b2, 0)
    return Facts("adam", b1=b1, b2=b2, eps=eps, count=count, accumulation=accumulation, nesterov=ahead)


def _accumulation(call: Callable, state: Tree, params: Tree) -> int:
    """Micro-batches a step, of `optax.MultiSteps` inside each other too."""
    count, depth = 1, 0
    while accumulators(state, depth):
        sizes = micro_batches(call, state, params, depth)
        count, depth = count * max((int(size) for size in sizes), default=1), depth + 1
        state = whole_step(call, jax.tree.map(jnp.zeros_like, params), state, params)
    return count


def _eps(inverse: float, b2: float, count: int) -> float | None:
    """From |u(nu = 0)| / |u(nu = 1)| = (root + eps) / eps, with root that of nu without its bias."""
    if not np.isfinite(inverse) or inverse <= 1:
        return 0.0 if np.isinf(inverse) else None
    root = np.sqrt(b2 / -np.expm1((count + 1) * np.log(b2)))
    return float(root / (inverse - 1))
