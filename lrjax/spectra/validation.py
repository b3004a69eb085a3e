"""Input validation."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.errors import LrjaxError, check, path_of
from lrjax.spectra.programs import Functions, compiled
from lrjax.spectra.rules import Rule
from lrjax.spectra.selection import Selection, Tree, Where, in_float32, select

BatchSource = Sequence[Tree] | Callable[[], Iterable[Tree]]
AGREEMENT = 1e-3  # relative; far above rounding, far below what a batch's own statistics change


def batch_list(batches: BatchSource) -> Callable[[], Iterable[Tree]] | list[Tree]:
    """The batches as a list, or the function that streams them.

    Raises:
        LrjaxError: neither, such as one batch alone or an iterator that can be read only once.
    """
    if callable(batches):
        return cast(Callable[[], Iterable[Tree]], batches)
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


def iter_batches(batches: BatchSource) -> Iterator[tuple[Tree, int]]:
    """(batch, number of examples) of a list of batches, or of a function that streams them.

    Raises:
        LrjaxError: as `batch_list` and `count`.
    """
    source = batch_list(batches)
    for number, batch in enumerate(source() if callable(source) else source):
        yield batch, count(batch, number)


def finite(params: Tree, name: str) -> None:
    """Refuses NaN and infinity.

    Raises:
        LrjaxError: names the first bad leaf.
    """
    for path, leaf in jax.tree.leaves_with_path(params):
        good = bool(jnp.all(jnp.isfinite(leaf)))
        check(good, f"parameters {path_of(path)} hold NaN or infinity: the {name} does not exist there")


def prepare(params: Tree, where: Where, name: str) -> tuple[Selection, Tree, Tree]:
    """Selection, the selected parameters (half precision as float32) and the others.

    Raises:
        LrjaxError: nothing is selected, or a selected leaf holds NaN or infinity; `name` is the quantity in the message.
    """
    selection = select(params, where)
    selected, rest = selection.split(params)
    selected = in_float32(selected)
    finite(selected, name)
    return selection, selected, rest


def _few(batch: Tree, size: int, few: int) -> Tree:
    return jax.tree.map(lambda a: a[:few] if np.ndim(a) and np.shape(a)[0] == size else a, batch)


@compiled(static=1)
def _value(functions: Any, rule: Rule, params: Tree, batch: Tree) -> Any:
    return rule.value(functions, params, batch)


def loss(rule: Rule, functions: Functions, params: Tree, batch: Tree, size: int) -> None:
    """Refuses a loss of the wrong shape, one that changes from call to call, and coupled per-example losses.

    Raises:
        LrjaxError: names the fault.
    """
    # Traced once for equal functions, and never compiled: the loss itself is called below, whatever it hides from a trace.
    shapes = _value.of(functions, rule).eval_shape(params, batch)
    if rule.scalar:
        shape = getattr(shapes, "shape", None)
        check(shape == (), f"the loss must be a scalar, the mean over the batch, not of shape {shape}; use jnp.mean")
    if rule.of_examples:
        shape = getattr(shapes, "shape", None)
        check(shape == (size,), f"example_loss must return one loss an example, shape ({size},), not {shape}")
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
