"""Linear algebra of scale-invariant parameter groups, behind `scale_invariance`. Host arrays, float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float64, Int

DENOMINATOR = 12  # exponents are looked for among the multiples of 1/12
NEAR = 5e-3  # how far a measured exponent may lie from such a number
COARSE = 1e-3  # tolerance from which on exponents are too rough for that: then multiples of 1/2, within 0.2


class Relations(NamedTuple):
    """The space of exponents d for which scaling array i by c^d_i, for every i, leaves the loss as it is.

    Attributes:
        basis: [k, n], rows span the space of these d; reduced, so that `basis[:, pivots]` is the identity.
        pivots: [k], a column of each row.
    """

    basis: Float64[np.ndarray, "k n"]
    pivots: Int[np.ndarray, " k"]

    def holds(self, exponents: Float[np.ndarray, " n"]) -> bool:
        """Whether scaling by c^exponents leaves the loss as it is.

        Args:
            exponents: one an array.

        Returns:
            True if they lie in the span of the basis.

        Example:
            >>> Relations(np.array([[1.0, 1.0, 0.0]]), np.array([0])).holds(np.array([2.0, 2.0, 0.0]))
            True
        """
        return bool(np.allclose(exponents[self.pivots] @ self.basis, exponents, atol=1e-6))


def relations(products: Float[np.ndarray, "m n"], sizes: Float[np.ndarray, "m n"], tolerance: float) -> Relations:
    """The null space of the inner products <dL/dw_i, w_i> at several points, as small rational exponents.

    Since dL/dlog c = sum_i d_i <dL/dw_i, w_i> for w_i scaled by c^d_i, the loss is invariant exactly for the d that
    annul this sum at every point.

    Args:
        products: [m, n], <dL/dw_i, w_i> of n arrays at m points, m > n.
        sizes: [m, n], |dL/dw_i| |w_i|.
        tolerance: below which a product is zero, relative to its size.

    Returns:
        A basis of the null space.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> a, b = rng.normal(size=(2, 9))
        >>> relations(np.stack([a, 0 * a, -a, b], 1), np.ones((9, 4)), 1e-9).basis  # w_0 with w_2; w_1 alone
        array([[0., 1., 0., 0.],
               [1., 0., 1., 0.]])
    """
    number = products.shape[1]
    scale = np.sqrt((sizes**2).mean(0))
    zero = np.abs(products).max(0) <= tolerance * np.maximum(scale, np.finfo(float).tiny)
    active = np.flatnonzero(~zero)
    basis = list(np.eye(number)[zero])
    if active.size:
        # Columns of one length: else an array of small effect would hide below the rounding of the others.
        lengths = np.linalg.norm(products[:, active], axis=0)
        _, singular, right = np.linalg.svd(products[:, active] / lengths, full_matrices=True)
        noise = tolerance * max(1.0, float(np.max(scale[active] * np.sqrt(len(products)) / lengths)))
        rank = int(np.sum(singular > noise * np.sqrt(active.size)))
        for row in _reduced(right[rank:] / lengths, *((2, 0.2) if tolerance > COARSE else (DENOMINATOR, NEAR))):
            full = np.zeros(number)
            full[active] = row
            basis.append(full)
    basis = np.asarray(basis).reshape(-1, number)
    pivots = np.asarray([int(np.flatnonzero(row)[0]) for row in basis], int)
    return Relations(basis, pivots)


def _reduced(rows: np.ndarray, denominator: int, near: float) -> np.ndarray:
    # Gauss-Jordan with the largest pivots; then the exponents are ratios of small integers, and known exactly.
    rows, found = rows.copy(), []
    for _ in range(len(rows)):
        rest = rows[len(found) :] / np.abs(rows[len(found) :]).max(1, keepdims=True)
        if not np.isfinite(rest).all():
            break
        row, column = np.unravel_index(np.argmax(np.abs(rest)), rest.shape)
        first = len(found)
        rows[first:] = rest
        rows[[first, first + row]] = rows[[first + row, first]]
        rows[first] /= rows[first, column]
        others = np.arange(len(rows)) != first
        rows[others] -= rows[others, column][:, None] * rows[first]
        found.append(int(column))
    order = np.argsort(found)
    rows = rows[order]
    rational = np.round(rows * denominator) / denominator
    rows = np.where(np.abs(rows - rational) < near, rational, rows)
    return _pivots_first(rows)


def _pivots_first(rows: np.ndarray) -> np.ndarray:
    # Echelon form from the left, on exact numbers: `pivots` is then the first entry of each row.
    rows, lead = rows.copy(), 0
    for column in range(rows.shape[1]):
        candidates = np.flatnonzero(np.abs(rows[lead:, column]) > 1e-9)
        if not candidates.size:
            continue
        pick = lead + candidates[0]
        rows[[lead, pick]] = rows[[pick, lead]]
        rows[lead] /= rows[lead, column]
        others = np.arange(len(rows)) != lead
        rows[others] -= rows[others, column][:, None] * rows[lead]
        rows[np.abs(rows) < 1e-9] = 0.0
        lead += 1
        if lead == len(rows):
            break
    return rows


def _equations(found: Relations) -> np.ndarray:
    # d is in the row space if and only if d = d[pivots] @ basis.
    equations = np.eye(found.basis.shape[1])
    equations[:, found.pivots] -= found.basis.T
    return equations


def largest_group(found: Relations, counts: Float[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """The set of arrays, with the most numbers in it, that may be scaled together by one c.

    Args:
        found: of `relations`.
        counts: how many numbers an array holds.

    Returns:
        Which arrays are in the set.

    Example:
        >>> found = Relations(np.array([[1.0, 0.0, 1.0], [0.0, 1.0, -1.0]]), np.array([0, 1]))
        >>> largest_group(found, np.array([5, 3, 4])).astype(int)
        array([1, 0, 1])
    """
    return _chosen(found, -counts / counts.sum(), np.zeros_like(counts), np.ones_like(counts))


def finest_groups(found: Relations, members: Bool[np.ndarray, " n"]) -> Iterator[Bool[np.ndarray, " n"]]:
    """Splits a set that may be scaled together into the smallest sets that may.

    Args:
        found: of `relations`.
        members: of `largest_group`.

    Returns:
        An iterator over the sets.

    Example:
        >>> found = Relations(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]), np.array([0, 1]))
        >>> [group.astype(int).tolist() for group in finest_groups(found, np.ones(3, bool))]
        [[1, 0, 0], [0, 1, 1]]
    """
    left = members.copy()
    while left.any():
        first = int(np.flatnonzero(left)[0])
        low = np.zeros(left.size)
        low[first] = 1
        # Without such a set, the rest is also one: both conditions are linear.
        group = _chosen(found, np.ones(left.size), low, left.astype(float))
        yield group
        left = left & ~group


def _chosen(found: Relations, cost: np.ndarray, low: Any, high: Any) -> np.ndarray:
    from scipy.optimize import Bounds, LinearConstraint, milp  # here: its import takes most of a second

    zero: Any = np.zeros(cost.size)
    solution = milp(
        cost,
        integrality=np.ones(cost.size),
        bounds=Bounds(low, high),
        constraints=LinearConstraint(_equations(found), zero - 1e-6, zero + 1e-6),
    )
    return np.round(solution.x).astype(bool) if solution.x is not None else low.astype(bool)


def nearest_exponents(found: Relations, array: int) -> Float64[np.ndarray, " n"] | None:
    """Exponents that keep the loss, 1 for one array and as near to 1 as possible for all others.

    Args:
        found: of `relations`.
        array: its number.

    Returns:
        The exponents, multiples of 1/12; None if there are none.

    Example:
        >>> found = Relations(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 2.0]]), np.array([0, 1]))
        >>> nearest_exponents(found, 2)
        array([1. , 0.5, 1. ])
    """
    from scipy.optimize import linprog

    number = found.basis.shape[1]
    if not np.any(found.basis[:, array]):
        return None
    # Minimise sum_j t_j with t_j >= |d_j - 1|.
    identity, ones = np.eye(number), np.ones(number)
    equations = np.concatenate([_equations(found), identity[[array]]])
    result = linprog(
        np.concatenate([np.zeros(number), ones]),
        A_ub=np.block([[identity, -identity], [-identity, -identity]]),
        b_ub=np.concatenate([ones, -ones]),
        A_eq=np.concatenate([equations, np.zeros_like(equations)], 1),
        b_eq=np.concatenate([np.zeros(number), [1.0]]),
        bounds=[(None, None)] * number + [(0, None)] * number,
    )
    return None if result.x is None else np.round(result.x[:number] * DENOMINATOR) / DENOMINATOR + 0.0
