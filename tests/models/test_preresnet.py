"""The scale-invariant PreResNet: sizes, initialisation, where its norms stand. What is invariant: tests/transforms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrjax.errors import LrjaxError
from lrjax.models import build_model

pytestmark = pytest.mark.slow

CONVOLUTIONS = 461_232
SHORTCUTS = 16 * 32 + 32 * 64


def shapes(**config):
    model = build_model({"name": "preresnet", **config}, num_classes=10)
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, CONVOLUTIONS + SHORTCUTS),
        ({"shortcut": "all"}, CONVOLUTIONS + SHORTCUTS + 16 * 16),
        ({"shortcut": "none", "stem_bias": True}, CONVOLUTIONS + SHORTCUTS + 16),
        ({"head": "free"}, CONVOLUTIONS + SHORTCUTS + 650),
        ({"shortcut": "none", "affine": True}, CONVOLUTIONS + SHORTCUTS + 2 * (16 * 11 + 32 * 10 + 64 * 10)),
    ],
)
def test_parameter_count_at_depth_32(config, expected):
    assert count(shapes(**config)[0]) == expected


def test_head_is_model_state_and_final_norm_alone_may_go_without_affine():
    params, model_state = shapes(affine=True, final_affine=False, shortcut="all")
    assert "head" not in params
    assert "final_norm" not in params
    assert model_state["frozen"]["head"]["kernel"].shape == (64, 10)
    assert "projection_norm" in params["stage1_block1"]
    assert "projection_norm" not in params["stage1_block2"]


@pytest.mark.parametrize("norm", ["group", "layer", "instance"])
def test_only_batch_norm_has_running_statistics(norm):
    assert list(shapes(norm=norm)[1]) == ["frozen"]


def test_every_parameter_has_a_gradient_and_convolutions_start_he_fan_out():
    images = jnp.asarray(np.random.default_rng(0).normal(size=(6, 4, 4, 3)), jnp.float32)
    model = build_model({"name": "preresnet", "depth": 8, "width": 8}, num_classes=10)
    params, model_state = jax.jit(model.init)(jax.random.key(1, impl="rbg"), images)
    for kernel in jax.tree.leaves(params):
        height, width, _, features = kernel.shape
        np.testing.assert_allclose(np.var(kernel), 2 / (height * width * features), rtol=0.35)

    @jax.jit
    @jax.grad
    def gradient(params):
        logits, _ = model.apply(params, model_state, images, train=True)
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(6), jnp.arange(6)])

    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(params)):
        assert np.isfinite(leaf).all()
        assert np.abs(leaf).max() > 1e-7, jax.tree_util.keystr(path)


def test_options_that_make_no_network_are_refused():
    with pytest.raises(LrjaxError, match="depth=18 is not 6n"):
        build_model({"name": "preresnet", "depth": 18}, 10)
    with pytest.raises(LrjaxError, match="did you mean 'downsampling'"):
        build_model({"name": "preresnet", "shortcut": "downsample"}, 10)
