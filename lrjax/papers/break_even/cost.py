"""Cost of the measurements beside training, in floating-point operations counted on shapes: no run, no data."""

import functools
import json
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lrjax import models
from lrjax.data import DATASETS
from lrjax.devices.flops import count
from lrjax.experiment.config.canonical import Config, freeze, to_json
from lrjax.experiment.config.durations import due
from lrjax.experiment.step.losses import LOSSES
from lrjax.spectra.subset import subset_size

FEW = 8  # examples that are counted
STRETCHES = 20  # losses along a step until alpha* is found


class PerExample(NamedTuple):
    """FLOPs an example: of the loss, its gradient, a Hessian-vector product, a second derivative along a direction."""

    loss: float
    gradient: float
    product: float
    curvature: float


class Cost(NamedTuple):
    """FLOPs of one lane, and how many each probe takes."""

    training: float
    probing: float
    by_probe: dict[str, float]


@functools.lru_cache(maxsize=16)
def _per_example(content: str) -> PerExample:
    wanted = json.loads(content)
    model = models.build_model(freeze(wanted["model"]), wanted["num_classes"])
    x = jax.ShapeDtypeStruct((FEW, *wanted["shape"]), wanted["dtype"])
    y = jax.ShapeDtypeStruct((FEW,), wanted["label"])
    params, state = jax.eval_shape(lambda v: model.init(jax.random.key(0), v), x)

    def loss(p: Any, s: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.mean(LOSSES[wanted["loss"]](model.apply(p, s, x, train=False)[0], y))

    def product(p: Any, v: Any, *rest: Any) -> Any:
        return jax.jvp(lambda q: jax.grad(loss)(q, *rest), (p,), (v,))[1]

    def curvature(p: Any, v: Any, *rest: Any) -> Any:
        return jax.jvp(lambda q: jax.jvp(lambda r: loss(r, *rest), (q,), (v,))[1], (p,), (v,))[1]

    rest = (state, x, y)
    counts = (
        count(loss, params, *rest),
        count(jax.grad(loss), params, *rest),
        count(product, params, params, *rest),
        count(curvature, params, params, *rest),
    )
    return PerExample(*(found / FEW for found in counts))


def per_example(static: Config, config: Config) -> PerExample:
    """FLOPs an example of a lane's model, counted on shapes alone."""
    spec = DATASETS[config.data.name].spec(config)
    x, y = spec.train["x"], spec.train["y"]
    content = dict(shape=x.shape[1:], dtype=str(x.dtype), label=str(y.dtype), loss=config.loss)
    return _per_example(to_json(content | dict(model=json.loads(to_json(static.model)), num_classes=spec.num_classes)))


def measuring(static: Config, config: Config) -> Cost:
    """FLOPs of training one lane and of its probes, Lanczos taken at `spectra.max_steps` products, which it may not need.

    Args:
        static: of the lane's group.
        config: the lane's, resolved.
    """
    each = per_example(static, config)
    spec, settings = DATASETS[config.data.name].spec(config), config.spectra
    n = spec.train["y"].shape[0]
    subset, noise = (
        subset_size(n, settings.examples),
        settings.noise_batches * settings.noise_batch_size * each.gradient,
    )
    lanczos = subset * settings.max_steps * each.product
    tests = sum(test["y"].shape[0] for test in spec.tests.values())
    tried = config.batch_size * each.gradient + subset * each.loss
    once = {
        "break_even": noise + lanczos + subset * each.curvature,
        "noise": noise,
        "spectrum": lanczos * len(settings.matrices),
        "noise_grid": sum(batches * size for batches, size in settings.noise_grid) * each.gradient,
        "next_step": settings.next_steps * tried + STRETCHES * subset * each.loss,
        "predictions": settings.predicted * each.loss,
        "hessian_trace": settings.trace_products * subset * each.product,
        "fisher_trace": noise,
        "batch_sharpness": settings.sharpness_batches * config.batch_size * each.product,
        "accuracy": tests * each.loss,
    }
    chunks = range(0, config.steps, config.log_every)
    times = {name: 1 + sum(due(when, at) for at in chunks) for name, when in config.probes.items()}
    by_probe = {name: often * once.get(name, 0.0) for name, often in times.items()}
    return Cost(config.steps * config.batch_size * each.gradient, sum(by_probe.values()), by_probe)
