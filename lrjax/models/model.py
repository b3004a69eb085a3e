"""What every part of lrjax knows of a network: two functions on plain pytrees."""

import contextvars
import difflib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from lrjax.errors import LrjaxError

# Whether blocks are computed again in a backward pass. Read as a model is traced: one flag for all networks, where an
# option of each would have to be handed through its modules.
REMATERIALISES: contextvars.ContextVar[bool] = contextvars.ContextVar("rematerialises", default=False)


class Model(NamedTuple):
    """A network as a pair of pure functions; `params` and `model_state` are nested dicts of arrays.

    Attributes:
        init: `init(key, x) -> (params, model_state)`. `model_state` holds what is not trained, such as
            `{"batch_stats": ...}`, and is `{}` when there is nothing of the kind.
        apply: `apply(params, model_state, x, *, train, key=None) -> (outputs, model_state)`. `x` is `[B, ...]`;
            the returned `model_state` differs from the given one only when `train` is true.

    Example:
        >>> import jax.numpy as jnp
        >>> linear = Model(
        ...     init=lambda key, x: ({"w": jnp.ones((x.shape[-1], 1))}, {}),
        ...     apply=lambda params, model_state, x, *, train, key=None: (x @ params["w"], model_state),
        ... )
        >>> params, model_state = linear.init(None, jnp.ones((4, 3)))
        >>> linear.apply(params, model_state, jnp.ones((4, 3)), train=True)[0].shape
        (4, 1)
    """

    init: Callable
    apply: Callable


def rematerialised(model: Model) -> Model:
    """The same model, of whose activations a backward pass keeps what its blocks take, and computes the others again.

    A gradient costs up to one more forward pass, and so does a Hessian-vector product; the numbers are the same but for
    the order in which a compiler adds. A model without blocks stays as it is.

    Args:
        model: it goes through its blocks by `lrjax.models.linen.through`, as the deep ones of `lrjax.models` do.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from lrjax import models
        >>> deep = models.build_model({"name": "residual_mlp", "width": 4}, num_classes=2)
        >>> params, state = deep.init(jax.random.key(0), jnp.ones((1, 6)))
        >>> forward = lambda p: rematerialised(deep).apply(p, state, jnp.ones((8, 6)), train=False)[0]
        >>> "remat" in str(jax.make_jaxpr(forward)(params))
        True
    """

    def apply(params: Any, model_state: Any, x: Any, *, train: bool, key: Any = None) -> tuple[Any, Any]:
        token = REMATERIALISES.set(True)
        try:
            return model.apply(params, model_state, x, train=train, key=key)
        finally:
            REMATERIALISES.reset(token)

    return Model(model.init, apply)


def lookup(table: Mapping[str, Any], name: str, what: str) -> Any:
    """Returns `table[name]`, or says which name was probably meant.

    Args:
        table: a registry, from name to function.
        name: the name that a user wrote.
        what: what the table holds, for the message ("model", "norm").

    Raises:
        LrjaxError: if the table has no such name.

    Example:
        >>> lookup({"simple_cnn": 1}, "simplecnn", "model")
        Traceback (most recent call last):
        lrjax.errors.LrjaxError: unknown model 'simplecnn': did you mean 'simple_cnn'? (there is: simple_cnn)
    """
    if name not in table:
        nearest = difflib.get_close_matches(str(name), table, n=1, cutoff=0.0)[0]
        raise LrjaxError(f"unknown {what} {name!r}: did you mean {nearest!r}? (there is: {', '.join(sorted(table))})")
    return table[name]
