"""Arguments of the monitor: what they must be, and errors as sentences."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from lrjax.errors import LrjaxError, check
from lrjax.monitor.groups import groups_of
from lrjax.monitor.virtual_step import transformation_of

COMPILED = "update was called inside a function that JAX compiles; call it in the Python loop, before the compiled step"
NNX = (
    "the loss changes variables of a module from outside; merge it as a copy in the loss: "
    "nnx.merge(graphdef, params, rest, copy=True)"
)
DONATED = (
    "not measured: the parameters, the state or the batch were given away (donated) by a step before; call update before the "
    "step, with what it will use"
)


def is_number(value: Any) -> bool:
    """Whether a value is one finite number.

    Example:
        >>> is_number(0.1), is_number(jnp.float32(0.1)), is_number("0.1"), is_number(float("nan"))
        (True, True, False, False)
    """
    try:
        return not isinstance(value, str) and math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


def is_count(value: Any) -> bool:
    """Whether a value is a number of steps.

    Example:
        >>> is_count(1), is_count(np.int64(3)), is_count(0), is_count(1.5), is_count(True)
        (True, True, False, False, False)
    """
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and int(value) >= 1


def check_arguments(
    loss_fn: Callable,
    optimizer: Any,
    learning_rate: Any,
    num_steps: Any,
    every: Any,
    budget: Any,
    probe: Any,
    groups: Any,
) -> None:
    """Refuses what a `Monitor` cannot be made with.

    Raises:
        LrjaxError: names the argument.
    """
    check(callable(loss_fn), f"loss_fn must be a function of params and a batch, not {type(loss_fn).__name__}")
    transformation_of(optimizer)
    check(is_count(every), f"every is a number of steps, 1 or more, not {every!r}")
    check(
        is_number(budget) and 0 <= budget < 1,
        f"budget is a share of the training's operations, from 0 to below 1, not {budget!r}",
    )
    check(
        num_steps is None or is_count(num_steps),
        f"num_steps is the number of steps of the run, 1 or more, not {num_steps!r}",
    )
    check(
        learning_rate is None or callable(learning_rate) or (is_number(learning_rate) and learning_rate >= 0),
        f"learning_rate must be a number, 0 or more, or a schedule, not {learning_rate!r}",
    )
    check(
        probe is None or (isinstance(probe, (list, tuple)) and len(probe) > 0),
        "probe must be a list of batches, with one at least; leave it out for the first that update gets",
    )
    if not isinstance(groups, tuple):  # labels are seen with the parameters
        groups_of({"w": jnp.zeros(())}, groups if isinstance(groups, str) or not callable(groups) else "all")


def check_concrete(*trees: Any) -> None:
    """Refuses arrays of a function that is being compiled.

    Raises:
        LrjaxError: one of them is there.
    """
    check(not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(trees)), COMPILED)


def sentence_of(error: Exception) -> str:
    """An error of a measurement in one line.

    Example:
        >>> sentence_of(KeyError("x"))
        "not measured: KeyError: 'x'"
    """
    said = (str(error).splitlines() or [""])[0]
    if isinstance(error, LrjaxError):
        return said
    if isinstance(error, (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError)):
        return COMPILED
    if "has been deleted" in said or "donated" in said:
        return DONATED
    if "TraceContextError" in type(error).__name__:
        return NNX
    return f"not measured: {type(error).__name__}: {said}"
