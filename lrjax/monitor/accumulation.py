"""Steps that are made of several micro-batches, by `optax.MultiSteps`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lrjax.monitor.trees import inner_product
from lrjax.spectra.frameworks import Tree

LARGEST_ACCUMULATION = 4096  # micro-batches of a step of `optax.MultiSteps` that are looked for


def _accumulates(node: Any) -> bool:
    return isinstance(node, optax.MultiStepsState)


def accumulators(opt_state: Tree, depth: int = 0) -> list[optax.MultiStepsState]:
    """The states of `optax.MultiSteps` in a state, at a depth of such states inside each other.

    Example:
        >>> state = optax.MultiSteps(optax.sgd(0.1), 2).init(jnp.ones(2))
        >>> len(accumulators(state)), len(accumulators(state, 1))
        (1, 0)
    """
    nodes = [node for node in jax.tree.leaves(opt_state, is_leaf=_accumulates) if _accumulates(node)]
    return nodes if depth == 0 else [one for node in nodes for one in accumulators(node.inner_opt_state, depth - 1)]


def _changed(
    opt_state: Tree, change: Callable[[int, optax.MultiStepsState], optax.MultiStepsState], depth: int
) -> Tree:
    count = iter(range(len(accumulators(opt_state, depth))))

    def visit(node: Any, below: int) -> Any:
        if not _accumulates(node):
            return node
        if below == 0:
            return change(next(count), node)
        return node._replace(inner_opt_state=descend(node.inner_opt_state, below - 1))

    def descend(tree: Tree, below: int) -> Tree:
        return jax.tree.map(lambda node: visit(node, below), tree, is_leaf=_accumulates)

    return descend(opt_state, depth)


def micro_batches(call: Callable, opt_state: Tree, params: Tree, depth: int = 0) -> list[jax.Array]:
    """How many micro-batches make a step, for each `optax.MultiSteps` at a depth: the count after which it starts anew.

    Those around them must be at the last micro-batch of theirs.
    """

    def next_counts(count: jax.Array, state: Tree, theta: Tree) -> list[jax.Array]:
        state = _changed(state, lambda _, node: node._replace(mini_step=count), depth)
        after = call(jax.tree.map(jnp.zeros_like, theta), state, theta)[1]
        return [jnp.asarray(node.mini_step) for node in accumulators(after, depth)]

    # All but the counts is dead code once compiled; else there would be as many copies of the parameters as counts.
    every = jax.jit(jax.vmap(next_counts, (0, None, None)))
    following = every(jnp.arange(LARGEST_ACCUMULATION, dtype=jnp.int32), opt_state, params)
    return [1 + jnp.argmax(counts == 0).astype(jnp.int32) for counts in following]


def whole_step(call: Callable, gradient: Tree, opt_state: Tree, params: Tree) -> Tree:
    """A state from which the next update is a whole step: in `optax.MultiSteps` the last micro-batch of one, where those
    before had this gradient; without it the state as it is."""
    depth = 0
    while accumulators(opt_state, depth):
        opt_state = _at_last(call, gradient, opt_state, params, depth)
        depth += 1
    return opt_state


def _at_last(call: Callable, gradient: Tree, opt_state: Tree, params: Tree, depth: int) -> Tree:
    """The state with each `optax.MultiSteps` at a depth at the last micro-batch of its step."""
    sizes = micro_batches(call, opt_state, params, depth)

    def filled(count: int) -> list[Tree]:
        state = _changed(
            opt_state,
            lambda _, node: node._replace(
                mini_step=jnp.full_like(node.mini_step, count), acc_grads=jax.tree.map(jnp.zeros_like, node.acc_grads)
            ),
            depth,
        )
        return [node.acc_grads for node in accumulators(call(gradient, state, params)[1], depth)]

    # From an empty accumulator a mean over -1 entries is -g, a sum g: so the two modes are told apart.
    first, probe = filled(0), filled(-2)
    factors = [
        jnp.where(inner_product(one, other) < 0, 1, size - 1)
        for one, other, size in zip(first, probe, sizes, strict=True)
    ]

    def last(index: int, node: optax.MultiStepsState) -> optax.MultiStepsState:
        sums = jax.tree.map(lambda acc: (factors[index] * acc).astype(acc.dtype), first[index])
        return node._replace(mini_step=(sizes[index] - 1).astype(jnp.asarray(node.mini_step).dtype), acc_grads=sums)

    return _changed(opt_state, last, depth)
