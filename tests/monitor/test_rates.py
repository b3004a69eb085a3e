"""Each row has the rate of the update that it measured; at the end of a schedule nothing asks for a larger one."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lrjax
from lrjax.monitor import Facts, advise
from lrjax.monitor.advice import Case

DROP = optax.piecewise_constant_schedule(0.1, {6: 0.1})


def loss(w, x):
    return jnp.mean((x @ w - 1) ** 2) / 2


def watched(optimizer, **options):
    w, batch = jnp.zeros(3), jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)), jnp.float32)
    state, used = optimizer.init(w), []
    monitor = lrjax.Monitor(loss, optimizer, every=1, num_steps=12, budget=0, **options)
    for step in range(12):
        monitor.update(step, w, state, batch)
        gradient = jax.grad(loss)(w, batch)
        updates, state = optimizer.update(gradient, state, w)
        used.append(float(jnp.max(-updates / gradient)))
        w = optax.apply_updates(w, updates)
    return monitor, used


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        (optax.inject_hyperparams(optax.sgd)(learning_rate=DROP), {}),
        (optax.sgd(DROP), {"learning_rate": DROP}),
        (optax.chain(optax.clip(1e3), optax.inject_hyperparams(optax.sgd)(learning_rate=DROP)), {}),
        (optax.inject_hyperparams(optax.sgd)(learning_rate=0.05), {}),
    ],
    ids=["injected schedule", "schedule", "injected in a chain", "injected number"],
)
def test_each_row_has_the_rate_of_its_own_update_across_a_drop(optimizer, options):
    monitor, used = watched(optimizer, **options)
    rows = [row for row in monitor.rows() if "gain_ratio" in row]
    assert len(rows) >= 5
    assert [row["learning_rate"] for row in rows] == pytest.approx([used[row["step"]] for row in rows], rel=1e-3)


def codes(rows):
    return {one.code for one in advise(Case(rows, Facts("sgd"), (), None, False, False))}


def small(rate, steps=8, **more):
    """Rows of steps that see no curvature, at the rates that a function of the step gives."""
    return [
        {"step": s, "gain_ratio": 0.999, "valley_gap": 0.001, "learning_rate": rate(s), "loss": 1.0, "gradient_norm": 1.0}
        | more
        for s in range(steps)
    ]  # fmt: skip


def test_a_small_rate_is_called_too_small_only_where_rho_was_measured_and_the_rate_is_no_schedules_end():
    assert "far_too_small" in codes(small(lambda s: 0.1, step_slope=-1.0, step_curvature=0.01))
    assert "far_too_small" not in codes(small(lambda s: 0.1))
    assert "far_too_small" not in codes(small(lambda s: 0.1 * (1 - s / 8), step_slope=-1.0, step_curvature=0.01))


def test_weight_decay_is_not_called_absent_where_a_warm_up_begins_at_zero():
    schedule = optax.linear_schedule(0.0, 0.1, 4)
    monitor, _ = watched(optax.adamw(schedule, weight_decay=0.5), learning_rate=schedule)
    decays = [(row["step"], row["decay/"]) for row in monitor.rows() if "decay/" in row]
    assert decays
    assert decays[0][0] > 0
    assert decays[0][1] == pytest.approx(0.5 * float(schedule(decays[0][0])), rel=1e-3)
    plain, _ = watched(optax.adam(schedule), learning_rate=schedule)
    assert [row["decay/"] for row in plain.rows() if "decay/" in row][:1] == [0.0]


def test_the_weight_decay_clock_is_read_again_where_the_rate_has_changed():
    schedule = optax.exponential_decay(0.1, 1, 0.85)
    monitor, _ = watched(optax.adamw(schedule, weight_decay=0.5), learning_rate=schedule)
    rows = [row for row in monitor.rows() if "update_rms/" in row]
    read, changed = None, 0
    for before, row in itertools.pairwise(rows):
        read = before["learning_rate"] if "decay/" in before else read
        if read is not None and not 0.8 <= before["learning_rate"] / read <= 1.25:
            changed += 1
            assert "decay/" in row
    assert changed
    constant, _ = watched(optax.adamw(0.1, weight_decay=0.5), learning_rate=0.1)
    assert sum("decay/" in row for row in constant.rows()) < sum("decay/" in row for row in rows)


def inactive(schedule, steps):
    """Whether a run of 1000 steps with AdamW at lambda = .1 is told, by then, that its decay will not act."""
    rows = [{"step": s, "learning_rate": float(schedule(s)), "decay/w": 0.1 * float(schedule(s))} for s in steps]
    case = Case(rows, Facts("adam", b1=0.9, b2=0.999), ("w",), 1000, False, False)
    return "decay_inactive" in {one.code for one in advise(case)}


def test_weight_decay_is_judged_at_the_largest_rate_and_not_during_a_warm_up():
    schedule = optax.warmup_cosine_decay_schedule(1e-4, 0.05, 200, 1000)
    assert not inactive(schedule, (50, 100, 150))
    assert not inactive(schedule, (50, 150, 250, 950))
    assert not inactive(schedule, (300, 999))
    assert inactive(lambda step: 1e-3, (50, 100, 150))


def test_a_report_shows_itself_in_a_notebook_with_its_figure():
    monitor, _ = watched(optax.sgd(0.1), learning_rate=0.1)
    shown = monitor.report()._repr_html_()
    assert "gain ratio r" in shown
    assert "<svg" in shown
