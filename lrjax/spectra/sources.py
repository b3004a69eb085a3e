"""Sources of batches: lists, loaders and functions that stream, and what their leaves must be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import jax
import numpy as np

from lrjax.errors import check, path_of
from lrjax.spectra.frameworks import Tree, is_numeric

BatchSource = Sequence[Tree] | Callable[[], Iterable[Tree]] | Iterable[Tree]


def batch_list(batches: BatchSource) -> Callable[[], Iterable[Tree]] | list[Tree]:
    """The batches as a list, or a function that streams them.

    Raises:
        LrjaxError: neither, such as one batch alone or an iterator that can be read only once.
    """
    if callable(batches) and not hasattr(batches, "__iter__"):
        return cast(Callable[[], Iterable[Tree]], batches)
    if isinstance(batches, (list, tuple)) and not hasattr(batches, "_fields") and not _is_batch(batches):
        check(len(batches) > 0, "there are no batches: give at least one")
        return list(batches)
    one = isinstance(batches, (tuple, Mapping, str)) or hasattr(batches, "dtype") or is_numeric(batches)
    once = isinstance(batches, Iterator)
    check(
        hasattr(batches, "__iter__") and not one and not once,
        "batches must be a list of batches, a loader, or a function that returns a fresh iterator over them; "
        + ("an iterator can be read only once" if once else "one batch alone is written [batch]"),
    )
    return lambda: iter(cast(Iterable[Tree], batches))


def _is_batch(batches: Any) -> bool:
    """An (x, y) tuple is a batch; a tuple of batches is not."""
    return isinstance(batches, tuple) and len(batches) > 0 and all(hasattr(item, "shape") for item in batches)


def as_arrays(batch: Tree, number: int) -> Tree:
    """The batch with tensors of another library as arrays.

    Raises:
        LrjaxError: names a leaf that is no array, such as strings.
    """

    def one(path: Any, leaf: Any) -> Any:
        if not is_numeric(leaf) and hasattr(leaf, "__array__"):
            leaf = np.asarray(leaf)
        check(
            is_numeric(leaf),
            f"leaf {path_of(path)!r} of batch {number} holds {type(leaf).__name__}, not numbers; leave it out of the batches",
        )
        return leaf

    return jax.tree_util.tree_map_with_path(one, batch)
