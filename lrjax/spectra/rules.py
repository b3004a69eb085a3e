"""Linearisation rules: A v for each curvature matrix, as a pure function of the losses.

A rule holds no function, parameter or batch, so that one rule and equal functions are one compiled program. It linearises
the loss once; the map it returns is the part that depends on v, so that many vectors and many products can share the rest.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from lrjax.errors import check, refuse
from lrjax.spectra.frameworks import Tree

Many = Sequence[Callable] | Any  # a `Functions`, or weak references to its functions inside a program


def whole(params: Tree) -> Tree:
    """The `complete` of a context in which all parameters are selected."""
    return params


class LinearizeContext(NamedTuple):
    """Where a batch is linearised: which parameters vary, and what the rule needs of the other batches.

    Attributes:
        complete: selected parameters -> all parameters.
        mean_gradient: of the loss over all batches, for centred rules; None where there is one batch, which has its own.
        offset: index of the batch's first example among all.
        key: for rules that draw labels.
        weights: [B], share of each example in the whole mean, for rules of single examples; None for 1/B each.
        reverse: differentiate in reverse mode alone, where the loss has no forward mode.
    """

    complete: Callable = whole
    mean_gradient: Tree = None
    offset: int | jax.Array = 0
    key: Any = None
    weights: jax.Array | None = None
    reverse: bool = False


class Rule(NamedTuple):
    """A curvature matrix as a rule for A v, made of functions of module level: rules of equal fields are equal.

    Attributes:
        linearize: `(functions, params, batch, context) -> linear map on trees like params`, the mean over the examples of
            one batch.
        value: `(functions, params, batch)` -> the differentiated quantity; for checks.
        scalar: whether `value` must be a scalar.
        of_examples: whether `value` is one loss an example, each of its own example alone.
        centred: whether `linearize` needs the mean gradient over all batches.
        psd: whether the matrix is positive semi-definite by construction.
        axes: of `value`, at least: of the Fisher information, the examples and what its distribution takes together.
        reverse: differentiate in reverse mode alone.
    """

    linearize: Callable
    value: Callable
    scalar: bool = False
    of_examples: bool = False
    centred: bool = False
    psd: bool = False
    axes: int = 1
    reverse: bool = False

    @property
    def coupled(self) -> str:
        """What to do where the value of an example depends on the others."""
        return (
            f"the {'loss' if self.of_examples else 'output'} of an example depends on the others of its batch (BatchNorm with "
            "batch statistics?), so it has no gradient of its own; use running statistics, or `gram` on the gradients of "
            "mini-batches; a leaf as long as the batch that holds no examples is named by in_axes="
        )

    def check_value(self, value: Any, size: int) -> None:
        """Validates the shape of `value` on a batch of `size` examples.

        Raises:
            LrjaxError: says which shape it must have.
        """
        if isinstance(value, tuple) and not hasattr(value, "_fields"):
            refuse(
                "the function returns a tuple; where it is (value, auxiliary data) pass has_aux=True to the operator"
            )
        shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
        if self.scalar:
            check(
                shape == (), f"the loss must be a scalar, the mean over the batch, not of shape {shape}; use jnp.mean"
            )
        elif self.of_examples:
            right = shape == (size,)
            check(right, f"example_loss must return one loss an example, shape ({size},), not {shape}")
        else:
            check(shape is not None, f"predict_fn must return one array [n, ...] here, not {type(value).__name__}")
            assert shape is not None
            check(
                len(shape) >= self.axes,
                f"outputs of shape {shape} hold one number an example, and a categorical distribution takes the last axis for "
                "its classes: return logits [n, classes], or pass distribution='bernoulli' or 'gaussian'",
            )
            right = shape[:1] == (size,)
            check(right, f"predict_fn must return outputs [n, ...] with n = {size} examples first, not shape {shape}")
        real = dtype is not None and jnp.issubdtype(dtype, jnp.floating)
        check(real, f"the value to differentiate must be real and floating-point, not {dtype}")


def mean_gradient(functions: Many, params: Tree, batch: Tree, complete: Callable, weights: Any = None) -> Tree:
    """The gradient of the mean of the per-example losses of a batch, in the selected parameters."""

    def mean(p: Tree) -> jax.Array:
        losses = functions[0](complete(p), batch)
        return jnp.mean(losses) if weights is None else jnp.vdot(weights.astype(losses.dtype), losses)

    return jax.grad(mean)(params)


def _first(functions: Many, params: Tree, batch: Tree) -> Any:
    return functions[0](params, batch)


class _Jacobian(NamedTuple):
    """J v and J^T u (given a v for its shape) at fixed parameters, as maps that may leave a compiled program."""

    outputs: Tree
    push: Callable
    pull: Callable


def _jacobian(function: Callable, params: Tree, reverse: bool) -> _Jacobian:
    if not reverse:
        outputs, push = jax.linearize(function, params)
        return _Jacobian(outputs, push, Partial(_transposed, push))
    outputs, pull = jax.vjp(function, params)
    return _Jacobian(outputs, Partial(_pushed, pull, outputs), Partial(_pulled, pull))


def _transposed(push: Callable, like: Tree, cotangent: Tree) -> Tree:
    return jax.linear_transpose(push, like)(cotangent)[0]


def _pulled(pull: Callable, like: Tree, cotangent: Tree) -> Tree:
    return pull(cotangent)[0]


def _first_of(pull: Callable, cotangent: Tree) -> Tree:
    return pull(cotangent)[0]


def _pushed(pull: Callable, outputs: Tree, v: Tree) -> Tree:
    """J v as the transpose of u -> J^T u: reverse mode twice, for functions without a forward mode (Townsend 2017)."""
    return jax.vjp(lambda u: pull(u)[0], jax.tree.map(jnp.zeros_like, outputs))[1](v)[0]


def linearised(gradient: Callable, at: Tree, reverse: bool) -> tuple[Tree, Callable]:
    """A gradient, and the linear map v -> (derivative of the gradient) v, which is symmetric."""
    if reverse:
        value, pull = jax.vjp(gradient, at)
        return value, Partial(_first_of, pull)
    return jax.linearize(gradient, at)


def _derivative(function: Callable, at: Tree, reverse: bool) -> Callable:
    """v -> (d2 f / d at^2) v of a scalar function."""
    return linearised(jax.grad(function), at, reverse)[1]


def _sandwich(jacobian: _Jacobian, middle: Callable, v: Tree) -> Tree:
    """J^T M J v from J and M as linear maps."""
    return jacobian.pull(v, middle(jacobian.push(v)))


def _weighted(weights: Any, u: jax.Array) -> jax.Array:
    """Each example's part times its share of the mean: u [B, ...]."""
    if weights is None:
        return u / u.shape[0]
    return u * weights.astype(u.dtype).reshape(-1, *(1,) * (u.ndim - 1))


