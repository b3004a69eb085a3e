"""Curvature matrices as linear maps: Hessian, GGN, Fisher, empirical Fisher, gradient covariance, preconditioned.

An operator is a value: a rule (`lrjax.spectra.rules`) and the functions of the caller. `bind` (`lrjax.spectra.binding`)
averages it over batches. Creating an operator compiles nothing; its first product does. The compiled program belongs to the
function objects: `hessian(loss)` created again from the same `loss` uses the same program, so `hessian(loss).bind(...)` is
fine inside a training loop. Define the loss outside the loop: a lambda, a `functools.partial` or a `jax.jit(...)` that is
created in every turn is a new function every time, and compiles every time. A method of the same object counts as the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.core
import jax.numpy as jnp

from lrjax.errors import check
from lrjax.spectra.binding import Operator
from lrjax.spectra.distributions import DISTRIBUTIONS, Distribution
from lrjax.spectra.frameworks import Tree
from lrjax.spectra.programs import Functions
from lrjax.spectra.random_vectors import as_key
from lrjax.spectra.rules import EMPIRICAL_FISHER, FISHER, GGN, GRADIENT_COVARIANCE, HESSIAN, drawn_fisher
from lrjax.spectra.selection import named_leaves

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float, PRNGKeyArray


def hessian(loss_fn: Callable[[Tree, Tree], Any], *, has_aux: bool = False) -> Operator:
    """The Hessian of the mean loss, by forward over reverse differentiation (see `bind` for losses that have no forward mode).

    Creating the operator compiles nothing; the first product does. `hessian(loss)` created again from the same function
    object shares the compiled program, at any parameters and on any data. A lambda or `functools.partial` created afresh is
    a new function and compiles again. The program is freed with the function.

    Args:
        loss_fn: `(params, batch) -> scalar`, the mean over the batch's examples.
        has_aux: whether it returns `(scalar, auxiliary data)`, as for `jax.grad`.

    Returns:
        The operator, to be bound.

    Raises:
        LrjaxError: in `bind`, for a loss that is not a scalar, not deterministic, or not the mean over its examples.

    References:
        Pearlmutter 1994, Fast exact multiplication by the Hessian, Neural Computation 6(1).

    Example:
        >>> x = jnp.array([[1.0, 0.0], [0.0, 2.0]])
        >>> op = hessian(lambda w, batch: 0.5 * jnp.mean((batch @ w) ** 2))  # x^T x / 2
        >>> op.matvec(jnp.zeros(2), jnp.array([1.0, 1.0]), x).tolist()
        [0.5, 2.0]
        >>> loss = lambda w, batch: jnp.mean(batch @ w)
        >>> hessian(loss) == hessian(loss)  # the same function: one program
        True
    """
    return Operator("hessian", HESSIAN, Functions(loss_fn, has_aux=has_aux))


def ggn(
    predict_fn: Callable[[Tree, Tree], Tree],
    loss_fn: Callable[[Tree, Tree], Float[Array, ""]],
    *,
    has_aux: bool = False,
) -> Operator:
    """The generalised Gauss-Newton matrix J^T (d2 loss / d outputs^2) J, J the Jacobian of the outputs.

    It is the Hessian without the curvature of the network itself, and positive semi-definite where the loss is convex in
    the outputs. The output Hessian is never formed: for C classes it costs O(C).

    Args:
        predict_fn: `(params, batch) -> outputs`, any pytree.
        loss_fn: `(outputs, batch) -> scalar`, the mean over the batch's examples; convex in the outputs.
        has_aux: whether `predict_fn` returns `(outputs, auxiliary data)`.

    Returns:
        The operator, to be bound. Programs are shared as for `hessian`, where both functions are the same objects.

    Raises:
        LrjaxError: in `bind`, for a loss that is not a scalar or not deterministic.

    References:
        Schraudolph 2002, Fast curvature matrix-vector products for second-order gradient descent, Neural Computation 14(7).

    Example:
        >>> op = ggn(lambda w, x: x @ w, lambda outputs, x: jnp.mean(outputs**2) / 2)
        >>> op.matvec(jnp.zeros(2), jnp.array([1.0, 1.0]), jnp.array([[1.0, 0.0], [0.0, 2.0]])).tolist()
        [0.5, 2.0]
    """
    return Operator("ggn", GGN, Functions(predict_fn, loss_fn, has_aux=has_aux))


def fisher(
    predict_fn: Callable[[Tree, Tree], Any],
    key: PRNGKeyArray | int | None = None,
    *,
    distribution: str | Distribution = "categorical",
    num_samples: int = 1,
    has_aux: bool = False,
) -> Operator:
    """The Fisher information of the model's own distribution, E over examples and y ~ p(y | outputs) of grad grad^T.

    Without a key the expectation over y is exact, through the Fisher information of the distribution in output space.
    With a key, labels are drawn from the model: num_samples an example, the same at every product and however the examples
    are batched.

    Args:
        predict_fn: `(params, batch) -> outputs [n, ...]`, the first axis that of examples. The entries of an example are
            independent given the outputs, except along the last axis for "categorical".
        key: a key, or an integer, for the Monte Carlo form.
        distribution: a name of `DISTRIBUTIONS` or a `Distribution`: "categorical" (logits), "bernoulli" (a logit),
            "gaussian" (mean, unit variance).
        num_samples: labels drawn an example.
        has_aux: whether `predict_fn` returns `(outputs, auxiliary data)`.

    Returns:
        The operator, to be bound. Programs are shared as for `hessian`, and by all keys.

    Raises:
        LrjaxError: unknown distribution; fewer than one sample; in `bind`, for outputs that are not deterministic, that
            depend on other examples, or that are no array with an axis of examples (and, for "categorical", one of classes).

    References:
        Martens 2020, New insights and perspectives on the natural gradient method, sections 5 and 9.

    Example:
        >>> op = fisher(lambda w, x: x @ w, distribution="gaussian")
        >>> op.matvec(jnp.zeros(2), jnp.array([1.0, 1.0]), jnp.array([[1.0, 0.0], [0.0, 2.0]])).tolist()
        [0.5, 2.0]
    """
    known = not isinstance(distribution, str) or distribution in DISTRIBUTIONS
    check(known, f"unknown distribution {distribution!r}: there is {', '.join(DISTRIBUTIONS)}")
    check(num_samples >= 1, f"num_samples must be >= 1, got {num_samples}")
    model = DISTRIBUTIONS[distribution] if isinstance(distribution, str) else distribution
    if key is None:
        functions = Functions(predict_fn, model.parameters, model.fisher, has_aux=has_aux)
        return Operator("fisher", FISHER._replace(axes=model.axes), functions)
    # Under vmap other generators give an example numbers that depend on the rest of its batch.
    drawn = jax.random.wrap_key_data(jax.random.key_data(as_key(key))[:2], impl="threefry2x32")
    functions = Functions(predict_fn, model.sample, model.log_prob, has_aux=has_aux)
    return Operator("fisher_monte_carlo", drawn_fisher(num_samples, model.axes), functions, drawn)


def empirical_fisher(example_loss: Callable[[Tree, Tree], Any], *, has_aux: bool = False) -> Operator:
    """The uncentred second moment of per-example gradients, (1/n) sum_i g_i g_i^T, at the true labels.

    It equals K + g g^T and does not estimate the Fisher information. No per-example gradient is stored: A v = J^T J v / n
    with J the Jacobian of the n losses, one forward and one backward derivative.

    Args:
        example_loss: `(params, batch) -> [n]` losses, each of its own example alone.
        has_aux: whether it returns `(losses, auxiliary data)`.

    Returns:
        The operator, to be bound. Programs are shared as for `hessian`.

    Raises:
        LrjaxError: in `bind`, for losses that are not one an example, or that depend on other examples.

    References:
        Kunstner, Balles & Hennig 2019, Limitations of the empirical Fisher approximation for natural gradient descent.

    Example:
        >>> op = empirical_fisher(lambda w, x: x @ w)  # the gradients are the rows of x
        >>> op.matvec(jnp.zeros(2), jnp.array([1.0, 1.0]), jnp.array([[1.0, 0.0], [0.0, 2.0]])).tolist()
        [0.5, 2.0]
    """
    return Operator("empirical_fisher", EMPIRICAL_FISHER, Functions(example_loss, has_aux=has_aux))


def gradient_covariance(example_loss: Callable[[Tree, Tree], Any], *, has_aux: bool = False) -> Operator:
    """The centred covariance of per-example gradients, K = (1/n) sum_i (g_i - g)(g_i - g)^T: the gradient noise.

    g is the mean over all batches, not over each. Exact and matrix-free: K v = (1/n) J^T (J v - g.v 1), one forward and one
    backward derivative a product, after one pass for g. The subtraction happens between the two, so that nothing large cancels.

    Args:
        example_loss: `(params, batch) -> [n]` losses, each of its own example alone.
        has_aux: whether it returns `(losses, auxiliary data)`.

    Returns:
        The operator, to be bound. Programs are shared as for `hessian`.

    Raises:
        LrjaxError: in `bind`, for losses that are not one an example, or that depend on other examples.

    References:
        Jastrzebski et al. 2020, The Break-Even Point on Optimization Trajectories, section 3.

    Example:
        >>> op = gradient_covariance(lambda w, x: x @ w)
        >>> op.matvec(jnp.zeros(2), jnp.array([1.0, 1.0]), jnp.array([[1.0, 0.0], [0.0, 2.0]])).tolist()
        [-0.25, 0.5]
    """
    return Operator("gradient_covariance", GRADIENT_COVARIANCE, Functions(example_loss, has_aux=has_aux))


def preconditioned(operator: Operator, diagonal: Tree) -> Operator:
    """P^(-1/2) A P^(-1/2) with P diagonal: the matrix whose top eigenvalue Adam holds at its edge of stability.

    Args:
        operator: A.
        diagonal: the positive diagonal of P, a tree like params or like those that `where` selects, found by path
            (`adam_preconditioner` makes that of Adam).

    Returns:
        The operator, to be bound; it shares the compiled programs of A, whatever the diagonal.

    Raises:
        LrjaxError: a diagonal with entries that are zero, negative or not finite; in `bind`, a parameter without an entry.

    References:
        Cohen et al. 2022, Adaptive gradient methods at the edge of stability, section 3.

    Example:
        >>> op = preconditioned(hessian(lambda w, batch: jnp.sum(w**2)), jnp.array([1.0, 4.0]))
        >>> op.matvec(jnp.zeros(2), jnp.array([1.0, 1.0]), None).tolist()
        [2.0, 0.5]
    """
    for path, leaf in named_leaves(diagonal).items():
        if not isinstance(leaf, jax.core.Tracer):
            bad = int(jnp.sum(~(jnp.isfinite(jnp.asarray(leaf)) & (jnp.asarray(leaf) > 0))))
            check(
                bad == 0,
                f"the diagonal of a preconditioner must be positive and finite; {path or 'the array'} has {bad} entries of "
                f"{jnp.size(leaf)} that are zero, negative or not finite (an optimizer's eps keeps them from zero)",
            )
    both = diagonal if operator.diagonal is None else jax.tree.map(jnp.multiply, operator.diagonal, diagonal)
    return dataclasses.replace(operator, name=f"preconditioned_{operator.name}", diagonal=both)
