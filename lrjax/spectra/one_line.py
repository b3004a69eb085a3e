"""Curvature of a loss in one line."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import TYPE_CHECKING, Any

from lrjax.errors import check, nearest
from lrjax.spectra.binding import bind
from lrjax.spectra.eigenpairs import Eigen
from lrjax.spectra.frameworks import Tree
from lrjax.spectra.lanczos import lanczos
from lrjax.spectra.operators import hessian
from lrjax.spectra.sources import BatchSource

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float

STEPS = (hessian, bind, lanczos)


def top_eigenvalues(
    loss_fn: Callable[[Tree, Tree], Float[Array, ""]],
    params: Tree,
    batches: BatchSource,
    k: int = 1,
    **options: object,
) -> Eigen:
    """The k largest eigenvalues of the Hessian of a loss: `lanczos(hessian(loss_fn).bind(params, batches), k)`.

    In a loop make `hessian(loss_fn)` once and bind it: several algorithms then share a bound operator, and `loss_fn` must be
    the same function object each time for programs to be shared.

    Args:
        loss_fn: `(params, batch) -> scalar`, the mean over the batch's examples.
        params: a pytree of any library.
        batches: a list of batches, a loader that can be read again, or a function that returns a fresh iterator over them.
        k: how many pairs.
        **options: those of `hessian`, of `bind` (such as `where`) and of `lanczos` (such as `which` and `tol`), by name.

    Returns:
        The pairs, as of `lanczos`.

    Raises:
        LrjaxError: an unknown option; as `bind` and `lanczos`.

    References:
        Golmant et al. 2018, pytorch-hessian-eigenthings, for the form of the call.

    Example:
        >>> import jax.numpy as jnp
        >>> loss = lambda w, x: jnp.mean((x @ w) ** 2)
        >>> top = top_eigenvalues(loss, jnp.zeros(2), [jnp.diag(jnp.array([3.0, 1.0]))], k=2)
        >>> top.values.round(4).tolist()
        [9.0, 1.0]
    """
    given = {"operator", "bound", "loss_fn", "params", "batches", "k"}
    names = [set(signature(step).parameters) - given for step in STEPS]
    for name in options:
        check(
            any(name in step for step in names),
            f"top_eigenvalues has no option {name!r}; {nearest(name, set().union(*names))}",
        )
    parts: list[dict[str, Any]] = [{name: options[name] for name in step & options.keys()} for step in names]
    of_hessian, of_bind, of_lanczos = parts
    bound = hessian(loss_fn, **of_hessian).bind(params, batches, **of_bind)
    return lanczos(bound, k, **of_lanczos)
