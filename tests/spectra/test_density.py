"""Stochastic Lanczos quadrature against dense eigenvalues, traces and matfree."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matfree import decomp

from lrjax.errors import LrjaxError
from lrjax.spectra.bound import from_function, matrix
from lrjax.spectra.density import Density, density
from lrjax.spectra.quadrature import quadrature
from lrjax.spectra.random_vectors import sphere

SIZE = 120
BULK = np.linspace(-0.5, 1.0, SIZE - 3)
VALUES = np.r_[BULK, 8.0, 20.0, 50.0]


def rotated(values, seed=0):
    basis, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values), len(values))))
    return (basis * values) @ basis.T, basis


A, U = rotated(VALUES)


def key(seed=0):
    return jax.random.key(seed)


def outliers(count=3):
    return SimpleNamespace(values=VALUES[-count:], vectors=jnp.asarray(U[:, -count:].T))


@pytest.mark.x64
def test_all_steps_give_every_eigenvalue_with_the_squared_component_of_the_start():
    values = np.array([-3.0, -1.0, 0.0, 0.5, 2.0, 7.0, 11.0, 13.0])
    a, basis = rotated(values)
    starts = np.random.default_rng(1).standard_normal((3, 8))
    nodes, weights = quadrature(matrix(a), starts, num_steps=50)
    np.testing.assert_allclose(nodes, np.tile(values, (3, 1)), atol=1e-10)
    expected = (starts @ basis) ** 2 / np.sum(starts**2, axis=1, keepdims=True)
    np.testing.assert_allclose(weights, expected, atol=1e-10)


@pytest.mark.x64
def test_nodes_and_weights_are_those_of_the_tridiagonal_matrix_of_matfree():
    a, _ = rotated(np.linspace(-1.0, 2.0, SIZE))  # no eigenvalue converges, so that nothing comes back as a copy
    starts = np.random.default_rng(2).standard_normal((2, SIZE))
    nodes, weights = quadrature(matrix(a), starts, num_steps=12)
    with jax.numpy_rank_promotion("allow"):
        oracle = jax.jit(lambda v: decomp.tridiag_sym(12, custom_vjp=False)(lambda x: jnp.asarray(a) @ x, v).J_small)
        for row, start in enumerate(starts):
            values, vectors = np.linalg.eigh(oracle(start))
            np.testing.assert_allclose(nodes[row], values, atol=1e-9)
            np.testing.assert_allclose(weights[row], vectors[0] ** 2, atol=1e-9)


def test_first_moments_of_a_probe_are_its_quadratic_form_and_the_length_of_its_product():
    bound = matrix(A)
    found = density(bound, key(), num_probes=4, num_steps=10)
    v = np.asarray(sphere(key(), range(4), bound), np.float64)
    moments = [np.sum(found.weights * found.nodes**power, axis=1) for power in range(3)]
    np.testing.assert_allclose(moments[0], 1.0, rtol=1e-12)
    np.testing.assert_allclose(moments[1], np.sum(v @ A * v, axis=1) / SIZE, rtol=1e-4)
    np.testing.assert_allclose(moments[2], np.sum((v @ A) ** 2, axis=1) / SIZE, rtol=1e-4)


@pytest.mark.parametrize("deflate", [None, outliers()])
def test_moments_match_the_traces_within_their_standard_errors(deflate):
    found = density(matrix(A), key(3), num_probes=20, num_steps=10, deflate=deflate)
    assert found.moment(0).value == pytest.approx(1.0, rel=1e-12)
    for power in (1, 2, 3):
        moment = found.moment(power)
        assert abs(moment.value - np.mean(VALUES**power)) < 2.5 * moment.stderr
        # Of the moments of the outliers nothing is left to chance once they are deflated.
        assert (moment.stderr < 0.02 * abs(np.mean(VALUES**power))) == (deflate is not None)


def test_deflated_outliers_do_not_come_back_and_are_atoms_of_their_exact_share():
    found = density(matrix(A), key(), num_probes=3, num_steps=80, deflate=outliers())
    assert found.nodes.max() < 1.01
    assert found.nodes.min() > -0.51
    assert found.atoms.tolist() == [8.0, 20.0, 50.0]
    np.testing.assert_allclose(np.sum(found.weights, axis=1), 1 - 3 / SIZE, rtol=1e-12)
    curve = found.on(np.linspace(49, 51, 400), sigma=0.1)
    assert np.trapezoid(curve.density, curve.grid) == pytest.approx(1 / SIZE, rel=1e-6)


def test_weights_stay_right_when_converged_eigenvalues_come_back_as_copies():
    bound = matrix(A)
    starts = sphere(key(), range(2), bound)
    nodes, weights = quadrature(bound, starts, num_steps=100)
    shares = np.asarray(starts, np.float64) @ U[:, -3:]
    shares = shares**2 / SIZE
    for row in range(2):
        near = np.abs(nodes[row][None] - VALUES[-3:, None]) < 1e-3
        assert near.sum() > 3  # there are copies
        np.testing.assert_allclose(np.sum(weights[row][None] * near, axis=1), shares[row], rtol=1e-3)


def test_a_start_in_an_invariant_subspace_ends_early_and_the_others_go_on():
    starts = np.stack([U[:, -1], U[:, -1] + U[:, -2], np.ones(SIZE)])
    nodes, weights = quadrature(matrix(A), starts, num_steps=6)
    kept = np.sum(weights > 1e-6, axis=1)
    assert kept.tolist() == [1, 2, 6]
    assert np.all(np.isfinite(nodes))
    np.testing.assert_allclose(nodes[0][weights[0] > 1e-6], [50.0], rtol=1e-5)
    np.testing.assert_allclose(nodes[1][weights[1] > 1e-6], [20.0, 50.0], rtol=1e-5)
    np.testing.assert_allclose(np.sum(weights, axis=1), 1.0, rtol=1e-12)


def test_products_stop_when_all_probes_have_ended():
    bound = from_function(lambda rows: 2.0 * rows, SIZE)
    found = density(bound, key(), num_probes=3, num_steps=6)
    assert found.products == bound.products == 3
    np.testing.assert_allclose(found.nodes, 2.0, rtol=1e-6)
    np.testing.assert_allclose(found.weights[:, 1:], 0.0)
    zero = density(matrix(np.zeros((SIZE, SIZE))), key(), num_probes=3, num_steps=6)
    assert zero.moment(2).value == 0.0
    assert np.trapezoid(*zero.on()[::-1]) == pytest.approx(1.0, rel=1e-5)
    assert zero.on_log().zero == pytest.approx(1.0)


def test_a_step_is_one_pass_over_the_data_and_chunks_change_nothing():
    calls = []

    def matmat(rows):
        calls.append(rows.shape[0])
        return rows @ jnp.asarray(A, jnp.float32)

    bound = from_function(matmat, SIZE)
    # From the seventh step on, where the largest eigenvalue is found, copies of it come with the rounding of the products.
    whole = density(bound, key(), num_probes=4, num_steps=5)
    assert calls == [4] * 5
    calls.clear()
    pieces = density(bound, key(), num_probes=4, num_steps=5, chunk=3)
    assert calls == [3, 1] * 5
    np.testing.assert_allclose(pieces.nodes, whole.nodes, atol=1e-3)
    again = density(bound, key(), num_probes=4, num_steps=5)
    assert np.array_equal(whole.nodes, again.nodes)
    assert np.array_equal(whole.weights, again.weights)


def gaussians(grid, sigma):
    return np.mean(np.exp(-0.5 * ((grid[:, None] - VALUES[None]) / sigma) ** 2), axis=1) / (sigma * np.sqrt(2 * np.pi))


def test_smoothed_density_is_that_of_the_eigenvalues():
    found = density(matrix(A), key(), num_probes=30, num_steps=60)
    curve = found.on(np.linspace(-2, 55, 2000), sigma=0.3)
    expected = gaussians(curve.grid, 0.3)
    assert np.trapezoid(curve.density, curve.grid) == pytest.approx(1.0, rel=1e-4)
    assert np.trapezoid(np.abs(curve.density - expected), curve.grid) < 0.06
    assert np.trapezoid(curve.grid * curve.density, curve.grid) == pytest.approx(found.moment(1).value, rel=1e-4)


def test_grid_by_default_holds_all_the_mass_and_is_the_same_each_time():
    found = density(matrix(A), key(), num_probes=4, num_steps=10, deflate=outliers(1))
    one, two = found.on(), found.on()
    assert np.array_equal(one.grid, two.grid)
    assert np.trapezoid(one.density, one.grid) == pytest.approx(1.0, rel=1e-5)
    log = found.on_log()
    assert np.trapezoid(log.positive + log.negative, log.grid) + log.zero == pytest.approx(1.0, rel=1e-5)


def test_log_density_counts_signs_and_what_is_zero():
    exact = Density(np.array([[-0.01, 0.0, 1e-12, 0.1, 10.0]]), np.full((1, 5), 0.16), np.array([1000.0]), 5, 0)
    log = exact.on_log(np.linspace(-4, 5, 5000), sigma=0.05)
    assert np.trapezoid(log.negative, log.grid) == pytest.approx(0.16, rel=1e-4)
    assert np.trapezoid(log.positive, log.grid) == pytest.approx(0.52, rel=1e-4)
    assert log.zero == pytest.approx(0.32)
    assert log.grid[np.argmax(log.negative)] == pytest.approx(-2.0, abs=2e-3)
    assert log.grid[np.argmax(log.positive)] == pytest.approx(3.0, abs=2e-3)
    assert exact.on_log(floor=0.0).zero == pytest.approx(0.16)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"num_probes": 0, "num_steps": 5}, "num_probes must be >= 1, got 0"),
    ({"num_probes": 2, "num_steps": 0}, "num_steps must be >= 1, got 0"),
    ({"num_probes": 2, "num_steps": 5, "deflate": SimpleNamespace(values=[1.0], vectors=None)}, "values-only"),
    ({"num_probes": 2, "num_steps": 5, "deflate": SimpleNamespace(values=[1.0], vectors=np.ones((1, 7)))}, r"\[1, 7\]"),
])  # fmt: skip
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(LrjaxError, match=message):
        density(matrix(A), key(), **arguments)


def test_bad_starts_sigma_and_products_are_named():
    bound = matrix(A)
    with pytest.raises(LrjaxError, match=r"starts must be \[p, 120\]"):
        quadrature(bound, np.ones(SIZE), num_steps=2)
    with pytest.raises(LrjaxError, match="start vector is zero"):
        quadrature(bound, np.zeros((1, SIZE)), num_steps=2)
    with pytest.raises(LrjaxError, match="span of the deflated eigenvectors"):
        quadrature(bound, U[:, -1:].T, num_steps=2, deflate=outliers())
    with pytest.raises(LrjaxError, match="sigma must be > 0, got 0"):
        density(bound, key(), num_probes=2, num_steps=2).on(sigma=0)
    with pytest.raises(LrjaxError, match="not finite"):
        density(from_function(lambda rows: rows * jnp.inf, SIZE), key(), num_probes=2, num_steps=2)


@settings(max_examples=12, deadline=None)
@given(
    size=st.sampled_from([3, 17]),
    num_steps=st.integers(1, 20),
    decay=st.floats(0.0, 4.0),
    scale=st.floats(1e-6, 1e6),
    negative=st.floats(0.0, 1.0),
    seed=st.integers(0, 2**31 - 1),
)
def test_nodes_lie_in_the_spectrum_and_weights_are_a_distribution(size, num_steps, decay, scale, negative, seed):
    rng = np.random.default_rng(seed)
    values = scale * np.arange(1.0, size + 1) ** -decay * np.where(rng.random(size) < negative, -1, 1)
    found = density(matrix(rotated(values, seed)[0]), key(seed), num_probes=2, num_steps=num_steps)
    room = 1e-4 * np.abs(values).max()
    assert found.nodes.shape == (2, min(num_steps, size))
    assert found.nodes.min() >= values.min() - room
    assert found.nodes.max() <= values.max() + room
    assert found.weights.min() >= 0
    np.testing.assert_allclose(np.sum(found.weights, axis=1), 1.0, rtol=1e-10)
    curve = found.on()
    assert np.trapezoid(curve.density, curve.grid) == pytest.approx(1.0, rel=1e-3)
