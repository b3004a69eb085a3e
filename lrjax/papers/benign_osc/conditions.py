"""What to read before a run: whether its parameters let the two learning rates come apart.

Working versions of the parameter conditions (Assumption 3 of Lu et al. 2024, arXiv 2310.17074), derived from the model:
the paper's own constants are not used.
"""

from math import inf, sqrt
from typing import NamedTuple

from lrjax.errors import LrjaxError
from lrjax.papers.benign_osc.cubic_map import SIGN_STABLE_LIMIT, lyapunov, mean_residual, phase, residual_floor
from lrjax.papers.benign_osc.theory import capacity, learning_rate_of_e, small_lr_weak_end

MIN_WIDTH = 8
ASSUMPTION_4_DELTA = 0.2
"""The least delta that Assumption 4 of the paper allows."""


class Condition(NamedTuple):
    """One condition: `left` is compared with `right` as `statement` says, `margin` >= 1 is the factor to spare."""

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


_WANTED = {"R1": "1", "R2": "3", "R3": "1", "R4": "2"}


def conditions_table(
    *,
    n: int,
    n_weak: int,
    dim: int,
    width: int,
    u_norm: float,
    v_norm: float,
    sigma_0: float,
    e: float,
    kappa: float = 4.0,
    sigma_p: float | None = None,
    kn: float | None = None,
) -> str:
    """What theory expects of a run, as lines for the terminal.

    Args:
        sigma_0: scale of the initial weights.
        kappa: 4 for the loss (f - y)^2, 2 for (f - y)^2 / 2.
        width, e: as in `conditions`.
        n, n_weak, dim, u_norm, v_norm, sigma_p, kn: as in `scales`.

    Example:
        >>> data = dict(n=64, n_weak=8, dim=400, u_norm=1.0, v_norm=0.1, kn=12.0)
        >>> print(conditions_table(**data, width=16, sigma_0=0.01, e=1.1))
        e              1.1         learning rate 4.4 (kappa = 4)
        phase          2-cycle     Lyapunov exponent -0.857
        mean 1 - y f   0.0455      expected on strong examples while they oscillate
        min |1 - y f|  0.2456      Assumption 4 holds literally (delta >= 0.2)
        K = 1 - 1/e    0.0909      capacity of the weak feature under oscillation
        V, small LR    2.8e-05     end of the weak feature for e < 1 if R2 holds
        kn             12          |xi|^2 / |v|^2; n_sy = 28, n_wy = 4
        <BLANKLINE>
        condition                             left   right  margin  wanted  holds
        R1  kn < n_sy                           12      28    2.33       1  yes
        R2  kn > n_wy                           12       4    3.00       3  yes
        R3  e (1 + eps + eps_xi) < 1.598     1.243   1.598    1.29       1  yes
        R4  m >= 8                              16       8    2.00       2  yes
    """
    s = scales(n=n, n_weak=n_weak, dim=dim, u_norm=u_norm, v_norm=v_norm, sigma_p=sigma_p, kn=kn)
    rows = conditions(n=n, n_weak=n_weak, dim=dim, width=width, u_norm=u_norm, v_norm=v_norm, e=e, kn=s.kn)
    facts = [
        ("e", f"{e:.4g}", f"learning rate {learning_rate_of_e(e, u_norm, width, kappa):.4g} (kappa = {kappa:g})"),
        ("phase", phase(e), _lyapunov_text(e)),
        *_residual_facts(e),
        ("K = 1 - 1/e", f"{float(capacity(e)):.4f}", "capacity of the weak feature under oscillation"),
        ("V, small LR", f"{_small_lr_end(s, sigma_0, v_norm):.1e}", "end of the weak feature for e < 1 if R2 holds"),
        ("kn", f"{s.kn:.4g}", f"|xi|^2 / |v|^2; n_sy = {s.n_sy}, n_wy = {s.n_wy}"),
    ]
    lines = [f"{name:<15}{value:<12}{remark}".rstrip() for name, value, remark in facts]
    head = ("condition", "left", "right", "margin", "wanted", "holds")
    lines += ["", "{:<34}{:>8}{:>8}{:>8}{:>8}  {}".format(*head)]
    for row in rows:
        left, right, margin = f"{row.left:.4g}", f"{row.right:.4g}", f"{row.margin:.2f}"
        holds = "yes" if row.holds else "NO"
        lines.append(f"{row.name}  {row.statement:<30}{left:>8}{right:>8}{margin:>8}{_WANTED[row.name]:>8}  {holds}")
    return "\n".join(lines)


def _lyapunov_text(e: float) -> str:
    if e >= SIGN_STABLE_LIMIT:
        return "neurons change their class, or the run diverges"
    return f"Lyapunov exponent {float(lyapunov(e)):+.3f}"


def _residual_facts(e: float) -> list[tuple[str, str, str]]:
    if e >= SIGN_STABLE_LIMIT:
        return []
    floor = float(residual_floor(e))
    verdict = "holds" if floor >= ASSUMPTION_4_DELTA else "does not hold"
    return [
        ("mean 1 - y f", f"{float(mean_residual(e)):.4f}", "expected on strong examples while they oscillate"),
        ("min |1 - y f|", f"{floor:.4f}", f"Assumption 4 {verdict} literally (delta >= {ASSUMPTION_4_DELTA})"),
    ]


def _small_lr_end(s: Scales, sigma_0: float, v_norm: float) -> float:
    if s.kn == 0.0:
        return 1.0
    return min(1.0, small_lr_weak_end(0.5 * (sigma_0 * v_norm) ** 2, sigma_0, sqrt(s.kn) * v_norm, s.n_wy, s.kn))


def _ratio(larger: float, smaller: float) -> float:
    if smaller == 0.0:
        return inf if larger > 0.0 else 1.0
    return larger / smaller
