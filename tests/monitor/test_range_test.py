"""The legacy range test does what it always did, and says what it is."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrjax.errors import LrjaxError
from lrjax.monitor.range_test import range_test

CURVATURE = 2.0
ONES = [np.ones(3, np.float32)]


def square(w, batch):
    return 0.5 * CURVATURE * jnp.mean(batch) * w**2


def test_losses_are_those_of_a_training_whose_rate_grows_exponentially():
    found = range_test(square, jnp.float32(1.0), optax.sgd, ONES, low=1e-3, high=0.5, num_steps=40)
    rates = np.geomspace(1e-3, 0.5, 40)
    w = np.cumprod(np.append(1.0, 1 - CURVATURE * rates))[:-1]
    np.testing.assert_allclose(found.rates, rates, rtol=1e-6)
    np.testing.assert_allclose(found.losses, 0.5 * CURVATURE * w**2, rtol=1e-3)
    constant = 0.5 * CURVATURE * (1 - CURVATURE * 0.5) ** np.arange(40)
    assert np.abs(found.losses - constant).max() > 0.1


def test_steepest_point_comes_before_the_minimum_and_the_test_ends_where_the_loss_blows_up():
    start = jnp.float32(1.0)
    found = range_test(square, start, optax.sgd, ONES, low=1e-4, high=1e4, num_steps=200)
    assert 1e-2 < found.steepest < found.at_minimum
    assert found.at_minimum > 0.1 / CURVATURE
    assert len(found.rates) == len(found.losses) == len(found.smoothed) < 200
    assert np.isfinite(found.losses).all()
    assert float(start) == 1.0
    assert "legacy" in repr(found)
    assert "lrjax.suggest" in repr(found)
    assert found.to_dict()["num_steps"] == 200


def test_range_test_gives_another_rate_for_another_order_of_the_batches():
    x = jax.random.normal(jax.random.key(0), (40, 4, 6))
    loss = lambda w, x: jnp.mean((x @ w - jnp.sum(x, 1)) ** 2)  # noqa: E731
    found = {
        range_test(loss, jnp.zeros(6), optax.sgd, x[np.random.default_rng(s).permutation(40)]).steepest
        for s in range(5)
    }
    assert max(found) > 1.2 * min(found)


@pytest.mark.parametrize(
    ("message", "changed"),
    [
        ("from a small rate to a large one", {"low": 1.0, "high": 0.1}),
        ("num_steps must be 20 or more", {"num_steps": 5}),
        ("the loss of the initial parameters is nan", {"params": jnp.float32("nan")}),
        ("blew up after", {"low": 1e3, "high": 1e6}),
        ("holds no batch", {"batches": []}),
    ],
)
def test_bad_input_is_refused_in_a_sentence(message, changed):
    good = dict(loss_fn=square, params=jnp.float32(1.0), make_optimizer=optax.sgd, batches=ONES)
    with pytest.raises(LrjaxError, match=message):
        range_test(**(good | changed))
