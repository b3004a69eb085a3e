"""What is looked at before a product is made: batches, parameters and loss, each refused with one sentence if wrong."""

from collections.abc import Callable, Iterable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.errors import LrjaxError, check
from lrjax.spectra.programs import Functions, compiled
from lrjax.spectra.rules import Rule
from lrjax.spectra.selection import Tree
from lrjax.trees import path_of

AGREEMENT = 1e-3  # relative; far above rounding, far below what a batch's own statistics change


def batch_list(batches: Any) -> Callable[[], Iterable] | list:
    """The batches as a list, or the function that streams them.

    Raises:
        LrjaxError: neither, such as one batch alone or an iterator that can be read only once.
    """
    if callable(batches):
        return cast(Callable[[], Iterable], batches)
    right = isinstance(batches, (list, tuple)) and not hasattr(batches, "_fields") and not _is_batch(batches)
    check(
        right,
        "batches must be a list of batches, or a function that returns a fresh iterator over them; "
        "one batch alone is written [batch]",
    )
    check(len(batches) > 0, "there are no batches: give at least one")
    return list(batches)


def _is_batch(batches: Any) -> bool:
    """An (x, y) tuple is a batch; a tuple of batches is not."""
    return isinstance(batches, tuple) and all(hasattr(item, "shape") for item in batches)


def count(batch: Tree, number: int) -> int:
    """Examples of a batch: the first axis of its first array.

    Raises:
        LrjaxError: none.
    """
    leaves = jax.tree.leaves(batch)
    check(bool(leaves) and np.ndim(leaves[0]) > 0, f"batch {number} has no array with an axis of examples")
    size = len(leaves[0])
    check(size > 0, f"batch {number} has no examples; leave empty batches out")
    return size


def finite(params: Tree, name: str) -> None:
    """Refuses NaN and infinity.

    Raises:
        LrjaxError: names the first bad leaf.
    """
    for path, leaf in jax.tree.leaves_with_path(params):
        good = bool(jnp.all(jnp.isfinite(leaf)))
        check(good, f"parameters {path_of(path)} hold NaN or infinity: the {name} does not exist there")


def _few(batch: Tree, size: int, few: int) -> Tree:
    return jax.tree.map(lambda a: a[:few] if np.ndim(a) and np.shape(a)[0] == size else a, batch)


@compiled(static=1)
def _value(functions: Any, rule: Rule, params: Tree, batch: Tree) -> Any:
    return rule.value(functions, params, batch)


def loss(rule: Rule, functions: Functions, params: Tree, batch: Tree, size: int) -> None:
    """Refuses a loss of the wrong shape, one that changes from call to call, and coupled per-example losses.

    Raises:
        LrjaxError: says which.
    """
    # Traced once for equal functions, and never compiled: the loss itself is called below, whatever it hides from a trace.
    shapes = _value.of(functions, rule).eval_shape(params, batch)
    if rule.scalar:
        found = getattr(shapes, "shape", None)
        check(found == (), f"the loss must be a scalar, the mean over the batch, not of shape {found}; use jnp.mean")
    if rule.of_examples:
        found = getattr(shapes, "shape", None)
        check(found == (size,), f"example_loss must return one loss an example, shape ({size},), not {found}")
    few = _few(batch, size, 2)
    first, again = rule.value(functions, params, few), rule.value(functions, params, few)
    same = all(
        np.array_equal(a, b, equal_nan=True)
        for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True)
    )
    check(
        same,
        "two calls of the loss with the same arguments differ: turn dropout and other randomness off, or fix its key "
        "inside the loss, since a matrix needs one function",
    )
    if rule.of_examples and size > 1:
        alone = rule.value(functions, params, _few(batch, size, 1))
        if not np.allclose(alone[0], first[0], rtol=AGREEMENT, atol=AGREEMENT * float(np.max(np.abs(first)))):
            raise LrjaxError(
                "the loss of an example depends on the others of its batch (BatchNorm with batch statistics?), so it has no "
                "gradient of its own; use running statistics, or `gram` on the gradients of mini-batches"
            )
