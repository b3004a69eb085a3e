"""The transforms on models of a library that lrjax does not use: an Equinox module is a pytree like any other."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrjax.transforms import gauge_rescale, scale_invariance, wd_free_sgd

RATE, DECAY, MOMENTUM, STEPS = 0.2, 0.01, 0.9, 60


class Network(eqx.Module):
    """A linear layer without bias, normalised over the batch, and a frozen last layer; what is static is no array."""

    layer: eqx.nn.Linear
    activation: object = eqx.field(static=True)

    def __call__(self, x, head):
        h = jax.vmap(self.layer)(x)
        return self.activation((h - h.mean(0, keepdims=True)) / h.std(0, keepdims=True)) @ head


def train(optimizer, rescale=False):
    rng = np.random.default_rng(0)
    model = Network(eqx.nn.Linear(5, 8, use_bias=False, key=jax.random.key(0)), jax.nn.relu)
    head = jnp.asarray(rng.normal(size=(8, 3)))

    def loss(model, x, y):
        return optax.softmax_cross_entropy_with_integer_labels(model(x, head), y).mean()

    @eqx.filter_jit
    def step(model, state, x, y):
        gradient = eqx.filter_grad(loss)(model, x, y)
        updates, state = optimizer.update(gradient, state, eqx.filter(model, eqx.is_inexact_array))
        return eqx.apply_updates(model, updates), state

    state = optimizer.init(eqx.filter(model, eqx.is_inexact_array))
    for t in range(STEPS):
        x, y = jnp.asarray(rng.normal(size=(16, 5))), jnp.asarray(rng.integers(0, 3, 16))
        model, state = step(model, state, x, y)
        if rescale and t % 20 == 19:
            arrays, rest = eqx.partition(model, eqx.is_inexact_array)
            arrays, state, _, _ = gauge_rescale(arrays, state)
            model = eqx.combine(arrays, rest)
    return model(jnp.asarray(rng.normal(size=(16, 5))), head), model


@pytest.mark.x64
@pytest.mark.parametrize("num_steps", [None, STEPS])
def test_an_equinox_model_trains_to_the_same_function_without_weight_decay(num_steps):
    plain = optax.chain(optax.add_decayed_weights(DECAY), optax.sgd(RATE, MOMENTUM))
    reference, _ = train(plain)
    twin, _ = train(wd_free_sgd(RATE, DECAY, MOMENTUM, num_steps=num_steps), rescale=True)
    np.testing.assert_allclose(twin, reference, atol=1e-8)
    constant, _ = train(optax.sgd(RATE, MOMENTUM))
    assert np.abs(constant - reference).max() > 1e-2


@pytest.mark.x64
def test_an_equinox_model_is_found_scale_invariant():
    _, model = train(optax.sgd(RATE))
    x, y, head = jnp.eye(5) + 0.1, jnp.arange(5) % 3, jnp.ones((8, 3)) * jnp.arange(1.0, 4.0)[None]

    def loss(model):
        return optax.softmax_cross_entropy_with_integer_labels(model(x, head), y).mean()

    report = scale_invariance(loss, model)
    assert report.invariant
    assert [group.paths for group in report.groups] == [("layer/weight",)]
