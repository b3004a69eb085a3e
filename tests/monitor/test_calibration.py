"""The lines and limits of the monitor's advice, on an MLP (3072-64-64-10, tanh, half squared error, images of CIFAR-10).

Statistics over a window of a training; their tolerances are about twice the spread over seeds. Images are those of the data
set, so that these tests skip where it is not there.
"""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrjax import monitor, spectra
from lrjax.monitor import advice
from tests.monitor import calibration_cells as calibration
from tests.monitor import calibration_settings, calibration_windows
from tests.monitor.calibration_settings import half_squared_error as loss

SHAPE = (3072, 64, 64, 10)
BATCH = 16


@pytest.fixture(scope="module")
def images():
    folder = calibration_settings.SHARED
    if not (folder / "cifar10").is_dir():
        pytest.skip(f"no prepared data sets: {folder} does not exist")
    return tuple(jnp.asarray(array) for array in calibration_settings.mlp(folder).train)


@functools.cache
def program(name, rate, momentum=None):
    """`(params, state, data, batches of indices, rates over the rate) -> params, state`, one scan."""
    optimizer = optax.sgd(rate, momentum=momentum) if name == "sgd" else optax.adam(rate)

    @jax.jit
    def advance(params, state, data, indices, factors):
        def step(carry, row):
            params, state = carry
            batch = data if row[0] is None else tuple(array[row[0]] for array in data)
            update, state = optimizer.update(jax.grad(loss)(params, batch), state, params)
            return (optax.apply_updates(params, jax.tree.map(lambda u: row[1] * u, update)), state), None

        return jax.lax.scan(step, (params, state), (indices, factors))[0]

    return optimizer, advance


def start(optimizer, seed):
    params = calibration_settings.dense(jax.random.key(seed), SHAPE)
    return params, optimizer.init(params)


def order(rng, data, steps):
    return rng.integers(0, len(data[0]), (steps, BATCH))


@jax.jit
def sharpness_of(params, data, indices):
    """g_B.H_B g_B / |g_B|^2 of each batch."""

    def one(index):
        batch = tuple(array[index] for array in data)
        return monitor.gradient_curvature(loss, params, jax.grad(loss)(params, batch), batch)

    return jax.lax.map(one, indices)


def largest(params, batches):
    return float(spectra.lanczos(spectra.hessian(loss).bind(params, batches), 1, tol=0.02).values[0])


def stationary_levels(data, rate, momentum, seed, begin, windows, steps):
    """eta times batch sharpness over 2, and eta lambda_1 / 2, averaged over a window of the training."""
    optimizer, advance = program("sgd", rate, momentum)
    rng = np.random.default_rng(seed)
    params, state = advance(*start(optimizer, seed), data, order(rng, data, begin), np.ones(begin, np.float32))
    levels, tops = [], []
    for _ in range(windows):
        params, state = advance(params, state, data, order(rng, data, steps), np.ones(steps, np.float32))
        levels.append(float(jnp.mean(sharpness_of(params, data, order(rng, data, 64)))))
        tops.append(largest(params, [data]))
    return rate * np.mean(levels) / 2, rate * np.mean(tops) / 2


@pytest.mark.slow
def test_batch_sharpness_of_sgd_settles_at_2_over_eta_and_lambda_1_below(images):
    level, top = stationary_levels(images, 0.05, None, seed=0, begin=12_000, windows=4, steps=1000)
    assert 0.85 < level < 1.2  # three seeds: 1.05, 1.05, 1.07
    assert top < 0.9  # 0.77 to 0.80


@pytest.mark.slow
def test_batch_sharpness_of_heavy_ball_settles_near_2_times_1_minus_b_over_eta(images):
    level, top = stationary_levels(images, 0.01, 0.9, seed=0, begin=8_000, windows=4, steps=1000)
    assert 0.08 < level < 0.16  # theory 0.1, three seeds 0.117 to 0.119; the line of the full batch would be 1.9


def at_full_batch(data, name, rate, momentum, stops):
    """Optimizer, and parameters and state after each stretch of `stops` on the full batch."""
    optimizer, advance = program(name, rate, momentum)
    params, state = start(optimizer, 0)
    found = []
    for stretch in stops:
        params, state = advance(params, state, data, None, np.ones(stretch, np.float32))
        found.append((params, state))
    return optimizer, found


@pytest.mark.slow
def test_lambda_1_of_heavy_ball_on_the_full_batch_settles_near_2_times_1_plus_b_over_eta(images):
    _, found = at_full_batch(images, "sgd", 0.02, 0.9, (950, 100, 100))
    levels = [0.02 * largest(params, [images]) / 2 for params, _ in found]
    assert 1.75 < np.median(levels) < 2.05  # theory 1.9


@pytest.mark.slow
def test_rho_is_near_2_at_the_edge_and_the_gain_ratio_is_1_minus_half_of_it(images):
    data = tuple(array[:500] for array in images)
    optimizer, found = at_full_batch(data, "sgd", 0.1, None, (400, *(7,) * 12))
    rhos, gains = [], []
    for params, state in found[1:]:
        gradient = jax.grad(loss)(params, data)
        update, _ = optimizer.update(gradient, state, params)
        line = monitor.along(loss, params, update, data)
        after = loss(jax.tree.map(jnp.add, params, update), data)
        rhos.append(float(line.rho))
        gains.append(float(monitor.gain(line.loss, after, line.slope).ratio))
    assert 1.8 < np.median(rhos) < 2.2
    assert abs(np.median(gains) - (1 - np.median(rhos) / 2)) < 0.08


