"""What is taken of a batch in parts, gradient or outputs, is what the whole batch gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lrjax
from lrjax import models
from lrjax.errors import LrjaxError
from lrjax.experiment.loop import sweep
from lrjax.experiment.step import micro_batches

MODEL = models.build_model({"name": "simple_cnn", "width": 2}, 10)


def objective(params, batch, key):
    outputs, model_state = MODEL.apply(params, {}, batch["x"], train=True, key=key)
    return jnp.mean(jnp.square(outputs[:, 0] - batch["y"])), (model_state, outputs)


@pytest.mark.slow
@pytest.mark.x64
def test_parts_give_the_loss_gradient_and_outputs_of_the_batch():
    batch = {"x": jax.random.normal(jax.random.key(0), (12, 32, 32, 3)), "y": jnp.arange(12.0)}
    params = jax.tree.map(lambda p: p.astype(float), MODEL.init(jax.random.key(1), batch["x"][:1])[0])
    run = jax.jit(micro_batches.value_and_grad, static_argnums=(0, 4))
    whole, parts = (run(objective, params, batch, jax.random.key(2), part) for part in (12, 3))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14), whole, parts)
    wrong = run(objective, params, batch | {"y": jnp.arange(12.0)[::-1]}, jax.random.key(2), 3)
    assert abs(float(wrong[0][0] - whole[0][0])) > 1e-3


def test_outputs_in_parts_are_those_of_all_examples_in_their_order_with_running_statistics():
    model = models.build_model({"name": "simple_cnn", "width": 2, "norm": "batch"}, 10)
    x = jax.random.normal(jax.random.key(0), (48, 32, 32, 3)) * jnp.arange(1.0, 49)[:, None, None, None]
    params, fresh = model.init(jax.random.key(1), x[:1])
    _, model_state = model.apply(params, fresh, x, train=True)
    assert micro_batches.size(0, 48, params, {}) == 16
    whole = model.apply(params, model_state, x, train=False)[0]
    parts = jax.jit(lambda p, s, x: micro_batches.outputs(model, p, s, x))(params, model_state, x)
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-5)
    for wrong in (
        whole[::-1],
        model.apply(params, fresh, x, train=False)[0],
        model.apply(params, fresh, x, train=True)[0],
    ):
        assert np.abs(np.asarray(wrong - whole)).max() > 1e-2


IMAGES = {"kernel": jnp.ones((3, 3, 3, 2))}
ROWS = {"kernel": jnp.ones((784, 10))}


@pytest.mark.parametrize(
    ("batch_size", "params", "model_state", "asked", "expected"),
    [
        (128, IMAGES, {}, 0, 16),
        (100, IMAGES, {}, 0, 10),
        (22, IMAGES, {}, 0, 11),
        (31, IMAGES, {}, 0, 31),  # no divisor worth a loop
        (128, IMAGES, {"batch_stats": {}}, 0, 128),
        (128, ROWS, {}, 0, 128),
        (128, ROWS, {}, 32, 32),
    ],
)
def test_the_part_is_cache_sized_where_a_network_convolves_without_batchnorm(
    batch_size, params, model_state, asked, expected
):
    assert micro_batches.size(asked, batch_size, params, model_state) == expected


def test_an_accelerator_takes_the_whole_batch(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert micro_batches.size(0, 1024, IMAGES, {}) == 1024


def test_parts_of_a_batchnorm_batch_are_refused():
    with pytest.raises(LrjaxError, match="set micro_batch=0"):
        micro_batches.size(32, 128, IMAGES, {"batch_stats": {}})


def test_a_config_whose_parts_do_not_divide_the_batch_is_refused():
    with pytest.raises(LrjaxError, match="micro_batch=3 must divide batch_size=8"):
        sweep.expand(lrjax.load_config("configs/benign_osc.py:E0,scale=smoke", {"micro_batch": 3, "batch_size": 8}))
