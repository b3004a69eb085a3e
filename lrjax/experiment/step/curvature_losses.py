"""Losses of an lrjax model as curvature operators take them, with BatchNorm in a stated mode."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrjax import models
from lrjax.experiment.config.canonical import Config
from lrjax.experiment.step.losses import LOSSES
from lrjax.models import Model
from lrjax.spectra import operators
from lrjax.spectra.subset import evaluation_subset

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
        example_loss: `(outputs, y) -> [n]`, such as one of `lrjax.experiment.step.losses.LOSSES`.
        batch_statistics: BatchNorm normalises with the statistics of each batch (so that batches must be fixed, and no
            example has a gradient of its own) instead of the running ones.

    Example:
        >>> from lrjax import models, spectra
        >>> model = models.build_model({"name": "simple_cnn", "width": 2}, 10)
        >>> x, y = jnp.ones((3, 32, 32, 3)), jnp.arange(3)
        >>> params, model_state = model.init(jax.random.key(0), x)
        >>> variables = {"params": params, "model_state": model_state}
        >>> op = spectra.hessian(losses(model, LOSSES["cross_entropy"]).loss)
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


# losses that are -log p(y | outputs)
LIKELIHOODS = {"cross_entropy": "categorical", "half_square": "gaussian", "logistic": "bernoulli"}
ADAMS = ("adam", "adamw", "nadam", "nadamw")  # optimizers whose moments make the preconditioner


class Matrix(NamedTuple):
    """A matrix that `spectra.matrices` may name.

    Attributes:
        scalar: what metrics.jsonl calls its largest eigenvalue.
        make: `(losses, name of the loss) -> operator`.
        of_examples: whether it is made of per-example gradients, which batch statistics do not leave.
    """

    scalar: str
    make: Callable[[Losses, str], operators.Operator]
    of_examples: bool = False


MATRICES: dict[str, Matrix] = {
    "hessian": Matrix("lambda_h1", lambda f, loss: operators.hessian(f.loss)),
    "ggn": Matrix("lambda_ggn1", lambda f, loss: operators.ggn(f.predict, f.output_loss)),
    "fisher": Matrix("lambda_f1", lambda f, loss: operators.fisher(f.predict, distribution=LIKELIHOODS[loss])),
    "empirical_fisher": Matrix("lambda_ef1", lambda f, loss: operators.empirical_fisher(f.example_loss), True),
    "gradient_covariance": Matrix("lambda_k1", lambda f, loss: operators.gradient_covariance(f.example_loss), True),
    "preconditioned_hessian": Matrix("lambda_ph1", lambda f, loss: operators.hessian(f.loss)),
}


@functools.cache
def examples(num_train: int, size: int, seed: int) -> np.ndarray:
    """The fixed subset: `spectra.examples` of the training set, or its default. Chosen once, so it warns once."""
    return evaluation_subset(num_train, size=min(size, num_train) or None, seed=seed)


def model_losses(static: Config) -> Losses:
    """The losses of a config's model, on clean labels, without augmentation, dropout and l2."""
    model = models.configured(static, static.data.num_classes)
    return losses(model, LOSSES[static.loss], batch_statistics=static.spectra.batch_statistics)
