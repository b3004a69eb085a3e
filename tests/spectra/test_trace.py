"""Trace estimators: equal to their definitions and to matfree, and honest about their errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matfree import stochtrace

from lrjax.errors import LrjaxError
from lrjax.spectra.bound import from_function, matrix
from lrjax.spectra.random_vectors import signs, sphere
from lrjax.spectra.trace import METHODS, trace

SIZE = 150
SEEDS = 200
i = np.arange(1, SIZE + 1)
SPECTRA = {
    "flat": np.linspace(0.8, 1.2, SIZE),
    "power": 1.0 / i,
    "covariance": np.r_[np.geomspace(100, 5, 12), np.linspace(0, 0.2, SIZE - 12)],
    "hessian": np.r_[100.0, 40.0, 15.0, -4.0, 0.3 * np.sin(np.arange(SIZE - 4)) + 0.05],
    "indefinite": np.linspace(-1.0, 1.3, SIZE),
}


def rotated(values, seed=0):
    basis, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values), len(values))))
    return (basis * values) @ basis.T


def key(seed=0):
    return jax.random.key(seed)


CASES = [(method, spectrum) for method in ("xtrace", "hutch++") for spectrum in SPECTRA if spectrum != "covariance"]

OTHERS = [("xnystrace", "power"), ("xnystrace", "covariance"), ("hutchinson", "hessian")]


@pytest.mark.parametrize(
    ("method", "spectrum"),
    [
        ("xtrace", "hessian"),
        ("hutch++", "hessian"),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in CASES if case[1] != "hessian"),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in OTHERS),
    ],
)
def test_trace_lies_within_two_standard_errors_which_are_no_larger_than_the_error(method, spectrum):
    values = SPECTRA[spectrum]
    bound = matrix(rotated(values), psd=values.min() >= 0)
    found = [trace(bound, key(seed), num_probes=24, method=method) for seed in range(SEEDS)]
    error = np.array([f.value - values.sum() for f in found])
    stderr = np.array([f.stderr for f in found])
    assert np.mean(np.abs(error) <= 2 * stderr) >= 0.9
    # The spread of the samples, the usual formula, gives 0.6 to 0.8 here for the correlated methods.
    assert 0.85 < np.sqrt(np.mean(stderr**2) / np.mean(error**2)) < 1.2
    assert abs(np.mean(error)) < 4 * np.std(error) / np.sqrt(SEEDS)


def xtrace_by_definition(a, vectors, left_out=()):
    """{i: t_i} with one QR a left-out vector; the normalisation is to the sphere in what remains."""
    size, samples = len(a), {}
    rest = [j for j in range(len(vectors)) if j not in left_out]
    for j in rest:
        q, _ = np.linalg.qr(a @ vectors[[other for other in rest if other != j]].T)
        w = vectors[j] - q @ (q.T @ vectors[j])
        scale = (size - q.shape[1]) / (w @ w)
        samples[j] = np.trace(q.T @ a @ q) + scale * w @ a @ w
    return samples


def xnystrace_by_definition(a, vectors, left_out=()):
    size, samples = len(a), {}
    rest = [j for j in range(len(vectors)) if j not in left_out]
    for j in rest:
        others = vectors[[other for other in rest if other != j]]
        product = others @ a
        nystrom = product.T @ np.linalg.solve(product @ others.T, product)
        q, _ = np.linalg.qr(others.T)
        w = vectors[j] - q @ (q.T @ vectors[j])
        scale = (size - len(others)) / (w @ w)
        samples[j] = np.trace(nystrom) + scale * w @ (a - nystrom) @ w
    return samples


DEFINITIONS = {"xtrace": xtrace_by_definition, "xnystrace": xnystrace_by_definition}
ORACLES = {"xtrace": stochtrace.leave_one_out_xtrace, "xnystrace": stochtrace.leave_one_out_xnystrace}


@pytest.mark.x64
@pytest.mark.parametrize("method", DEFINITIONS)
def test_leave_one_out_samples_are_those_of_the_definition_and_of_matfree(method):
    a = rotated(1.0 / i[:40])
    bound = matrix(a, psd=True)
    vectors = sphere(key(), range(6), bound)
    found = trace(bound, key(), num_probes=12 if method == "xtrace" else 6, method=method)
    np.testing.assert_allclose(found.samples, list(DEFINITIONS[method](a, np.asarray(vectors)).values()), rtol=1e-10)
    with jax.numpy_rank_promotion("allow"):
        oracle = jax.jit(lambda rows: ORACLES[method]()(lambda v: jnp.asarray(a) @ v, rows))(vectors)
    np.testing.assert_allclose(found.samples, oracle, rtol=1e-10)
    assert found.value == np.mean(found.samples)


@pytest.mark.x64
@pytest.mark.parametrize("method", DEFINITIONS)
def test_variance_is_that_of_the_residual_plus_the_covariances_of_pairs(method):
    a = rotated(i[:40] ** -0.5)
    bound = matrix(a, psd=True)
    vectors = np.asarray(sphere(key(), range(5), bound))
    define = DEFINITIONS[method]
    samples, total = define(a, vectors), 0.0
    without = {j: define(a, vectors, left_out=(j,)) for j in range(5)}
    for one in range(5):
        others = np.delete(vectors, one, axis=0)
        if method == "xtrace":
            q, _ = np.linalg.qr(a @ others.T)
            rest = (np.eye(40) - q @ q.T) @ a @ (np.eye(40) - q @ q.T)
        else:
            product = others @ a
            rest, q = a - product.T @ np.linalg.solve(product @ others.T, product), np.linalg.qr(others.T)[0]
        g = vectors[one] - q @ (q.T @ vectors[one])
        g *= np.sqrt(36) / np.linalg.norm(g)
        total += 2 * np.sum((rest @ g - g * (g @ rest @ g) / 36) ** 2)
        total += sum((samples[one] - without[j][one]) * (samples[j] - without[one][j]) for j in range(5) if j != one)
    found = trace(bound, key(), num_probes=10 if method == "xtrace" else 5, method=method)
    np.testing.assert_allclose(found.stderr, np.sqrt(total) / 5, rtol=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_trace_of_a_multiple_of_the_identity_is_exact(method):
    bound = from_function(lambda rows: 3.0 * rows, SIZE, psd=True)
    found = trace(bound, key(), num_probes=24, method=method)
    assert found.value == pytest.approx(3.0 * SIZE, rel=1e-6)
    assert found.stderr < 3e-4 * SIZE


@pytest.mark.parametrize(("method", "values"), [
    ("xtrace", [50.0, -20.0, 3.0, 1e-3]),
    ("xtrace", [7.0] * 11),  # one fewer than test vectors: leaving out two of them loses a direction
    ("hutch++", [50.0, -20.0, 3.0, 1e-3]),
    ("xnystrace", [50.0, 20.0, 3.0, 1e-3]),
    ("xnystrace", [7.0] * 12),
])  # fmt: skip
def test_trace_is_exact_to_rounding_where_the_rank_is_below_the_probes(method, values):
    spectrum = np.r_[values, np.zeros(SIZE - len(values))]
    a = rotated(spectrum).astype(np.float32)
    found = [trace(matrix(a, psd=True), key(seed), num_probes=24, method=method) for seed in range(5)]
    for f in found:
        assert abs(f.value - np.trace(a.astype(np.float64))) < min(2 * f.stderr, 1e-5 * np.sum(np.abs(values)))
        assert f.stderr < 2e-5 * np.sum(np.abs(values))


@pytest.mark.parametrize("method", METHODS)
def test_zero_matrix_has_trace_zero(method):
    found = trace(matrix(np.zeros((SIZE, SIZE)), psd=True), key(), num_probes=24, method=method)
    assert (found.value, found.stderr) == (0.0, 0.0)


@pytest.mark.parametrize("num_probes", [30, 31, 1000])
def test_as_many_probes_as_parameters_read_off_the_diagonal(num_probes):
    a = rotated(SPECTRA["hessian"][:30])
    bound = matrix(a)
    found = trace(bound, key(), num_probes=num_probes, chunk=7)
    assert (found.method, found.products, bound.products) == ("exact", 30, 30)
    assert found.value == pytest.approx(np.trace(a), rel=1e-6)
    assert abs(found.value - np.trace(a)) < found.stderr < 1e-3


@pytest.mark.parametrize(("method", "probes", "passes", "products"), [
    ("hutchinson", 24, 1, 24), ("xnystrace", 24, 1, 24), ("xtrace", 25, 2, 24), ("hutch++", 24, 2, 24),
])  # fmt: skip
def test_a_stage_is_one_pass_over_the_data_and_chunks_change_nothing(method, probes, passes, products):
    a, calls = rotated(SPECTRA["power"]), []

    def matmat(rows):
        calls.append(rows.shape[0])
        return rows @ jnp.asarray(a, jnp.float32)

    bound = from_function(matmat, SIZE, psd=True)
    whole = trace(bound, key(), num_probes=probes, method=method)
    assert (len(calls), sum(calls), whole.products) == (passes, products, products)
    calls.clear()
    pieces = trace(bound, key(), num_probes=probes, method=method, chunk=8)
    assert max(calls) == 8
    assert sum(calls) == products
    assert pieces.value == pytest.approx(whole.value, rel=1e-5)
    np.testing.assert_allclose(pieces.samples, whole.samples, rtol=1e-3)


def test_same_key_gives_equal_bits_and_another_key_does_not():
    bound = matrix(rotated(SPECTRA["hessian"]))
    first, again, other = (trace(bound, key(seed), num_probes=24) for seed in (1, 1, 2))
    assert (first.value, first.stderr) == (again.value, again.stderr)
    assert first.value != other.value


def test_random_vectors_do_not_depend_on_the_block_and_have_the_right_length():
    bound = matrix(np.eye(SIZE))
    for draw in (sphere, signs):
        rows = np.asarray(draw(key(), range(24), bound))
        np.testing.assert_array_equal(rows[8:16], draw(key(), range(8, 16), bound))
        np.testing.assert_allclose(np.sum(rows**2, axis=1), SIZE, rtol=1e-5)
        assert np.abs(np.corrcoef(rows) - np.eye(24)).max() < 0.5


@pytest.mark.parametrize(("arguments", "message"), [
    ({"num_probes": 3, "method": "xtrace"}, "xtrace needs at least 4 probes"),
    ({"num_probes": 2, "method": "hutch++"}, r"hutch\+\+ needs at least 3"),
    ({"num_probes": 1, "method": "xnystrace"}, "xnystrace needs at least 2"),
    ({"num_probes": 0, "method": "hutchinson"}, "num_probes must be >= 1, got 0"),
    ({"num_probes": 8, "method": "xtrac"}, "did you mean 'xtrace'"),
    ({"num_probes": 8, "chunk": 0}, "chunk must be >= 1 or None, got 0"),
])  # fmt: skip
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(LrjaxError, match=message):
        trace(matrix(np.eye(20), psd=True), key(), **arguments)


def test_xnystrace_refuses_a_matrix_with_negative_eigenvalues():
    a = rotated(SPECTRA["indefinite"])
    with pytest.raises(LrjaxError, match="positive semi-definite.*use method='xtrace'"):
        trace(matrix(a), key(), num_probes=24, method="xnystrace")
    with pytest.raises(LrjaxError, match="negative curvature.*use method='xtrace'"):
        trace(matrix(a, psd=True), key(), num_probes=24, method="xnystrace")


@pytest.mark.parametrize("method", METHODS)
def test_products_that_are_not_finite_are_named(method):
    bound = from_function(lambda rows: rows * jnp.nan, SIZE, name="hessian", psd=True)
    with pytest.raises(LrjaxError, match="hessian is not finite"):
        trace(bound, key(), num_probes=24, method=method)


@settings(max_examples=10, deadline=None)
@given(
    size=st.sampled_from([25, SIZE]),
    decay=st.floats(0.0, 4.0),
    scale=st.floats(1e-6, 1e6),
    negative=st.floats(0.0, 1.0),
    seed=st.integers(0, 2**31 - 1),
)
def test_error_is_within_eight_standard_errors_for_any_spectrum(size, decay, scale, negative, seed):
    rng = np.random.default_rng(seed)
    values = scale * i[:size] ** -decay * np.where(rng.random(size) < negative, -1, 1)
    found = trace(matrix(rotated(values, seed)), key(seed), num_probes=24)
    assert found.products == 24
    assert abs(found.value - values.sum()) <= 8 * found.stderr
