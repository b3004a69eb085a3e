"""Spectral density of a bound operator by stochastic Lanczos quadrature, on a linear and on a logarithmic scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jax.typing import ArrayLike

from lrjax.errors import check
from lrjax.spectra.bound import Bound
from lrjax.spectra.normalised import Normalised
from lrjax.spectra.quadrature import outliers_of, quadrature
from lrjax.spectra.random_vectors import Estimate, as_key, mean, sphere
from lrjax.spectra.results import readable, to_dict

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, PRNGKeyArray

    from lrjax.spectra.eigenpairs import Eigen

GRID = 1024
# Relative to the largest node: below it the sign of an eigenvalue is rounding in float32.
RESOLUTION = 1e-7


class Curve(NamedTuple):
    """A density on a grid of eigenvalues: `np.trapezoid(density, grid)` is 1 where the grid spans them all.

    Attributes:
        grid: [n], eigenvalues.
        density: [n], share of the eigenvalues per unit of eigenvalue.

    References:
        As of `density`.

    Example:
        >>> curve = Density(np.array([[1.0, 3.0]]), np.array([[0.5, 0.5]]), np.zeros(0), size=2, products=2).on(sigma=0.1)
        >>> round(float(np.trapezoid(curve.density, curve.grid)), 4)
        1.0
    """

    grid: Float64[np.ndarray, "n"]
    density: Float64[np.ndarray, "n"]

    to_dict = to_dict

    def __repr__(self) -> str:
        return readable(self)


class LogCurve(NamedTuple):
    """A density over x = log10 |eigenvalue|, by sign; `positive`, `negative` and `zero` have mass 1 together.

    Attributes:
        grid: [n], decades.
        positive, negative: [n], share of the eigenvalues a decade.
        zero: share of the eigenvalues too small to have a sign.

    References:
        As of `Density.on_log`.

    Example:
        >>> two = Density(np.array([[-10.0, 0.0, 10.0]]), np.array([[0.25, 0.5, 0.25]]), np.zeros(0), size=4, products=3)
        >>> curve = two.on_log()
        >>> round(float(np.trapezoid(curve.positive, curve.grid)), 4), curve.zero
        (0.25, 0.5)
    """

    grid: Float64[np.ndarray, "n"]
    positive: Float64[np.ndarray, "n"]
    negative: Float64[np.ndarray, "n"]
    zero: float

    to_dict = to_dict

    def __repr__(self) -> str:
        return readable(self)


class Density(NamedTuple):
    """The spectral density (1/D) sum_i delta(t - lambda_i), as nodes and weights: enough to plot it again in any way.

    Attributes:
        nodes: [probes, steps] float64, ascending in each row.
        weights: [probes, steps]; each row is an estimate and has the mass 1 - atoms / D. A probe that ended early has
            weights of zero.
        atoms: [k], eigenvalues that were deflated, each of weight 1 / D.
        size: D.
        products: matrix-vector products spent.

    Raises:
        LrjaxError: in `on` and `on_log`, for a sigma that is not positive.

    References:
        Ghorbani, Krishnan and Xiao 2019, An investigation into neural net optimization via Hessian eigenvalue density.

    Example:
        >>> two = Density(np.array([[1.0, 3.0]]), np.array([[0.5, 0.5]]), np.zeros(0), size=2, products=2)
        >>> two.moment(1).value, round(float(two.on(np.array([1.0]), sigma=0.1).density[0]), 3)
        (2.0, 1.995)
    """

    nodes: Float64[np.ndarray, "probes steps"]
    weights: Float64[np.ndarray, "probes steps"]
    atoms: Float64[np.ndarray, "k"]
    size: int
    products: int

    to_dict = to_dict

    def __repr__(self) -> str:
        return readable(self)

    def moment(self, power: int) -> Estimate:
        """(1/D) sum_i lambda_i^power: 1 for power 0, Tr A / D for 1, |A|_F^2 / D for 2; Gauss quadrature up to 2 steps - 1.

        The standard error is from the spread between probes, with Student's factor; infinite for a single probe.
        """
        samples = np.sum(self.weights * self.nodes**power, axis=1) + np.sum(self.atoms**power) / self.size
        return mean(samples)

    def _points(self) -> tuple[np.ndarray, np.ndarray]:
        """All nodes and atoms, and their weights in the mean over probes."""
        weights = np.concatenate([self.weights.ravel() / len(self.weights), np.full(self.atoms.size, 1 / self.size)])
        nodes = np.concatenate([self.nodes.ravel(), self.atoms])
        return nodes[weights > 0], weights[weights > 0]

    def on(self, grid: Float[ArrayLike, "n"] | None = None, sigma: float | None = None) -> Curve:
        """The density smoothed by a Gaussian.

        Args:
            grid: [n] eigenvalues. None for 1024 from the lowest node to the highest, and five sigma further.
            sigma: standard deviation of the Gaussian, in units of eigenvalues. None for a hundredth of the range of nodes.

        Returns:
            Curve(grid, density).

        Raises:
            LrjaxError: sigma is not positive.
        """
        nodes, weights = self._points()
        low, high = float(np.min(nodes)), float(np.max(nodes))
        if sigma is None:
            # Equal eigenvalues have no range but that of rounding.
            sigma = 0.01 * (max(high - low, 1e-3 * max(abs(low), abs(high))) or 1.0)
        if grid is None:
            grid = np.linspace(low - 5 * sigma, high + 5 * sigma, GRID)
        grid = np.asarray(grid, np.float64)
        return Curve(grid, _smooth(grid, nodes, weights, sigma))

    def on_log(
        self, grid: Float[ArrayLike, "n"] | None = None, sigma: float = 0.1, floor: float | None = None
    ) -> LogCurve:
        """The density of log10 |eigenvalue|, smoothed by a Gaussian, positive and negative eigenvalues apart.

        On this scale a bulk near zero and outliers are seen together.

        Args:
            grid: [n] decades. None for 1024 from the smallest node above the floor to the largest, and five sigma further.
            sigma: standard deviation of the Gaussian in decades.
            floor: smaller |eigenvalues| count as zero. None for 1e-7 of the largest, the rounding of float32.

        Returns:
            LogCurve(grid, positive, negative, zero).

        Raises:
            LrjaxError: sigma is not positive.

        References:
            Papyan 2019, Measurements of three-level hierarchical structure in the outliers in the spectrum of
            deepnet Hessians, arXiv 1901.08244.
        """
        nodes, weights = self._points()
        size = np.abs(nodes)
        floor = RESOLUTION * float(np.max(size)) if floor is None else floor
        seen = (size > floor) & (size > 0)
        decades = np.log10(size[seen])
        if grid is None:
            low, high = (np.min(decades), np.max(decades)) if decades.size else (0.0, 0.0)
            grid = np.linspace(low - 5 * sigma, high + 5 * sigma, GRID)
        grid = np.asarray(grid, np.float64)
        above = nodes[seen] > 0
        positive, negative = (_smooth(grid, decades[s], weights[seen][s], sigma) for s in (above, ~above))
        return LogCurve(grid, positive, negative, float(np.sum(weights[~seen])))


def _smooth(grid: np.ndarray, points: np.ndarray, weights: np.ndarray, sigma: float) -> np.ndarray:
    check(sigma > 0, f"sigma must be > 0, got {sigma}")
    distance = (grid[:, None] - points[None]) / sigma
    return np.exp(-0.5 * distance**2) @ weights / (sigma * np.sqrt(2 * np.pi))


def density(
    bound: Bound,
    key: PRNGKeyArray | int,
    *,
    num_probes: int,
    num_steps: int,
    deflate: Eigen | None = None,
    chunk: int | None = None,
) -> Density:
    """The spectral density by stochastic Lanczos quadrature.

    The mean of v^T f(A) v / |v|^2 over random directions v is Tr f(A) / D; each is integrated by `num_steps` Lanczos steps,
    which resolve about (lambda_max - lambda_min) / num_steps in the bulk and single eigenvalues at the ends.

    Args:
        bound: the operator.
        key: random key or integer; the same key gives the same numbers.
        num_probes: random vectors, uniform in direction. About 10 (Ghorbani et al.).
        num_steps: Lanczos steps; about 90 (Ghorbani et al.).
        deflate: eigenpairs as `lanczos` returns them (`.values` [k], `.vectors` [k, D]): taken out of the probes and put
            back as atoms, so that no node is spent on known outliers, and their share is exact.
        chunk: vectors multiplied at once, None for one pass over the data a step. Memory: 4 x num_probes vectors, the
            deflated ones, and what the product needs.

    Returns:
        Density(nodes, weights, atoms, size, products), with `.on(grid, sigma)`, `.on_log(grid, sigma)`, `.moment(power)`.

    Raises:
        LrjaxError: fewer than one probe or step; eigenpairs of another size; products that are not finite.

    References:
        Ghorbani, Krishnan and Xiao 2019, An investigation into neural net optimization via Hessian eigenvalue density,
        arXiv 1901.10159.
        Ubaru, Chen and Saad 2017, Fast estimation of tr(f(A)) via stochastic Lanczos quadrature, SIAM J. Matrix Anal. Appl.
        38(4).

    Example:
        >>> import jax, numpy as np
        >>> from lrjax.spectra.bound import matrix
        >>> bound = matrix(np.diag(np.r_[10.0, np.full(99, 1.0)]))
        >>> estimate = density(bound, jax.random.key(0), num_probes=4, num_steps=20)
        >>> curve = estimate.on(np.linspace(-1, 12, 500), sigma=0.1)
        >>> round(float(curve.grid[curve.density.argmax()]), 1), round(float(np.trapezoid(curve.density, curve.grid)), 4)
        (1.0, 1.0)
    """
    check(num_probes >= 1, f"num_probes must be >= 1, got {num_probes}")
    unit = Normalised(bound)  # refuses an operator that is not bound
    atoms, _ = outliers_of(bound, deflate)
    before = bound.products
    starts = sphere(as_key(key), range(num_probes), unit)
    nodes, weights = quadrature(bound, starts, num_steps=num_steps, deflate=deflate, chunk=chunk)
    return Density(nodes, weights * (1 - atoms.size / bound.size), atoms, bound.size, bound.products - before)
