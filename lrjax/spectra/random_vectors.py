"""Random test vectors, products in blocks, and the standard error of few samples: shared by the stochastic estimators."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.errors import check, refuse
from lrjax.spectra.normalised import Normalised
from lrjax.spectra.results import readable, to_dict

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float, Float64, PRNGKeyArray

HIGHEST = jax.lax.Precision.HIGHEST


def as_key(key: PRNGKeyArray | int | None) -> PRNGKeyArray:
    """A key as it is, `jax.random.key` of an integer, and that of 0 for None.

    Raises:
        LrjaxError: neither a key nor an integer.
    """
    if key is None:
        return jax.random.key(0)
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        return jax.random.key(int(key))
    array: Any = key
    dtype, shape = getattr(array, "dtype", None), getattr(array, "shape", None)
    if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key) and shape == ():
        return array
    old = dtype == jnp.uint32 and len(shape or ()) == 1
    check(old, f"a key is one of jax.random.key(seed), or an integer, and not {key!r}")
    return jax.random.wrap_key_data(array)


class Estimate(NamedTuple):
    """A number and its standard error.

    Attributes:
        value: the estimate.
        stderr: one standard deviation of `value`.

    References:
        JCGM 100:2008, Guide to the expression of uncertainty in measurement: standard uncertainty.

    Example:
        >>> mean(np.array([1.0, 3.0])).value, Estimate(2.0, 0.5)
        (2.0, Estimate(value=2 +- 0.5))
    """

    value: float
    stderr: float

    to_dict = to_dict

    def __repr__(self) -> str:
        return readable(self)


@functools.partial(jax.jit, static_argnames=("size", "dtype"))
def _normal(key: jax.Array, numbers: jax.Array, size: int, dtype: Any) -> jax.Array:
    def one(number: jax.Array) -> jax.Array:
        v = jax.random.normal(jax.random.fold_in(key, number), (size,), dtype)
        return v * (jnp.sqrt(jnp.asarray(size, dtype)) / jnp.linalg.norm(v))

    return jax.vmap(one)(numbers)


@functools.partial(jax.jit, static_argnames=("size", "dtype"))
def _signs(key: jax.Array, numbers: jax.Array, size: int, dtype: Any) -> jax.Array:
    return jax.vmap(lambda number: jax.random.rademacher(jax.random.fold_in(key, number), (size,), dtype))(numbers)


def sphere(key: PRNGKeyArray, numbers: range, bound: Normalised) -> Float[Array, "k D"]:
    """Vectors uniform on the sphere of radius sqrt(D): as rows, one a number, the same in whatever block they are drawn."""
    return _normal(key, jnp.arange(numbers.start, numbers.stop), bound.size, np.dtype(bound.dtype))


def signs(key: PRNGKeyArray, numbers: range, bound: Normalised) -> Float[Array, "k D"]:
    """Vectors of random signs, drawn as in `sphere`."""
    return _signs(key, jnp.arange(numbers.start, numbers.stop), bound.size, np.dtype(bound.dtype))


def units(numbers: range, bound: Normalised) -> Float[Array, "k D"]:
    """Unit vectors: products with all of them are the matrix itself."""
    return jnp.asarray(np.arange(bound.size)[None] == np.asarray(numbers)[:, None], bound.dtype)


def blocks(count: int, chunk: int | None) -> Iterator[range]:
    """The numbers 0 .. count - 1 in ranges of `chunk`; all at once for None.

    Raises:
        LrjaxError: chunk below 1.
    """
    check(chunk is None or chunk >= 1, f"chunk must be >= 1 or None, got {chunk}")
    step = chunk or max(count, 1)
    return (range(start, min(start + step, count)) for start in range(0, count, step))


def multiply(bound: Normalised, rows: Float[Array, "k D"], chunk: int | None) -> Float[Array, "k D"]:
    """A v for every row: one pass over the data, or one for every `chunk` rows."""
    parts = [bound.matmat(rows[block.start : block.stop]) for block in blocks(rows.shape[0], chunk)]
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts)


@jax.jit
def dots(a: Float[Array, "k D"], b: Float[Array, "k D"]) -> Float[Array, "k"]:
    """Inner products of the rows of a with those of b, pair by pair."""
    return jnp.einsum("kd,kd->k", a, b, precision=HIGHEST)


def check_finite(bound: Normalised, numbers: Any) -> None:
    """Validates that products with the operator are finite.

    Raises:
        LrjaxError: they hold NaN or infinity.
    """
    if not np.all(np.isfinite(numbers)):
        refuse(bound.bound.explain(jnp.ones((1, bound.size), bound.dtype), "is not finite"))


def small_sample(count: int) -> float:
    """Factor on a standard error from `count` samples, so that two of them cover as often as two normal deviations, 95.4 %.

    A deviation estimated from few samples is often too small by chance. The factor is half of Student's quantile,
    t_{count - 1}(97.7 %) / 2: 7.0 for two samples, 1.16 for ten; infinite for one.

    References:
        JCGM 100:2008, Guide to the expression of uncertainty in measurement, G.3.

    Example:
        >>> round(small_sample(2), 2), round(small_sample(10), 2), small_sample(1)
        (6.98, 1.16, inf)
    """
    from scipy.special import ndtr, stdtrit

    return float(stdtrit(count - 1, ndtr(2.0)) / 2) if count > 1 else float("inf")


def mean(samples: Float64[np.ndarray, "k"]) -> Estimate:
    """The mean of independent samples [k], and its standard error with the `small_sample` factor."""
    if samples.size < 2:
        return Estimate(float(np.mean(samples)), float("inf"))
    stderr = np.std(samples, ddof=1) / np.sqrt(samples.size) * small_sample(samples.size)
    return Estimate(float(np.mean(samples)), float(stderr))
