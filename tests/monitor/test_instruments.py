"""Each instrument against the closed form of a quadratic, and the clock against a random walk."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrjax.monitor import (
    Facts,
    along,
    critical_multiple,
    decay_clock,
    diagnose,
    gain,
    gradient_curvature,
    noise_of_pair,
)
from lrjax.monitor.cost import Wish, plan
from lrjax.monitor.history import noise_scale
from lrjax.monitor.instruments import update_sizes, valley_gap
from lrjax.monitor.schedule import Schedule, schedule_of
from lrjax.spectra import batch_sharpness

VALUES = jnp.array([1.0, 3.0, 10.0, 40.0])  # the eigenvalues
START = jnp.array([1.0, -2.0, 0.5, 0.25])


def quadratic(w, batch):
    """Its Hessian has the eigenvalues times the batch's number; examples of a batch are alike."""
    return jnp.mean(batch) * jnp.sum(VALUES * w**2) / 2


ONE = jnp.ones(2)


@pytest.mark.parametrize("rate", [0.001, 0.02, 0.06])
def test_on_a_quadratic_the_gain_ratio_is_one_less_half_of_rho(rate):
    gradient = VALUES * START
    update = -rate * gradient
    line = along(quadratic, START, update, ONE)
    found = gain(quadratic(START, ONE), quadratic(START + update, ONE), jnp.sum(gradient * update))
    rho = rate * np.sum(VALUES * gradient**2) / np.sum(gradient**2)
    np.testing.assert_allclose([line.rho, found.ratio], [rho, 1 - rho / 2], rtol=1e-3)


def test_a_gain_within_the_rounding_of_the_loss_is_no_number():
    assert np.isnan(gain(jnp.float32(1.0), jnp.float32(1.0 - 1e-6), jnp.float32(-1e-6)).ratio)
    assert np.isnan(gain(1.0, 0.5, 0.5).ratio)  # u points uphill


@pytest.mark.parametrize("rate", [0.005, 0.02, 0.06])
def test_the_critical_multiple_is_two_over_rho_on_a_quadratic(rate):
    update = -rate * VALUES * START
    rho = float(along(quadratic, START, update, ONE).rho)
    found = critical_multiple(lambda c: float(quadratic(START + c * update, ONE)))
    assert 2 / rho / 1.1 <= found <= 2 / rho


def test_the_valley_gap_is_the_share_that_averaging_takes():
    """theta swings between the walls of the steepest direction; its mean lies on the floor."""
    swing = jnp.array([0.0, 0.0, 0.0, 0.1])
    high, floor = quadratic(START + swing - START * jnp.array([0, 0, 0, 1.0]), ONE), quadratic(START.at[3].set(0), ONE)
    np.testing.assert_allclose(valley_gap(high, floor), 0.2 / (0.2 + float(floor)), rtol=1e-5)


def test_noise_of_pairs_is_unbiased():
    """A ratio of means near the truth; the mean of ratios is not."""
    signal, deviation, size = np.array([1.0, 0.5]), 2.0, 8
    draws = np.random.default_rng(0).normal(size=(4000, 2, 2)) * deviation / np.sqrt(size) + signal
    noise, square = jax.vmap(lambda a, b: noise_of_pair(a, b, size))(*jnp.float32(draws.transpose(1, 0, 2)))
    np.testing.assert_allclose(noise.mean(), 2 * deviation**2, rtol=0.05)
    np.testing.assert_allclose(square.mean(), 1.25, rtol=0.1)
    rows = [
        {"step": i, "noise": float(a), "signal": float(b)} for i, (a, b) in enumerate(zip(noise, square, strict=True))
    ]
    found = noise_scale(rows, 4000)
    assert found.low < 8 / 1.25 < found.high
    assert found.value == pytest.approx(8 / 1.25, rel=0.1)


def test_batch_sharpness_is_the_mean_over_batches_along_their_own_gradients():
    batches = [jnp.full(2, s) for s in (0.5, 1.0, 2.0)]
    along_gradient = float(np.sum(VALUES * (VALUES * START) ** 2) / np.sum((VALUES * START) ** 2))
    wanted = along_gradient * np.mean([0.5, 1.0, 2.0])
    assert float(batch_sharpness(quadratic, START, batches).value) == pytest.approx(wanted, rel=1e-4)
    report = diagnose(quadratic, START, batches, optax.sgd(0.01), learning_rate=0.01)
    assert report.rows[0]["batch_sharpness"] == pytest.approx(wanted, rel=1e-4)


def test_sharpness_is_the_largest_eigenvalue():
    report = diagnose(quadratic, START, [ONE], optax.sgd(0.01), learning_rate=0.01, full_batch=True)
    assert report.rows[0]["sharpness"] == pytest.approx(40, rel=1e-3)
    row = next(row for row in report.table if row["instrument"].startswith("largest"))
    assert row["line"] == "2 / eta = 200"


