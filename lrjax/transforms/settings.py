"""Rates and other settings of the transforms, refused where they are no numbers or would be read in another way than meant."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from lrjax.errors import check, refuse

# Largest values, exclusive; the least is 0 for all.
BELOW = {"momentum": 1.0, "b1": 1.0, "b2": 1.0}
MAY_BE_NEGATIVE = ("weight_decay",)


def check_open(where: str, **values: Any) -> None:
    """Refuses settings of an open-ended form that are no scalar and no schedule.

    Args:
        where: the transform.
        **values: a scalar, which may be traced, or a schedule, each.

    Raises:
        LrjaxError: naming the setting, and what to pass instead.

    Example:
        >>> check_open("wd_free_sgd", learning_rate=0.1, momentum=jnp.float32(0.9))
        >>> check_open("wd_free_sgd", learning_rate=np.linspace(0.1, 0.4, 4))
        Traceback (most recent call last):
        lrjax.errors.LrjaxError: learning_rate holds 4 numbers: for one a step pass num_steps= too, ...
    """
    for name, value in values.items():
        if not callable(value):
            check_scalar(name, value, f"{where} without num_steps takes a scalar or a schedule")


def check_scalar(name: str, value: Any, takes: str) -> None:
    """Refuses what is no number in the range of a setting.

    Args:
        name: of the setting.
        value: of any kind; the range of a traced one is not known.
        takes: what the transform takes instead.

    Raises:
        LrjaxError: naming the setting.

    Example:
        >>> check_scalar("momentum", 1.5, "it takes a scalar")
        Traceback (most recent call last):
        lrjax.errors.LrjaxError: momentum must be in [0, 1), not 1.5
    """
    check(value is not None, f"{name} is None, and {takes}; for none of it pass 0.0")
    scalar: Any = value
    shape = np.shape(scalar) if isinstance(value, list | tuple | np.ndarray | jax.Array | np.generic) else ()
    check(
        shape == (),
        f"{name} holds {int(np.prod(shape))} numbers: for one a step pass num_steps= too, for a grid of runs use jax.vmap; "
        f"{takes}",
    )
    dtype = getattr(value, "dtype", np.asarray(value).dtype if isinstance(value, bool | int | float) else None)
    if dtype is None or not (jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.floating)):
        refuse(f"{name} must be a number, not {value!r}; {takes}")
    if isinstance(value, Tracer):
        return
    number = float(scalar)
    check(math.isfinite(number), f"{name} must be finite, not {number}")
    if name not in MAY_BE_NEGATIVE:
        most = BELOW.get(name, np.inf)
        allowed = f"in [0, {most:g})" if name in BELOW else "0 or more"
        check(0 <= number < most, f"{name} must be {allowed}, not {number:g}")


def at_step(name: str, value: Any, count: jax.Array) -> jax.Array:
    """A scalar or schedule at a step.

    Args:
        name: of the setting.
        value: a scalar or a schedule.
        count: the step.

    Returns:
        A scalar of JAX's default float.

    Raises:
        LrjaxError: a schedule that returns several numbers.

    Example:
        >>> float(at_step("learning_rate", lambda t: 0.5 * t, jnp.int32(3)))
        1.5
    """
    array = jnp.asarray(value(count) if callable(value) else value, float)
    check(array.ndim == 0, f"the schedule {name} must return one number, not an array of shape {array.shape}")
    return array


def check_num_steps(num_steps: Any, where: str) -> int:
    """The number of steps of a plan.

    Args:
        num_steps: a positive integer of the host.
        where: the transform.

    Raises:
        LrjaxError: anything else.

    Example:
        >>> check_num_steps(np.int64(24), "wd_free_sgd")
        24
    """
    check(
        not isinstance(num_steps, jax.Array),
        f"num_steps is an array of JAX, and {where} is planned on the host before the program runs: pass a plain integer; "
        "under optax.inject_hyperparams, which makes arrays of numbers, leave num_steps out, or keep it and the planned rates "
        "plain by static_args=('num_steps', 'learning_rate', ...)",
    )
    check(
        isinstance(num_steps, int | np.integer) and not isinstance(num_steps, bool) and int(num_steps) > 0,
        f"num_steps must be a positive integer, not {num_steps!r}",
    )
    return int(num_steps)


def whole_numbers(values: Any, name: str) -> np.ndarray:
    """Integers, int64.

    Args:
        values: a sequence of whole numbers, which may be floats.
        name: for the message.

    Raises:
        LrjaxError: a number that is not whole, or none.

    Example:
        >>> whole_numbers((2, 5.0), "boundaries")
        array([2, 5])
        >>> whole_numbers((2.5,), "boundaries")
        Traceback (most recent call last):
        lrjax.errors.LrjaxError: boundaries must be whole numbers of steps, not [2.5]
    """
    array = numbers(values, name)
    check(
        array.ndim == 1 and bool(np.all(np.isfinite(array) & (array == np.round(array)))),
        f"{name} must be whole numbers of steps, not {array.tolist()}",
    )
    return array.astype(np.int64)


def numbers(values: Any, name: str) -> np.ndarray:
    """Numbers of the host, float64.

    Args:
        values: a number, a sequence of numbers or an array.
        name: for the message.

    Raises:
        LrjaxError: None, text, a truth value, or a sequence of unequal parts.

    Example:
        >>> numbers((0.1, 0.2), "learning_rate")
        array([0.1, 0.2])
    """
    try:
        array = np.asarray(values)
    except ValueError:
        array = np.asarray(None)
    kinds = (jnp.integer, jnp.floating)
    plain = array.size == 0 or any(bool(jnp.issubdtype(array.dtype, kind)) for kind in kinds)
    check(plain, f"{name} must be a number or numbers, not {values!r}")
    return array.astype(np.float64)
