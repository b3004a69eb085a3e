"""Lanczos against dense eigenvalues, SciPy and matfree; residuals that are true; restarts, blocks, warm starts, errors."""

import jax
import jax.numpy as jnp
import matfree.decomp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator, eigsh

from lrjax.errors import LrjaxError
from lrjax.spectra import extreme_values, from_function, lanczos, matrix
from lrjax.spectra.values_only import genuine

OUTLIERS = [100.0, 80.0, 60.0, 50.0, 40.0, -45.0, -30.0]


def symmetric(eigenvalues, seed=0):
    """A dense matrix with these eigenvalues, and its eigenvectors as columns."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(eigenvalues),) * 2))
    return (q * np.array(eigenvalues)) @ q.T, q


def hessian_like(size=200, seed=0):
    bulk = 2.0 * np.random.default_rng(seed).normal(size=size - len(OUTLIERS))
    return symmetric(np.concatenate([OUTLIERS, bulk]), seed)


def true_residuals(a, found):
    vectors = np.asarray(found.vectors, np.float64)
    return np.linalg.norm(vectors @ a - found.values[:, None] * vectors, axis=1)


WANTED = {
    "LA": [100.0, 80.0, 60.0, 50.0],
    "SA": [-45.0, -30.0],
    "LM": [100.0, 80.0, 60.0, 50.0, -45.0, 40.0],
    "BE": [100.0, 80.0, 60.0, -30.0, -45.0],
}


@pytest.mark.parametrize("form", [lanczos, extreme_values])
@pytest.mark.parametrize("which", WANTED)
def test_chosen_eigenvalues_are_found_in_order(which, form):
    a, _ = hessian_like()
    found = form(matrix(a), len(WANTED[which]), which=which, tol=1e-4)
    assert found.converged.all()
    np.testing.assert_allclose(found.values, WANTED[which], rtol=1e-5)


@pytest.mark.parametrize("settings_", [{}, {"block": 3}, {"basis": 14}, {"basis": 16, "block": 2}], ids=str)
def test_residuals_are_those_of_the_pairs(settings_):
    a, q = hessian_like()
    found = lanczos(matrix(a), 4, max_steps=150, **settings_)
    assert found.converged.all()
    single = a.astype(np.float32).astype(np.float64)
    true = true_residuals(single, found)
    # Equal where they stand above rounding; never below the true ones by more than it.
    assert np.all(true <= found.residuals * 1.01 + 3e-5)
    assert np.all(found.residuals <= true * 1.01 + 3e-5)
    assert np.max(found.residuals) > 1e-3  # the comparison is not one of rounding errors alone
    np.testing.assert_allclose(np.abs(np.asarray(found.vectors) @ q[:, :4]), np.eye(4), atol=1e-3)
    np.testing.assert_allclose(found.vectors @ found.vectors.T, np.eye(4), atol=1e-6)


@pytest.mark.x64
@pytest.mark.parametrize("settings_", [{}, {"block": 3}, {"basis": 14}], ids=str)
def test_tight_tolerance_reaches_float64(settings_):
    a, _ = hessian_like()
    found = lanczos(matrix(a), 4, tol=1e-12, max_steps=300, **settings_)
    np.testing.assert_allclose(found.values, WANTED["LA"], rtol=1e-13)
    assert np.all(true_residuals(a, found) <= 1.1e-10)


@pytest.mark.x64
def test_agrees_with_scipy_eigsh_and_needs_no_more_products():
    a, _ = hessian_like()
    count = 0

    def product(v):
        nonlocal count
        count += 1
        return a @ v

    peer = eigsh(
        LinearOperator(a.shape, product, dtype=np.float64), k=4, which="LA", tol=1e-6, return_eigenvectors=False
    )
    found = lanczos(matrix(a), 4, tol=1e-6)
    np.testing.assert_allclose(found.values, np.sort(peer)[::-1], rtol=1e-10)
    assert found.products <= count


@pytest.mark.x64
def test_the_full_ritz_spectrum_is_matfree_s():
    a, _ = hessian_like(size=60)
    key, steps = jax.random.key(0), 12
    found = lanczos(matrix(a), 1, tol=0.0, max_steps=steps, key=key)
    start = jax.random.normal(jax.random.fold_in(key, 2**31), (1, 60))[0]
    peer = matfree.decomp.tridiag_sym(steps)(lambda v: jnp.asarray(a) @ v, start)
    np.testing.assert_allclose(np.linalg.eigvalsh(np.asarray(peer.J_small)), found.nodes, rtol=1e-10, atol=1e-10)
    assert found.weights.sum() == pytest.approx(1.0)


@settings(max_examples=10, deadline=None)
@given(st.sampled_from([1, 2, 7]), st.integers(0, 10**6), st.integers(0, 2), st.data())
def test_small_matrices_are_solved_in_full(size, seed, digits, data):
    eigenvalues = np.round(np.random.default_rng(seed).normal(size=size), digits)  # equal ones and zeros occur
    block = data.draw(st.integers(1, min(3, size)))
    a, _ = symmetric(eigenvalues, seed)
    found = lanczos(matrix(a), size, tol=1e-6, block=block)
    assert size + 1 <= found.products <= size + 1 + block  # one checks the result, a block enlarges a product of zero
    np.testing.assert_allclose(found.values, np.sort(eigenvalues)[::-1], atol=1e-5)


def test_equal_eigenvalues_are_all_found_as_a_block_and_counted_once_without_a_basis():
    a, _ = symmetric([9.0, 9.0, 9.0, 5.0] + [0.1 * i for i in range(40)])
    assert np.allclose(lanczos(matrix(a), 4, block=3, tol=1e-4).values, [9.0, 9.0, 9.0, 5.0], atol=1e-4)
    assert np.allclose(extreme_values(matrix(a), 2, tol=1e-4).values, [9.0, 5.0], atol=1e-4)


def test_many_steps_without_a_basis_leave_no_ghosts():
    a, _ = hessian_like()
    found = extreme_values(matrix(a), 6, tol=1e-9, max_steps=150)  # far beyond convergence: copies abound
    assert np.sum(found.nodes > 99.0) > 2
    np.testing.assert_allclose(found.values[:5], [100.0, 80.0, 60.0, 50.0, 40.0], rtol=1e-5)
    assert found.values[5] < 10.0
    distance = np.min(np.abs(found.values[:, None] - np.linalg.eigvalsh(a)[None]), axis=1)
    assert np.all(distance <= found.residuals + 1e-3)


def test_a_ritz_value_without_weight_on_the_start_is_a_ghost_and_close_ones_are_copies():
    values, bounds = genuine(np.array([1.0, 5.0, 5.0 + 1e-9]), np.array([1.0, 1e-12, 0.5]), 10, 1e-6)
    assert np.allclose(values, np.linalg.eigvalsh([[1.0, 1.0], [1.0, 5.0]]), atol=1e-6)
    assert bounds.shape == values.shape


def test_a_restart_keeps_few_vectors_and_reaches_the_same():
    a, _ = hessian_like()
    whole, restarted = (lanczos(matrix(a), 4, tol=1e-5, max_steps=200, **s) for s in ({}, {"basis": 10}))
    np.testing.assert_allclose(restarted.values, whole.values, rtol=1e-5)
    assert restarted.nodes.size <= 10 < whole.nodes.size
    assert restarted.products > whole.products


def test_the_vectors_of_the_step_before_save_products():
    a, _ = hessian_like()
    before = lanczos(matrix(a), 4)
    nudge, _ = symmetric(0.02 * np.random.default_rng(1).normal(size=200), 1)
    cold, warm = lanczos(matrix(a + nudge), 4), lanczos(matrix(a + nudge), 4, start=before.vectors)
    assert warm.converged.all()
    assert warm.products <= cold.products - 3
    np.testing.assert_allclose(warm.values, cold.values, rtol=1e-4)


def test_a_start_orthogonal_to_the_largest_still_finds_it():
    a, q = hessian_like()
    start = jnp.asarray(q[:, 1:5].sum(axis=1), jnp.float32)
    assert lanczos(matrix(a), 1, start=start, tol=1e-5).values[0] == pytest.approx(100.0, rel=1e-4)


def test_two_calls_have_equal_bits_and_another_key_another_start():
    a, _ = hessian_like()
    one, two, other = (lanczos(matrix(a), 3, key=jax.random.key(i)) for i in (0, 0, 1))
    assert np.array_equal(one.values, two.values)
    assert np.array_equal(one.vectors, two.vectors)
    assert not np.array_equal(one.nodes, other.nodes)


def test_products_are_counted_and_passes_shared():
    a, passes = hessian_like()[0].astype(np.float32), []

    def product(rows):
        passes.append(rows.shape[0])
        return rows @ a

    bound = from_function(product, 200)
    found = lanczos(bound, 4, block=4)
    assert found.products == bound.products == sum(passes)
    assert passes == [4] * (len(passes) - 1) + [1]  # the last checks the result


def test_what_did_not_converge_says_so():
    a, _ = hessian_like()
    found = lanczos(matrix(a), 5, max_steps=6)
    assert found.products == 7
    assert not found.converged.all()
    assert np.all((found.residuals > 1e-3 * np.abs(found.values)) == ~found.converged)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(k=201), "k=201 must lie in 1..200"),
        (dict(k=0), "k=0 must lie in 1..200"),
        (dict(k=3, which="LARGEST"), "choose one of LA"),
        (dict(k=3, max_steps=2), "max_steps=2 is fewer"),
        (dict(k=3, basis=4), "basis=4 is too small"),
        (dict(k=3, block=0), "block=0"),
        (dict(k=3, start=np.ones(7)), "200 numbers"),
        (dict(k=3, start=np.full((1, 200), np.nan)), "leave `start` out"),
    ],
)
def test_impossible_requests_are_refused_in_one_sentence(arguments, words):
    with pytest.raises(LrjaxError, match=words) as error:
        lanczos(matrix(hessian_like()[0]), **arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("form", [lanczos, extreme_values])
def test_a_product_that_is_not_finite_is_refused(form):
    with pytest.raises(LrjaxError, match="not finite"):
        form(from_function(lambda rows: rows * jnp.nan, 10), 1)
