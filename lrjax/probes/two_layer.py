"""Probes of the two-layer network: the feature learning of benign oscillation, and the curvature of single examples."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from lrjax import models
from lrjax.data.signal_noise import PATCHES
from lrjax.devices import parallel
from lrjax.experiment.config.canonical import Config
from lrjax.experiment.loop.probe import Probe, versions, without_memory
from lrjax.experiment.step.hparams import HParams
from lrjax.experiment.step.losses import LOSSES
from lrjax.experiment.step.train_step import Engine, TrainState
from lrjax.models.two_layer import HEAD

POWER_STEPS = 16
CURVATURE_EXAMPLES = 8


def of_weights(measure: Callable) -> Callable[[Any, Engine, Mesh], Probe]:
    """A probe from a function (weights, static, state, hparams, data) -> arrays of one lane, compiled."""

    def make(static: Config, engine: Engine, mesh: Mesh) -> Probe:
        def one(state: TrainState, hparams: HParams, data: Any) -> dict[str, jax.Array]:
            found = {}
            for prefix, params in versions(static, state).items():
                weights = engine.weights(params, hparams, data)
                found |= {prefix + k: v for k, v in measure(weights, static, state, hparams, data).items()}
            return found

        return without_memory(parallel.lanes(one, mesh, static.lane_loop))

    return make


def _slots(weights: Any, static: Config) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The filters [2, m, d] that see the strong feature, the weak feature and the noise."""
    filters = weights["filters"]
    if filters.shape[2] == 1:
        return filters[:, :, 0], filters[:, :, 0], filters[:, :, 0]
    place = [static.data.patch_order.index(role) for role in range(PATCHES)]
    return filters[:, :, place[0]], filters[:, :, place[1]], filters[:, :, place[2]]


def _active(products: jax.Array) -> jax.Array:
    """(1/m) sum_r max(z_r, 0)^2 over the neuron axis 1 of [2, m, ...]."""
    return jnp.mean(jnp.square(jnp.maximum(products, 0.0)), axis=1)


def features(weights: Any, static: Config, state: TrainState, hparams: HParams, data: Any) -> dict[str, jax.Array]:
    """Inner products and the signal components of benign oscillation.

    Returns:
        inner_u, inner_v [2, m] and inner_xi [2, m, n]: <w_jr, u> and so on, j = +1 first; strong, weak [2]: U_y, V_y by
        label; noise [n]: N_{y_i, i}; strong_opposite, weak_opposite, noise_opposite: what the neurons of the other class
        give on the same patch; output [n]: f on the training set; loss, train_accuracy.
    """
    on_strong, on_weak, on_noise = _slots(weights, static)
    y, n = data["train"]["y"], data["train"]["y"].size
    u, v, xi = data["basis"][0], data["basis"][1], data["basis"][2 : 2 + n]
    inner_u, inner_v, inner_xi = on_strong @ u, on_weak @ v, jnp.einsum("jrd,nd->jrn", on_noise, xi)
    signs = jnp.array(HEAD, y.dtype)
    strong = _active(inner_u[:, :, None] * signs[None, None])  # [class of neuron, label of patch]
    weak = _active(inner_v[:, :, None] * signs[None, None])
    noise = _active(inner_xi)
    own = jnp.where(y > 0, 0, 1)
    examples = jnp.arange(n)
    output = _outputs(weights, data)
    squared = LOSSES[static.loss](output, y)
    return {
        "inner_u": inner_u,
        "inner_v": inner_v,
        "inner_xi": inner_xi,
        "strong": jnp.diagonal(strong),
        "weak": jnp.diagonal(weak),
        "noise": noise[own, examples],
        "strong_opposite": jnp.stack([strong[1, 0], strong[0, 1]]),
        "weak_opposite": jnp.stack([weak[1, 0], weak[0, 1]]),
        "noise_opposite": noise[1 - own, examples],
        "output": output,
        "loss": jnp.mean(squared),
        "train_accuracy": jnp.mean(output * y > 0),
    }


def _outputs(weights: Any, data: Any) -> jax.Array:
    """f on the training set, [n]."""
    filters, x = weights["filters"], data["train"]["x"]
    slots = jnp.broadcast_to(filters, (*filters.shape[:2], x.shape[1], filters.shape[3]))
    products = jnp.einsum("jrpd,npd->jrpn", slots, x)
    return jnp.sum(_active(products) * jnp.array(HEAD, x.dtype)[:, None, None], axis=(0, 1))


