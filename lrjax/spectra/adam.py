"""Adam's moments and preconditioner, and the arithmetic of second moments that its relatives share."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from lrjax.errors import check, path_of
from lrjax.spectra.ranges import Numbers, in_range, traced
from lrjax.spectra.second_moments import plain, second_moments
from lrjax.spectra.selection import Tree


def lost_of_average(decay: Numbers, step: Any) -> Any:
    """1 - decay^t, without the digits that rounding 0.999 to float32 costs (and to bfloat16 all of them).

    Example:
        >>> float(lost_of_average(0.5, 2))
        0.75
    """
    if traced(decay, step):
        return -jnp.expm1(step * jnp.log(jnp.asarray(decay, float)))
    with np.errstate(divide="ignore"):  # a decay of 0, whose logarithm is -inf
        return -np.expm1(np.asarray(step, np.float64) * np.log(np.asarray(decay, np.float64)))


def wide(leaf: Any) -> Any:
    """float32 at least; host arrays as float64 on the host, where squares of small gradients do not vanish."""
    if isinstance(leaf, jax.Array):
        return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))
    return np.asarray(leaf, np.float64)


def matched(leaf: Any, *values: Any) -> tuple[Any, ...]:
    """The leaf and numbers of its dtype: on the host where all of them are there."""
    if isinstance(leaf, jax.Array) or traced(values):
        leaf = jnp.asarray(leaf)
        return leaf, *(jnp.asarray(value, leaf.dtype) for value in values)
    return leaf, *(np.asarray(value, np.float64) for value in values)


def averages(moments: Tree, decay: Numbers | None, step: Any) -> Tree:
    """Moments of gradients without the bias of their start.

    Args:
        moments: of any dtype; masked nodes stay as they are.
        decay: None where there is no bias.
        step: updates made; None where the optimizer does not count them.

    Raises:
        LrjaxError: no update made, a decay that is none, moments that are negative, NaN or infinite.
    """
    check(
        np.ndim(step) == 0,
        f"the step has shape {list(np.shape(step))}; of several runs at once, map over them with jax.vmap",
    )
    if decay is not None:
        in_range("the decay of the second moments", decay, "from 0 to below 1")
    updated = step is None or traced(step) or bool(np.all(np.asarray(step) >= 1))
    if step is None and not traced(moments):
        updated = any(bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(moments))
    check(updated, "there are no second moments before the first update; measure after it")
    for path, leaf in jax.tree.leaves_with_path(moments):
        name = path_of(path) or "the array"
        check(jnp.issubdtype(jnp.result_type(leaf), jnp.floating), f"the second moments of {name} are not real numbers")
        if not traced(leaf):
            right = bool(jnp.all(jnp.isfinite(leaf) & (leaf >= 0)))
            check(
                right, f"the second moments of {name} hold negative numbers, NaN or infinity; pass nu of the optimizer"
            )
    if decay is None:
        return jax.tree.map(wide, moments)
    lost = lost_of_average(decay, step)

    def corrected(leaf: Any) -> Any:
        moment, divisor = matched(wide(leaf), lost)
        return moment / divisor

    return jax.tree.map(corrected, moments)


def root_of(moments: Tree, eps: Numbers, eps_root: Numbers) -> Tree:
    """sqrt(moments + eps_root) + eps.

    Raises:
        LrjaxError: a negative eps or eps_root.
    """
    in_range("eps", eps, "0 or more")
    in_range("eps_root", eps_root, "0 or more")

    def root(leaf: Any) -> Any:
        moment, outside, inside = matched(leaf, eps, eps_root)
        return (np if isinstance(moment, np.ndarray | np.generic) else jnp).sqrt(moment + inside) + outside

    return jax.tree.map(root, moments)


def positive(diagonal: Tree) -> Tree:
    """The diagonal as JAX arrays.

    Raises:
        LrjaxError: entries that are zero, NaN or infinite; names the first such leaf.
    """
    diagonal = jax.tree.map(jnp.asarray, diagonal)
    for path, leaf in jax.tree.leaves_with_path(diagonal):
        bad = 0 if traced(leaf) else int(jnp.sum(~(jnp.isfinite(leaf) & (leaf > 0))))
        check(
            bad == 0,
            f"the preconditioner of {path_of(path) or 'the array'} is zero, NaN or infinite in {bad} of {leaf.size} entries; "
            "where gradients have been zero it is eps: give eps > 0, or leave such parameters out",
        )
    return diagonal


def adam_preconditioner(nu: Tree, step: ArrayLike, b2: Numbers, eps: Numbers, eps_root: Numbers = 0.0) -> Tree:
    """Adam's preconditioner P = sqrt(nu / (1 - b2^t) + eps_root) + eps, the divisor of its momentum, for `preconditioned`.

    Where gradients vanish P is eps, and the preconditioned lambda_1 is that of H there divided by eps: measure it at several
    eps before trusting it. Adam's relatives divide by something else: see `preconditioner`.

    Args:
        nu: second moments, a pytree (`adam_state(opt_state).nu`). Masked nodes of `optax.masked` stay as they are.
        step: t, number of updates made (`adam_state(opt_state).count`), 1 or more.
        b2: decay of the second moments.
        eps: added to the root.
        eps_root: added under the root.

    Returns:
        A pytree like `nu`, float32 or wider.

    Raises:
        LrjaxError: step 0, where nu is still zero; moments or a preconditioner that cannot be. Traced values are not looked at.

    References:
        Cohen et al. 2022, Adaptive gradient methods at the edge of stability, arXiv 2207.14484; `optax.scale_by_adam`.

    Example:
        >>> adam_preconditioner({"w": jnp.array([0.001, 0.004])}, 1, b2=0.999, eps=0.0)["w"].round(3).tolist()
        [1.0, 2.0]
    """
    nu, step = plain((nu, step))
    return positive(root_of(averages(nu, b2, step), eps, eps_root))


def adam_state(opt_state: Tree, group: Hashable | None = None) -> optax.ScaleByAdamState:
    """The moments of Adam inside any optax state: chains, masks, partitions, injected hyper-parameters, several steps.

    `optax.adamax`, `yogi` and `radam` keep their moments in the same class, which does not say whose they are.

    Args:
        opt_state: of any optax optimizer with `optax.scale_by_adam` in it, or a train state that holds one.
        group: which Adam, where there are several: a label of `optax.partition`, or its path in the state.

    Returns:
        The `optax.ScaleByAdamState`, with `count`, `mu` and `nu`; `optax.MaskedNode` for parameters of other groups.

    Raises:
        LrjaxError: there is none, or there are several and no group; lists the groups.

    References:
        Kingma and Ba 2015, Adam: a method for stochastic optimization, algorithm 1; `optax.scale_by_adam`.

    Example:
        >>> chain = optax.chain(optax.clip(1.0), optax.adamw(1e-3))
        >>> adam_state(chain.init(jnp.zeros(2))).nu.tolist()
        [0.0, 0.0]
    """
    return second_moments(opt_state, "adam", ("ScaleByAdamState",), group).state
