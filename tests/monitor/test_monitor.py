"""A training is the same to the bit with and without the monitor, which compiles nothing after its first measurements."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lrjax.monitor.watch
from lrjax.monitor import Monitor
from tests.monitor import loops

REPOSITORY = Path(__file__).resolve().parents[2]
SHORT = ("adamw", "nnx")


class Watching:
    """Makes a monitor at the first step, and calls it at each."""

    def __init__(self, **options):
        self.monitor, self.options = None, options

    def __call__(self, loss, optimizer, step, params, state, batch, **more):
        if self.monitor is None:
            probe = [jax.tree.map(jnp.copy, batch)]  # of one batch, so that all instruments are made in few steps
            self.monitor = Monitor(loss, optimizer, num_steps=loops.STEPS, probe=probe, **self.options, **more)
        self.monitor.update(step, params, state, batch)


def unwatched(*arguments, **more):
    pass


def bits(tree):
    leaves = [
        jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in jax.tree.leaves(tree)
    ]
    return [np.asarray(leaf).tobytes() for leaf in leaves]


@pytest.mark.parametrize(
    ("name", "steps"),
    [(one, 60) for one in SHORT] + [pytest.param(one, 500, marks=pytest.mark.slow) for one in loops.LOOPS],
)
def test_the_training_is_bit_equal_with_and_without_the_monitor(name, steps, monkeypatch):
    monkeypatch.setattr(loops, "STEPS", steps)
    watching = Watching(every=2, budget=0.9)
    assert bits(loops.LOOPS[name](watching)) == bits(loops.LOOPS[name](unwatched))
    measured = {key for row in watching.monitor.rows() for key in row}
    assert {
        "gain_ratio",
        "full_rho",
        "valley_gap",
        "noise",
        "critical_multiple",
        "batch_sharpness",
        "sharpness",
    } <= measured
    assert watching.monitor.report().notices == ()


def test_nothing_is_compiled_after_the_first_measurement_of_each_instrument():
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, duration, **_: compiled.append(event) if "backend_compile" in event else None
    )
    seen, fresh = set(), []
    optimizer, params = optax.adamw(1e-2), loops.plain_params()
    state = optimizer.update(params, optimizer.init(params), params)[1]
    monitor = Monitor(
        loops.plain_loss,
        optimizer,
        learning_rate=1e-2,
        num_steps=300,
        every=2,
        budget=0.9,
        probe=[loops.batch_of(99)],
    )
    batches = [loops.batch_of(i) for i in range(40)]
    for step in range(300):
        before = len(compiled)
        row = monitor.update(step, params, state, batches[step % 40])
        names = set(row)
        if step > 200 and names and names <= seen:
            fresh.append(len(compiled) - before)
        seen |= names
    assert "sharpness" in seen
    assert len(fresh) > 10
    assert not any(fresh)


class Untouchable:
    """Fails at any use."""

    def __getattribute__(self, name):
        raise AssertionError(f"{name} was asked for")


def test_between_measurements_update_touches_nothing():
    optimizer, params = optax.sgd(0.1), loops.plain_params()
    monitor = Monitor(loops.plain_loss, optimizer, num_steps=10_000, every=100, budget=0)
    for step in range(40):
        monitor.update(step, params, optimizer.init(params), loops.batch_of(step))
    thing = Untouchable()
    assert monitor.update(41, thing, thing, thing) == {}
    assert not monitor._notices


def test_the_full_batch_is_recognised_whatever_the_probe_set_is():
    optimizer, params = optax.sgd(0.1), loops.plain_params()
    for options in ({"budget": 0}, {"budget": 0.5}, {"probe": [loops.batch_of(0)]}):
        for full in (True, False):
            monitor = Monitor(loops.plain_loss, optimizer, learning_rate=0.1, every=5, **options)
            for step in range(4):
                monitor.update(step, params, optimizer.init(params), loops.batch_of(0 if full else step))
            assert monitor.report().full_batch == full


def test_a_batch_whose_memory_is_filled_anew_stays_in_the_probe_set():
    """Loaders of numpy arrays reuse theirs."""
    optimizer, params = optax.sgd(0.1), loops.plain_params()
    monitor = Monitor(loops.plain_loss, optimizer, every=5)
    arrays = jax.tree.map(np.array, loops.batch_of(0))
    for step in range(3):
        for name, value in loops.batch_of(step).items():
            arrays[name][:] = value
        monitor.update(step, params, optimizer.init(params), arrays)
    assert not monitor.report().full_batch
    np.testing.assert_array_equal(monitor._setup.probe[0]["x"], loops.batch_of(0)["x"])


def test_a_training_that_goes_back_measures_again_and_forgets_what_it_undid():
    optimizer, params = optax.adamw(1e-2), loops.plain_params()
    state = optimizer.init(params)
    monitor = Monitor(loops.plain_loss, optimizer, num_steps=60_000, every=10, budget=0)
    for step in (*range(50_000, 50_050), *range(50_020, 50_070, 3)):
        monitor.update(step, params, state, loops.batch_of(step))
    steps = [row["step"] for row in monitor.rows()]
    assert steps == sorted(set(steps))
    assert steps[0] == 50_000
    assert steps[-1] > 50_050
    assert 50_020 in steps
    assert monitor.report().notices == ()


def simulated(devices):
    flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=1"
    made = subprocess.run(
        [sys.executable, "-m", "tests.monitor.on_devices"], cwd=REPOSITORY, capture_output=True, text=True, timeout=300,
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(REPOSITORY)}, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr[-3000:]
    return json.loads(made.stdout.splitlines()[-1])


@pytest.mark.slow
def test_readings_on_one_two_and_eight_devices_agree_to_one_in_a_thousand():
    one, *others = (simulated(count) for count in (1, 2, 8))
    assert one["devices"] == 1
    for other in others:
        assert other["devices"] > 1
        assert other["equal"]
        assert other["compiled"] == one["compiled"]
        assert len(other["rows"]) == len(one["rows"])
        for a, b in zip(one["rows"], other["rows"], strict=True):
            assert a.keys() == b.keys()
            for name, value in a.items():
                if isinstance(value, float) and "residual" not in name:
                    assert b[name] == pytest.approx(value, rel=1e-3, abs=1e-5), name


def test_the_package_of_the_monitor_is_the_one_under_test():
    assert REPOSITORY in Path(lrjax.monitor.watch.__file__).parents
