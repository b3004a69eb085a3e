"""Gradient noise scale: unbiased against known covariances, exact against numpy, and said where it is not resolved."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from lrjax.errors import LrjaxError
from lrjax.spectra.gram import gram
from lrjax.spectra.noise_scale import gradient_noise_scale, noise_scale_of_norms
from lrjax.spectra.subset import SmallSubsetWarning

COUNT, SIZE, DIMENSION = 25, 8, 20
SCALES = np.linspace(0.5, 2.0, DIMENSION)
TRUE_NOISE, MEAN = float(np.sum(SCALES**2)), np.ones(DIMENSION) * 0.4
TRUE = TRUE_NOISE / float(MEAN @ MEAN)


def draws(generator, count=COUNT, size=SIZE, mean=MEAN):
    return mean + generator.normal(size=(count, DIMENSION)) * SCALES / np.sqrt(size)


def oracle(rows, size):
    """The paper's estimators of the batch sizes M and L M, in numpy."""
    few, many = size, size * len(rows)
    small, large = np.mean(np.sum(rows**2, axis=1)), np.sum(rows.mean(axis=0) ** 2)
    return (small - large) / (1 / few - 1 / many), (many * large - few * small) / (many - few)


@pytest.mark.x64
def test_estimates_are_those_of_the_paper_and_the_error_that_of_the_jackknife():
    rows = draws(np.random.default_rng(0))
    found, (noise, signal) = gradient_noise_scale(rows, SIZE), oracle(rows, SIZE)
    assert (found.noise, found.signal, found.value) == pytest.approx((noise, signal, noise / signal), rel=1e-10)
    parts = [oracle(np.delete(rows, number, axis=0), SIZE) for number in range(COUNT)]
    inverses = np.array([signal / noise for noise, signal in parts])
    stderr = np.sqrt((COUNT - 1) * np.mean((inverses - inverses.mean()) ** 2))
    assert found.stderr == pytest.approx(stderr * found.value**2, rel=1e-8)
    middle = found.signal / found.noise - (COUNT - 1) * (inverses.mean() - found.signal / found.noise)
    assert (1 / found.low + 1 / found.high) / 2 == pytest.approx(middle, rel=1e-8)


def test_noise_and_signal_are_unbiased_and_the_interval_holds():
    generator = np.random.default_rng(1)
    found = [gradient_noise_scale(draws(generator), SIZE) for _ in range(200)]
    for values, true in (([f.noise for f in found], TRUE_NOISE), ([f.signal for f in found], float(MEAN @ MEAN))):
        assert np.mean(values) == pytest.approx(true, abs=4 * np.std(values) / np.sqrt(len(values)))
    assert 0.88 <= np.mean([f.low <= TRUE <= f.high for f in found]) <= 0.99
    # What is commonly taken instead, |m|^2 for |G|^2, is off by more than the error of these means.
    assert 4 * np.std([f.signal for f in found]) / np.sqrt(len(found)) < TRUE_NOISE / SIZE / COUNT


EXAMPLES = np.random.default_rng(2).normal(size=(6, 3)) + 0.5


@pytest.mark.filterwarnings("ignore::lrjax.spectra.subset.SmallSubsetWarning")
def test_disjoint_batches_of_a_set_estimate_its_own_gradient():
    """The mean over all partitions of six examples into pairs is exact; every |m|^2 is then |G|^2 itself."""
    pairs = list(itertools.combinations(range(6), 2))
    partitions = [c for c in itertools.combinations(pairs, 3) if len({i for pair in c for i in pair}) == 6]
    found = [
        gradient_noise_scale(
            np.array([EXAMPLES[list(pair)].mean(axis=0) for pair in c]), 2, num_examples=6, disjoint=True
        )
        for c in partitions
    ]
    np.testing.assert_allclose([f.signal for f in found], np.sum(EXAMPLES.mean(axis=0) ** 2), rtol=1e-5)
    assert np.mean([f.noise for f in found]) == pytest.approx(EXAMPLES.var(axis=0).sum(), rel=1e-5)


@pytest.mark.filterwarnings("ignore::lrjax.spectra.subset.SmallSubsetWarning")
@pytest.mark.parametrize("disjoint", [False, True])
def test_batches_without_replacement_are_unbiased_for_their_set(disjoint):
    generator, examples, found = np.random.default_rng(7), np.tile(EXAMPLES, (4, 1)), []
    for _ in range(300):
        order = np.concatenate([generator.permutation(24) for _ in range(1 if disjoint else 5)]).reshape(-1, 24)
        index = order[0, :20].reshape(5, 4) if disjoint else order[:, :4]
        found.append(gradient_noise_scale(examples[index].mean(axis=1), 4, num_examples=24, disjoint=disjoint))
    true_noise, true_signal = EXAMPLES.var(axis=0).sum(), np.sum(EXAMPLES.mean(axis=0) ** 2)
    for values, true in (([f.noise for f in found], true_noise), ([f.signal for f in found], true_signal)):
        assert np.mean(values) == pytest.approx(true, abs=4 * np.std(values) / np.sqrt(len(values)))


