"""What `scale_invariance` measures of a loss: inner products of gradients and weights, and changes under scaling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lrjax.errors import check, path_of, refuse
from lrjax.transforms.leaves import canonical, is_array, is_plain_float
from lrjax.transforms.precision import TOLERANCES, computed_dtype, widened

if TYPE_CHECKING:
    from jaxtyping import Array, Float64

Leaves = list[Any]  # of the parameters, those that may scale


class Subject(NamedTuple):
    """A loss as a function of the arrays of parameters that may scale.

    Attributes:
        loss, outputs: of such a list and args; outputs is None where there are none.
        leaves: the list, at the parameters given.
        args: of both functions.
        paths: of the leaves.
        dtype: the coarsest that the loss computes in.
    """

    loss: Callable[..., Array]
    outputs: Callable[..., Array] | None
    leaves: Leaves
    args: tuple[Any, ...]
    paths: tuple[str, ...]
    dtype: np.dtype

    @property
    def tolerance(self) -> float:
        """Below which a relative number is rounding."""
        return TOLERANCES.get(self.dtype.name, 2 * float(jnp.finfo(self.dtype).eps))


class Measured(NamedTuple):
    """At m points, of n arrays.

    Attributes:
        products: <dL/dw, w>, [m, n], relative to the size of all at the point.
        sizes: |dL/dw| |w|, [m, n], likewise.
        scale: the largest |L|.
    """

    products: Float64[np.ndarray, "m n"]
    sizes: Float64[np.ndarray, "m n"]
    scale: float


def subject_of(
    loss_fn: Callable[..., Any], outputs: Callable[..., Any] | None, params: optax.Params, args: tuple[Any, ...]
) -> Subject:
    """Splits parameters into arrays that may scale and constants.

    Args:
        loss_fn, outputs, params, args: as for `scale_invariance`.

    Returns:
        The subject; float16 and bfloat16 are widened to float32 where loss_fn takes that.

    Raises:
        LrjaxError: nothing scales, a plain number among the parameters, or a loss that is no real scalar.

    Example:
        >>> subject = subject_of(lambda p: jnp.sum(p["w"]), None, {"w": jnp.ones(2), "steps": 3, "rng": jax.random.key(0)}, ())
        >>> subject.paths, float(subject.loss(subject.leaves))
        (('w',), 2.0)
    """
    found = [(path_of(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)]
    structure = jax.tree.structure(params)
    plain = [path for path, leaf in found if is_plain_float(leaf)]
    check(
        not plain,
        f"params holds the plain number {(plain or [''])[0]!r}, a weight or a setting: make it an array, or take it out of "
        "params (eqx.filter(model, eqx.is_inexact_array))",
    )
    numbers = [number for number, (_, leaf) in enumerate(found) if is_array(leaf)]
    check(bool(numbers), "params holds no array of floats, so nothing in it has a scale")

    def taking(function: Callable[..., Any]) -> Callable[..., Any]:
        def of_leaves(leaves: Leaves, *args: Any) -> Any:
            whole = [leaf for _, leaf in found]
            for number, leaf in zip(numbers, leaves, strict=True):
                whole[number] = leaf
            return function(structure.unflatten(whole), *args)

        return of_leaves

    loss = taking(loss_fn)
    leaves = [canonical(found[number][1], found[number][0]) for number in numbers]
    wide = widened(leaves), widened(args)
    if any(a.dtype != b.dtype for a, b in zip(wide[0], leaves, strict=True)):
        try:
            jax.eval_shape(loss, wide[0], *wide[1])
            leaves, args = wide
        except (TypeError, ValueError):  # a layer that takes no other dtype: then in that one
            pass
    _check_scalar(loss, leaves, args)
    paths = tuple(found[number][0] for number in numbers)
    return Subject(loss, outputs and taking(outputs), leaves, args, paths, computed_dtype(loss, leaves, *args))


def _check_scalar(loss: Callable[..., Any], leaves: Leaves, args: tuple[Any, ...]) -> None:
    out = jax.eval_shape(lambda leaves: loss(leaves, *args), leaves)
    if not hasattr(out, "shape"):
        refuse("loss_fn must return the loss alone, not several values: wrap it in a function that returns the first")
    check(
        out.shape == () and bool(jnp.issubdtype(out.dtype, jnp.floating)),
        f"loss_fn must return one real number, not {out.dtype} of shape {out.shape}: take its mean",
    )


def points_near(leaves: Leaves, number: int, seed: int) -> list[Leaves]:
    """Points around the parameters, at which nothing is special.

    Args:
        leaves: arrays.
        number: of points.
        seed: draws them.

    Returns:
        Lists like leaves. Weights at zero (a bias, say) would be invariant to scaling there, and arrays at their initial
        scale need not be generic.

    Example:
        >>> [len(point) for point in points_near([jnp.ones(3), jnp.zeros(2)], 2, seed=0)]
        [2, 2]
    """
    rng = np.random.default_rng(seed)

    def near(leaf: Array) -> Array:
        kind = np.complex128 if jnp.issubdtype(leaf.dtype, jnp.complexfloating) else np.float64
        wide = np.asarray(leaf).astype(kind)
        rms = float(np.sqrt(np.mean(np.abs(wide) ** 2)))
        noise = rng.normal(scale=0.3 * rms if rms > 0 else 0.1, size=wide.shape)
        if kind is np.complex128:
            noise = noise + 1j * rng.normal(scale=0.3 * rms if rms > 0 else 0.1, size=wide.shape)
        return jnp.asarray(np.exp(rng.uniform(-0.3, 0.3)) * (wide + noise)).astype(leaf.dtype)

    return [[near(leaf) for leaf in leaves] for _ in range(number)]


def check_deterministic(subject: Subject, point: Leaves) -> None:
    """Refuses a loss that is another at a second call with the same arguments.

    Args:
        subject: the loss.
        point: where it is called.

    Raises:
        LrjaxError: the two calls differ.

    Example:
        >>> check_deterministic(subject_of(jnp.sum, None, jnp.ones(2), ()), [jnp.ones(2)])
    """
    first, second = (float(subject.loss(point, *subject.args)) for _ in range(2))
    same = abs(first - second) <= 8 * float(jnp.finfo(subject.dtype).eps) * max(abs(first), abs(second))
    check(
        same or not np.isfinite([first, second]).all(),
        f"the loss is {first:.6g} at one call and {second:.6g} at the next with the same arguments: fix its randomness "
        "(dropout, augmentation) and the state that it changes (running statistics)",
    )


def measure(subject: Subject, points: Sequence[Leaves]) -> Measured:
    """Inner products of gradients and weights at points.

    Args:
        subject: the loss.
        points: lists of arrays.

    Returns:
        The products, float64. The loss is brought to size 1 before it is differentiated, and norms are taken of arrays of size
        1, so that no loss is too small or too large.

    Raises:
        LrjaxError: a loss or gradient that is not finite, or a loss that is zero everywhere.

    Example:
        >>> subject = subject_of(lambda w: 1e-20 * w[0] / jnp.sqrt(jnp.sum(w**2)), None, jnp.array([3.0, 4.0]), ())
        >>> measured = measure(subject, [jnp.array([[3.0, 4.0]])])
        >>> bool(abs(measured.products[0, 0]) < 1e-6), measured.sizes.tolist()
        (True, [[1.0]])
    """
    loss = jax.jit(subject.loss)
    losses = np.asarray([float(loss(point, *subject.args)) for point in points])
    check(bool(np.isfinite(losses).all()), "the loss is not finite; check the network before its scale")
    scale = float(np.max(np.abs(losses)))
    check(
        scale > 0,
        "the loss is zero at every point near params, so nothing can be said of its scale; does it underflow?",
    )
    by = 2.0 ** -np.floor(np.log2(scale))

    @jax.jit
    def at(leaves: Leaves, args: tuple[Any, ...], by: Array) -> tuple[Array, Array]:
        def scaled(leaves: Leaves) -> Array:
            value = subject.loss(leaves, *args)
            return value.astype(jnp.promote_types(value.dtype, jnp.float32)) * by.astype(
                jnp.promote_types(value.dtype, jnp.float32)
            )

        pairs = zip(jax.grad(scaled)(leaves), leaves, strict=True)
        parts = [_inner_product(g, w) for g, w in pairs]
        return jnp.stack([a for a, _, _ in parts]), jnp.stack([jnp.stack(b) for _, *b in parts])

    rows = [at(point, subject.args, jnp.asarray(by, float)) for point in points]
    cosines = np.asarray([row[0] for row in rows], np.float64)
    norms = np.asarray([row[1] for row in rows], np.float64)
    bad = ~np.isfinite(norms).all((0, 2)) | ~np.isfinite(cosines).all(0)
    check(
        not bool(bad.any()),
        f"the gradient of the loss in {subject.paths[int(np.argmax(bad))]} is not finite; check the network before its scale",
    )
    sizes = norms[..., 0] * norms[..., 1]
    total = np.maximum(np.linalg.norm(sizes, axis=1, keepdims=True), np.finfo(float).tiny)
    sizes = sizes / total  # each point with the same weight
    rounding = min(30 * float(jnp.finfo(subject.dtype).eps), subject.tolerance / 2)
    # An array without effect on the loss has products and sizes of rounding alone.
    return Measured(np.where(sizes < rounding, 0.0, cosines * sizes), sizes, scale)


def _inner_product(g: Array, w: Array) -> tuple[Array, Array, Array]:
    """Cosine of the angle between gradient and weights, and the norms of both: none overflows where they do not."""
    real = jnp.finfo(w.dtype).dtype
    wide = jnp.promote_types(real, jnp.float32)
    largest = [jnp.max(jnp.abs(a)).astype(wide) for a in (g, w)]
    units = [
        a.astype(jnp.promote_types(a.dtype, wide)) / jnp.where(m > 0, m, 1).astype(wide)
        for a, m in zip((g, w), largest, strict=True)
    ]
    norms = [jnp.sqrt(jnp.sum(jnp.abs(u) ** 2)) for u in units]
    # For complex weights dL = Re sum(g dw) with JAX's gradient g.
    cosine = jnp.sum((units[0] * units[1]).real) / jnp.maximum(norms[0] * norms[1], jnp.finfo(wide).tiny)
    return cosine, norms[0] * largest[0], norms[1] * largest[1]


def scaled_calls(function: Callable[..., Array]) -> Callable[..., np.ndarray]:
    """A function of leaves, as one of leaves and a factor for each.

    Args:
        function: of leaves and args.

    Returns:
        `f(leaves, args, factors) -> float64 array`.

    Example:
        >>> scaled_calls(lambda leaves: leaves[0] + leaves[1])([jnp.ones(()), jnp.ones(())], (), [2.0, 3.0]).tolist()
        5.0
    """

    @jax.jit
    def at(leaves: Leaves, args: tuple[Any, ...], factors: Array) -> Array:
        return function([leaf * by.astype(leaf.dtype) for leaf, by in zip(leaves, factors, strict=True)], *args)

    return lambda leaves, args, factors: np.asarray(at(leaves, args, jnp.asarray(factors, float)), np.float64)
