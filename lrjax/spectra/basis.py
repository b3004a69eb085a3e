"""Paged orthonormal basis of long vectors, for Lanczos: it grows page by page and shrinks in place."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float, Float64

PAGE = 16
COLUMNS = 2**14


@functools.partial(jax.jit, donate_argnames=("vector",))
def _project(page: jax.Array, vector: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Coefficients on the rows of a page, and the vector without them. Rows not in use are zero."""
    coefficients = jnp.matmul(page, vector, precision="highest")
    return coefficients, vector - jnp.matmul(coefficients, page, precision="highest")


@functools.partial(jax.jit, donate_argnames=("page",))
def _placed(page: jax.Array, row: jax.Array, vector: jax.Array, scale: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_slice_in_dim(page, (vector * scale)[None], row, 0)


@functools.partial(jax.jit, donate_argnames=("first",))
def _rotated(first: jax.Array, others: tuple[jax.Array, ...], rotation: jax.Array) -> jax.Array:
    """The first page with its rows replaced by `rotation` [rows, count] @ all rows, a block of columns at a time."""

    def turn(block: jax.Array, *rest: jax.Array) -> jax.Array:
        return jnp.matmul(rotation, jnp.concatenate([block, *rest]), precision="highest")

    def step(number: jax.Array, page: jax.Array) -> jax.Array:
        start = number * COLUMNS
        blocks = [jax.lax.dynamic_slice_in_dim(p, start, COLUMNS, 1) for p in (page, *others)]
        return jax.lax.dynamic_update_slice_in_dim(page, turn(*blocks), start, 1)

    whole = first.shape[1] // COLUMNS
    page = jax.lax.fori_loop(0, whole, step, first) if whole else first
    tail = whole * COLUMNS
    if tail == first.shape[1]:
        return page
    return page.at[:, tail:].set(turn(page[:, tail:], *(other[:, tail:] for other in others)))


class Basis:
    """Up to `capacity` orthonormal vectors of length `size`.

    Pages are allocated as they fill, so memory follows what is used, and the last is no longer than needed. Rotating into
    the first page needs no second copy: a basis of m vectors never takes more than m, plus the two vectors in work.

    Args:
        size: D.
        dtype: of the vectors.
        capacity: the most vectors it will hold.
        keep: the most vectors that `rotate` will keep.
    """

    def __init__(self, size: int, dtype: jnp.dtype, capacity: int, keep: int):
        self.size, self.dtype, self.capacity = size, dtype, capacity
        self.page_rows = min(capacity, max(PAGE, keep))
        self.pages: list[jax.Array] = []
        self.count = 0

    def project_out(self, vector: Float[Array, "D"]) -> tuple[Float64[np.ndarray, "count"], Float[Array, "D"]]:
        """`(coefficients [count] float64, remainder)`: Gram-Schmidt by matmuls, done twice since rounding
        leaves a part after one pass.

        The vector is given up: its memory is that of the remainder.
        """
        coefficients = np.zeros(len(self.pages) * self.page_rows)
        for _ in range(2):
            parts = []
            for page in self.pages:
                part, vector = _project(page, vector)
                parts.append(part)
            if parts:
                together = np.concatenate([np.asarray(part, np.float64) for part in parts])
                coefficients[: together.size] += together
        return coefficients[: self.count], vector

    def append(self, vector: Float[Array, "D"], scale: float) -> None:
        """Adds `scale * vector`."""
        page, row = divmod(self.count, self.page_rows)
        if page == len(self.pages):
            rows = min(self.page_rows, self.capacity - self.count)
            self.pages.append(jnp.zeros((rows, self.size), self.dtype))
        self.pages[page] = _placed(self.pages[page], jnp.int32(row), vector, jnp.asarray(scale, self.dtype))
        self.count += 1

    def rows(self, start: int, stop: int) -> Float[Array, "k D"]:
        """Vectors start .. stop - 1 as rows."""
        return jnp.stack([self.row(i) for i in range(start, stop)])

    def row(self, number: int) -> Float[Array, "D"]:
        """One vector."""
        return self.pages[number // self.page_rows][number % self.page_rows]

    def rotate(self, rotation: Float64[np.ndarray, "kept count"]) -> None:
        """Replaces the vectors by their combinations `rotation` [kept, count] @ vectors."""
        kept, held = rotation.shape[0], sum(page.shape[0] for page in self.pages)
        full = np.zeros((self.pages[0].shape[0], held))
        full[:kept, : self.count] = rotation
        first, others = self.pages[0], tuple(self.pages[1:])
        self.pages = []  # so that the first is free to be written over
        self.pages = [_rotated(first, others, jnp.asarray(full, self.dtype))]
        self.count = kept
