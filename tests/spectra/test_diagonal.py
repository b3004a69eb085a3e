"""The stochastic diagonal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrjax.errors import LrjaxError
from lrjax.spectra.bound import from_function, matrix
from lrjax.spectra.diagonal import diagonal

SIZE = 80
B = np.random.default_rng(0).standard_normal((SIZE, SIZE)) * np.geomspace(0.1, 3, SIZE)[:, None]
A = ((B + B.T) / 2).astype(np.float32)


def key(seed=0):
    return jax.random.key(seed)


def test_diagonal_of_a_diagonal_matrix_is_exact_with_two_probes():
    entries = np.linspace(-3, 5, SIZE).astype(np.float32)
    found = diagonal(matrix(np.diag(entries)), key(), num_probes=2)
    np.testing.assert_array_equal(found.value, entries)
    assert np.max(found.stderr) < 1e-6
    assert found.products == 2


def test_entries_lie_within_two_standard_errors_as_often_as_they_should():
    hits, values = [], []
    for seed in range(40):
        found = diagonal(matrix(A), key(seed), num_probes=8)
        values.append(np.asarray(found.value))
        hits.append(np.abs(found.value - np.diag(A)) <= 2 * found.stderr)
    assert 0.93 < np.mean(hits) < 0.975
    spread = np.std(values, axis=0, ddof=1)
    expected = np.sqrt((np.sum(A**2, axis=1) - np.diag(A) ** 2) / 8)
    assert np.mean(spread / expected) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("chunk", [1, 3, 8, 100])
def test_chunks_change_neither_mean_nor_deviation(chunk):
    whole = diagonal(matrix(A), key(), num_probes=8)
    pieces = diagonal(matrix(A), key(), num_probes=8, chunk=chunk)
    np.testing.assert_allclose(pieces.value, whole.value, atol=1e-5)
    np.testing.assert_allclose(pieces.stderr, whole.stderr, rtol=1e-4)


@pytest.mark.parametrize("num_probes", [SIZE, 5 * SIZE])
def test_as_many_probes_as_parameters_give_the_exact_diagonal(num_probes):
    found = diagonal(matrix(A), key(), num_probes=num_probes, chunk=33)
    np.testing.assert_array_equal(found.value, np.diag(A))
    assert found.products == SIZE


def test_too_few_probes_and_products_that_are_not_finite_are_named():
    with pytest.raises(LrjaxError, match="at least 2 probes"):
        diagonal(matrix(A), key(), num_probes=1)
    with pytest.raises(LrjaxError, match="not finite"):
        diagonal(from_function(lambda rows: rows * jnp.nan, SIZE), key(), num_probes=2)
