"""K from mini-batch gradients: the Gram trick against the dense matrix, and its scale against drawn batches."""

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
import pytest

from lrjax.errors import LrjaxError
from lrjax.spectra.gram import batch_gradients, gram

GRADIENTS = np.random.default_rng(0).normal(size=(7, 12)) * np.linspace(0.2, 2.0, 12) + 3.0


def dense(rows, center=True, divisor=7):
    kept = rows - rows.mean(axis=0) if center else rows
    return kept.T @ kept / divisor


@pytest.mark.x64
@pytest.mark.parametrize(("center", "divisor", "number"), [(True, "L", 6), (True, "L-1", 6), (False, "L", 7)])
def test_gram_eigenpairs_are_those_of_the_dense_matrix(center, divisor, number):
    found = gram(GRADIENTS, center=center, divisor=divisor)
    matrix = dense(GRADIENTS, center, 6 if divisor == "L-1" else 7)
    values, vectors = np.linalg.eigh(matrix)
    assert found.values.shape == (number,)
    np.testing.assert_allclose(found.values, values[::-1][:number], rtol=1e-10)
    assert found.trace == pytest.approx(np.trace(matrix), rel=1e-12)
    assert (found.lambda_1, found.lambda_star) == (found.values[0], found.values[-1])
    overlaps = np.abs(np.asarray(found.vectors) @ vectors[:, ::-1][:, :number])
    np.testing.assert_allclose(overlaps, np.eye(number), atol=1e-10)


def test_fewer_dimensions_than_gradients_leave_that_many_eigenvalues():
    found = gram(GRADIENTS[:, :3])
    values = np.linalg.eigvalsh(dense(GRADIENTS[:, :3]))[::-1]
    np.testing.assert_allclose(found.values, values, rtol=1e-5)
    assert found.vectors.shape == (3, 3)


def test_mean_a_million_times_the_noise_does_not_enter_in_float32():
    noise = np.round(np.random.default_rng(1).normal(size=(6, 10)) * 8) / 8
    found = gram(jnp.asarray(noise + 2.0**20, jnp.float32))
    np.testing.assert_allclose(found.values, np.linalg.eigvalsh(dense(noise, divisor=6))[::-1][:5], rtol=1e-5)


@pytest.mark.parametrize("form", ["stacked tree", "list of trees", "list of vectors", "iterator"])
def test_every_form_of_gradients_gives_the_same(form):
    rows = jnp.asarray(GRADIENTS, jnp.float32)
    stacked = {"b": rows[:, :2], "w": rows[:, 2:].reshape(7, 5, 2)}
    trees = [{"b": row[:2], "w": row[2:].reshape(5, 2)} for row in rows]
    forms = {"stacked tree": stacked, "list of trees": trees, "list of vectors": list(rows), "iterator": iter(rows)}
    found, expected = gram(forms[form], k=2), gram(rows, k=2)
    np.testing.assert_array_equal(found.values, expected.values)
    np.testing.assert_array_equal(found.vectors, expected.vectors)
    assert found.vectors.shape == (2, 12)


def test_half_precision_gradients_are_measured_in_float32():
    rows = jnp.asarray(np.round(GRADIENTS), jnp.bfloat16)
    np.testing.assert_allclose(gram(rows).trace, np.trace(dense(np.asarray(rows, np.float64))), rtol=1e-5)


