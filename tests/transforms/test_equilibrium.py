"""What weight decay settles on, measured on a loss whose gradient is noise orthogonal to the weights."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrjax.errors import LrjaxError
from lrjax.transforms import (
    adamw_angular_update,
    adamw_rms,
    angular_update,
    limit_fraction,
    time_to_equilibrium,
    wd_free_plan,
)

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


def walk_of_adamw(rate, decay, b1, seeds=4, size=2048, times=9):
    """RMS of the weights and angle of a step of each seed, over the last half, where gradients are noise alone."""
    optimizer = optax.adamw(rate, b1=b1, weight_decay=decay)
    steps = round(times / (rate * decay))

    def one(carry, key):
        w, state = carry
        updates, state = optimizer.update(jax.random.normal(key, w.shape), state, w)
        new = optax.apply_updates(w, updates)
        chord = jnp.linalg.norm(new / jnp.linalg.norm(new) - w / jnp.linalg.norm(w))  # arccos has no digits near 1
        return (new, state), (jnp.mean(new**2), (2 * jnp.arcsin(chord / 2)) ** 2)

    def walk(key):
        w = jnp.full(size, 3 * (rate / decay) ** 0.5)  # four times too long: the walk has to come back
        return jax.lax.scan(one, (w, optimizer.init(w)), jax.random.split(key, steps))[1]

    squares, angles = jax.jit(jax.vmap(walk))(jax.random.split(jax.random.key(0), seeds))
    late = slice(steps // 2, None)
    return np.sqrt(squares[:, late].mean(1)), np.sqrt(angles[:, late].mean(1))


def within_the_spread(values, expected):
    return abs(values.mean() / expected - 1) < 4 * values.std(ddof=1) / len(values) ** 0.5 / expected + 1e-3


@pytest.mark.parametrize("b1", [0.0, 0.9])
def test_noise_turns_and_stretches_the_weights_of_adamw_as_the_formulas_say(b1):
    rate, decay = 4e-3, 0.5
    lengths, angles = walk_of_adamw(rate, decay, b1)
    assert lengths.std() / lengths.mean() < 0.01  # or nothing could fail
    next_term = 1 + rate * decay * (1 / 4 - b1 / (1 - b1**2))
    assert within_the_spread(lengths, adamw_rms(rate, decay) * next_term)
    assert within_the_spread(angles, adamw_angular_update(rate, decay, b1))
    if b1:  # the formula of SGD, and a mean square of a step of 1
        assert not within_the_spread(angles, angular_update(rate, decay, b1))
        assert not within_the_spread(angles, np.sqrt(2 * rate * decay))
    assert not within_the_spread(lengths, np.sqrt(rate / decay))


def test_equilibria_of_adamw_refuse_what_has_none():
    with pytest.raises(LrjaxError, match="b1 must be in"):
        adamw_angular_update(1e-3, 0.1, 1.0)
    with pytest.raises(LrjaxError, match="without decay there is no equilibrium"):
        adamw_rms(1e-3, [0.1, 0.0])
    assert adamw_rms([1e-3, 2e-3], 0.1).shape == adamw_angular_update([1e-3, 2e-3], 0.1, 0.9).shape == (2,)
