"""The step as a pure function: gradients, optimizers, averages, lanes that are over or have diverged."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lrjax
from lrjax import keys, models
from lrjax.data import signal_noise
from lrjax.experiment.config.overrides import apply_overrides
from lrjax.experiment.loop import sweep
from lrjax.experiment.step.engines import ENGINES
from lrjax.experiment.step.losses import square
from lrjax.experiment.step.train_step import StepInputs, init_state, targets, train_step
from tests import reference

TINY = {
    "data.n": 8, "data.n_weak": 2, "data.dim": 12, "model.width": 3, "model.init_scale": 0.5, "engine": "direct",
    "sweep.e": (0.5,), "sweep.seed": (0,), "arms.small_rate": None, "arms.time_matched": None,
}  # fmt: skip


def parts(**overrides):
    """Engine, static, state, hparams, data and the lane of a tiny two-layer problem."""
    lane_group = sweep.expand(lrjax.load_config("configs/benign_osc.py:CLEAR", {**TINY, **overrides}))[0]
    hparams = {key: jnp.asarray(value) for key, value in lane_group.lanes[0].hparams().items()}
    data = signal_noise.generate(lane_group.static, hparams)
    engine = ENGINES[lane_group.static.engine](lane_group.static, 1)
    return engine, lane_group.static, init_state(engine, lane_group.static, hparams, data), hparams, data


def row(hparams, index=(5,), active=True):
    return StepInputs(jnp.array(index), hparams["optimizer.learning_rate"], jnp.array(active))


def advance(engine, static, state, hparams, data, count, **kwargs):
    move = jax.jit(lambda s, r: train_step(engine, static, s, hparams, data, r))
    for t in range(count):
        state, metrics = move(state, row(hparams, index=(t % 8,), **kwargs))
    return state, metrics


@pytest.mark.x64
@pytest.mark.parametrize("loss", ["square", "half_square"])
def test_autodiff_gives_the_papers_update(loss):
    engine, static, state, hparams, data = parts(loss=loss)
    new, _ = train_step(engine, static, state, hparams, data, row(hparams))
    filters = np.asarray(state.params["filters"])[:, :, 0]
    x, y = np.asarray(data["train"]["x"][5]), float(data["train"]["y"][5])
    wanted = reference.step(filters, x, y, float(hparams["optimizer.learning_rate"]), half=loss == "half_square")
    assert np.allclose(np.asarray(new.params["filters"])[:, :, 0], wanted, rtol=1e-10, atol=1e-14)
    wrong = reference.step(filters, x, y, float(hparams["optimizer.learning_rate"]), half=loss != "half_square")
    assert np.max(np.abs(wrong - wanted)) > 1e-3


@pytest.mark.x64
def test_gradient_equals_finite_differences():
    _, static, state, _, data = parts()
    model = models.build_model(static.model, 1)
    x, y = data["train"]["x"][:4], data["train"]["y"][:4]

    def loss(params):
        return jnp.mean(square(model.apply(params, {}, x, train=True)[0], y))

    gradient = jax.grad(loss)(state.params)["filters"]
    direction = jax.random.normal(jax.random.key(0), gradient.shape)
    at = lambda h: loss({"filters": state.params["filters"] + h * direction})  # noqa: E731
    assert float(jnp.sum(gradient * direction)) == pytest.approx(float((at(1e-6) - at(-1e-6)) / 2e-6), rel=1e-6)


@pytest.mark.parametrize(
    ("overrides", "chain"),
    [
        ({"optimizer.momentum": 0.9}, lambda rate: optax.sgd(rate, momentum=0.9)),
        ({"optimizer.momentum": 0.9, "optimizer.nesterov": True}, lambda rate: optax.sgd(rate, 0.9, nesterov=True)),
        ({"optimizer.l2": 0.1}, lambda rate: optax.chain(optax.add_decayed_weights(0.1), optax.sgd(rate))),
        ({"optimizer.name": "adam", "optimizer.b1": 0.7}, lambda rate: optax.adam(rate, b1=0.7)),
        ({"optimizer.name": "adamw", "optimizer.weight_decay": 0.2}, lambda rate: optax.adamw(rate, weight_decay=0.2)),
    ],
    ids=["momentum", "nesterov", "l2", "adam", "adamw"],
)
def test_any_optax_optimizer_moves_as_optax_does(overrides, chain):
    engine, static, state, hparams, data = parts(**overrides)
    model = models.build_model(static.model, 1)
    optimizer = chain(float(hparams["optimizer.learning_rate"]))
    params, opt_state = state.params, optimizer.init(state.params)
    for t in range(5):
        x, y = data["train"]["x"][t : t + 1], data["train"]["y"][t : t + 1]
        gradient = jax.grad(lambda p, x=x, y=y: jnp.mean(square(model.apply(p, {}, x, train=True)[0], y)))(params)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        params = optax.apply_updates(params, updates)
    state, _ = advance(engine, static, state, hparams, data, 5)
    chex.assert_trees_all_close(state.params, params, rtol=2e-5, atol=1e-7)
    plain = advance(*parts(), 5)[0]
    assert not np.allclose(plain.params["filters"], state.params["filters"], rtol=1e-3)


def test_optimizer_numbers_are_arguments_so_new_values_do_not_retrace():
    engine, static, state, hparams, data = parts(**{"optimizer.momentum": 0.9, "optimizer.l2": 0.1, "label_noise": 0.1})

    @jax.jit
    @chex.assert_max_traces(n=1)
    def move(state, hparams):
        return train_step(engine, static, state, hparams, data, row(hparams))

    results = [move(state, hparams | {"optimizer.momentum": jnp.float32(m)}) for m in (0.9, 0.5, 0.0)]
    second = [
        move(s, hparams | {"optimizer.momentum": jnp.float32(m)})[0]
        for (s, _), m in zip(results, (0.9, 0.5, 0.0), strict=False)
    ]
    assert not np.array_equal(second[0].params["filters"], second[2].params["filters"])


def test_a_finished_lane_stands_still():
    engine, static, state, hparams, data = parts(averaging="ema")
    moved, _ = advance(engine, static, state, hparams, data, 3)
    still, _ = advance(engine, static, moved, hparams, data, 3, active=False)
    chex.assert_trees_all_equal(moved, still)
    assert int(moved.step) == 3


def test_a_diverged_lane_is_recorded_and_keeps_its_last_finite_parameters():
    engine, static, state, hparams, data = parts(e=None, **{"sweep.e": None, "optimizer.learning_rate": 1e3})
    state, _ = advance(engine, static, state, hparams, data, 30)
    assert int(state.diverged_at) > 0
    assert int(state.step) == int(state.diverged_at)
    assert np.isfinite(float(state.last_finite_loss))
    assert np.all(np.isfinite(state.params["filters"]))
    healthy = advance(*parts(), 30)[0]
    assert int(healthy.diverged_at) == -1


def test_uniform_average_is_the_mean_of_the_iterates_from_its_start():
    engine, static, state, hparams, data = parts(averaging="uniform", averaging_start=2)
    iterates = []
    for t in range(6):
        state, _ = train_step(engine, static, state, hparams, data, row(hparams, index=(t,)))
        iterates.append(np.asarray(state.params["filters"]))
    assert np.allclose(state.average["filters"], np.mean(iterates[2:], axis=0), rtol=1e-5, atol=1e-7)
    assert not np.allclose(state.average["filters"], np.mean(iterates, axis=0), rtol=1e-5, atol=1e-7)


def test_label_noise_is_fresh_at_each_visit_and_a_function_of_seed_and_step():
    _, static, _, hparams, _ = parts(label_noise=0.4)
    y = jnp.array([1.0, -1.0, 1.0])
    first, again, later = (targets(static, hparams, y, jnp.int32(t)) for t in (0, 0, 3))
    assert np.array_equal(first, again)
    assert np.allclose(np.abs(np.asarray(first - y)), 0.4)
    draws = [np.asarray(targets(static, hparams, y, jnp.int32(t)) - y) for t in range(20)]
    assert len({tuple(np.sign(d)) for d in draws}) > 3
    assert later.shape == y.shape


def test_purposes_and_steps_have_keys_of_their_own():
    drawn = [float(jax.random.uniform(keys.key(0, purpose, t))) for purpose in keys.PURPOSES for t in (None, 0, 1)]
    assert len(set(drawn)) == len(drawn)


def test_shapes_and_dtypes_of_the_state_do_not_change_in_a_step():
    engine, static, state, hparams, data = parts(averaging="ema", **{"optimizer.momentum": 0.5})
    new, metrics = train_step(engine, static, state, hparams, data, row(hparams))
    chex.assert_trees_all_equal_shapes_and_dtypes(state, new)
    assert {"loss", "learning_rate", "margin", "example"} <= set(metrics)


@pytest.mark.slow
def test_our_own_maths_needs_no_dtype_promotion(strict_dtype):
    engine, static, state, hparams, data = parts(engine="gram", **{"averaging": "ema"})
    new, _ = train_step(engine, static, state, hparams, data, row(hparams))
    assert int(new.step) == 1


def test_config_of_a_lane_may_be_overridden_after_loading():
    config = lrjax.load_config("configs/benign_osc.py:E1")
    assert apply_overrides(config, {"steps": 10}).steps == 10
