"""The losses of a lrjax model in the form that operators take, with the mode of BatchNorm said."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lrjax.models import Model

Tree = Any


class Losses(NamedTuple):
    """Functions of variables `{"params", "model_state"}` and a batch `{"x", "y"}`; bind with `where="params"`.

    Attributes:
        loss: `(variables, batch) -> scalar`, for `hessian`.
        predict: `(variables, batch) -> outputs`, for `ggn` and `fisher`.
        output_loss: `(outputs, batch) -> scalar`, for `ggn`.
        example_loss: `(variables, batch) -> [n]`, for `empirical_fisher` and `gradient_covariance`.
    """

    loss: Callable
    predict: Callable
    output_loss: Callable
    example_loss: Callable


def losses(model: Model, example_loss: Callable, *, batch_statistics: bool = False) -> Losses:
    """The loss of a model at any state; dropout is off.

    Args:
        model: (init, apply), see `lrjax.models`.
        example_loss: `(outputs, y) -> [n]`, such as one of `lrjax.step.LOSSES`.
        batch_statistics: BatchNorm normalises with the statistics of each batch (so that batches must be fixed, and no
            example has a gradient of its own) instead of the running ones.

    Example:
        >>> from lrjax import models, spectra, step
        >>> model = models.build_model({"name": "simple_cnn", "width": 2}, 10)
        >>> x, y = jnp.ones((3, 32, 32, 3)), jnp.arange(3)
        >>> params, model_state = model.init(jax.random.key(0), x)
        >>> variables = {"params": params, "model_state": model_state}
        >>> op = spectra.hessian(losses(model, step.LOSSES["cross_entropy"]).loss)
        >>> op.bind(variables, [{"x": x, "y": y}], "params/dense2").size
        90
    """

    def predict(variables: Tree, batch: Tree) -> jax.Array:
        return model.apply(variables["params"], variables["model_state"], batch["x"], train=batch_statistics)[0]

    def of_examples(variables: Tree, batch: Tree) -> jax.Array:
        return example_loss(predict(variables, batch), batch["y"])

    def of_outputs(outputs: jax.Array, batch: Tree) -> jax.Array:
        return jnp.mean(example_loss(outputs, batch["y"]))

    def loss(variables: Tree, batch: Tree) -> jax.Array:
        return jnp.mean(of_examples(variables, batch))

    return Losses(loss, predict, of_outputs, of_examples)
