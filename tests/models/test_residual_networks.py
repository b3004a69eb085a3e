"""The residual MLP and ResNet-50: published sizes, strides, and the shortcut."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrjax.errors import LrjaxError
from lrjax.models import build_model


def count(config, num_classes, shape):
    params, _ = jax.eval_shape(
        build_model(config, num_classes).init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32)
    )
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def test_resnet50_has_the_published_number_of_parameters():
    assert count({"name": "resnet50"}, 1000, (1, 224, 224, 3)) == 25_557_032


def test_resnet50_with_the_small_stem_keeps_the_resolution_of_the_first_stage():
    # 3x3 instead of 7x7 in the stem
    assert (
        count({"name": "resnet50", "stem": "cifar"}, 10, (1, 32, 32, 3)) == 25_557_032 - 990 * 2049 - (49 - 9) * 3 * 64
    )


def test_resnet50_ends_on_seven_by_seven_positions():
    model = build_model({"name": "resnet50", "width": 2}, 10)
    x = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    text = str(jax.make_jaxpr(lambda x: model.init(jax.random.key(0), x))(x))
    assert "f32[2,7,7,64]" in text
    assert "f32[2,56,56,2]" in text


def test_resnet50_refuses_an_unknown_stem():
    with pytest.raises(LrjaxError, match="stem"):
        build_model({"name": "resnet50", "stem": "imagenett"}, 10)


def residual(**options):
    model = build_model({"name": "residual_mlp", "width": 16, "blocks": 2} | options, 10)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 6)), jnp.float32)
    return model, x, *model.init(jax.random.key(0), x)


def test_residual_mlp_of_the_papers_size_has_its_layers():
    # stem 6 x 128, six dense layers of 128 x 128, seven norms of 2 x 128, head 128 x 10 + 10
    assert count({"name": "residual_mlp"}, 10, (2, 6)) == 6 * 128 + 6 * 128**2 + 7 * 256 + 1290
    assert count({"name": "residual_mlp", "norm": "none"}, 10, (2, 6)) == 7 * 128 + 6 * 128 + 6 * 128**2 + 1290


def test_a_block_whose_last_layer_is_zero_passes_its_input_on():
    model, x, params, model_state = residual(norm="none")
    for block in (1, 2):
        params[f"block{block}_dense2"] = jax.tree.map(jnp.zeros_like, params[f"block{block}_dense2"])
    stem = jax.nn.relu(x @ params["stem"]["kernel"] + params["stem"]["bias"][None])
    wanted = stem @ params["head"]["kernel"] + params["head"]["bias"][None]
    np.testing.assert_allclose(model.apply(params, model_state, x, train=False)[0], wanted, rtol=1e-5, atol=1e-6)


def test_residual_mlp_normalises_before_each_relu():
    model, x, params, model_state = residual()
    assert len(model_state["batch_stats"]) == 2 * 2 + 1
    output, after = model.apply(params, model_state, x, train=True)
    assert output.shape == (8, 10)
    stem = np.asarray(x @ params["stem"]["kernel"])
    np.testing.assert_allclose(
        after["batch_stats"]["block1_norm1"]["mean"], 0.1 * stem.mean(axis=0), rtol=1e-4, atol=1e-6
    )


def test_residual_mlp_refuses_no_blocks_and_instance_norm():
    with pytest.raises(LrjaxError, match="model.blocks"):
        residual(blocks=0)
    with pytest.raises(LrjaxError, match="instance"):
        residual(norm="instance")
