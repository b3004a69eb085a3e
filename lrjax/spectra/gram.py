"""Gradient covariance K from L mini-batch gradients, through their L x L Gram matrix, and its exact trace.

This is how the break-even paper measures K. The per-example matrix without sampling of batches, for any number of
examples, is the operator `gradient_covariance`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from lrjax.errors import check
from lrjax.spectra import validation
from lrjax.spectra.batches import Batches
from lrjax.spectra.frameworks import Tree
from lrjax.spectra.gradient_rows import inner_products, scaled
from lrjax.spectra.programs import Functions, compiled
from lrjax.spectra.results import readable, to_dict
from lrjax.spectra.rules import HESSIAN
from lrjax.spectra.selection import Selection
from lrjax.spectra.sources import BatchSource
from lrjax.spectra.where import Where

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float, Float64


class Gram(NamedTuple):
    """The spectrum of the covariance of L gradients; float64 on the host but for the vectors.

    Attributes:
        values: [n] non-zero eigenvalues, descending; n = min(L - 1, D), or min(L, D) where not centred.
        vectors: [k, D] unit eigenvectors in parameter space; a direction without variance is the zero vector.
        trace: the sum of all eigenvalues, exact: no eigensolver behind it.
        inner: [L, L] inner products of the (centred) gradients, not divided: enough to resample.
        divisor: of `inner`, L or L - 1.
        centred: whether the mean of the L gradients was subtracted.
        dimension: D, number of parameters.
        scale: factor from here to the covariance of per-example gradients; None where batch sizes were not given.

    Raises:
        LrjaxError: in `per_example`, where batch sizes were not given.

    References:
        Jastrzebski et al. 2020, The Break-Even Point on Optimization Trajectories, sections 3 and 4.

    Example:
        >>> noise = gram(jnp.eye(3), batch_size=2, num_examples=100)
        >>> round(noise.trace, 4), round(noise.lambda_1, 4), round(noise.per_example().trace, 4)
        (0.6667, 0.3333, 2.0204)
    """

    values: Float64[np.ndarray, "n"]
    vectors: Float[Array, "k D"]
    trace: float
    inner: Float64[np.ndarray, "L L"]
    divisor: int
    centred: bool
    dimension: int
    scale: float | None = None

    to_dict = to_dict

    def __repr__(self) -> str:
        return readable(self)

    @property
    def lambda_1(self) -> float:
        """The largest eigenvalue; biased up by about (trace - lambda_1) / L."""
        return float(self.values[0])

    @property
    def lambda_star(self) -> float:
        """The smallest non-zero eigenvalue, number L - 1; it depends on L above all."""
        return float(self.values[-1])

    def per_example(self) -> Gram:
        """The same on the scale of per-example gradients: values, trace and inner products times `scale`.

        Raises:
            LrjaxError: `batch_size` and `num_examples` were not given to `gram`.
        """
        check(self.scale is not None, "per-example values need gram(..., batch_size=M, num_examples=N)")
        factor = float(self.scale or 1.0)
        scaled = {"values": self.values * factor, "trace": self.trace * factor, "inner": self.inner * factor}
        return self._replace(**scaled, scale=1.0)


def recentred(inner: np.ndarray) -> np.ndarray:
    """H Q H with H = I - 1 1^T / m: inner products of m vectors after their own mean is subtracted.

    Example:
        >>> vectors = np.array([[1.0, 0.0], [3.0, 4.0]])
        >>> centred = vectors - vectors.mean(axis=0)
        >>> np.array_equal(recentred(vectors @ vectors.T), centred @ centred.T)
        True
    """
    mean = inner.mean(axis=0)
    return inner - mean[:, None] - mean[None, :] + mean.mean()


def eigenvalues(inner: np.ndarray, divisor: int, centred: bool, dimension: int) -> np.ndarray:
    """The non-zero eigenvalues of inner / divisor, descending; `centred`: whether `inner` is (one eigenvalue is then zero)."""
    number = min(len(inner) - int(centred), dimension)
    return np.maximum(np.linalg.eigvalsh(inner / divisor)[::-1][:number], 0.0)


@jax.jit
def _unit_rows(combinations: jax.Array, rows: jax.Array, real: jax.Array) -> jax.Array:
    """B^T u / |B^T u| for each row u; zero where the eigenvalue is rounding and the direction would be noise."""
    vectors, _ = scaled(jnp.matmul(combinations, rows, precision="highest"))
    norms = jnp.linalg.norm(vectors, axis=1, keepdims=True)
    return jnp.where(real[:, None], vectors / jnp.where(norms > 0, norms, 1), 0)


def per_example_scale(batch_size: int, num_examples: int, disjoint: bool, num_gradients: int, divisor: int) -> float:
    """Factor from the covariance of L mini-batch gradients to that of per-example gradients, divisor N.

    Raises:
        LrjaxError: sizes that no batches can have.
    """
    check(
        1 <= batch_size < num_examples,
        f"batch_size must be from 1 to {num_examples - 1}, one less than the examples, not {batch_size}",
    )
    needed = num_gradients * batch_size
    check(
        not disjoint or needed <= num_examples,
        f"{num_gradients} disjoint batches of {batch_size} need {needed} examples; there are {num_examples}",
    )
    shared = num_examples if disjoint else num_examples - batch_size
    return batch_size * (num_examples - 1) / shared * divisor / (num_gradients - 1)


def gram(
    gradients: Tree | tuple[Tree, ...] | Iterator[Tree],
    *,
    center: bool = True,
    divisor: str = "L",
    batch_size: int | None = None,
    num_examples: int | None = None,
    disjoint: bool = False,
    k: int | None = None,
) -> Gram:
    """Eigenvalues, eigenvectors and trace of the covariance of L gradients b_j, from their L x L Gram matrix.

    The non-zero eigenvalues of K_M = (1/c) sum_j (b_j - b)(b_j - b)^T, b the mean of the b_j, are those of
    Q_jk = (b_j - b).(b_k - b) / c; an eigenvector u of Q gives B^T u / |B^T u|, B the centred gradients. If each b_j is the
    mean over M of N examples, E K_M = K (N - M) / (M (N - 1)) with c = L - 1, K the covariance of per-example gradients with
    divisor N; `scale` is the inverse of that factor (of 1/M N/(N - 1) for disjoint batches), whichever the divisor.

    Its accuracy depends on L, not on M: lambda_1 is biased up by about (trace - lambda_1) / L, the trace with
    divisor L - 1 is unbiased, so trace / lambda_1 is biased down and never above L - 1; lambda_star / lambda_1 is mostly a
    function of L. Compare at equal L, M and examples; see `intervals`. In float32, eigenvalues below
    1e-6 of the largest are rounding.

    Args:
        gradients: [L, D]; or a pytree with leaves [L, ...], such as the list [g1, g2] of parameters [w1, w2]; or a tuple or
            iterator of L pytrees, one gradient each. A list is a tree, never L gradients. A tuple of matrices could be either,
            and is refused. float64 on the host is taken as it is, half precision as float32, at any scale.
        center: subtract the mean of the L gradients; False gives the second moment, (1/c) sum b_j b_j^T.
        divisor: "L", as in the paper's K, or "L-1".
        batch_size: M, examples behind each gradient. With num_examples it gives `scale`.
        num_examples: N, examples that the batches are drawn from.
        disjoint: batches share no example (slices of one permutation), rather than being drawn independently.
        k: number of eigenvectors; all by default.

    Returns:
        The `Gram`: values, vectors, trace, inner products and `scale`.

    Raises:
        LrjaxError: fewer than two gradients, or what is not L gradients of real numbers; NaN; too large a k; sizes that no
            batches can have.

    References:
        Jastrzebski et al. 2020, The Break-Even Point on Optimization Trajectories, sections 3 and 4.

    Example:
        >>> noise = gram(jnp.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, -3.0, 0.0]]))
        >>> noise.values.tolist(), noise.trace, np.abs(noise.vectors[0]).tolist()
        ([4.5, 0.5, 0.0], 5.0, [0.0, 1.0, 0.0])
    """
    check(divisor in ("L", "L-1"), f"divisor must be 'L' or 'L-1', not {divisor!r}")
    check(center or (divisor == "L" and batch_size is None), "divisor='L-1' and batch_size are for centred gradients")
    check((batch_size is None) == (num_examples is None), "give batch_size and num_examples together")
    rows, exponents, inner = inner_products(gradients, center)
    count, dimension = rows.shape
    number = min(count - int(center), dimension)
    wanted = number if k is None else k
    check(0 <= wanted <= number, f"k={k}, but {count} gradients in {dimension} dimensions have {number} eigenvectors")
    inner = recentred(inner) if center else inner
    c = count if divisor == "L" else count - 1
    values, combinations = np.linalg.eigh(inner / c)
    values = np.maximum(values[::-1][:number], 0.0)
    chosen = np.ldexp(combinations[:, ::-1][:, :wanted].T, (exponents - exponents.max()).T)
    real = values[:wanted] > count * jnp.finfo(rows.dtype).eps * values[0]
    vectors = _unit_rows(jnp.asarray(chosen, rows.dtype), rows, jnp.asarray(real))
    scale = None
    if batch_size is not None and num_examples is not None:
        scale = per_example_scale(batch_size, num_examples, disjoint, count, c)
    return Gram(values, vectors, float(np.trace(inner) / c), inner, c, center, dimension, scale)


@compiled(static=1)
def flat_gradient(functions: Any, selection: Selection, selected: Tree, rest: Tree, batch: Tree) -> jax.Array:
    """The gradient [D] of the mean loss of a batch; the loss may be that mean or one number an example."""
    return ravel_pytree(jax.grad(lambda s: jnp.mean(functions[0](selection.merge(s, rest), batch)))(selected))[0]


def batch_gradients(
    loss_fn: Callable[[Tree, Tree], Float[Array, ""]],
    params: Tree,
    batches: BatchSource,
    where: Where = None,
    *,
    in_axes: Tree = 0,
    has_aux: bool = False,
    checks: bool = True,
) -> Float[Array, "L D"]:
    """The gradient of each mini-batch: one compiled gradient, a loop on the host, L x D numbers.

    Args:
        loss_fn: `(params, batch) -> scalar`, the mean over the batch's examples. Pass the same function object each time: the
            compiled program lives as long as it does.
        params: a pytree of any library.
        batches: a list of L pytrees of arrays [M, ...], of one size, or a function that returns an iterator over them.
        where: which parameters: see `lrjax.spectra.selection.select`.
        in_axes: where the examples of a batch lie, as in `bind`.
        has_aux: whether `loss_fn` returns `(scalar, auxiliary data)`.
        checks: validate the loss first, as `bind` does.

    Returns:
        [L, D], for `gram`.

    Raises:
        LrjaxError: no batches, batches of different sizes, NaN parameters, or a loss that is not a scalar.

    References:
        Jastrzebski et al. 2020, The Break-Even Point on Optimization Trajectories, section 3.

    Example:
        >>> batch_gradients(lambda w, x: jnp.mean(x @ w), jnp.zeros(2), [jnp.eye(2), jnp.ones((2, 2))]).tolist()
        [[0.5, 0.5], [1.0, 1.0]]
    """
    selection, selected, rest = validation.prepare(params, where, "gradient")
    functions, gradients = Functions(loss_fn, has_aux=has_aux), []
    # A batch is one sample here: what couples its examples, such as its own statistics, is part of it.
    chosen = selection, selected, rest
    look = validation.Inspection(HESSIAN, functions, chosen, additive=False) if checks else None
    data = Batches(batches, in_axes=in_axes, look=look)
    sizes = sorted(set(data.sizes))
    check(len(sizes) == 1, f"K needs batches of one size; these have {sizes} examples: drop the short one")
    for _, batch, _, _ in data:
        with jax.default_matmul_precision("highest"):
            gradients.append(flat_gradient(functions, selection, selected, rest, batch))
    return jnp.stack(gradients)
