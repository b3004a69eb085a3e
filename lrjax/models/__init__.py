"""Networks by name: each is a pair (init, apply) on plain pytrees. The only folder that imports flax."""

from collections.abc import Callable
from typing import Any

from lrjax.errors import check
from lrjax.models.bert import bert
from lrjax.models.cifar_resnet import resnet32
from lrjax.models.densenet import densenet
from lrjax.models.linear_direction import linear_direction
from lrjax.models.lstm import lstm
from lrjax.models.mlp import mlp
from lrjax.models.model import Builder, Model, lookup, rematerialised
from lrjax.models.preresnet import preresnet
from lrjax.models.residual_mlp import residual_mlp
from lrjax.models.resnet import resnet18, resnet50
from lrjax.models.simple_cnn import simple_cnn
from lrjax.models.two_layer import two_layer
from lrjax.models.wide_resnet import wide_resnet

__all__ = ["MODELS", "Model", "build_model", "configured"]

MODELS: dict[str, Callable[[Any, int], Model]] = {
    "bert": bert,
    "linear_direction": linear_direction,
    "densenet": densenet,
    "lstm": lstm,
    "mlp": mlp,
    "preresnet": preresnet,
    "residual_mlp": residual_mlp,
    "resnet18": resnet18,
    "resnet32": resnet32,
    "resnet50": resnet50,
    "simple_cnn": simple_cnn,
    "two_layer": two_layer,
    "wide_resnet": wide_resnet,
}


def build_model(model_config: Any, num_classes: int) -> Model:
    """Builds the model that `model_config["name"]` names.

    Args:
        model_config: mapping with `name`, a key of `MODELS`, and the options of that model.
        num_classes: number of outputs.

    Returns:
        The model's `init` and `apply`.

    Raises:
        LrjaxError: for an unknown name or option; the message has the nearest valid one.

    Example:
        >>> model = build_model({"name": "simple_cnn", "width": 4}, num_classes=10)
        >>> build_model({"name": "resnet-18"}, num_classes=10)
        Traceback (most recent call last):
        lrjax.errors.LrjaxError: unknown model 'resnet-18': did you mean 'resnet18'? (there is: bert, ...)
        >>> build_model({"name": "mlp", "width": 8}, num_classes=10)
        Traceback (most recent call last):
        lrjax.errors.LrjaxError: model.width is no option of model 'mlp': did you mean 'widths'?
    """
    return lookup(MODELS, model_config["name"], "model")(model_config, num_classes)


def configured(static: Any, num_classes: int, *, training: bool = False) -> Model:
    """The model of a config, rematerialising where `remat` asks for it; in training it computes in `compute_dtype`.

    Parameters, their gradients and the logits stay float32 under compute_dtype="bfloat16", and so does whatever is
    measured: evaluation and curvature are those of the float32 network. Under "float64" all of them are float64.

    Args:
        static: a resolved config.
        num_classes: number of outputs.
        training: for the training step.

    Raises:
        LrjaxError: for an unknown model, or one that computes in float32 only.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from lrjax import load_config
        >>> config = load_config("configs/break_even.py:E7_mlp", {"compute_dtype": "bfloat16", "remat": True})
        >>> params, _ = configured(config, 10).init(jax.random.key(0), jnp.ones((1, 28, 28, 1)))
        >>> logits, _ = configured(config, 10, training=True).apply(params, {}, jnp.ones((1, 28, 28, 1)), train=True)
        >>> jax.tree.leaves(params)[0].dtype, logits.dtype
        (dtype('float32'), dtype('float32'))
    """
    settings = dict(static.model.items())
    if static.compute_dtype == "bfloat16":
        name = settings["name"]
        builder = lookup(MODELS, name, "model")
        check(
            not isinstance(builder, Builder) or "dtype" in builder.options,
            f"model {name!r} computes in float32 only; set compute_dtype='float32', not {static.compute_dtype!r}",
        )
    if training and static.compute_dtype == "bfloat16":  # under float64 parameters, activations are float64 too
        settings["dtype"] = static.compute_dtype
    model = build_model(settings, num_classes)
    return rematerialised(model) if static.remat else model
