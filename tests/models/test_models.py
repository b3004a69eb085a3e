"""The networks: sizes, initialisation, and what train and eval mode may change."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrjax.errors import LrjaxError
from lrjax.models import build_model
from lrjax.models.linen import batch_norm, from_linen

SMALL = {
    "simple_cnn": {"name": "simple_cnn", "width": 4},
    "simple_cnn_bn": {"name": "simple_cnn", "width": 4, "norm": "batch"},
    "resnet18": {"name": "resnet18", "width": 2},
}
WITH_BATCH_NORM = ("simple_cnn_bn", "resnet18")


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(np.random.default_rng(0).normal(size=(6, 16, 16, 3)), jnp.float32)


@pytest.fixture(scope="module")
def built(images):
    """name -> (model, jitted apply, params, model_state), built once; rbg keys compile faster on a CPU."""
    cache = {}

    def build(name):
        if name not in cache:
            model = build_model(SMALL[name], num_classes=10)
            params, model_state = jax.jit(model.init)(jax.random.key(1, impl="rbg"), images)
            cache[name] = (model, jax.jit(model.apply, static_argnames="train"), params, model_state)
        return cache[name]

    return build


@pytest.mark.parametrize(
    ("config", "count"),
    [
        ({"name": "simple_cnn"}, 361_898),
        ({"name": "simple_cnn", "norm": "batch"}, 361_898 + 2 * (32 + 32 + 64 + 64)),
        ({"name": "resnet18"}, 11_173_962),
    ],
)
def test_parameter_count_is_the_published_one(config, count):
    model = build_model(config, num_classes=10)
    params, _ = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


@pytest.mark.parametrize("name", SMALL)
def test_logits_are_finite_float32_of_the_right_shape(name, built, images):
    _, apply, params, model_state = built(name)
    logits, _ = apply(params, model_state, images, train=True)
    assert logits.shape == (6, 10)
    assert logits.dtype == jnp.float32
    assert np.isfinite(logits).all()
    assert np.std(logits) > 1e-3


@pytest.mark.parametrize("name", ["simple_cnn", pytest.param("resnet18", marks=pytest.mark.slow)])
def test_permuted_batch_gives_permuted_logits(name, built, images):
    _, apply, params, model_state = built(name)
    order = np.array([3, 0, 5, 1, 4, 2])
    logits, _ = apply(params, model_state, images, train=True)
    permuted, _ = apply(params, model_state, images[order], train=True)
    np.testing.assert_allclose(permuted, logits[order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["simple_cnn", pytest.param("resnet18", marks=pytest.mark.slow)])
def test_network_without_norm_has_biases_and_no_model_state(name, images):
    model = build_model({"name": name, "width": 2, "norm": "none"}, num_classes=10)
    params, model_state = jax.eval_shape(model.init, jax.random.key(0), images)
    assert model_state == {}
    layers = {path[:-1] for path, _ in jax.tree_util.tree_leaves_with_path(params)}
    assert 2 * len(layers) == len(jax.tree.leaves(params))


@pytest.mark.parametrize("name", WITH_BATCH_NORM)
def test_running_statistics_move_in_train_mode_only(name, built, images):
    _, apply, params, model_state = built(name)
    _, after_train = apply(params, model_state, images, train=True)
    _, after_eval = apply(params, model_state, images, train=False)
    assert jax.tree.structure(after_train) == jax.tree.structure(model_state)
    for before, trained, evaluated in zip(*map(jax.tree.leaves, (model_state, after_train, after_eval)), strict=True):
        assert not np.array_equal(before, trained)
        np.testing.assert_array_equal(before, evaluated)


@pytest.mark.parametrize("name", WITH_BATCH_NORM)
def test_batch_couples_examples_in_train_mode_only(name, built, images):
    _, apply, params, model_state = built(name)
    shifted = images.at[1:].add(3.0)
    for train, coupled in ((True, True), (False, False)):
        first = apply(params, model_state, images, train=train)[0][0]
        same = apply(params, model_state, shifted, train=train)[0][0]
        assert np.allclose(first, same, rtol=1e-4, atol=1e-5) != coupled


def test_model_functions_take_plain_dicts_and_leave_them_unchanged(built, images):
    _, apply, params, model_state = built("simple_cnn_bn")
    assert type(params) is dict
    assert all(type(group) is dict for group in params.values())
    before = jax.tree.map(np.array, (params, model_state))
    apply(params, model_state, images, train=True)
    jax.tree.map(np.testing.assert_array_equal, before, (params, model_state))


class _Norm(nn.Module):
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, *, train):
        return batch_norm(x, "norm", train=train, axis_name=self.axis_name)


def test_running_averages_have_momentum_nine_tenths_and_a_variance_that_does_not_cancel():
    # Mean 1000 and standard deviation 0.01: E[x^2] - mean^2 has no correct digit in float32.
    x = 1000.0 + 0.01 * np.random.default_rng(0).normal(size=(64, 2, 2, 3)).astype(np.float32)
    x = jnp.asarray(x, jnp.float32)
    model = from_linen(_Norm())
    params, model_state = model.init(jax.random.key(0), x)
    _, after = model.apply(params, model_state, x, train=True)
    exact = np.asarray(x, np.float64)
    stats = after["batch_stats"]["norm"]
    np.testing.assert_allclose(stats["mean"], 0.1 * exact.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * exact.var((0, 1, 2)), rtol=1e-5)
    logits, _ = model.apply(params, model_state, x, train=True)
    np.testing.assert_allclose(
        np.std(logits, axis=(0, 1, 2)), np.sqrt(exact.var((0, 1, 2)) / (exact.var((0, 1, 2)) + 1e-5)), rtol=1e-2
    )


def test_batch_norm_with_axis_name_is_that_of_the_whole_batch():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 2, 2, 3)), jnp.float32)
    whole, grouped = from_linen(_Norm()), from_linen(_Norm(axis_name="devices"))
    params, model_state = whole.init(jax.random.key(0), x)
    expected, expected_state = whole.apply(params, model_state, x, train=True)
    outputs, states = jax.vmap(lambda part: grouped.apply(params, model_state, part, train=True), axis_name="devices")(
        x.reshape(2, 4, 2, 2, 3)
    )
    np.testing.assert_allclose(outputs.reshape(x.shape), expected, rtol=1e-5, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, rtol=1e-5, atol=1e-6), states, expected_state)


def test_simple_cnn_starts_glorot_uniform_with_zero_biases(images):
    model = build_model({"name": "simple_cnn"}, num_classes=10)
    params, _ = jax.jit(model.init)(jax.random.key(0, impl="rbg"), images)
    for layer in params.values():
        assert not np.any(layer["bias"])
        kernel = np.asarray(layer["kernel"])
        receptive_field = int(np.prod(kernel.shape[:-2]))
        bound = np.sqrt(6 / (receptive_field * (kernel.shape[-2] + kernel.shape[-1])))
        assert 0.98 * bound < np.abs(kernel).max() <= bound
        np.testing.assert_allclose(kernel.std(), bound / np.sqrt(3), rtol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["simple_cnn_bn", pytest.param("resnet18", marks=pytest.mark.slow)])
def test_every_parameter_has_a_gradient(name, built, images):
    model, _, params, model_state = built(name)
    labels = jnp.arange(6)

    def loss(params):
        logits, _ = model.apply(params, model_state, images, train=True)
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(6), labels])

    def before_norm(path):  # A constant added before BatchNorm is subtracted by it.
        return path[0].key.startswith("conv") and path[-1].key == "bias"

    for path, gradient in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(params)):
        assert np.isfinite(gradient).all()
        if not before_norm(path):
            assert np.abs(gradient).max() > 1e-6, jax.tree_util.keystr(path)


def test_bfloat16_network_keeps_float32_parameters_and_logits(images):
    model = build_model({"name": "simple_cnn", "width": 2, "dtype": "bfloat16"}, num_classes=10)
    params, model_state = jax.eval_shape(model.init, jax.random.key(0), images)
    logits, _ = jax.eval_shape(lambda p, x: model.apply(p, model_state, x, train=True), params, images)
    assert {leaf.dtype for leaf in jax.tree.leaves((params, logits))} == {jnp.dtype("float32")}
    jaxpr = jax.make_jaxpr(lambda p, x: model.apply(p, {}, x, train=True)[0])(params, images)
    assert "bf16[6,16,16,2]" in str(jaxpr)


@pytest.mark.parametrize(
    ("config", "remedy"),
    [({"name": "resnet-18"}, "resnet18"), ({"name": "simple_cnn", "norm": "batchnorm"}, "batch")],
)
def test_unknown_name_is_answered_with_the_nearest_valid_one(config, remedy):
    with pytest.raises(LrjaxError, match=f"did you mean '{remedy}'"):
        build_model(config, num_classes=10)
