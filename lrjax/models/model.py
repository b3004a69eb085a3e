"""A network as two functions on plain pytrees, and the options of the functions that build one."""

import contextvars
import difflib
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from lrjax.errors import LrjaxError, check, nearest

# Of `lrjax.models.layers.norm_layer`.
NORM_OPTIONS = ("norm", "affine", "eps", "eps_in_state", "groups", "axis_name", "dtype")

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


class Builder:
    """A function (model_config, num_classes) -> `Model` that refuses options it does not have.

    Attributes:
        options: the keys of `model_config` that it reads, beside `name`.
    """

    def __init__(self, build: Callable[[Any, int], Model], options: frozenset[str]):
        functools.update_wrapper(self, build)
        self.build, self.options = build, options

    def __call__(self, model_config: Any, num_classes: int) -> Model:
        """The model; raises LrjaxError for an unknown option."""
        for key, _ in model_config.items():
            check(
                key == "name" or key in self.options,
                f"model.{key} is no option of model {self.build.__name__!r}: {nearest(key, self.options)}",
            )
        return self.build(model_config, num_classes)


def takes(*options: str) -> Callable[[Callable[[Any, int], Model]], Builder]:
    """Decorator that declares the options of a model's builder, so that a misspelt one is an error.

    Args:
        *options: the keys of `model_config` that the builder reads, beside `name`.

    Example:
        >>> @takes("width")
        ... def constant(model_config, num_classes):
        ...     return Model(lambda key, x: ({}, {}), lambda params, state, x, *, train, key=None: (x, state))
        >>> constant({"name": "constant", "widht": 3}, 2)
        Traceback (most recent call last):
        lrjax.errors.LrjaxError: model.widht is no option of model 'constant': did you mean 'width'?
    """
    return lambda build: Builder(build, frozenset(options))
