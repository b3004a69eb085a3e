"""Running statistics in a tree of model state, and the power of the weights' scale that each follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from lrjax.errors import check, nearest, refuse
from lrjax.transforms.leaves import Entry, is_array, is_plain_float, named_leaves

if TYPE_CHECKING:
    from jaxtyping import PyTree

Powers = Callable[[str], int | None] | Mapping[str, int]

# Homogeneity degree of each running statistic, by the name of its leaf: of Flax and Equinox, of Haiku, of others.
STATISTICS = {
    **dict.fromkeys(("mean", "running_mean", "moving_mean"), 1),
    **dict.fromkeys(("var", "variance", "running_var", "running_variance", "moving_var", "moving_variance"), 2),
}
AVERAGES = {"mean_ema": 1, "var_ema": 2}
SPECTRAL = {"sigma": 1, "u": 0}  # flax.linen.SpectralNorm keeps them in the collection "batch_stats"


def statistic_power(path: str) -> int | None:
    """Homogeneity degree of an array of model state in the parameters before its normalisation.

    For normalisation whose input has degree 1 in the scaled parameters, as in a network without affine.

    Args:
        path: such as "batch_stats/norm1/var", or "norm1/var" where the collection alone is given.

    Returns:
        1 for a running mean, 2 for a running variance and for eps, 0 for frozen weights, None for all else.

    References:
        Li & Arora (2020), An Exponential Learning Rate Schedule for Deep Learning, appendix C.

    Example:
        >>> [statistic_power(path) for path in ("batch_stats/norm1/var", "norm1/mean", "norm_eps/norm1/eps")]
        [2, 1, 2]
        >>> statistic_power("frozen/head/kernel"), statistic_power("cache/key") is None
        (0, True)
    """
    *parents, name = path.split("/")
    if "frozen" in parents and "batch_stats" not in parents:
        return 0
    if is_eps(path):
        return 2
    if name in ("hidden", "average") and parents and parents[-1] in AVERAGES:
        return AVERAGES[parents[-1]]
    if "batch_stats" in parents and name in SPECTRAL:
        return SPECTRAL[name]
    return 0 if name.endswith("SpectralNorm.uv_index") else STATISTICS.get(name)


def is_eps(path: str) -> bool:
    """Whether a path is that of the eps of a normalisation.

    Args:
        path: of a leaf.

    Example:
        >>> is_eps("norm_eps/norm1/eps"), is_eps("norm1/var")
        (True, False)
    """
    return path.split("/")[-1] == "eps"


def powers_of(
    model_state: PyTree, statistics: Powers = statistic_power, remedy: str = "statistics"
) -> tuple[list[Entry], list[int]]:
    """The leaves of model state, and the power of c of each.

    Args:
        model_state: any tree: `variables`, one of its collections, an `nnx.State`, an `eqx.nn.State`.
        statistics: by path, as for `gauge_rescale`.
        remedy: name of the argument that tells the power of an unknown array.

    Returns:
        An entry and a power a leaf; 0 for constants and for parameters.

    Raises:
        LrjaxError: naming an array of unknown power, or a path of `statistics` that is not there.

    Example:
        >>> import jax.numpy as jnp
        >>> entries, powers = powers_of({"norm": {"mean": jnp.zeros(2), "var": jnp.ones(2)}})
        >>> [(entry.name, power) for entry, power in zip(entries, powers)]
        [('norm/mean', 1), ('norm/var', 2)]
    """
    entries = named_leaves(model_state)
    if isinstance(statistics, Mapping):
        names = {entry.name for entry in entries}
        for name in statistics:
            check(name in names, f"{remedy} names {name!r}, which model_state does not hold; {nearest(name, names)}")
    powers = []
    for entry in entries:
        power = 0 if entry.parameter or not _may_scale(entry) else known_power(entry.name, entries, statistics)
        if power is None:
            refuse(
                f"it is not known how {entry.name!r} of model_state scales with the parameters: say its power of c, 0 for "
                f"a constant, such as {remedy}={{{entry.name!r}: 0}}"
            )
        check(int(power) == power, f"the power of {entry.name!r} must be a whole number, not {power}")
        powers.append(int(power))
    return entries, powers


def _may_scale(entry: Entry) -> bool:
    return is_array(entry.leaf) or is_plain_float(entry.leaf)


def known_power(name: str, entries: Sequence[Entry], statistics: Powers = statistic_power) -> int | None:
    """The power of c of one array, in view of the others.

    Args:
        name: of an entry.
        entries: all of them.
        statistics: as for `gauge_rescale`.

    Returns:
        The power, or None if it is not known.

    Example:
        >>> pair = named_leaves({"norm": {"mean": 0.0, "var": 1.0}})
        >>> known_power("norm/mean", pair), known_power("norm/mean", pair[:1]) is None
        (1, True)
    """
    if isinstance(statistics, Mapping):
        if name in statistics:
            return statistics[name]
    elif statistics is not statistic_power:
        return statistics(name)
    power = statistic_power(name)
    parent, _, last = name.rpartition("/")
    if last not in STATISTICS or "batch_stats" in name.split("/") or not power:
        return power
    # Elsewhere a mean may be that of the data: it counts as a running one with its variance beside it, in a tree that keeps
    # its statistics nowhere else.
    if any("batch_stats" in entry.name.split("/") for entry in entries):
        return None
    beside = {entry.name.rpartition("/")[2] for entry in entries if entry.name.rpartition("/")[0] == parent}
    return power if {STATISTICS[other] for other in beside & STATISTICS.keys()} == {1, 2} else None