def _hessian(functions: Many, params: Tree, batch: Tree, context: LinearizeContext) -> Callable:
    return _derivative(lambda p: functions[0](context.complete(p), batch), params, context.reverse)


def _ggn(functions: Many, params: Tree, batch: Tree, context: LinearizeContext) -> Callable:
    predict_fn, loss_fn = functions
    jacobian = _jacobian(lambda p: predict_fn(context.complete(p), batch), params, context.reverse)
    middle = _derivative(lambda f: loss_fn(f, batch), jacobian.outputs, context.reverse)
    return Partial(_sandwich, jacobian._replace(outputs=None), middle)


def _loss_of_outputs(functions: Many, params: Tree, batch: Tree) -> jax.Array:
    predict_fn, loss_fn = functions
    outputs = predict_fn(params, batch)
    wrong = [leaf.dtype for leaf in jax.tree.leaves(outputs) if not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)]
    check(not wrong, f"predict_fn must return floating-point outputs, not {wrong[:1]}: integers have no derivative")
    return loss_fn(outputs, batch)


def _fisher(functions: Many, params: Tree, batch: Tree, context: LinearizeContext) -> Callable:
    predict_fn, parameters, information = functions
    jacobian = _jacobian(lambda p: predict_fn(context.complete(p), batch), params, context.reverse)
    middle = Partial(_over_examples, Partial(information, parameters(jacobian.outputs)), context.weights)
    return Partial(_sandwich, jacobian._replace(outputs=None), middle)


