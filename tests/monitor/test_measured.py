"""What a monitor measures is what its formulas say of the parameters and batches that it was given."""

import itertools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lrjax
from lrjax.monitor import schedule
from lrjax.monitor.cost import Row, flops
from lrjax.monitor.ledger import Ledger
from lrjax.monitor.programs import Programs

STEPS = 320  # a twentieth of them, which the mean is over, is 16
WALK = np.random.default_rng(0).normal(size=(STEPS, 3)).astype(np.float32)


def bowl(w, batch):
    return jnp.sum(w**2) / 2 + jnp.mean(batch)


def rows_of(loss, batches, walk=WALK, **options):
    optimizer = optax.sgd(0.1)
    state = optimizer.init(jnp.asarray(walk[0]))
    monitor = lrjax.Monitor(loss, optimizer, learning_rate=0.1, num_steps=STEPS, every=10, budget=0, **options)
    for step, w in enumerate(walk):
        monitor.update(step, jnp.asarray(w), state, batches[step % len(batches)])
    return monitor.rows(), monitor


def test_the_valley_gap_is_that_of_the_mean_over_the_twentieth_of_the_run_before():
    rows, _ = rows_of(bowl, [jnp.ones(4), jnp.ones(4)], probe=[jnp.ones(4)])
    gaps = [(row["step"], row["valley_gap"]) for row in rows if "valley_gap" in row]
    assert len(gaps) >= 3
    for step, gap in gaps:
        length = min(16, step // 2)  # the first steps are too far away
        here, there = (0.5 * np.sum(w**2) + 1 for w in (WALK[step], WALK[step - length : step].mean(axis=0)))
        assert gap == pytest.approx((here - there) / here, rel=1e-4, abs=1e-6)


def test_a_loss_that_is_not_positive_has_no_valley_gap_and_the_report_says_so():
    with pytest.warns(lrjax.monitor.MonitorWarning, match="must be positive"):
        rows, monitor = rows_of(lambda w, batch: bowl(w, batch) - 100, [jnp.ones(4), jnp.ones(4)], probe=[jnp.ones(4)])
    assert any("mean_loss" in row for row in rows)
    assert not any("valley_gap" in row for row in rows)
    assert "must be positive" in str(monitor.report())


def test_noise_and_signal_are_those_of_this_batch_and_the_one_of_the_measurement_before():
    batches = [jnp.asarray(b, jnp.float32) for b in np.random.default_rng(1).normal(1, 1, size=(97, 5, 3))]
    rows, _ = rows_of(lambda w, batch: jnp.mean(batch @ w), batches, np.ones((400, 3), np.float32))
    checked = 0
    for before, row in itertools.pairwise(rows):
        if "noise" not in row:
            continue
        first, second = (np.asarray(batches[one["step"] % 97]).mean(axis=0) for one in (row, before))
        assert row["noise"] == pytest.approx(np.sum((first - second) ** 2) / 2, rel=1e-4)
        assert row["signal"] == pytest.approx(float(first @ second), rel=1e-4, abs=1e-6)
        checked += 1
    assert checked >= 3


def test_parts_of_measurements_are_counted_in_training_steps():
    x, w = jnp.ones((64, 300)), {"a": jnp.ones((300, 200)), "b": jnp.ones((200, 10))}

    def loss(p, batch):
        return jnp.mean((jnp.tanh(batch @ p["a"]) @ p["b"]) ** 2)

    optimizer = optax.sgd(0.1)
    programs = Programs(loss, optimizer, ("a", "b"))
    costs = schedule.costs_of(programs, w, optimizer.init(w), x, None)
    gradient = flops(jax.grad(loss), w, x)
    assert costs["training"] == pytest.approx(gradient, rel=0.1)
    assert 1.2 < costs["step"] < 2.5
    product = flops(lambda v: jax.jvp(jax.grad(loss), (w, x), (v, jnp.zeros_like(x)))[1], w) / gradient
    assert product / 1.5 < costs["product"] < 1.5 * product


def test_the_share_of_time_is_that_of_all_visits_but_the_first(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    ledger, rows = Ledger(), {"step": Row(1, 1.0, 1, 1), "sharpness": Row(2, 1.0, 1, 1)}
    for name, seconds in (("step", 50.0), ("step", 2.0), ("sharpness", 30.0), ("sharpness", 3.0)):
        began = ledger.visit()
        start = now[0]
        now[0] += seconds
        ledger.charge(name, start)
        now[0] += 1.0  # beside the instrument
        ledger.leave(began)
        now[0] += 10.0  # training
    tiers, training = ledger.seconds(rows)
    told = schedule.table(rows, ledger)
    assert sum(row["seconds"] for row in told) == pytest.approx(sum(tiers))
    assert {row["instrument"] for row in told} == {"step", "sharpness", "visit"}
    assert tiers == pytest.approx([2.0 + 3 * 1.0, 3.0])  # a first use compiles: neither measuring nor training
    assert training == pytest.approx(30.0)
