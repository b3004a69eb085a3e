"""Linearisation rules: A v for each curvature matrix, as a pure function of the losses.

A rule holds no function, parameter or batch, so that one rule and equal functions are one compiled program. It linearises
the loss once; the map it returns is the part that depends on v, so that many vectors and many products can share the rest.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from lrjax.spectra.selection import Tree

Many = Sequence[Callable] | Any  # a `Functions`, or weak references to its functions inside a program


def whole(params: Tree) -> Tree:
    """The `complete` of a context in which all parameters are selected."""
    return params


class LinearizeContext(NamedTuple):
    """Where a batch is linearised: which parameters vary, and what the rule needs of the other batches.

    Attributes:
        complete: selected parameters -> all parameters.
        mean_gradient: of the loss over all batches, for centred rules.
        offset: index of the batch's first example among all.
        key: for rules that draw labels.
    """

    complete: Callable = whole
    mean_gradient: Tree = None
    offset: int | jax.Array = 0
    key: Any = None


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
    """

    linearize: Callable
    value: Callable
    scalar: bool = False
    of_examples: bool = False
    centred: bool = False
    psd: bool = False


def mean_gradient(functions: Many, params: Tree, batch: Tree, complete: Callable) -> Tree:
    """The gradient of the mean of the per-example losses of a batch, in the selected parameters."""
    return jax.grad(lambda p: jnp.mean(functions[0](complete(p), batch)))(params)


def _first(functions: Many, params: Tree, batch: Tree) -> Any:
    return functions[0](params, batch)


def _transposed(jvp: Callable, like: Tree, cotangent: Tree) -> Tree:
    return jax.linear_transpose(jvp, like)(cotangent)[0]


def _sandwich(jvp: Callable, middle: Callable, v: Tree) -> Tree:
    """J^T M J v from J and M as linear maps."""
    return _transposed(jvp, v, middle(jvp(v)))


def _hessian(functions: Many, params: Tree, batch: Tree, context: LinearizeContext) -> Callable:
    return jax.linearize(jax.grad(lambda p: functions[0](context.complete(p), batch)), params)[1]


def _ggn(functions: Many, params: Tree, batch: Tree, context: LinearizeContext) -> Callable:
    predict_fn, loss_fn = functions
    outputs, jvp = jax.linearize(lambda p: predict_fn(context.complete(p), batch), params)
    middle = jax.linearize(jax.grad(lambda f: loss_fn(f, batch)), outputs)[1]
    return Partial(_sandwich, jvp, middle)


def _loss_of_outputs(functions: Many, params: Tree, batch: Tree) -> jax.Array:
    predict_fn, loss_fn = functions
    return loss_fn(predict_fn(params, batch), batch)


def _fisher(functions: Many, params: Tree, batch: Tree, context: LinearizeContext) -> Callable:
    predict_fn, parameters, information = functions
    outputs, jvp = jax.linearize(lambda p: predict_fn(context.complete(p), batch), params)
    return Partial(_sandwich, jvp, Partial(_over_examples, Partial(information, parameters(outputs))))


def _over_examples(rule: Callable, u: jax.Array) -> jax.Array:
    return rule(u) / u.shape[0]


class _DrawnFisher(NamedTuple):
    """The Fisher information from labels that are drawn; a value, so that equal numbers of samples share a program."""

    num_samples: int

    def __call__(self, functions: Many, params: Tree, batch: Tree, context: LinearizeContext) -> Callable:
        predict_fn, sample, log_prob = functions
        outputs, jvp = jax.linearize(lambda p: predict_fn(context.complete(p), batch), params)
        places = context.offset + jnp.arange(outputs.shape[0])
        keys = jax.vmap(jax.random.fold_in, (None, 0))(context.key, places)

        def score(example_key: jax.Array, output: jax.Array) -> jax.Array:
            labels = jax.vmap(sample, (0, None))(jax.random.split(example_key, self.num_samples), output)
            return jax.vmap(jax.grad(log_prob), (None, 0))(output, labels)

        return Partial(_sandwich, jvp, Partial(_outer_products, jax.vmap(score)(keys, outputs)))


def _outer_products(scores: jax.Array, u: jax.Array) -> jax.Array:
    """Mean over samples of s s^T u for each example: scores [n, samples, ...], u [n, ...]."""
    inner = jnp.einsum("is...,i...->is", scores, u)
    return jnp.einsum("is,is...->i...", inner, scores) / (scores.shape[0] * scores.shape[1])


def _empirical_fisher(functions: Many, params: Tree, batch: Tree, context: LinearizeContext) -> Callable:
    jvp = jax.linearize(lambda p: functions[0](context.complete(p), batch), params)[1]
    return Partial(_sandwich, jvp, Partial(_mean_over_examples))


def _mean_over_examples(u: jax.Array) -> jax.Array:
    return u / u.shape[0]


def _gradient_covariance(functions: Many, params: Tree, batch: Tree, context: LinearizeContext) -> Callable:
    jvp = jax.linearize(lambda p: functions[0](context.complete(p), batch), params)[1]
    return Partial(_centred, jvp, context.mean_gradient)


def _centred(jvp: Callable, mean: Tree, v: Tree) -> Tree:
    along = sum(jnp.vdot(g, x) for g, x in zip(jax.tree.leaves(mean), jax.tree.leaves(v), strict=True))
    u = jvp(v)
    return _transposed(jvp, v, (u - along) / u.shape[0])


# Functions of each: a loss; predictions and a loss of outputs; predictions, parameters and information of a distribution;
# a loss an example, for the last two.
HESSIAN = Rule(_hessian, _first, scalar=True)
GGN = Rule(_ggn, _loss_of_outputs, scalar=True, psd=True)
FISHER = Rule(_fisher, _first, psd=True)
EMPIRICAL_FISHER = Rule(_empirical_fisher, _first, of_examples=True, psd=True)
GRADIENT_COVARIANCE = Rule(_gradient_covariance, _first, of_examples=True, centred=True, psd=True)


def drawn_fisher(num_samples: int) -> Rule:
    """The Monte Carlo Fisher of predictions and a distribution's `sample` and `log_prob`; the context holds the key."""
    return Rule(_DrawnFisher(num_samples), _first, psd=True)
