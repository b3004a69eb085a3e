"""Frobenius norm and effective rank from random products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrjax.errors import LrjaxError
from lrjax.spectra.bound import from_function, matrix
from lrjax.spectra.norms import effective_rank, frobenius
from lrjax.spectra.random_vectors import small_sample

SIZE = 100
SPECTRA = {"slow": np.arange(1.0, SIZE + 1) ** -0.5, "indefinite": np.linspace(-1.0, 2.0, SIZE)}


def key(seed=0):
    return jax.random.key(seed)


def rotated(values):
    basis, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((len(values), len(values))))
    return matrix((basis * values) @ basis.T)


def covered(error, stderr):
    return np.mean(np.abs(error) <= 2 * np.array(stderr))


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_norm_and_effective_rank_lie_within_two_standard_errors(spectrum):
    values = SPECTRA[spectrum]
    bound = rotated(values)
    norms = [frobenius(bound, key(seed), num_probes=10) for seed in range(100)]
    ranks = [effective_rank(bound, key(seed), num_probes=10) for seed in range(100)]
    squared, rank = np.sum(values**2), np.sum(values) ** 2 / np.sum(values**2)
    assert covered([n.squared - squared for n in norms], [n.squared_stderr for n in norms]) >= 0.9
    assert covered([n.value - np.sqrt(squared) for n in norms], [n.stderr for n in norms]) >= 0.9
    assert covered([r.value - rank for r in ranks], [r.stderr for r in ranks]) >= 0.9


def test_jackknife_takes_the_bias_off_the_effective_rank():
    values = SPECTRA["slow"]
    bound = rotated(values)
    ranks = [effective_rank(bound, key(seed), num_probes=4).value for seed in range(200)]
    # The plain ratio of means is 4 of these standard errors too large.
    error = np.mean(ranks) - np.sum(values) ** 2 / np.sum(values**2)
    assert abs(error) < 3 * np.std(ranks) / np.sqrt(200)


def test_as_many_probes_as_parameters_are_exact():
    values = SPECTRA["indefinite"]
    bound = rotated(values)
    norm = frobenius(bound, key(), num_probes=SIZE, chunk=30)
    assert norm.squared == pytest.approx(np.sum(values**2), rel=1e-5)
    assert norm.value**2 == pytest.approx(norm.squared)
    assert norm.products == bound.products == SIZE
    assert norm.stderr < 1e-5 * norm.value
    rank = effective_rank(bound, key(), num_probes=SIZE + 1)
    assert rank.value == pytest.approx(np.sum(values) ** 2 / np.sum(values**2), rel=1e-5)


@pytest.mark.parametrize("rank", [1, 7])
def test_effective_rank_of_equal_eigenvalues_is_their_number(rank):
    values = np.r_[np.full(rank, 3.0), np.zeros(SIZE - rank)]
    found = effective_rank(rotated(values), key(), num_probes=SIZE)
    assert found.value == pytest.approx(rank, rel=1e-5)


def test_few_samples_widen_the_standard_error_as_the_t_distribution_says():
    draws = np.random.default_rng(0).standard_normal((20000, 3))
    stderr = np.std(draws, axis=1, ddof=1) / np.sqrt(3)
    assert np.mean(np.abs(draws.mean(axis=1)) <= 2 * stderr) < 0.85
    assert np.mean(np.abs(draws.mean(axis=1)) <= 2 * stderr * small_sample(3)) == pytest.approx(0.9545, abs=0.005)


def test_bad_arguments_and_matrices_are_named():
    bound = matrix(np.eye(SIZE))
    with pytest.raises(LrjaxError, match="at least 2 probes"):
        frobenius(bound, key(), num_probes=1)
    with pytest.raises(LrjaxError, match="at least 3 probes"):
        effective_rank(bound, key(), num_probes=2)
    with pytest.raises(LrjaxError, match="matrix is zero"):
        effective_rank(matrix(np.zeros((SIZE, SIZE))), key(), num_probes=3)
    with pytest.raises(LrjaxError, match="not finite"):
        frobenius(from_function(lambda rows: rows * jnp.nan, SIZE), key(), num_probes=2)
