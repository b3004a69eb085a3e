"""The five detectors on problems whose break-even point is known, and how far an estimate of K can be trusted."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrjax.papers.break_even import detectors
from lrjax.spectra import curvature_along, gram, hessian, lanczos

N, BATCH, RATE = 20, 3, 0.1
SHARES = np.random.default_rng(0).uniform(0.2, 1.8, N)
SHARES /= SHARES.mean()


SCALES = np.linspace(15.0, 25.0, 11)  # lambda_1 grows by 1 a step; 2 / eta is 20


def toy_loss(params, batch):
    """Per-example quadratics: curvature scale * share along the first axis, 0.5 along the second."""
    first, second = params["theta"]
    return (params["scale"] * batch["share"] * first**2 + 0.5 * second**2) / 2


def mean_loss(params, batch):
    return jnp.mean(toy_loss(params, batch))


@functools.cache
def measured():
    """lambda_1 and s of the toy at each scale, by the same instruments as in training."""
    batches = [{"share": jnp.asarray(SHARES[i : i + 16], jnp.float32)} for i in range(0, N, 16)]
    tops, spreads = [], []
    operator = hessian(mean_loss)
    for scale in SCALES:
        params = {"theta": jnp.array([1.0, 1.0]), "scale": jnp.float32(scale)}
        pairs = lanczos(operator.bind(params, batches, "theta"), 1, tol=1e-6)
        curvatures = curvature_along(toy_loss, params, pairs.vectors[0], batches, where="theta")
        tops.append(pairs.values[0])
        spreads.append(curvatures.std())
    return np.array(tops), np.array(spreads)


def factor(scale, batch_size):
    """E (1 - eta H_B)^2 over all batches without replacement, from its definition."""
    batches = np.array(list(itertools.combinations(SHARES, batch_size)))
    return np.mean((1 - RATE * scale * batches.mean(axis=1)) ** 2)


@pytest.mark.parametrize("batch_size", [BATCH, N])
def test_D1_fires_at_exactly_the_step_at_which_sgd_becomes_unstable(batch_size):
    steps = np.arange(SCALES.size)
    found = detectors.direct(steps, *measured(), RATE, batch_size, N)
    growth = np.array([factor(scale, batch_size) for scale in SCALES])
    unstable = int(np.argmax(growth >= 1.0 - 1e-5))
    assert 0 < unstable == found.at
    assert unstable - 1 <= found.step <= unstable
    kappa_c2 = (N - batch_size) / (batch_size * (N - 1)) * SHARES.var()
    assert np.interp(found.step, steps, SCALES) == pytest.approx(2 / (RATE * (1 + kappa_c2)), rel=2e-3)
    assert bool(SCALES[found.at] == 20.0) is (batch_size == N)  # without the noise it would be 20 for both


def test_D1_says_so_where_a_run_never_breaks_even_or_starts_unstable():
    steps, calm = np.arange(5), np.full(5, 10.0)
    never = detectors.direct(steps, calm, np.zeros(5), RATE, BATCH, N)
    assert never.step is None
    assert "not reached" in never.note
    assert (
        detectors.direct(steps, 3 * calm, np.zeros(5), RATE, BATCH, N).note == "unstable from the first measurement on"
    )
    missing = detectors.direct(steps, np.full(5, np.nan), np.zeros(5), RATE, BATCH, N)
    assert missing == detectors.Detection(None, None, "not measured")


def test_one_noisy_measurement_is_no_break_even_point():
    sharpness = [10.0, 30.0, 10.0, 30.0, 30.0]
    assert detectors.direct(range(5), sharpness, [0.0] * 5, RATE, N, N).at == 3
    assert detectors.direct(range(5), sharpness, [0.0] * 5, RATE, N, N, patience=1).at == 1


def test_larger_rates_and_smaller_batches_break_even_earlier_on_one_path():
    steps, path = np.arange(100), np.linspace(1.0, 50.0, 100)

    def at(rate, size):
        return detectors.direct(steps, path, 0.8 * path, rate, size, 1000).step

    assert at(0.2, 8) < at(0.1, 8) < at(0.05, 8)
    assert at(0.1, 1) < at(0.1, 8) < at(0.1, 1000)


def test_closed_forms_hold_where_the_left_side_is_one():
    rate, size, n, spread = 0.1, 8, 1000, 12.0
    edge = detectors.stability([1.0], [spread], rate, size, n).break_even[0]
    at_edge = detectors.stability([edge], [spread], rate, size, n)
    assert at_edge.lhs[0] == pytest.approx(1.0)
    scaled = at_edge.break_even_scaled[0]
    assert detectors.stability([scaled], [spread * scaled / edge], rate, size, n).lhs[0] == pytest.approx(1.0)


def test_D2_peak_is_of_the_smoothed_series_and_not_reached_while_it_rises():
    hill = np.concatenate([np.linspace(0, 10, 11), np.linspace(9, 0, 10)])
    spiky = hill.copy()
    spiky[2] = 12.0
    assert detectors.peak(np.arange(21), spiky, window=1).at == 2
    assert detectors.peak(np.arange(21), spiky, window=9).at == pytest.approx(10, abs=3)
    assert detectors.peak(np.arange(11), hill[:11]).step is None


def test_D5_a_copy_never_parts_and_a_bent_trajectory_parts_where_it_bends():
    straight = np.stack([np.arange(20.0), np.zeros(20)], axis=1)
    bent = straight.copy()
    bent[12:, 1] = 3.0 * np.arange(1, 9)
    assert detectors.parting(np.arange(20), straight, straight).detection.step is None
    found = detectors.parting(np.arange(20), bent, straight)
    assert found.radius == 1.0
    assert found.detection.at == 12


def spectrum_of_table():
    """A power law with lambda_1 = 9.96 and a trace of 46.0 in 400 dimensions."""
    low, high = 0.5, 3.0
    for _ in range(60):
        middle = (low + high) / 2
        total = 9.96 * np.sum(np.arange(1, 401) ** -middle)
        low, high = (middle, high) if total > 46.0 else (low, middle)
    return 9.96 * np.arange(1, 401) ** -low


def estimates(size, count, draws, generator):
    """lambda_1 and trace per example from L batch gradients of M Gaussian examples, several times."""
    scale = np.sqrt(spectrum_of_table()).astype(np.float32)
    found = []
    for _ in range(draws):
        rows = sum(generator.standard_normal((count, 400), np.float32) for _ in range(size)) * scale / size
        one = gram(rows, divisor="L-1", k=0)
        found.append((one.lambda_1 * size, one.trace * size, one.lambda_star / one.lambda_1))
    return np.array(found)


def test_error_of_the_K_estimator_depends_on_the_number_of_batches_not_their_size():
    generator = np.random.default_rng(0)
    few_single, few_batches = estimates(1, 25, 60, generator), estimates(64, 25, 60, generator)
    many = estimates(1, 400, 10, generator)
    for few in (few_single, few_batches):
        mean, spread = few.mean(axis=0), few.std(axis=0)
        assert 10.9 < mean[0] < 13.4  # biased up from 9.96 by about 2
        assert 1.6 < spread[0] < 4.0
        assert mean[1] == pytest.approx(46.0, abs=2.0)  # the trace is not biased
        assert mean[2] == pytest.approx(0.046, abs=0.012)  # a number of L, not of K
    error = 3 * np.hypot(few_single[:, 0].std(), few_batches[:, 0].std()) / np.sqrt(60)
    assert few_single[:, 0].mean() == pytest.approx(few_batches[:, 0].mean(), abs=error)
    assert many[:, 0].mean() == pytest.approx(9.96, abs=0.9)
    assert many[:, 0].std() < few_single[:, 0].std() / 2
    assert many[:, 2].mean() < 0.01


def network_loss(theta, x, y):
    hidden = jnp.tanh(x @ theta[:20].reshape(2, 10) + theta[20:30][None])
    return jnp.mean((hidden @ theta[30:40] - y) ** 2)


def sharpness_of_descent(rate, steps=2400, every=40):
    """Top Hessian eigenvalue along full-batch gradient descent on a small network."""
    generator = np.random.default_rng(3)
    x = jnp.asarray(generator.normal(size=(20, 2)), jnp.float32)
    y = jnp.asarray(np.sin(3 * np.asarray(x[:, 0])) + np.asarray(x[:, 1]) ** 2 - 1, jnp.float32)
    theta = jnp.asarray(generator.normal(size=40) * 0.5, jnp.float32)

    def chunk(theta, _):
        theta = jax.lax.fori_loop(0, every, lambda _, p: p - rate * jax.grad(network_loss)(p, x, y), theta)
        return theta, jnp.linalg.eigvalsh(jax.hessian(network_loss)(theta, x, y))[-1]

    return np.asarray(jax.jit(lambda t: jax.lax.scan(chunk, t, length=steps // every))(theta)[1])


@pytest.mark.parametrize("rate", [0.1, 0.12])
def test_full_batch_descent_breaks_even_at_two_over_the_rate_and_stays_there(rate):
    found = sharpness_of_descent(rate)
    at = detectors.direct(np.arange(found.size), found, np.zeros(found.size), rate, 20, 20, patience=1)
    assert at.step is not None
    assert np.median(found[at.at :]) == pytest.approx(2 / rate, rel=0.1)
