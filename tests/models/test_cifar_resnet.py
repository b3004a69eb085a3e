"""ResNet-6n+2: sizes with and without norm, initialisation, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrjax.errors import LrjaxError
from lrjax.models import build_model

IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(6, 4, 4, 3)), jnp.float32)
# Convolutions of depth 32, 1x1 convs of two shortcuts, head.
WEIGHTS = 461_232 + 2_560 + 650


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, WEIGHTS + 2 * (16 * 11 + 32 * 11 + 64 * 11)),
        ({"norm": "none"}, WEIGHTS + 16 * 11 + 32 * 11 + 64 * 11),
        ({"norm": "none", "activation": "pre"}, WEIGHTS + 16 * 11 + 32 * 11 + 64 * 11),
        ({"activation": "pre"}, WEIGHTS + 2 * (16 * 10 + 16 + 32 * 9 + 32 + 64 * 9 + 64)),
        ({"affine": False, "head": "frozen"}, WEIGHTS - 650),
    ],
)
def test_parameter_count_at_depth_32(config, expected):
    model = build_model({"name": "resnet32", **config}, num_classes=10)
    params, _ = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected
    assert expected == 466_906 or config


@pytest.mark.parametrize("depth", [8, 14])
def test_plain_convolutions_start_he_normal_over_the_number_of_blocks(depth):
    model = build_model({"name": "resnet32", "norm": "none", "depth": depth}, num_classes=10)
    params, model_state = jax.jit(model.init)(jax.random.key(0, impl="rbg"), jnp.zeros((1, 4, 4, 3)))
    assert model_state == {}
    blocks = (depth - 2) // 2
    for path, kernel in jax.tree_util.tree_leaves_with_path(params):
        if path[-1].key == "kernel" and path[0].key != "head":
            he = 2 / np.prod(kernel.shape[:-1])
            np.testing.assert_allclose(np.var(kernel), he / blocks, rtol=0.25, err_msg=jax.tree_util.keystr(path))


@pytest.mark.slow
@pytest.mark.parametrize("config", [{}, {"norm": "none", "activation": "pre"}], ids=["batch", "plain"])
def test_every_parameter_has_a_gradient(config):
    model = build_model({"name": "resnet32", "depth": 8, "width": 4, **config}, num_classes=10)
    params, model_state = jax.jit(model.init)(jax.random.key(1, impl="rbg"), IMAGES)

    @jax.jit
    @jax.grad
    def gradient(params):
        logits, _ = model.apply(params, model_state, IMAGES, train=True)
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(6), jnp.arange(6)])

    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(params)):
        assert np.isfinite(leaf).all()
        assert np.abs(leaf).max() > 1e-7, jax.tree_util.keystr(path)


def test_depth_that_is_not_6n_plus_2_is_refused():
    with pytest.raises(LrjaxError, match="depth=18 is not 6n"):
        build_model({"name": "resnet32", "depth": 18}, 10)
    with pytest.raises(LrjaxError, match="did you mean 'pre'"):
        build_model({"name": "resnet32", "activation": "prea"}, 10)