def test_direction_without_variance_is_zero_not_noise():
    rows = jnp.asarray([[1.0, 0, 0], [-1, 0, 0], [0, 2, 0], [0, -2, 0]])
    found = gram(rows)
    assert found.lambda_star == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_array_equal(found.vectors[2], 0)
    np.testing.assert_allclose(np.linalg.norm(found.vectors[:2], axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("divisor", ["L", "L-1"])
@pytest.mark.parametrize("disjoint", [False, True])
def test_per_example_trace_is_unbiased(disjoint, divisor):
    generator, n, size, count, draws = np.random.default_rng(2), 60, 12, 4, 20_000
    examples = generator.normal(size=(n, 4)) * np.array([2.0, 1.5, 1.0, 0.5])
    order = np.argsort(generator.random((draws, 1 if disjoint else count, n)), axis=2)
    chosen = order[..., : count * size if disjoint else size].reshape(draws, count, size)
    rows = examples[chosen].mean(axis=2)  # [draws, L, D]
    c = count if divisor == "L" else count - 1
    traces = rows.var(axis=1).sum(axis=1) * count / c
    found = gram(rows[0], divisor=divisor, batch_size=size, num_examples=n, disjoint=disjoint)
    assert found.trace == pytest.approx(traces[0], rel=1e-5)
    assert found.per_example().trace == pytest.approx(found.trace * found.scale)
    # The factors that could be confused: N / (N - M) = 1.25, L / (L - 1) = 1.33, N / (N - 1) = 1.017.
    true = np.trace(dense(examples, divisor=n))
    assert np.mean(traces) * found.scale == pytest.approx(true, rel=4 * traces.std() / traces.mean() / np.sqrt(draws))


@pytest.mark.x64
def test_all_examples_one_by_one_give_the_per_example_covariance():
    found = gram(GRADIENTS, divisor="L-1", batch_size=1, num_examples=7, disjoint=True).per_example()
    np.testing.assert_allclose(found.values, np.linalg.eigvalsh(dense(GRADIENTS))[::-1][:6], rtol=1e-10)


def regression_loss(params, batch):
    return jnp.mean((batch["x"] @ params["w"] + params["b"] - batch["y"]) ** 2)


def regression():
    generator = np.random.default_rng(3)
    batches = [{"x": generator.normal(size=(5, 3)), "y": generator.normal(size=5)} for _ in range(4)]
    return {"b": jnp.array(0.5), "w": jnp.array([1.0, -2.0, 0.3])}, batches


@pytest.mark.x64
def test_batch_gradients_are_the_closed_form():
    params, batches = regression()
    found = batch_gradients(regression_loss, params, batches)
    for row, batch in zip(found, batches, strict=True):
        slope = 2 * (batch["x"] @ params["w"] + params["b"] - batch["y"]) / 5
        np.testing.assert_allclose(row, [slope.sum(), *(batch["x"].T @ slope)], rtol=1e-12)
    alone = batch_gradients(regression_loss, params, lambda: iter(batches), "w")
    np.testing.assert_allclose(alone, found[:, 1:], rtol=1e-12)  # another program, which may add in another order


def test_second_call_compiles_nothing():
    traced = []

    def loss(params, batch):
        traced.append(isinstance(batch["x"], jax.core.Tracer))
        return regression_loss(params, batch)

    params, batches = regression()
    batch_gradients(loss, params, batches)
    before = sum(traced)
    batch_gradients(loss, jax.tree.map(lambda a: a + 1, params), batches)
    assert before >= 2  # its shape, and its gradient
    assert sum(traced) - before <= 1


@pytest.mark.parametrize(
    ("gradients", "options", "words"),
    [
        (GRADIENTS[:1], {}, "two gradients or more"),
        (GRADIENTS, {"k": 7}, "have 6 eigenvectors"),
        (GRADIENTS, {"divisor": "N"}, "divisor must be"),
        (GRADIENTS, {"batch_size": 4}, "together"),
        (GRADIENTS, {"batch_size": 4, "num_examples": 4}, "batch_size must be from 1 to 3"),
        (GRADIENTS, {"batch_size": 4, "num_examples": 20, "disjoint": True}, "need 28 examples"),
        (GRADIENTS, {"center": False, "divisor": "L-1"}, "centred"),
        (np.where(np.arange(7)[:, None] == 2, np.nan, GRADIENTS), {}, r"gradient \[2\] holds NaN"),
        ([], {}, "no gradients"),
        ([np.ones(3), np.ones(4)], {}, "3, 4 numbers"),
        (np.ones(4), {}, r"must be \[L, D\]"),
    ],
)
def test_bad_gradients_are_refused_with_a_sentence(gradients, options, words):
    with pytest.raises(LrjaxError, match=words):
        gram(gradients, **options)


def test_per_example_scale_needs_the_sizes():
    with pytest.raises(LrjaxError, match="batch_size=M"):
        gram(GRADIENTS).per_example()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda params, batches: (params, [*batches, jax.tree.map(lambda a: a[:2], batches[0])]), "one size"),
        (lambda params, batches: (params, []), "no batches"),
        (lambda params, batches: (params, [jax.tree.map(lambda a: a[:0], batches[0])]), "no examples"),
        (lambda params, batches: ({**params, "b": jnp.nan}, batches), "b hold NaN"),
    ],
)
def test_bad_batches_are_refused_with_a_sentence(change, words):
    with pytest.raises(LrjaxError, match=words):
        batch_gradients(regression_loss, *change(*regression()))


def test_vector_loss_is_refused():
    params, batches = regression()
    with pytest.raises(LrjaxError, match="must be a scalar"):
        batch_gradients(lambda p, batch: batch["x"] @ p["w"], params, batches)