def test_accuracy(weights: Any, static: Config, state: TrainState, hparams: HParams, data: Any) -> dict[str, jax.Array]:
    """Accuracy on fresh noise: weak-only, strong-only, and the paper's mixture of 28 strong and 4 weak points.

    Every test noise is paired with both labels, so each accuracy is over 2 x num_test points. `margin` [2] is V_y against
    the noise of a test point, (1/m) sum_r sigma(<w_yr, xi>) on average.
    """
    on_strong, on_weak, on_noise = _slots(weights, static)
    u, v = data["basis"][0], data["basis"][1]
    head = jnp.array(HEAD, u.dtype)
    signs = head[None, None]
    f_strong = jnp.einsum("jy,j->y", _active((on_strong @ u)[:, :, None] * signs), head)
    weak_by_class = _active((on_weak @ v)[:, :, None] * signs)
    f_weak = jnp.einsum("jy,j->y", weak_by_class, head)
    noise = _active(jnp.einsum("jrd,td->jrt", on_noise, data["test_noise"]))
    f_noise = jnp.einsum("jt,j->t", noise, head)
    first = {
        "zero": jnp.zeros_like(f_weak),
        "second_v": jnp.einsum("jy,j->y", _active((on_strong @ v)[:, :, None] * signs), head),
        "second_noise": jnp.zeros_like(f_weak),
    }
    slot = static.data.weak_slot
    other = jnp.zeros_like(f_noise)
    if slot == "second_noise":
        second = _active(jnp.einsum("jrd,td->jrt", on_strong, jnp.roll(data["test_noise"], 1, axis=0)))
        other = jnp.einsum("jt,j->t", second, head)

    def accuracy(signal: jax.Array, background: jax.Array) -> jax.Array:
        return jnp.mean((signal[None] + background[:, None]) * head[None] > 0)

    weak_accuracy = accuracy(f_weak + first[slot], f_noise + other)
    strong_accuracy = accuracy(f_strong + f_weak, f_noise)
    return {
        "weak_accuracy": weak_accuracy,
        "strong_accuracy": strong_accuracy,
        "mixture_accuracy": (28.0 * strong_accuracy + 4.0 * weak_accuracy) / 32.0,
        "margin": jnp.diagonal(weak_by_class) / jnp.maximum(jnp.mean(noise, axis=1), 1e-30),
    }


def curvature(weights: Any, static: Config, state: TrainState, hparams: HParams, data: Any) -> dict[str, jax.Array]:
    """Top Hessian eigenvalue of the loss of single examples (the last ones of the training set, which are strong).

    Returns:
        example [k] int32; formula [k]: d2l/df2 |grad f|^2, the value at a fitted point, that is
        (8/m)(U |u|^2 + V |v|^2 + N |xi|^2) for the loss (f - y)^2; power [k]: by Hessian-vector power
        iteration from the gradient; output [k].
    """
    model = models.build_model(static.model, 1)
    count = min(CURVATURE_EXAMPLES, data["train"]["y"].size)
    example = jnp.arange(data["train"]["y"].size - count, data["train"]["y"].size)

    def output(filters: jax.Array, x: jax.Array) -> jax.Array:
        return model.apply({"filters": filters}, {}, x[None], train=False)[0][0]

    def one(i: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        x, y, filters = data["train"]["x"][i], data["train"]["y"][i], weights["filters"]
        value, slope = jax.value_and_grad(output)(filters, x)
        second = jax.grad(jax.grad(LOSSES[static.loss]))(value, y)
        gradient = jax.grad(lambda w: LOSSES[static.loss](output(w, x), y))

        def product(vector: jax.Array) -> jax.Array:
            return jax.jvp(gradient, (filters,), (vector,))[1]

        def iterate(_: Any, vector: jax.Array) -> jax.Array:
            return product(vector / jnp.maximum(jnp.linalg.norm(vector), 1e-30))

        vector = jax.lax.fori_loop(0, POWER_STEPS, iterate, slope)
        unit = vector / jnp.maximum(jnp.linalg.norm(vector), 1e-30)
        return second * jnp.sum(slope * slope), jnp.sum(unit * product(unit)), value

    formula, power, value = jax.lax.map(one, example)
    return {"example": example, "formula": formula, "power": power, "output": value}
