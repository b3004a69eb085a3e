"""K from mini-batch gradients: the Gram trick against the dense matrix, and its scale against drawn batches."""

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
import pytest

from lrjax.errors import LrjaxError
from lrjax.spectra.gram import batch_gradients, gram
from lrjax.spectra.subset import intervals

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


@pytest.mark.parametrize("form", ["stacked tree", "stacked list", "tuple of trees", "tuple of vectors", "iterator"])
def test_every_form_of_gradients_gives_the_same(form):
    rows = jnp.asarray(GRADIENTS, jnp.float32)
    stacked = {"b": rows[:, :2], "w": rows[:, 2:].reshape(7, 5, 2)}
    trees = [{"b": row[:2], "w": row[2:].reshape(5, 2)} for row in rows]
    forms = {"stacked tree": stacked, "stacked list": list(stacked.values())}
    forms |= {"tuple of trees": tuple(trees), "tuple of vectors": tuple(rows), "iterator": iter(rows)}
    found, expected = gram(forms[form], k=2), gram(rows, k=2)
    np.testing.assert_array_equal(found.values, expected.values)
    np.testing.assert_array_equal(found.vectors, expected.vectors)
    assert found.vectors.shape == (2, 12)


def test_list_of_arrays_is_the_stacked_gradient_of_a_list_of_parameters():
    first, second = (np.random.default_rng(seed).normal(size=(12, 5)) for seed in range(2))
    expected = dense(np.concatenate([first, second], axis=1), divisor=12)
    for convert in (np.asarray, lambda a: jnp.asarray(a, jnp.float32)):
        found = gram([convert(first), convert(second)])
        assert (len(found.inner), found.dimension) == (12, 10)
        assert found.trace == pytest.approx(np.trace(expected), rel=1e-5)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("scale", [1e-30, 1e-21, 1e20, 1e30])
def test_gram_is_right_at_every_scale_of_float32(scale, center):
    rows = np.asarray(GRADIENTS, np.float32) * np.float32(scale)
    found, expected = gram(rows, center=center), dense(np.asarray(rows, np.float64), center)
    values, vectors = np.linalg.eigh(expected / scale**2)
    np.testing.assert_allclose(found.values[:6] / scale**2, values[::-1][:6], rtol=1e-4)
    assert found.trace == pytest.approx(np.trace(expected), rel=1e-5)
    np.testing.assert_allclose(np.abs(found.vectors[0] @ vectors[:, -1]), 1, rtol=1e-5)
    for method, key in (("jackknife", None), ("bootstrap", jax.random.key(0))):
        of_scaled = intervals(found, "trace", method=method, key=key)
        of_one = intervals(gram(np.asarray(GRADIENTS, np.float32), center=center), "trace", method=method, key=key)
        np.testing.assert_allclose(np.array(of_scaled)[:4] / scale**2, np.array(of_one)[:4], rtol=1e-4)


def test_gradients_of_different_scales_keep_their_own_products():
    rows = jnp.array([[1e-25, 0.0], [0.0, 1e10], [2e-25, 0.0], [0.0, 0.0]])
    found = gram(rows, center=False)
    np.testing.assert_allclose(found.inner[0, 2], 2e-50, rtol=1e-6)
    np.testing.assert_allclose(found.trace, 1e20 / 4, rtol=1e-6)


def test_zero_gradients_have_no_variance():
    found = gram(jnp.zeros((3, 4)))
    assert found.trace == 0
    np.testing.assert_array_equal(found.vectors, 0)


def test_float64_of_the_host_keeps_its_digits_and_its_range():
    noise = np.random.default_rng(1).normal(size=(6, 10))
    for mean, scale in ((2.0**40, 1.0), (0.0, 1e-60), (0.0, 1e60)):
        found = gram({"w": noise * scale + mean})
        np.testing.assert_allclose(
            found.values / scale**2, np.linalg.eigvalsh(dense(noise, divisor=6))[::-1][:5], rtol=1e-3
        )


def test_integer_gradients_are_numbers():
    rows = np.arange(12).reshape(4, 3) ** 2
    for form in (rows, {"w": jnp.asarray(rows)}):
        assert gram(form).trace == pytest.approx(np.trace(dense(rows, divisor=4)), rel=1e-6)


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
        ((np.ones(3), np.ones(4)), {}, r"gradients 0 and 1 have \[3\] and \[4\]"),
        (np.ones(4), {}, r"must be \[L, D\]"),
        ([np.ones(4), np.ones(4)], {}, "put vectors of one gradient each in a tuple"),
        (
            (np.ones((4, 2)), np.ones((4, 2))),
            {},
            r"jnp.stack\(gradients\) for the first, list\(gradients\) for the second",
        ),
        (
            [{"b": np.ones(2), "w": np.ones((3, 2))}] * 5,
            {},
            r"these have \[2, 3\]; put L separate gradients in a tuple",
        ),
        (({"w": np.ones(2)}, {"v": np.ones(2)}), {}, r"gradients 0 and 1 have \[2\] and nothing at w"),
        ({"c": np.ones((3, 2), np.complex64)}, {}, "gradients of c are complex64, not real numbers; give real and"),
        (
            {"m": np.ones((3, 2), bool), "w": np.ones((3, 2))},
            {},
            "gradients of m are bool, not real numbers; leave them out",
        ),
        ({"n": np.zeros((3, 2), jax.dtypes.float0)}, {}, "not real numbers; leave them out"),
        ({"w": np.ones((3, 0))}, {}, "of size zero"),
        (np.eye(3) * 1e200, {}, "squares in float64"),
        ([0.5, 0.25], {}, "share their first axis"),
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
