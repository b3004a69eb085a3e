"""The step that an optimizer would make now: made beside the training loop, which is not touched."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax  # noqa: F401 -- of the examples

from lrjax.errors import LrjaxError, check, refuse
from lrjax.monitor.accumulation import whole_step
from lrjax.monitor.trees import like
from lrjax.spectra.frameworks import Tree
from lrjax.spectra.second_moments import plain

# How optax tells of an argument that it lacks.
_ABSENT = re.compile(r"(?:required keyword[^']*'|^\W?(?=\w+\W? (?:must be|is) (?:provided|required)))(\w+)")


class VirtualStep(NamedTuple):
    """A step that was not made.

    Attributes:
        loss: L_B(theta), of the batch B.
        gradient: g = grad L_B(theta), a tree like the parameters.
        update: u, so that theta + u are the parameters after the step; a tree like the parameters.
        opt_state: of the optimizer after the step.
    """

    loss: Any
    gradient: Tree
    update: Tree
    opt_state: Tree


def transformation_of(optimizer: Any) -> Any:
    """The `init` and `update` of an optimizer of optax, also of `optax.MultiSteps` and of `nnx.Optimizer`.

    Raises:
        LrjaxError: an object that has none.

    Example:
        >>> transformation_of(optax.MultiSteps(optax.sgd(0.1), 2)).update is not None
        True
    """
    inner = getattr(optimizer, "tx", optimizer)
    check(
        callable(getattr(inner, "update", None)) and callable(getattr(inner, "init", None)),
        f"optimizer must be an optax.GradientTransformation, with init and update, not {type(optimizer).__name__}",
    )
    return inner


def virtual_step(
    loss_fn: Callable[[Tree, Tree], Any],
    optimizer: Any,
    params: Tree,
    opt_state: Tree,
    batch: Tree,
    *,
    has_aux: bool = False,
    extra_args: Callable[[Tree, Tree], Mapping[str, Any]] | None = None,
    gradient_fn: Callable[[Tree, Tree], Tree] | None = None,
) -> VirtualStep:
    """u = optimizer.update(grad L_B(theta), opt_state, theta), from copies: nothing that was passed changes.

    Optimizers that read more get it: the loss as `value`, the gradient as `grad`, the loss on this batch as `value_fn`.
    Under `optax.MultiSteps` the step is the one that is made when all micro-batches of it have this gradient.
    Works inside `jax.jit`.

    Args:
        loss_fn: `(params, batch) -> scalar`.
        optimizer: of optax, or built like one.
        params: a pytree of floating-point arrays; variables of Flax NNX too.
        opt_state: of the optimizer, for these parameters.
        batch: of the training.
        has_aux: whether `loss_fn` returns `(scalar, auxiliary data)`.
        extra_args: `(params, batch) -> keywords` that `optimizer.update` needs beside those above, such as `obj_fn` of
            `optax.contrib.sophia`.
        gradient_fn: `(params, batch) -> tree` that the optimizer gets in place of the gradient, such as the per-example
            gradients of `optax.contrib.dpsgd`.

    Returns:
        The `VirtualStep`.

    Raises:
        LrjaxError: a state that does not belong to the optimizer, an optimizer that needs keywords which were not passed.

    Example:
        >>> loss = lambda w, x: jnp.mean((x @ w) ** 2) / 2
        >>> step = virtual_step(loss, optax.sgd(0.1), jnp.ones(2), optax.sgd(0.1).init(jnp.ones(2)), jnp.eye(2))
        >>> step.loss.item(), step.gradient.tolist(), step.update.round(3).tolist()
        (0.5, [0.5, 0.5], [-0.05000000074505806, -0.05000000074505806])
    """
    tx = transformation_of(optimizer)
    loss, gradient = value_and_gradient(loss_fn, params, batch, has_aux)
    keywords: dict[str, Any] = {
        "value": loss,
        "grad": plain(gradient),
        "value_fn": lambda p: value_of(loss_fn, like(params, p), batch, has_aux),
    }
    keywords |= dict(extra_args(params, batch)) if extra_args is not None else {}
    given = plain(gradient if gradient_fn is None else gradient_fn(params, batch))
    theta, state = plain(params), plain(opt_state)
    call = caller(tx, keywords)
    state = whole_step(call, given, state, theta)
    update, after = call(given, state, theta)
    return VirtualStep(loss, gradient, like(params, update), after)


def value_of(loss_fn: Callable, params: Tree, batch: Tree, has_aux: bool) -> jax.Array:
    """The loss without auxiliary data."""
    result = loss_fn(params, batch)
    value = jnp.asarray(result[0] if has_aux else result)
    check(
        value.ndim == 0, f"loss_fn must return a scalar, the mean over the batch, not an array of shape {value.shape}"
    )
    return value


def value_and_gradient(loss_fn: Callable, params: Tree, batch: Tree, has_aux: bool) -> tuple[jax.Array, Tree]:
    """L_B and its gradient, a tree like the parameters."""
    return jax.value_and_grad(lambda p: value_of(loss_fn, p, batch, has_aux))(params)


def caller(tx: Any, keywords: Mapping[str, Any]) -> Callable[[Tree, Tree, Tree], tuple[Tree, Tree]]:
    """`update(gradient, state, params)` with those keywords that it takes, and with errors in one sentence."""
    taken = signature(tx.update).parameters.values()
    if not any(one.kind is Parameter.VAR_KEYWORD for one in taken):
        names = {one.name for one in taken}
        keywords = {name: value for name, value in keywords.items() if name in names}

    def call(gradient: Tree, state: Tree, params: Tree) -> tuple[Tree, Tree]:
        try:
            update, after = tx.update(gradient, state, params, **keywords)
        except LrjaxError:
            raise
        except (TypeError, ValueError, AttributeError, KeyError, IndexError, AssertionError) as error:
            refuse(_reason(error))
        check(
            jax.tree.structure(update) == jax.tree.structure(params),
            "the optimizer's update is no tree like params; pass the state and the parameters that belong together",
        )
        check(
            all(jnp.shape(u) == jnp.shape(p) for u, p in zip(*map(jax.tree.leaves, (update, params)), strict=True)),
            "the optimizer's update has other shapes than params; pass the state that belongs to them, and gradient_fn= where "
            "the optimizer takes per-example gradients",
        )
        return update, after

    return call


def _reason(error: Exception) -> str:
    said = str(error).split("\n")[0]
    absent = _ABSENT.search(said)
    if absent and absent[1] != "params":
        name = absent[1]
        return f"the optimizer's update needs {name}; pass extra_args=lambda params, batch: {{'{name}': ...}}, which gives it"
    if "batch dimension" in said or "batch axis" in said:
        return (
            "the optimizer takes per-example gradients; pass gradient_fn=lambda params, batch: ..., which gives them with the "
            "examples on the first axis"
        )
    return (
        "the optimizer cannot make a step from this state and these parameters; pass the opt_state that this optimizer made "
        f"for these params, and extra_args= where its update needs more ({type(error).__name__}: {said})"
    )


def check_state(optimizer: Any, opt_state: Tree, params: Tree) -> None:
    """Refuses a state whose arrays have other shapes than those that `optimizer.init` makes for these parameters.

    Raises:
        LrjaxError: the state of another optimizer, or of other parameters.
    """
    tx, theta = transformation_of(optimizer), plain(params)
    try:
        made = jax.eval_shape(tx.init, theta)
    except Exception:  # an init that needs values: the update itself will be tried
        return
    shapes = [[jnp.shape(leaf) for leaf in jax.tree.leaves(tree)] for tree in (made, plain(opt_state))]
    check(
        shapes[0] == shapes[1],
        "opt_state does not belong to this optimizer and these params: its arrays have other shapes than those of "
        "optimizer.init(params); pass the state that the training steps with",
    )
