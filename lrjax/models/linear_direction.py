"""A linear unit, with or without normalisation of its weights."""

from typing import Any

import jax
import jax.numpy as jnp

from lrjax.models.model import Model, takes


@takes("normalised")
def linear_direction(model_config: Any, num_classes: int) -> Model:
    r"""f(x) = <w, x> / |w|, the population form of a linear unit with BatchNorm for x ~ N(0, I); or <w, x>.

    Args:
        model_config: mapping with the optional key `normalised` (True).
        num_classes: 1: one output.

    Returns:
        The model, from inputs `[B, m]` to outputs `[B]`; w starts as a random unit vector.

    References:
        Li & Arora 2020, An Exponential Learning Rate Schedule for Deep Learning, section 3.

    Example:
        >>> model = linear_direction({}, 1)
        >>> model.apply({"w": jnp.array([3.0, 4.0])}, {}, jnp.eye(2), train=False)[0].round(1).tolist()
        [0.60..., 0.80...]
    """
    normalised = model_config.get("normalised", True)

    def init(key: jax.Array, x: jax.Array) -> tuple[Any, Any]:
        w = jax.random.normal(key, x.shape[1:], x.dtype)
        return {"w": w / jnp.linalg.norm(w)}, {}

    def apply(params: Any, model_state: Any, x: jax.Array, *, train: bool, key: Any = None) -> tuple[jax.Array, Any]:
        w = params["w"]
        return x @ (w / jnp.linalg.norm(w) if normalised else w), model_state

    return Model(init, apply)
