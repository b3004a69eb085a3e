"""Subsets and intervals: what is chosen, when it warns, and that resampled Gram matrices are those of resampled rows."""

import jax
import numpy as np
import pytest

from lrjax.errors import LrjaxError
from lrjax.spectra.gram import gram
from lrjax.spectra.subset import (
    SmallSubsetWarning,
    batches_of,
    evaluation_subset,
    intervals,
    spread,
)

ROWS = np.random.default_rng(0).normal(size=(9, 20)) * np.exp(-np.arange(20) / 3) + 1.0
SPECTRUM = np.array([10.0, 3.0, 1.0, 1.0, 0.5, 0.5])


def test_default_subset_is_five_percent_or_4096_or_all():
    assert [len(evaluation_subset(n)) for n in (3000, 45_000, 100_001)] == [3000, 4096, 5001]


def test_subset_is_sorted_distinct_and_fixed_by_its_seed():
    first, again, other = evaluation_subset(20_000), evaluation_subset(20_000), evaluation_subset(20_000, seed=1)
    np.testing.assert_array_equal(first, again)
    assert (np.diff(first) > 0).all()
    assert not np.array_equal(first, other)
    assert abs(first.mean() - 10_000) < 500


def test_few_of_many_examples_warn_and_few_of_few_do_not():
    assert len(evaluation_subset(100)) == 100
    with pytest.warns(SmallSubsetWarning, match="128 of 50000"):
        evaluation_subset(50_000, size=128)


@pytest.mark.parametrize("size", [0, 11])
def test_impossible_subset_is_refused(size):
    with pytest.raises(LrjaxError, match="from 1 to 10"):
        evaluation_subset(10, size=size)


def test_batches_hold_the_subset_in_order_with_a_short_last_one():
    data = {"x": np.arange(40).reshape(20, 2), "y": np.arange(20)}
    batches = batches_of(data, np.array([1, 3, 4, 9, 19]), 2)
    assert [len(batch["y"]) for batch in batches] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate([b["x"] for b in batches]), data["x"][[1, 3, 4, 9, 19]])


@pytest.mark.parametrize(
    ("index", "size", "words"),
    [([0], 0, "batch_size"), ([], 2, "empty"), ([20], 2, "20 examples"), ([-1], 2, "from -1")],
)
def test_bad_batches_are_refused(index, size, words):
    with pytest.raises(LrjaxError, match=words):
        batches_of({"y": np.arange(20)}, np.array(index, int), size)


def test_spread_is_the_sampling_error_and_the_same_for_the_same_key():
    numbers = np.random.default_rng(1).normal(5.0, 1.0, size=4000)

    def measure(index):
        assert len(np.unique(index)) == 600
        return numbers[index].mean()

    found = spread(measure, 4000, size=600, resamples=200, key=jax.random.key(0))
    assert found.std == pytest.approx(np.sqrt((1 - 600 / 4000) / 600), rel=0.2)
    assert found.relative == pytest.approx(found.std / found.mean)
    again = spread(measure, 4000, size=600, resamples=200, key=jax.random.key(0))
    np.testing.assert_array_equal(found.values, again.values)


def test_wide_spread_warns():
    numbers = np.zeros(10_000)
    numbers[:20] = 1e4
    with pytest.warns(SmallSubsetWarning, match="apart"):
        spread(lambda index: numbers[index].mean(), 10_000, size=600, key=jax.random.key(0))


@pytest.mark.x64
@pytest.mark.filterwarnings("ignore::lrjax.spectra.subset.SmallSubsetWarning")
@pytest.mark.parametrize("center", [True, False])
def test_jackknife_is_that_of_the_gradients_themselves(center):
    """Leaving out gradients before or after the Gram matrix is the same, which needs centring by the new mean."""
    found = intervals(gram(ROWS, center=center), "lambda_1")
    whole = gram(ROWS, center=center).lambda_1
    parts = np.array([gram(np.delete(ROWS, i, axis=0), center=center).lambda_1 for i in range(9)])
    assert found.value == pytest.approx(whole, rel=1e-12)
    assert found.bias == pytest.approx(8 * (parts.mean() - whole), rel=1e-9)
    assert found.stderr == pytest.approx(np.sqrt(8 / 9 * np.sum((parts - parts.mean()) ** 2)), rel=1e-9)
    assert (found.low + found.high) / 2 == pytest.approx(found.value - found.bias)


