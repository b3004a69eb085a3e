"""What paper scale needs: bfloat16 under float32 parameters, rematerialisation, parts of batches, memory as compiled."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import lrjax
from lrjax import models
from lrjax.devices import accelerators
from lrjax.errors import LrjaxError
from lrjax.experiment.config.canonical import freeze
from lrjax.experiment.step.losses import LOSSES
from lrjax.models.model import rematerialised
from lrjax.spectra import hessian

IMAGES, TOKENS, VECTORS = (16, 16, 3), (2, 12), (6,)
# model options -> shape of an example
NETWORKS = {
    "bert": ({"size": "tiny", "vocabulary": 30, "positions": 12}, TOKENS),
    "densenet": ({"depth": 22, "growth": 4, "stem": "small"}, IMAGES),
    "lstm": ({"vocabulary": 30, "embedding": 8, "width": 8}, (12,)),
    "mlp": ({"widths": (16, 16)}, VECTORS),
    "preresnet": ({"depth": 8, "width": 4}, IMAGES),
    "residual_mlp": ({"width": 16, "blocks": 2}, VECTORS),
    "resnet18": ({"width": 4}, IMAGES),
    "resnet32": ({"depth": 8, "width": 4}, IMAGES),
    "resnet50": ({"width": 4}, IMAGES),
    "simple_cnn": ({"width": 4}, IMAGES),
    "wide_resnet": ({"depth": 10, "widen": 1, "width": 4}, IMAGES),
}
DEEP = [name for name in NETWORKS if name not in ("lstm", "mlp", "simple_cnn")]


def static(name, *, compute_dtype="float32", remat=False):
    options, shape = NETWORKS[name]
    return freeze(dict(model=dict(name=name, **options), compute_dtype=compute_dtype, remat=remat)), shape


def batch_for(shape, count=8):
    if shape in (VECTORS, IMAGES):
        x = jax.random.normal(jax.random.key(1), (count, *shape))
    else:
        x = jax.random.randint(jax.random.key(1), (count, *shape), 1, 30)
        x = x if shape != TOKENS else x.at[:, 1].set(0)
    return {"x": x, "y": jnp.arange(count) % 3}


def loss_of(model, model_state):
    def loss(params, batch):
        logits, _ = model.apply(params, model_state, batch["x"], train=True)
        return jnp.mean(LOSSES["cross_entropy"](logits, batch["y"]))

    return loss


def prepared(name, **choices):
    config, shape = static(name, **choices)
    batch = batch_for(shape)
    model = models.configured(config, 3, training=True)
    params, model_state = jax.jit(model.init)(jax.random.key(0), batch["x"][:1])
    return loss_of(model, model_state), params, batch


def relative(a, b):
    a, b = (ravel_pytree(t)[0] for t in (a, b))
    return float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))


def few(*names):
    return pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n != "mlp")) for n in names])


@few("bert", "lstm", "mlp", "resnet32", "simple_cnn")
def test_bfloat16_moves_a_gradient_by_rounding_alone_and_leaves_parameters_and_logits_float32(name):
    loss, params, batch = prepared(name, compute_dtype="bfloat16")
    exact, same, _ = prepared(name)
    jax.tree.map(np.testing.assert_array_equal, params, same)
    value, gradient = jax.jit(jax.value_and_grad(loss))(params, batch)
    expected, whole = jax.jit(jax.value_and_grad(exact))(params, batch)
    assert {leaf.dtype for leaf in jax.tree.leaves((params, gradient))} == {jnp.dtype("float32")}
    np.testing.assert_allclose(value, expected, rtol=0.02)
    # 2^-9 a rounding, and ReLUs that it turns on or off in some ten layers; at zero nothing would be in bfloat16.
    assert 1e-4 < relative(gradient, whole) < 0.35


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_are_float32_and_hidden_layers_are_bfloat16(name):
    config, shape = static(name, compute_dtype="bfloat16")
    model, x = models.configured(config, 3, training=True), batch_for(shape)["x"]
    params, state = jax.eval_shape(model.init, jax.random.key(0), x[:1])
    program = jax.make_jaxpr(lambda p, s: model.apply(p, s, x, train=True))(params, state)
    assert program.out_avals[0].dtype == jnp.float32
    products = re.findall(r":(\w+)\[[\d,]*\] = (?:dot_general|convolve|conv_general_dilated)\b", str(program))
    assert len(products) > 1
    assert (set(products[:-1]), products[-1]) == ({"bf16"}, "f32")


@few("residual_mlp", "resnet32")
def test_rematerialisation_changes_neither_gradient_nor_hessian_product(name):
    plain, params, batch = prepared(name)
    again, _, _ = prepared(name, remat=True)
    results = []
    for loss in (plain, again):
        operator = hessian(loss).bind(params, [batch], additive=False)  # batch statistics
        results.append((jax.jit(jax.grad(loss))(params, batch), operator.matvec(params)))
    assert relative(results[1], results[0]) < 1e-5


@pytest.mark.parametrize("name", DEEP)
def test_a_deep_network_that_rematerialises_keeps_fewer_numbers_but_more_than_none(name):
    """Without marks it would be computed again as a whole, from nothing but its input."""
    options, shape = NETWORKS[name]
    batch = batch_for(shape)
    model = models.build_model(dict(name=name, **options), 3)
    params, state = jax.eval_shape(model.init, jax.random.key(0), batch["x"][:1])

    def kept(model, params):
        backward = jax.eval_shape(lambda p: jax.vjp(lambda q: loss_of(model, state_like)(q, batch), p)[1], params)
        return sum(leaf.size for leaf in jax.tree.leaves(backward))

    state_like = jax.tree.map(lambda a: jnp.ones(a.shape, a.dtype), state)
    inputs = sum(leaf.size for leaf in jax.tree.leaves((params, state, batch)))
    assert inputs < kept(rematerialised(model), params) < kept(model, params)


def test_what_computes_in_float32_only_refuses_bfloat16(tmp_path):
    for experiment, reason in (("CLEAR", "engine='gram' computes in float32 only"), ("ablate", "in float32 only")):
        config = lrjax.load_config(f"configs/benign_osc.py:{experiment},scale=smoke", {"compute_dtype": "bfloat16"})
        with pytest.raises(LrjaxError, match=reason):
            lrjax.run(config, tmp_path / experiment)


@pytest.mark.slow
def test_a_run_in_bfloat16_trains_float32_parameters_near_those_of_float32(tmp_path):
    losses = {}
    for dtype in ("float32", "bfloat16"):
        overrides = {"compute_dtype": dtype, "remat": dtype == "bfloat16"}
        config = lrjax.load_config("configs/lr_decay.py:L10,scale=smoke", overrides)
        lrjax.run(config, tmp_path / dtype)
        rows = map(json.loads, (tmp_path / dtype / "metrics.jsonl").read_text().splitlines())
        losses[dtype] = np.array([row["loss"] for row in rows if "loss" in row])
    away = np.max(np.abs(losses["bfloat16"] / losses["float32"] - 1))
    assert 0 < away < 0.1


def test_a_dry_run_prints_the_memory_of_the_compiled_step_and_the_device_that_has_it(capsys):
    from lrjax.main import main

    assert main(["--config=configs/lr_decay.py:L3,scale=smoke", "--dry_run"]) == 0
    assert re.search(
        r"^  memory +[\d.]+ [kMG]B, compiled for a \w.*: fits a TPU v5e \(16 GB\)", capsys.readouterr().out, re.M
    )


def test_compiled_memory_grows_with_what_a_backward_pass_keeps():
    def program(examples):
        x = jax.ShapeDtypeStruct((examples, 256), jnp.float32)

        def loss(w, x):
            return jnp.sum(jnp.tanh(jnp.tanh(x @ w) @ w))

        return lambda: (jax.grad(loss), (jax.ShapeDtypeStruct((256, 256), jnp.float32), x))

    small, large = (int(accelerators.compiled_memory(program(examples)).needed or 0) for examples in (1000, 4000))
    assert large - small >= 3000 * 256 * 4 * 2  # the examples and at least one of the hidden layers


def test_compiled_memory_counts_arguments_that_the_program_does_not_read():
    shapes = jax.ShapeDtypeStruct((8,), jnp.float32), jax.ShapeDtypeStruct((1000,), jnp.float32)
    found = accelerators.compiled_memory(lambda: (lambda state, tests: state + 1, shapes))
    assert int(found.needed or 0) >= 4000


def test_a_device_is_named_only_where_there_is_room():
    assert accelerators.smallest_device(15 * 2**30) == "a TPU v5e (16 GB)"
    assert accelerators.smallest_device(16 * 2**30) == "a TPU v6e (32 GB)"
    assert accelerators.smallest_device(200 * 2**30) is None


def test_what_is_traced_for_a_tpu_takes_a_batch_whole_where_a_cpu_takes_parts():
    from lrjax.experiment.step import micro_batches

    kernel = {"kernel": jnp.ones((3, 3, 3, 8))}
    assert micro_batches.size(0, 128, kernel, {}) < 128
    with accelerators.compiling_for("tpu"):
        assert micro_batches.size(0, 128, kernel, {}) == 128