def gap_and_gain(data, name, rate, steps=2000, window=40, horizon=400):
    """The valley gap after a training, and what a linear decay then gains over the rate held, on the same batches."""
    optimizer, advance = program(name, rate)
    rng = np.random.default_rng(0)
    params, state = advance(
        *start(optimizer, 0), data, order(rng, data, steps - window), np.ones(steps - window, np.float32)
    )
    mean = jax.tree.map(jnp.zeros_like, params)
    for _ in range(window // 4):
        params, state = advance(params, state, data, order(rng, data, 4), np.ones(4, np.float32))
        mean = jax.tree.map(lambda m, p: m + p / (window // 4), mean, params)
    gap = float(monitor.valley_gap(loss(params, data), loss(mean, data)))
    indices = order(rng, data, horizon)
    held = advance(params, state, data, indices, np.ones(horizon, np.float32))[0]
    decayed = advance(params, state, data, indices, 1 - np.arange(horizon, dtype=np.float32) / horizon)[0]
    return gap, 1 - float(loss(decayed, data)) / float(loss(held, data))


@pytest.mark.slow
def test_a_decay_gains_where_the_valley_gap_is_wide_and_loses_where_it_is_none(images):
    narrow_gap, narrow_gain = gap_and_gain(images, "sgd", 2e-3)
    wide_gap, wide_gain = gap_and_gain(images, "sgd", 5e-2)
    assert abs(narrow_gap) < 0.04
    assert -0.1 < narrow_gain < 0.04
    assert 0.08 < wide_gap < 0.5
    assert 0.1 < wide_gain < 0.6


@pytest.mark.slow
def test_a_decay_from_a_small_rate_of_adam_loses(images):
    gap, gain = gap_and_gain(images, "adam", 1e-5)
    assert abs(gap) < 0.04
    assert -0.15 < gain < 0


def cell(gaps, held, decayed):
    rows = [{"step": i, "loss": 1.0, "gradient_norm": 1.0, "valley_gap": gap} for i, gap in enumerate(gaps)]
    losses = {f"{k:g}": [value] for k, value in zip(calibration.MULTIPLES, decayed, strict=True)}
    return calibration.Cell("cnn", "adam", 1e-3, 9, rows, 1.0, [held], losses, (0.0, 0.0))


def test_advice_is_judged_by_what_the_decay_gains():
    gains, loses = cell((0.3, 0.3), 1.0, (0.8, 1, 1, 1, 1)), cell((0.3, 0.3), 1.0, (0.95, 1, 1, 1, 1))
    assert calibration.advice_of(gains) == "decay"
    assert calibration.right(gains, "decay")
    assert not calibration.right(gains, "keep")
    assert not calibration.right(loses, "decay")
    assert calibration.right(loses, "keep")


def test_far_too_small_is_judged_by_how_far_the_loss_falls_after_the_same_decay():
    better = cell((0.0, 0.0), 0.1, (0.9, 0.95, 0.5, float("nan"), 1.1))
    assert better.larger == pytest.approx((10, 1 - 0.5 / 0.9))
    assert better.faster == pytest.approx(5)
    assert calibration.right(better, "far_too_small")
    assert not calibration.right(cell((0.0, 0.0), 0.1, (0.9, 0.85, 0.81, 2, 1)), "far_too_small")
    assert calibration.right(cell((0.0, 0.0), 0.1, (0.9, 0.85, 0.79, 2, 1)), "far_too_small")
    assert not calibration.right(cell((0.0, 0.0), 0.1, (1.1, 1.05, 1.01, 2, 1)), "far_too_small")  # all of them rise


def test_advice_on_the_recorded_cells_is_right_in_four_of_five():
    cells = [one for one in calibration.read(calibration.RECORDS) if calibration_settings.SETTINGS[one.setting].tests]
    count = calibration.totals(cells)
    assert len(cells) >= 30
    for code in ("decided", "decay", "far_too_small", "keep"):
        assert count[code][0] >= 0.8 * count[code][1] > 0, code
    assert count["undecided"][1] <= len(cells) / 3


def test_advice_carries_how_often_it_was_right():
    cells = [one for one in calibration.read(calibration.RECORDS) if calibration_settings.SETTINGS[one.setting].tests]
    count = calibration.totals(cells)
    told = {code: "right in {} of {} test cells".format(*count[code]) for code in ("decay", "keep")}
    words = "with a larger rate the loss fell at least twice as far in {} of {} test cells"
    told["far_too_small"] = words.format(*count["far_too_small"])
    assert told == advice.CALIBRATION


def test_the_page_shows_the_table_of_the_recorded_cells():
    page = (calibration.RECORDS.parents[2] / "docs" / "howto" / "monitor-calibration.md").read_text()
    cells = calibration.read(calibration.RECORDS)
    assert calibration.table(cells) in page
    assert calibration.summary(cells) in page
    assert calibration.larger_rates(cells) in page
    assert calibration_windows.table(json.loads(calibration_windows.WINDOWS.read_text())) in page
