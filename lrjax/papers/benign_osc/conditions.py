"""Parameter conditions of a run: whether they let a large and a small learning rate come apart.

Working versions of the parameter conditions (Assumption 3 of Lu et al. 2024, arXiv 2310.17074), derived from the model:
the paper's own constants are not used.
"""

from math import inf
from typing import NamedTuple

from lrjax.errors import LrjaxError
from lrjax.papers.benign_osc.cubic_map import SIGN_STABLE_LIMIT

MIN_WIDTH = 8


class Condition(NamedTuple):
    """One condition: `left` is compared with `right` as in `statement`; `margin` >= 1 is the factor to spare."""

    name: str
    statement: str
    left: float
    right: float
    margin: float
    holds: bool


class Scales(NamedTuple):
    """The numbers that decide: eps, eps_xi, kn = eps_xi / eps, the least n_sy and the largest n_wy of a label."""

    eps: float
    eps_xi: float
    kn: float
    n_sy: int
    n_wy: int


def scales(
    *,
    n: int,
    n_weak: int,
    dim: int,
    u_norm: float,
    v_norm: float,
    sigma_p: float | None = None,
    kn: float | None = None,
) -> Scales:
    """The ratios that the conditions compare.

    Labels alternate and the first `n_weak` examples are weak, so n_sy and n_wy are halves; of an odd number the half
    that makes the conditions harder.

    Args:
        n: training examples.
        n_weak: how many of them lack the strong feature.
        dim: d, the length of a patch.
        u_norm, v_norm: |u|, |v|.
        sigma_p: noise scale; the noise is projected off u and v, so |xi|^2 is about sigma_p^2 (d - 2).
        kn: |xi|^2 / |v|^2, instead of `sigma_p`.

    Raises:
        LrjaxError: unless exactly one of `sigma_p` and `kn` is given, or if a number is out of range.

    Example:
        >>> scales(n=64, n_weak=8, dim=400, u_norm=1.0, v_norm=0.1, kn=12.0)
        Scales(eps=0.010000000000000002, eps_xi=0.12000000000000002, kn=12.0, n_sy=28, n_wy=4)
    """
    if min(u_norm, v_norm) <= 0.0 or dim < 3 or not 0 <= n_weak <= n:
        raise LrjaxError("the data need |u| > 0, |v| > 0, a patch of at least 3 entries, and 0 <= n_weak <= n.")
    eps = v_norm**2 / u_norm**2
    if sigma_p is not None and kn is None:
        kn = sigma_p**2 * (dim - 2) / v_norm**2
    elif sigma_p is not None or kn is None:
        raise LrjaxError("give the noise either as sigma_p or as kn = |xi|^2 / |v|^2, not both and not neither.")
    n_weak_more = -(-n_weak // 2)
    n_sy = min(-(-n // 2) - n_weak_more, n // 2 - n_weak // 2)
    return Scales(eps, kn * eps, kn, n_sy, n_weak_more)


def conditions(
    *,
    n: int,
    n_weak: int,
    dim: int,
    width: int,
    u_norm: float,
    v_norm: float,
    e: float,
    sigma_p: float | None = None,
    kn: float | None = None,
) -> list[Condition]:
    """R1 to R4, each with both sides and its margin.

    R1: kn < n_sy, so that under oscillation v outruns the noise of each strong example. R2: kn > n_wy (a factor of 3 is
    wanted), so that a small learning rate memorises the weak examples before v grows. R3: e (1 + eps + eps_xi) < 1.598,
    so that no neuron flips and nothing diverges. R4: m >= 8 (16 is better), so that each weak example has an active
    correct neuron.

    Args:
        width: m, neurons of a class.
        e: learning rate in units of the first instability.
        n, n_weak, dim, u_norm, v_norm, sigma_p, kn: as in `scales`.

    Example:
        >>> table = conditions(n=64, n_weak=8, dim=400, width=16, u_norm=1.0, v_norm=0.1, kn=12.0, e=1.5)
        >>> [(row.name, round(row.margin, 2), row.holds) for row in table]
        [('R1', 2.33, True), ('R2', 3.0, True), ('R3', 0.94, False), ('R4', 2.0, True)]
    """
    s = scales(n=n, n_weak=n_weak, dim=dim, u_norm=u_norm, v_norm=v_norm, sigma_p=sigma_p, kn=kn)
    loud = e * (1.0 + s.eps + s.eps_xi)
    return [
        Condition("R1", "kn < n_sy", s.kn, s.n_sy, _ratio(s.n_sy, s.kn), s.kn < s.n_sy),
        Condition("R2", "kn > n_wy", s.kn, s.n_wy, _ratio(s.kn, s.n_wy), s.kn > s.n_wy),
        Condition(
            "R3",
            "e (1 + eps + eps_xi) < 1.598",
            loud,
            SIGN_STABLE_LIMIT,
            SIGN_STABLE_LIMIT / loud,
            loud < SIGN_STABLE_LIMIT,
        ),
        Condition("R4", "m >= 8", width, MIN_WIDTH, width / MIN_WIDTH, width >= MIN_WIDTH),
    ]


def _ratio(larger: float, smaller: float) -> float:
    if smaller == 0.0:
        return inf if larger > 0.0 else 1.0
    return larger / smaller