@pytest.mark.parametrize("scale", [1e-30, 1e-15, 1e15, 1e30])
def test_noise_scale_does_not_depend_on_the_scale_of_the_loss(scale):
    rows = draws(np.random.default_rng(3)).astype(np.float32)
    found, one = gradient_noise_scale(jnp.asarray(rows * np.float32(scale)), SIZE), gradient_noise_scale(rows, SIZE)
    assert found.noise / scale**2 == pytest.approx(one.noise, rel=1e-4)
    np.testing.assert_allclose(found[:4], one[:4], rtol=1e-3)


def test_mean_far_above_the_noise_does_not_enter_in_float32():
    noise = np.round(draws(np.random.default_rng(4), mean=0.0) * 64) / 64
    found = gradient_noise_scale(jnp.asarray(noise + 2.0**16, jnp.float32), SIZE)
    assert found.noise == pytest.approx(SIZE * noise.var(axis=0, ddof=1).sum(), rel=1e-5)


def test_every_form_of_gradients_gives_the_same():
    rows = jnp.asarray(draws(np.random.default_rng(5)), jnp.float32)
    one = gradient_noise_scale(rows, SIZE)
    for form in (tuple(rows), iter(rows), [rows[:, :3], rows[:, 3:]], {"b": rows[:, :3], "w": rows[:, 3:]}):
        assert gradient_noise_scale(form, SIZE).value == pytest.approx(one.value, rel=1e-5)


def test_mean_gradient_lost_in_the_noise_is_said():
    rows = np.concatenate([np.eye(4), -np.eye(4)])
    with pytest.warns(SmallSubsetWarning, match="not told from zero"):
        found = gradient_noise_scale(rows, SIZE)
    assert found.signal < 0
    assert found.value == found.high == np.inf
    assert np.isnan(found.stderr)
    assert not found.resolved


def test_two_batch_sizes_give_the_noise_scale_of_the_gradients():
    generator = np.random.default_rng(6)
    small, large = (np.sum(draws(generator, count=4000, size=size) ** 2, axis=1) for size in (SIZE, 16 * SIZE))
    found = noise_scale_of_norms(small, large, (SIZE, 16 * SIZE))
    assert found.low <= TRUE <= found.high
    assert found.stderr < 0.1 * TRUE
    assert found.resolved
    scaled = noise_scale_of_norms(small * 1e-60, large * 1e-60, (SIZE, 16 * SIZE))
    np.testing.assert_allclose(scaled[:4], found[:4], rtol=1e-9)


BAD = {
    "two gradients": (lambda: gradient_noise_scale(np.eye(2), 4), "three gradients or more, not 2"),
    "equal gradients": (lambda: gradient_noise_scale(np.ones((4, 3)), 4), "the gradients are equal"),
    "all but one equal": (lambda: gradient_noise_scale(np.eye(4)[[0, 1, 1, 1]], 4), "or all but one"),
    "zero gradients": (lambda: gradient_noise_scale(np.zeros((4, 3)), 4), "the gradients are equal"),
    "a Gram": (lambda: gradient_noise_scale(gram(np.eye(4)), 4), "lost the mean"),
    "empty batch": (lambda: gradient_noise_scale(np.eye(4), 0), "batch_size must be 1 or more"),
    "whole set": (lambda: gradient_noise_scale(np.eye(4), 9, num_examples=9), "batch_size must be from 1 to 8"),
    "too many": (lambda: gradient_noise_scale(np.eye(4), 4, num_examples=9, disjoint=True), "need 16 examples"),
    "disjoint of what": (lambda: gradient_noise_scale(np.eye(4), 4, disjoint=True), "needs num_examples"),
    "level": (lambda: gradient_noise_scale(np.eye(4), 4, level=95), "level must be between 0 and 1"),
    "two norms": (lambda: noise_scale_of_norms([1.0, 2.0], [1.0, 2.0], (1, 2)), "three or more squared norms"),
    "other lengths": (lambda: noise_scale_of_norms(np.ones(4), np.ones(3), (1, 2)), "three or more squared norms"),
    "sizes": (lambda: noise_scale_of_norms(np.ones(4), np.ones(4), (4, 1)), "1 <= M_1 < M_2"),
    "no noise": (lambda: noise_scale_of_norms(np.ones(4), np.ones(4), (1, 4)), "noise is not resolved"),
    "negative": (
        lambda: noise_scale_of_norms(-np.ones(4), np.ones(4), (1, 4)),
        "squared norms small must be 0 or more",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_has_no_noise_scale_is_refused_with_a_sentence(name):
    call, words = BAD[name]
    with pytest.raises(LrjaxError, match=words):
        call()
