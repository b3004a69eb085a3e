"""What must follow the scale of the weights: with it the runs are equal, without it they are not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrjax.errors import LrjaxError
from lrjax.models import build_model
from lrjax.transforms.gauge import gauge_rescale
from lrjax.transforms.plan import wd_free_plan
from lrjax.transforms.scaling import (
    clip_by_scaled_norm,
    correct_statistics,
    recompute_statistics,
    scale_eps,
    scaled_eps,
    statistic_powers,
)
from lrjax.transforms.sgd import wd_free_sgd
from tests.transforms.problems import DECAY, DIFFERENT, EQUAL, MOMENTUM, RATE, STEPS, fixed, problem

MLP = {"name": "mlp", "widths": (24, 24), "norm": "batch", "affine": False, "eps": 0.0, "head": "frozen"}
EPS = 1e-3


def float64(tree):
    return jax.tree.map(lambda a: jnp.asarray(a, float), tree)


@functools.lru_cache
def network(eps=0.0):
    data = problem()
    model = build_model({**MLP, "eps": eps, "eps_in_state": eps > 0}, num_classes=3)
    _, model_state = float64(model.init(jax.random.key(0), data.x[0]))
    # The weights whose runs are known to amplify rounding least.
    params = {f"dense{n}": {"kernel": data.params[name]} for n, name in ((1, "first"), (2, "second"))}
    model_state["frozen"] = {"head": {"kernel": data.head}}
    return model, (params, scale_eps(model_state, eps, 0.0) if eps else model_state)


def run(optimizer, eps=0.0, follow=lambda model_state, row: model_state, before=lambda model_state, row: model_state):
    """Logits in training and in evaluation mode after each step, and the last (params, model_state)."""
    data, (model, (params, model_state)) = problem(), network(eps)
    plan = wd_free_plan(RATE, DECAY, MOMENTUM, STEPS)

    def loss(params, model_state, x, y):
        logits, model_state = model.apply(params, model_state, x, train=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), model_state

    def step(carry, inputs):
        params, opt_state, model_state = carry
        x, y, row = inputs
        gradient, model_state = jax.grad(loss, has_aux=True)(params, before(model_state, row), x, y)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        params, model_state = optax.apply_updates(params, updates), follow(model_state, row)
        trained, evaluated = (model.apply(params, model_state, data.probe, train=mode)[0] for mode in (True, False))
        return (params, opt_state, model_state), (trained, evaluated)

    rows = {"log_scale": plan.log_scale[:-1], "next_log_scale": plan.log_scale[1:], "alpha": plan.alpha}
    inputs = (data.x, data.y, jax.tree.map(jnp.asarray, rows))
    (params, _, model_state), logits = jax.jit(lambda c: jax.lax.scan(step, c, inputs))(
        (params, optimizer.init(params), model_state)
    )
    return logits, (params, model_state)


@functools.lru_cache
def with_decay(eps=0.0):
    return run(optax.chain(optax.add_decayed_weights(DECAY), optax.sgd(RATE, momentum=MOMENTUM)), eps)


def free():
    return wd_free_sgd(RATE, DECAY, MOMENTUM, num_steps=STEPS)


def deviation(a, b):
    return float(jnp.max(jnp.abs(a - b)))


@pytest.mark.slow
@pytest.mark.x64
def test_eps_over_the_square_of_the_scale_keeps_the_runs_equal():
    set_eps = lambda state, row: scale_eps(state, EPS, row["log_scale"])  # noqa: E731
    after = lambda state, row: scale_eps(state, EPS, row["next_log_scale"])  # noqa: E731
    equal = run(free(), EPS, after, set_eps)[0]
    assert deviation(equal[0], with_decay(EPS)[0][0]) < EQUAL
    assert deviation(run(free(), EPS)[0][0], with_decay(EPS)[0][0]) > DIFFERENT


@pytest.mark.x64
def test_corrected_running_statistics_give_equal_evaluation_logits():
    right = run(free(), follow=lambda state, row: correct_statistics(state, row["alpha"]))[0]
    wrong, reference = run(free())[0], with_decay()[0]
    assert deviation(right[1], reference[1]) < EQUAL
    assert deviation(wrong[0], reference[0]) < EQUAL
    assert deviation(wrong[1], reference[1]) > DIFFERENT


@pytest.mark.x64
def test_recomputed_statistics_give_equal_evaluation_logits_and_are_those_of_all_examples():
    data, (model, _) = problem(), network()
    batches = list(data.x[:4])

    def evaluated(final):
        params, model_state = final
        model_state = recompute_statistics(jax.jit(model.apply, static_argnames="train"), params, model_state, batches)
        return model.apply(params, model_state, data.probe, train=False)[0], model_state

    (_, plain), (_, reference) = run(free()), with_decay()
    assert deviation(evaluated(plain)[0], evaluated(reference)[0]) < EQUAL
    first = evaluated(plain)[1]["batch_stats"]["norm1"]
    together = np.concatenate(batches) @ np.asarray(plain[0]["dense1"]["kernel"])
    np.testing.assert_allclose(first["mean"], together.mean(0), rtol=1e-9)
    np.testing.assert_allclose(first["var"], together.var(0), rtol=1e-9)
    with pytest.raises(LrjaxError, match="at least one batch"):
        recompute_statistics(model.apply, *plain, [])
    with pytest.raises(LrjaxError, match="no running statistics"):
        recompute_statistics(model.apply, plain[0], {}, batches)


@pytest.mark.x64
def test_clip_threshold_that_follows_the_scale_keeps_the_runs_equal():
    c = 0.3
    plan = wd_free_plan(RATE, DECAY, MOMENTUM, STEPS)
    decayed = optax.chain(
        optax.clip_by_global_norm(c), optax.add_decayed_weights(DECAY), optax.sgd(RATE, momentum=MOMENTUM)
    )
    runs = {
        "reference": decayed,
        "follows": optax.chain(clip_by_scaled_norm(c, plan.log_scale), free()),
        "fixed": optax.chain(optax.clip_by_global_norm(c), free()),
    }
    logits = {name: fixed(tx).logits for name, tx in runs.items()}
    unclipped = fixed(free()).logits
    assert deviation(logits["follows"], logits["reference"]) < EQUAL
    assert deviation(logits["fixed"], logits["reference"]) > DIFFERENT
    assert deviation(unclipped, logits["reference"]) > DIFFERENT


def test_clip_ends_with_its_table():
    clip = clip_by_scaled_norm(1.0, np.zeros(2))
    state = clip.init(None)
    for _ in range(2):
        updates, state = clip.update({"w": jnp.ones(4)}, state)
        np.testing.assert_allclose(updates["w"], 0.5)
    assert np.isnan(clip.update({"w": jnp.ones(4)}, state)[0]["w"]).all()


def test_eps_stays_in_range_where_the_scale_does_not():
    assert float(scaled_eps(0.0, -3.0)) == 0.0
    np.testing.assert_allclose(scaled_eps(1e-5, -150 * np.log(2), gauge=-150), 1e-5, rtol=1e-4)
    moved = gauge_rescale({"w": jnp.ones(2)}, (), {"norm_eps": {"n": {"eps": scaled_eps(1e-5, -3.0)}}}, k=-4)[2]
    np.testing.assert_array_equal(moved["norm_eps"]["n"]["eps"], scaled_eps(1e-5, -3.0, gauge=-4))
    with pytest.raises(LrjaxError, match="eps_in_state"):
        scale_eps({"batch_stats": {}}, 1e-5, -3.0)


def test_powers_of_statistics_are_the_degrees_before_each_norm():
    model = build_model({**MLP, "affine": True, "eps": EPS, "eps_in_state": True}, num_classes=3)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(32, 16)), jnp.float32)
    params, model_state = model.init(jax.random.key(0), x)
    without_eps = {k: v for k, v in model_state.items() if k != "norm_eps"}
    plain = build_model({**MLP, "affine": True}, num_classes=3)
    params = jax.tree.map(lambda w: w + 0.3, params)
    powers = statistic_powers(plain.apply, params, without_eps, x)
    assert [powers[f"batch_stats/norm{n}/{s}"] for n in (1, 2) for s in ("mean", "var")] == [1, 2, 2, 4]

    def labels(params):
        return {layer: "si" if layer.startswith("dense") else "other" for layer in params}

    kernels = statistic_powers(plain.apply, params, without_eps, x, labels=labels)
    assert [kernels[f"batch_stats/norm{n}/{s}"] for n in (1, 2) for s in ("mean", "var")] == [1, 2, 1, 2]
    second = statistic_powers(plain.apply, params, without_eps, x, labels=lambda p: {k: k for k in p}, group="dense2")
    assert [second[f"batch_stats/norm{n}/mean"] for n in (1, 2)] == [0, 1]


@pytest.mark.slow
def test_rescaled_network_of_two_degrees_evaluates_bit_equal():
    config = {**MLP, "affine": True, "widths": (12, 12, 12), "norm": "batch"}
    model = build_model(config, num_classes=3)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(32, 16)), jnp.float32)
    params, model_state = model.init(jax.random.key(0), x)
    params = jax.tree.map(lambda w: w + 0.3, params)
    _, model_state = model.apply(params, model_state, x, train=True)
    # All but the last affine, which meets the frozen head.
    labels = {layer: "other" if layer == "norm3" else "si" for layer in params}
    powers = statistic_powers(model.apply, params, model_state, x, labels=labels)
    logits = model.apply(params, model_state, x, train=False)[0]
    scaled, _, state, k = gauge_rescale(params, (), model_state, labels=labels, k=-7, statistics=powers)
    np.testing.assert_array_equal(model.apply(scaled, state, x, train=False)[0], logits)
    wrong = gauge_rescale(params, (), model_state, labels=labels, k=-7)[2]
    assert deviation(model.apply(scaled, wrong, x, train=False)[0], logits) > 1e-2
