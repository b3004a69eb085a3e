"""What weight decay settles on, measured on a loss whose gradient is noise orthogonal to the weights."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrjax.errors import LrjaxError
from lrjax.transforms import angular_update, limit_fraction, time_to_equilibrium, wd_free_plan

RATE, DECAY = 0.05, 0.1


def squares(momentum, steps=40_000):
    """Long-run means of |w_{t+1} - w_t|^2 and |w_t|^2, of the angle squared, and |w|^2 of each step."""
    chain = optax.chain(optax.add_decayed_weights(DECAY), optax.sgd(RATE, momentum=momentum))

    def one(carry, key):
        w, state = carry
        z = jax.random.normal(key, w.shape, w.dtype)
        gradient = jax.grad(lambda w: z @ w / jnp.linalg.norm(w))(w)
        updates, state = chain.update(gradient, state, w)
        new = optax.apply_updates(w, updates)
        cosine = new @ w / (jnp.linalg.norm(new) * jnp.linalg.norm(w))
        return (new, state), (jnp.sum((new - w) ** 2), jnp.sum(w**2), jnp.arccos(cosine) ** 2)

    w = jnp.ones(40)
    run = jax.jit(lambda keys: jax.lax.scan(one, (w, chain.init(w)), keys)[1])
    step, norm, angle = run(jax.random.split(jax.random.key(0), steps))
    late = slice(steps // 4, None)
    return float(step[late].mean()), float(norm[late].mean()), float(angle[late].mean()), np.asarray(norm)


@pytest.mark.x64
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_steps_are_in_the_proportion_to_weights_that_the_lemma_says(momentum):
    step, norm, angle, _ = squares(momentum)
    expected = 2 * RATE * DECAY / (1 + momentum)
    assert abs(step / norm / expected - 1) < 0.01
    assert abs(np.sqrt(angle) / angular_update(RATE, DECAY, momentum) - 1) < 0.01
    if momentum:  # without the root's 1 + gamma
        assert abs(step / norm / (2 * RATE * DECAY) - 1) > 0.4


@pytest.mark.x64
def test_long_weights_shrink_by_e_in_the_time_to_equilibrium():
    chain = optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(0.1, momentum=0.9))
    w = jnp.ones(1)
    state = chain.init(w)
    steps = round(time_to_equilibrium(0.1, 5e-4, 0.9))

    def one(carry, _):
        updates, state = chain.update(jnp.zeros(1), carry[1], carry[0])
        return (carry[0] + updates, state), None

    (settled, state), _ = jax.lax.scan(one, (w, state), None, 100)  # the buffer takes 1 / (1 - gamma) steps to fill
    (final, _), _ = jax.lax.scan(one, (settled, state), None, steps)
    assert abs(float((settled / final)[0] ** 2) / np.e - 1) < 0.02


def test_a_share_beyond_one_has_no_exponential_twin():
    assert limit_fraction(0.1, 5e-4, 0.9) < 1 < limit_fraction(1.0, 6e-3, 0.9)
    wd_free_plan(0.1, 5e-4, 0.9, num_steps=1000)
    with pytest.raises(LrjaxError, match="no exponential schedule"):
        wd_free_plan(1.0, 6e-3, 0.9, num_steps=1000)
