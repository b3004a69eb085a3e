"""The MLP: sizes, options, and which of its arrays are trained."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrjax.errors import LrjaxError
from lrjax.models import build_model

SCALE_FREE = {"name": "mlp", "widths": (24, 24), "norm": "batch", "affine": False, "eps": 0.0, "head": "frozen"}


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def shapes(config, shape, num_classes=10):
    model = build_model(config, num_classes)
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape))


def test_parameter_count_at_784_300_100_10():
    dense = 784 * 300 + 300 + 300 * 100 + 100 + 100 * 10 + 10
    assert count(shapes({"name": "mlp"}, (2, 28, 28, 1))[0]) == dense == 266_610
    params, model_state = shapes({"name": "mlp", "norm": "batch"}, (2, 28, 28, 1))
    assert count(params) == dense - 400 + 2 * 400
    assert count(model_state) == 2 * 400


def test_scale_free_mlp_trains_its_two_kernels_alone():
    params, model_state = shapes(SCALE_FREE, (32, 16), num_classes=3)
    assert [leaf.shape for leaf in jax.tree.leaves(params)] == [(16, 24), (24, 24)]
    assert jax.tree.map(jnp.shape, model_state["frozen"]) == {"head": {"kernel": (24, 3)}}


def test_logits_do_not_know_the_scale_of_the_weights_unless_something_has_one():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(32, 16)), jnp.float32)
    for change, invariant in (({}, True), ({"eps": 1e-2}, False), ({"head": "free"}, False), ({"norm": "none"}, False)):
        model = build_model({**SCALE_FREE, **change}, num_classes=3)
        params, model_state = model.init(jax.random.key(0), x)
        logits, _ = model.apply(params, model_state, x, train=True)
        scaled, _ = model.apply(jax.tree.map(lambda w: 4.0 * w, params), model_state, x, train=True)
        assert logits.shape == (32, 3)
        assert np.array_equal(logits, scaled) == invariant


def test_layer_norm_mlp_treats_examples_apart():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 16)), jnp.float32)
    for norm, apart in (("layer", True), ("batch", False)):
        model = build_model({"name": "mlp", "widths": (12,), "norm": norm}, num_classes=3)
        params, model_state = model.init(jax.random.key(0), x)
        first = model.apply(params, model_state, x, train=True)[0][0]
        same = model.apply(params, model_state, x.at[1:].add(3.0), train=True)[0][0]
        assert np.allclose(first, same, rtol=1e-5, atol=1e-6) == apart


def test_options_that_make_no_network_are_refused():
    with pytest.raises(LrjaxError, match="widths is empty"):
        build_model({"name": "mlp", "widths": ()}, 10)
    with pytest.raises(LrjaxError, match="take 'layer'"):
        build_model({"name": "mlp", "norm": "instance"}, 10)
    with pytest.raises(LrjaxError, match="did you mean 'frozen'"):
        build_model({"name": "mlp", "head": "frozn"}, 10)
