"""Examples of batches: picked, joined, and summed to a check number."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.spectra.frameworks import Tree

Axes = Sequence[int | None]  # of examples, a leaf each


def plain(leaf: Any) -> np.ndarray:
    """A leaf on the host; keys as their numbers."""
    typed = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if typed else leaf)


def in_float64(leaf: Any) -> Any:
    """A floating-point array in float64, for use where x64 is on; anything else as it is."""
    kind = getattr(leaf, "dtype", None)
    return jnp.asarray(leaf, jnp.float64) if kind is not None and jnp.issubdtype(kind, jnp.floating) else leaf


def checksum(batch: Tree) -> int:
    """A number that differs for batches that differ in an entry, but for one in four billion."""
    found = 0
    for leaf in jax.tree.leaves(batch):
        array = np.ascontiguousarray(plain(leaf))
        found = zlib.crc32(array.view(np.uint8).reshape(-1).data, zlib.crc32(repr(array.shape).encode(), found))
    return found


def rows_of(batch: Tree, axes: Axes, index: np.ndarray) -> Tree:
    """The examples of a batch with these indices; leaves without examples as they are."""
    leaves, treedef = jax.tree.flatten(batch)
    taken = [
        leaf if axis is None else (np if isinstance(leaf, np.ndarray) else jnp).take(leaf, index, axis=axis)
        for leaf, axis in zip(leaves, axes, strict=True)
    ]
    return treedef.unflatten(taken)


def stacked(parts: list[Tree], axes: Axes) -> Tree:
    """The examples of several batches as one; leaves without examples are those of the first."""
    leaves, treedef = jax.tree.flatten(parts[0])
    others = [jax.tree.leaves(part) for part in parts[1:]]
    joined = [
        leaf if axis is None else np.concatenate([np.asarray(leaf), *(np.asarray(o[i]) for o in others)], axis=axis)
        for i, (leaf, axis) in enumerate(zip(leaves, axes, strict=True))
    ]
    return treedef.unflatten(joined)


def extremes(batch: Tree, axes: Axes, count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of `count` examples that differ as far as a look at the data tells: padded and not, rare labels, NaN.

    By the sum of each leaf's entries of an example: those with NaN and the largest in one set, the smallest in the other.
    What may be a mask comes first, then other weights, then short leaves such as labels.
    """
    high, low, sums = [], [], []
    for leaf, axis in zip(jax.tree.leaves(batch), axes, strict=True):
        if axis is None or not any(jnp.issubdtype(leaf.dtype, k) for k in (jnp.floating, jnp.integer, jnp.bool_)):
            continue
        entries = np.moveaxis(np.asarray(leaf), axis, 0).reshape(size, -1).astype(np.float64)
        sums.append(((*_unlike_a_mask(entries), entries.size), np.nan_to_num(entries.sum(axis=1), nan=np.inf)))
    for _, of_examples in sorted(sums, key=lambda pair: pair[0]):
        order = np.argsort(of_examples, kind="stable")
        high.append(int(order[-1]))
        low.append(int(order[0]))
    return _filled([*high, 0], range(size), count), _filled([*low, size - 1], range(size - 1, -1, -1), count)


def _unlike_a_mask(entries: np.ndarray) -> tuple[bool, bool, bool]:
    constant = entries.size == 0 or bool(np.all(entries == entries.flat[0]))
    return constant, not bool(np.all((entries == 0) | (entries == 1))), not bool(np.all(entries >= 0))


def _filled(first: list[int], rest: Sequence[int], count: int) -> np.ndarray:
    return np.sort(np.array(list(dict.fromkeys([*first, *rest]))[:count]))
