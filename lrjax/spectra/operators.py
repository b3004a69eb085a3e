"""The matrices of a loss, as linear maps: Hessian, GGN, Fisher, empirical Fisher, gradient covariance, preconditioned.

An operator is a name and a rule, `linearize(params, batch, ...) -> (v -> A v)`; it holds no parameters and no data. The
rule linearises the loss once; the map it returns is the part that depends on v, so that many vectors and many products can
share the rest. `bind` (`lrjax.spectra.bound`) sums it over batches.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from lrjax.errors import check
from lrjax.spectra.distributions import DISTRIBUTIONS, Distribution
from lrjax.spectra.selection import Tree, Where


def _whole(params: Tree) -> Tree:
    return params


class At(NamedTuple):
    """What a rule may need beside parameters and batch.

    Attributes:
        complete: selected parameters -> all parameters.
        mean_gradient: of the loss over all batches, for centred operators.
        offset: the place of the batch's first example among all.
    """

    complete: Callable = _whole
    mean_gradient: Tree = None
    offset: Any = 0


class Operator(NamedTuple):
    """A curvature matrix as a rule for A v; made by the functions of this module.

    Attributes:
        name: what results call it.
        linearize: `(params, batch, at) -> linear map on trees like params`, the mean over the examples of one batch.
        value: `(params, batch)` -> what is differentiated; for checks.
        example_loss: `(params, batch) -> [n]` for operators of per-example gradients, else None.
        scalar: whether `value` must be a scalar.
        centred: whether `linearize` needs the mean gradient over all batches.
        psd: whether the matrix is positive semi-definite by construction.
        diagonal: P of P^(-1/2) A P^(-1/2), a tree like params; None for A itself.
    """

    name: str
    linearize: Callable
    value: Callable
    example_loss: Callable | None = None
    scalar: bool = False
    centred: bool = False
    psd: bool = False
    diagonal: Tree = None

    def matvec(self, params: Tree, v: Tree, batch: Tree) -> Tree:
        """A v for the mean over one batch; a pure function that may be jitted, mapped and differentiated."""
        mean_gradient = gradient(self.example_loss, params, batch, _whole) if self.centred else None
        root = jax.tree.map(jnp.sqrt, self.diagonal)
        scaled = v if root is None else jax.tree.map(jnp.divide, v, root)
        product = self.linearize(params, batch, At(mean_gradient=mean_gradient))(scaled)
        return product if root is None else jax.tree.map(jnp.divide, product, root)

    def bind(self, params: Tree, batches: Any, where: Where = None, **options: Any) -> Any:
        """The operator at fixed parameters, averaged over batches: see `lrjax.spectra.bound.bind`."""
        from lrjax.spectra.bound import bind  # stands above this module

        return bind(self, params, batches, where, **options)


def gradient(example_loss: Callable | None, params: Tree, batch: Tree, complete: Callable) -> Tree:
    """The gradient of the mean of the losses of a batch, in the selected parameters."""
    assert example_loss is not None
    return jax.grad(lambda p: jnp.mean(example_loss(complete(p), batch)))(params)


def _transposed(jvp: Callable, like: Tree, cotangent: Tree) -> Tree:
    return jax.linear_transpose(jvp, like)(cotangent)[0]


def _sandwich(jvp: Callable, middle: Callable, v: Tree) -> Tree:
    """J^T M J v from J and M as linear maps."""
    return _transposed(jvp, v, middle(jvp(v)))


def hessian(loss_fn: Callable) -> Operator:
    """The Hessian of the mean loss, by forward over reverse differentiation.

    Args:
        loss_fn: `(params, batch) -> scalar`, the mean over the batch's examples.

    Source: Pearlmutter 1994, Fast exact multiplication by the Hessian.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [0.0, 2.0]])
        >>> op = hessian(lambda w, batch: 0.5 * jnp.mean((batch @ w) ** 2))  # x^T x / 2
        >>> op.matvec(jnp.zeros(2), jnp.array([1.0, 1.0]), x).tolist()
        [0.5, 2.0]
    """

    def linearize(params: Tree, batch: Tree, at: At) -> Callable:
        return jax.linearize(jax.grad(lambda p: loss_fn(at.complete(p), batch)), params)[1]

    return Operator("hessian", linearize, loss_fn, scalar=True)


def ggn(predict_fn: Callable, loss_fn: Callable) -> Operator:
    """The generalised Gauss-Newton matrix J^T (d2 loss / d outputs^2) J, J the Jacobian of the outputs.

    It is the Hessian without the curvature of the network itself, and positive semi-definite where the loss is convex in
    the outputs. The output Hessian is never formed: for C classes it costs O(C).

    Args:
        predict_fn: `(params, batch) -> outputs`, any pytree.
        loss_fn: `(outputs, batch) -> scalar`, the mean over the batch's examples; convex in the outputs.

    Source: Schraudolph 2002, Fast curvature matrix-vector products.

    Example:
        >>> op = ggn(lambda w, x: x @ w, lambda outputs, x: jnp.mean(outputs**2) / 2)
        >>> op.matvec(jnp.zeros(2), jnp.array([1.0, 1.0]), jnp.array([[1.0, 0.0], [0.0, 2.0]])).tolist()
        [0.5, 2.0]
    """

    def linearize(params: Tree, batch: Tree, at: At) -> Callable:
        outputs, jvp = jax.linearize(lambda p: predict_fn(at.complete(p), batch), params)
        middle = jax.linearize(jax.grad(lambda f: loss_fn(f, batch)), outputs)[1]
        return Partial(_sandwich, jvp, middle)

    def value(params: Tree, batch: Tree) -> jax.Array:
        return loss_fn(predict_fn(params, batch), batch)

    return Operator("ggn", linearize, value, scalar=True, psd=True)


def fisher(
    predict_fn: Callable,
    key: jax.Array | None = None,
    *,
    distribution: str | Distribution = "categorical",
    num_samples: int = 1,
) -> Operator:
    """The Fisher information of the model's own distribution, E over examples and y ~ p(y | outputs) of grad grad^T.

    Without a key the expectation over y is exact, through the Fisher information of the distribution in output space.
    With a key, labels are drawn from the model: num_samples an example, the same at every product and however the examples
    are batched.

    Args:
        predict_fn: `(params, batch) -> outputs [n, ...]`, the first axis that of examples. The entries of an example are
            independent given the outputs, up to what the distribution says of the last axis.
        key: a typed key for the Monte Carlo form.
        distribution: a name of `DISTRIBUTIONS` or a `Distribution`: "categorical" (logits), "bernoulli" (a logit),
            "gaussian" (mean, unit variance).
        num_samples: labels drawn an example.

    Raises:
        LrjaxError: unknown distribution.

    Source: Martens 2020, New insights and perspectives on the natural gradient method, sections 5 and 9.

    Example:
        >>> op = fisher(lambda w, x: x @ w, distribution="gaussian")
        >>> op.matvec(jnp.zeros(2), jnp.array([1.0, 1.0]), jnp.array([[1.0, 0.0], [0.0, 2.0]])).tolist()
        [0.5, 2.0]
    """
    known = not isinstance(distribution, str) or distribution in DISTRIBUTIONS
    check(known, f"unknown distribution {distribution!r}: there is {', '.join(DISTRIBUTIONS)}")
    model = DISTRIBUTIONS[distribution] if isinstance(distribution, str) else distribution
    if key is not None:
        # Under vmap other generators give an example numbers that depend on the rest of its batch.
        key = jax.random.wrap_key_data(jax.random.key_data(key)[:2], impl="threefry2x32")

    def linearize(params: Tree, batch: Tree, at: At) -> Callable:
        outputs, jvp = jax.linearize(lambda p: predict_fn(at.complete(p), batch), params)
        if key is None:
            return Partial(_sandwich, jvp, Partial(_over_examples, Partial(model.fisher, model.parameters(outputs))))
        places = at.offset + jnp.arange(outputs.shape[0])
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, places)

        def score(example_key: jax.Array, output: jax.Array) -> jax.Array:
            labels = jax.vmap(model.sample, (0, None))(jax.random.split(example_key, num_samples), output)
            return jax.vmap(jax.grad(model.log_prob), (None, 0))(output, labels)

        return Partial(_sandwich, jvp, Partial(_outer_products, jax.vmap(score)(keys, outputs)))

    name = "fisher" if key is None else "fisher_monte_carlo"
    return Operator(name, linearize, predict_fn, psd=True)


def _over_examples(rule: Callable, u: jax.Array) -> jax.Array:
    return rule(u) / u.shape[0]


def _outer_products(scores: jax.Array, u: jax.Array) -> jax.Array:
    """Mean over samples of s s^T u for each example: scores [n, samples, ...], u [n, ...]."""
    inner = jnp.einsum("is...,i...->is", scores, u)
    return jnp.einsum("is,is...->i...", inner, scores) / (scores.shape[0] * scores.shape[1])


def empirical_fisher(example_loss: Callable) -> Operator:
    """The uncentred second moment of per-example gradients, (1/n) sum_i g_i g_i^T, at the true labels.

    It equals K + g g^T and is no estimate of the Fisher information (Kunstner et al. 2019). No per-example gradient is
    stored: A v = J^T J v / n with J the Jacobian of the n losses, one forward and one backward derivative.

    Args:
        example_loss: `(params, batch) -> [n]` losses, each of its own example alone.

    Example:
        >>> op = empirical_fisher(lambda w, x: x @ w)  # the gradients are the rows of x
        >>> op.matvec(jnp.zeros(2), jnp.array([1.0, 1.0]), jnp.array([[1.0, 0.0], [0.0, 2.0]])).tolist()
        [0.5, 2.0]
    """

    def linearize(params: Tree, batch: Tree, at: At) -> Callable:
        losses, jvp = jax.linearize(lambda p: example_loss(at.complete(p), batch), params)
        return Partial(_sandwich, jvp, Partial(_mean_over_examples))

    return Operator("empirical_fisher", linearize, example_loss, example_loss, psd=True)


def _mean_over_examples(u: jax.Array) -> jax.Array:
    return u / u.shape[0]


def gradient_covariance(example_loss: Callable) -> Operator:
    """The centred covariance of per-example gradients, K = (1/n) sum_i (g_i - g)(g_i - g)^T: the gradient noise.

    g is the mean over all batches, not over each. Exact and matrix-free: K v = (1/n) J^T (J v - g.v 1), one forward and one
    backward derivative a product, after one pass for g. The subtraction stands between the two, so nothing large cancels.

    Args:
        example_loss: `(params, batch) -> [n]` losses, each of its own example alone.

    Source: The Break-Even Point on Optimization Trajectories, section 3.

    Example:
        >>> op = gradient_covariance(lambda w, x: x @ w)
        >>> op.matvec(jnp.zeros(2), jnp.array([1.0, 1.0]), jnp.array([[1.0, 0.0], [0.0, 2.0]])).tolist()
        [-0.25, 0.5]
    """

    def linearize(params: Tree, batch: Tree, at: At) -> Callable:
        jvp = jax.linearize(lambda p: example_loss(at.complete(p), batch), params)[1]
        return Partial(_centred, jvp, at.mean_gradient)

    return Operator("gradient_covariance", linearize, example_loss, example_loss, centred=True, psd=True)


def _centred(jvp: Callable, mean_gradient: Tree, v: Tree) -> Tree:
    along = sum(jnp.vdot(g, x) for g, x in zip(jax.tree.leaves(mean_gradient), jax.tree.leaves(v), strict=True))
    u = jvp(v)
    return _transposed(jvp, v, (u - along) / u.shape[0])


def preconditioned(operator: Operator, diagonal: Tree) -> Operator:
    """P^(-1/2) A P^(-1/2) with P diagonal: the matrix whose top eigenvalue Adam holds at its edge of stability.

    Args:
        operator: A.
        diagonal: the positive diagonal of P, a tree like params (`adam_preconditioner` makes that of Adam).

    Source: Cohen et al. 2022, Adaptive gradient methods at the edge of stability, section 3.

    Example:
        >>> op = preconditioned(hessian(lambda w, batch: jnp.sum(w**2)), jnp.array([1.0, 4.0]))
        >>> op.matvec(jnp.zeros(2), jnp.array([1.0, 1.0]), None).tolist()
        [2.0, 0.5]
    """
    both = diagonal if operator.diagonal is None else jax.tree.map(jnp.multiply, operator.diagonal, diagonal)
    return operator._replace(name=f"preconditioned_{operator.name}", diagonal=both)