def test_sharpness_of_adam_is_that_of_the_preconditioned_hessian():
    """P = sqrt(nu_hat) + eps of Adam's own state: eigenvalues over P, not those of H."""
    optimizer = optax.adam(1e-3, b2=0.9, eps=1e-6)
    state = optimizer.init(START)
    for scale in (1.0, 0.5, 2.0):
        state = optimizer.update(scale * VALUES * START, state, START)[1]
    root = jnp.sqrt(state[0].nu / (1 - 0.9**3)) + 1e-6
    report = diagnose(quadratic, START, [ONE], optimizer, state, learning_rate=1e-3)
    assert report.rows[0]["sharpness"] == pytest.approx(float(jnp.max(VALUES / root)), rel=0.02)
    gradient = VALUES * START
    v = gradient / root
    wanted = float(jnp.sum(VALUES * v**2) / jnp.sum(root * v**2))
    assert report.rows[0]["gradient_curvature"] == pytest.approx(wanted, rel=0.02)


def test_curvature_along_the_gradient_is_rayleighs_quotient():
    for scale in (1.0, 1e-12, 1e12):  # squares of the gradient alone would leave single precision
        gradient = VALUES * START
        wanted = float(jnp.sum(VALUES * gradient**2) / jnp.sum(gradient**2))
        assert float(gradient_curvature(quadratic, START, scale * gradient, ONE)) == pytest.approx(wanted, rel=1e-4)
    assert np.isnan(gradient_curvature(quadratic, START, jnp.zeros(4), ONE))


WALKS = {
    "adamw": (optax.adamw(1e-2, weight_decay=1.0), Facts("adam", b1=0.9, b2=0.999), 1e-2, False),
    "sgd": (optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1)), Facts("sgd"), 1e-2, False),
    "heavy ball": (
        optax.chain(optax.add_decayed_weights(0.01), optax.sgd(0.1, 0.9)),
        Facts("heavy_ball", momentum=0.9), 1e-3, True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WALKS)
def test_a_random_walk_turns_by_the_equilibrium_angle_after_three_tau(name):
    optimizer, facts, decay, coupled = WALKS[name]
    clock = decay_clock(decay, facts, coupled=coupled)
    w = jax.random.normal(jax.random.key(0), (512,)) * 0.05

    def step(carry, key):
        w, state = carry
        noise = jax.random.normal(key, w.shape)
        # A scale-invariant loss: its gradient is across w and shrinks with |w|.
        noise = (noise - w * jnp.sum(noise * w) / jnp.sum(w**2)) / jnp.linalg.norm(w)
        updates, state = optimizer.update(noise, state, w)
        return (optax.apply_updates(w, updates), state), update_sizes(w, updates, ("w",)).angle[0]

    count = int(8 * clock.steps)
    angles = jax.lax.scan(step, (w, optimizer.init(w)), jax.random.split(jax.random.key(1), count))[1]
    late = float(jnp.median(angles[int(5 * clock.steps) :]))
    assert late / clock.angle == pytest.approx(1, abs=0.15)


shares = st.floats(1e-3, 3.0)


@settings(max_examples=100, deadline=None)
@given(
    costs=st.fixed_dictionaries(dict.fromkeys(("forward", "gradient", "noise", "decay", "curvature", "line"), shares)),
    step=st.floats(0.5, 20.0),
    every=st.integers(1, 500),
    budget=st.floats(0, 0.9),
    num_steps=st.none() | st.integers(1, 10**6),
    probes=st.none() | st.integers(1, 40),
    batch_size=st.none() | st.integers(1, 4096),
)
def test_the_plan_keeps_to_its_budget(costs, step, every, budget, num_steps, probes, batch_size):
    """Tier 1 has two training steps' worth of operations in `every` steps, tier 2 the share `budget`."""
    costs = costs | {"step": step, "product": 2 * costs["gradient"], "training": 1.0}
    rows = schedule_of(costs, every=every, budget=budget, num_steps=num_steps, probes=probes, batch_size=batch_size)
    first, second = (sum(row.share for row in rows.values() if row.tier == tier) for tier in (1, 2))
    assert first <= 2 / every * (1 + 1e-6)
    assert second <= budget * (1 + 1e-6)
    assert all(row.batches >= 1 for row in rows.values())


def test_instruments_are_due_when_planned():
    costs = {"forward": 0.3, "gradient": 1.0, "noise": 2.0, "decay": 0.1, "curvature": 3.0, "line": 1.5, "product": 2.0}
    rows = schedule_of(costs | {"step": 1.4, "training": 1.0}, every=10, budget=0.1, num_steps=1000, probes=None)
    planned = Schedule(rows, 1000)
    planned.start(50_000)
    made, step, averaged = {name: [] for name in rows}, 50_000, None
    while step < 53_000:
        if planned.averaging(step):
            averaged = step
        names = planned.at(step)
        for name in names:
            made[name].append(step)
        planned.made(names, step)
        step = planned.next_after(step, averaged)
    for name, row in rows.items():
        if row.interval and len(made[name]) > 1:
            assert set(np.diff(made[name])) == {row.interval}, name
    assert made["step"][0] == 50_000


def test_a_budget_of_none_leaves_an_instrument_out():
    assert plan({"a": Wish(1.0, 0.0, 1, 1, 1.0)}, tier=2, budget=0.0, every=10, num_steps=None)["a"].interval == 0
