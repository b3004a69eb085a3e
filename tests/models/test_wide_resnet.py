"""WRN-d-k: the published sizes, initialisation, images of six channels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrjax.errors import LrjaxError
from lrjax.models import build_model
from lrjax.models.wide_resnet import Activation


@pytest.mark.parametrize(
    ("depth", "widen", "num_classes", "published"),
    [(16, 4, 10, 2_748_890), (28, 10, 10, 36_479_194), (40, 4, 10, 8_949_210), (28, 10, 100, 36_536_884)],
)
def test_parameter_count_is_the_published_one(depth, widen, num_classes, published):
    model = build_model({"name": "wide_resnet", "depth": depth, "widen": widen}, num_classes)
    params, _ = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == published


@pytest.fixture(scope="module")
def built():
    images = jnp.asarray(np.random.default_rng(0).normal(size=(6, 4, 4, 6)), jnp.float32)
    config = {"name": "wide_resnet", "depth": 10, "widen": 2, "width": 8, "eps": 0.0}
    model = build_model(config, num_classes=10)
    params, model_state = jax.jit(model.init)(jax.random.key(0, impl="rbg"), images)

    @jax.jit
    @jax.value_and_grad
    def loss_and_gradient(params):
        logits, _ = model.apply(params, model_state, images, train=True)
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(6), jnp.arange(6)])

    return params, loss_and_gradient


@pytest.mark.slow
def test_every_parameter_has_a_gradient_on_six_channel_images(built):
    params, loss_and_gradient = built
    for path, leaf in jax.tree_util.tree_leaves_with_path(loss_and_gradient(params)[1]):
        assert np.isfinite(leaf).all()
        assert np.abs(leaf).max() > 1e-7, jax.tree_util.keystr(path)


def test_convolutions_start_he_fan_out(built):
    for path, kernel in jax.tree_util.tree_leaves_with_path(built[0]):
        if path[-1].key == "kernel" and path[0].key != "head":
            height, width, _, features = kernel.shape
            np.testing.assert_allclose(np.var(kernel), 2 / (height * width * features), rtol=0.3)


@pytest.mark.slow
def test_projection_reads_the_first_activation(built):
    # Where widths differ the block's input enters through its first norm alone, which forgets the scale of the stem.
    params, loss_and_gradient = built
    scaled = {**params, "stem": jax.tree.map(lambda w: 4.0 * w, params["stem"])}
    assert loss_and_gradient(scaled)[0] == loss_and_gradient(params)[0]


def test_depth_that_is_not_6n_plus_4_is_refused():
    with pytest.raises(LrjaxError, match="depth=18 is not 6n"):
        build_model({"name": "wide_resnet", "depth": 18}, 10)


def test_noise_of_activations_is_one_map_for_all_examples_and_channels_and_in_training_alone():
    x = jnp.full((3, 16, 16, 4), 100.0)
    active = Activation(0.4)
    noise = active.apply({}, x, train=True, rngs={"dropout": jax.random.key(0)}) - x
    np.testing.assert_array_equal(noise, jnp.broadcast_to(noise[:1, :, :, :1], noise.shape))
    assert 0.3 < float(noise.std()) < 0.5
    other = active.apply({}, x, train=True, rngs={"dropout": jax.random.key(1)}) - x
    assert float(jnp.abs(noise - other).max()) > 0.1
    for still in (
        active.apply({}, x, train=False, rngs={"dropout": jax.random.key(0)}),
        active.apply({}, x, train=True),
    ):
        np.testing.assert_array_equal(still, x)