def _over_examples(rule: Callable, weights: Any, u: jax.Array) -> jax.Array:
    return _weighted(weights, rule(u))


class _DrawnFisher(NamedTuple):
    """The Fisher information from labels that are drawn; a value, so that equal numbers of samples share a program."""

    num_samples: int

    def __call__(self, functions: Many, params: Tree, batch: Tree, context: LinearizeContext) -> Callable:
        predict_fn, sample, log_prob = functions
        jacobian = _jacobian(lambda p: predict_fn(context.complete(p), batch), params, context.reverse)
        outputs = jacobian.outputs
        places = context.offset + jnp.arange(outputs.shape[0])
        keys = jax.vmap(jax.random.fold_in, (None, 0))(context.key, places)

        def score(example_key: jax.Array, output: jax.Array) -> jax.Array:
            labels = jax.vmap(sample, (0, None))(jax.random.split(example_key, self.num_samples), output)
            return jax.vmap(jax.grad(log_prob), (None, 0))(output, labels)

        middle = Partial(_over_examples, Partial(_outer_products, jax.vmap(score)(keys, outputs)), context.weights)
        return Partial(_sandwich, jacobian._replace(outputs=None), middle)


def _outer_products(scores: jax.Array, u: jax.Array) -> jax.Array:
    """Mean over samples of s s^T u for each example: scores [n, samples, ...], u [n, ...]."""
    inner = jnp.einsum("is...,i...->is", scores, u)
    return jnp.einsum("is,is...->i...", inner, scores) / scores.shape[1]


def _empirical_fisher(functions: Many, params: Tree, batch: Tree, context: LinearizeContext) -> Callable:
    jacobian = _jacobian(lambda p: functions[0](context.complete(p), batch), params, context.reverse)
    return Partial(_sandwich, jacobian._replace(outputs=None), Partial(_weighted, context.weights))


def _gradient_covariance(functions: Many, params: Tree, batch: Tree, context: LinearizeContext) -> Callable:
    jacobian = _jacobian(lambda p: functions[0](context.complete(p), batch), params, context.reverse)
    return Partial(_centred, jacobian._replace(outputs=None), context.mean_gradient, context.weights)


def _centred(jacobian: _Jacobian, mean: Tree, weights: Any, v: Tree) -> Tree:
    """J^T W (J v - g^T v); for a single batch g^T v is the mean of J v, and costs no pass over g and v."""
    u = jacobian.push(v)
    if mean is not None:
        along: Any = sum(jnp.vdot(g, x) for g, x in zip(jax.tree.leaves(mean), jax.tree.leaves(v), strict=True))
    else:
        along = jnp.mean(u) if weights is None else jnp.vdot(weights.astype(u.dtype), u)
    return jacobian.pull(v, _weighted(weights, u - along))


# Functions of each: a loss; predictions and a loss of outputs; predictions, parameters and information of a distribution;
# a loss an example, for the last two.
HESSIAN = Rule(_hessian, _first, scalar=True)
GGN = Rule(_ggn, _loss_of_outputs, scalar=True, psd=True)
FISHER = Rule(_fisher, _first, psd=True)
EMPIRICAL_FISHER = Rule(_empirical_fisher, _first, of_examples=True, psd=True)
GRADIENT_COVARIANCE = Rule(_gradient_covariance, _first, of_examples=True, centred=True, psd=True)


def drawn_fisher(num_samples: int, axes: int) -> Rule:
    """The Monte Carlo Fisher of predictions and a distribution's `sample` and `log_prob`; the context holds the key."""
    return Rule(_DrawnFisher(num_samples), _first, psd=True, axes=axes)