def test_integer_seed_is_its_key():
    for key in (3, np.int64(3), jax.random.PRNGKey(3)):
        assert intervals(gram(ROWS), "trace", method="bootstrap", key=key, resamples=20) == intervals(
            gram(ROWS), "trace", method="bootstrap", key=jax.random.key(3), resamples=20
        )


@pytest.mark.x64
def test_bootstrap_is_that_of_the_gradients_themselves():
    key = jax.random.key(3)
    found = intervals(gram(ROWS), "trace", method="bootstrap", key=key, resamples=50)
    generator = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    drawn = [gram(ROWS[index]).trace * 9 / 8 for index in generator.integers(0, 9, (50, 9))]
    assert found.stderr == pytest.approx(np.std(drawn, ddof=1), rel=1e-9)
    assert found.low == pytest.approx(2 * found.value - np.quantile(drawn, 0.975), rel=1e-9)
    assert found.high == pytest.approx(2 * found.value - np.quantile(drawn, 0.025), rel=1e-9)


@pytest.mark.parametrize("divisor", ["L", "L-1"])
def test_jackknife_knows_the_bias_of_the_trace(divisor):
    found = gram(ROWS, divisor=divisor)
    expected = -found.trace / 8 if divisor == "L" else 0.0
    assert intervals(found, "trace").bias == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_largest_eigenvalue_is_biased_up_by_the_rest_of_the_trace_over_the_count():
    generator, count = np.random.default_rng(4), 25
    draws = [gram(generator.normal(size=(count, 6)) * np.sqrt(SPECTRUM), divisor="L-1", k=0) for _ in range(300)]
    bias = np.mean([found.lambda_1 for found in draws]) - SPECTRUM[0]
    assert bias == pytest.approx(np.sum(SPECTRUM[0] * SPECTRUM[1:] / (SPECTRUM[0] - SPECTRUM[1:])) / count, abs=0.3)
    assert np.mean([intervals(found, "lambda_1").bias for found in draws]) == pytest.approx(bias, abs=0.3)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "least"), [("jackknife", 0.85), ("bootstrap", 0.8)])
def test_interval_of_95_percent_holds_lambda_1_in_most_trials(method, least):
    generator, held = np.random.default_rng(5), []
    for trial in range(100):
        found = gram(generator.normal(size=(25, 6)) * np.sqrt(SPECTRUM), divisor="L-1", k=0)
        interval = intervals(
            found, "lambda_1", method=method, resamples=25 if method == "jackknife" else 100, key=jax.random.key(trial)
        )
        held.append(interval.low <= SPECTRUM[0] <= interval.high)
    assert least <= np.mean(held) <= 0.99


def test_flat_spectrum_warns_that_no_interval_holds():
    found = gram(np.random.default_rng(6).normal(size=(12, 400)), divisor="L-1")
    with pytest.warns(SmallSubsetWarning, match="too few"):
        intervals(found, "trace_over_lambda_1")


@pytest.mark.filterwarnings("ignore::lrjax.spectra.subset.SmallSubsetWarning")
def test_statistics_are_those_of_the_eigenvalues_on_either_scale():
    found = gram(ROWS, batch_size=4, num_examples=100)
    for statistic, expected in (
        ("trace_over_lambda_1", found.trace / found.lambda_1),
        ("lambda_star_over_lambda_1", found.lambda_star / found.lambda_1),
        (lambda values: values[1], found.values[1]),
    ):
        assert intervals(found, statistic).value == pytest.approx(expected, rel=1e-5)
    assert intervals(found.per_example(), "trace").high == pytest.approx(found.scale * intervals(found, "trace").high)


@pytest.mark.parametrize(
    ("statistic", "options", "words"),
    [
        ("lambda_2", {}, "unknown statistic"),
        ("trace", {"method": "jacknife"}, "did you mean 'jackknife'"),
        ("trace", {"method": "bootstrap"}, "key"),
        ("lambda_star", {"method": "bootstrap", "key": jax.random.key(0)}, "jackknife"),
        ("trace", {"resamples": 10}, "from 2 to 9"),
        ("trace", {"level": 95}, "between 0 and 1"),
    ],
)
def test_bad_intervals_are_refused_with_a_sentence(statistic, options, words):
    with pytest.raises(LrjaxError, match=words):
        intervals(gram(ROWS), statistic, **options)


def test_ratio_of_gradients_without_variance_is_refused():
    zero = gram(np.zeros((5, 3)))
    assert intervals(zero, "trace")[:4] == (0.0, 0.0, 0.0, 0.0)
    with pytest.raises(LrjaxError, match="trace_over_lambda_1 of these gradients is nan"):
        intervals(zero, "trace_over_lambda_1")
