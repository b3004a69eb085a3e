"""A sweep finds the rate, its interval and its drift where they are known, and says where it cannot."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

from lrjax.errors import LrjaxError
from lrjax.monitor.rate_lanes import shuffled, stacked
from lrjax.monitor.suggest import suggest

CURVATURE = 3.0


def square(w, batch):
    """With batches of ones: the loss CURVATURE w^2 / 2 + 1."""
    return 0.5 * CURVATURE * jnp.mean(batch) * w**2 + 1.0


def one(key):
    return jnp.ones(())


ONES = [np.ones(4, np.float32)] * 3


def noisy(w, batch):
    """Mean (w - x)^2 / 2 and no more than the noise of w as the error: the best rate falls with the horizon."""
    return 0.5 * jnp.mean((w[None] - batch) ** 2)


NOISE = list(np.random.default_rng(0).normal(size=(64, 1, 8)).astype(np.float32))
NOISY = functools.partial(suggest, noisy, lambda key: 3 + jax.random.normal(key, (8,)), optax.sgd, NOISE)


@pytest.mark.parametrize("lanes", ["vmap", "map"])
@pytest.mark.parametrize("schedule", ["linear", "constant"])
def test_each_lane_is_a_training_at_its_rate_to_the_end_of_its_horizon(lanes, schedule):
    rates = (0.02, 0.1, 0.3, 0.5)
    found = suggest(square, one, optax.sgd, ONES, horizons=(4, 9), rates=rates, seeds=2, lanes=lanes, schedule=schedule)
    assert len(found.rows) == 2 * 4 * 2
    for row in found.rows:
        decay = 1 - np.arange(row.horizon) / row.horizon * (schedule == "linear")
        w = np.prod(1 - row.learning_rate * decay * CURVATURE)
        assert row.loss == pytest.approx(0.5 * CURVATURE * w**2 + 1, rel=1e-4)


def test_optimizer_states_that_keep_the_rate_follow_the_schedule_too():
    injected = lambda rate: optax.inject_hyperparams(optax.adam)(rate)  # noqa: E731
    run = functools.partial(
        suggest, square, one, batches=ONES, horizons=(6, 12), seeds=1, lanes="map", rates=(0.01, 0.1, 0.5)
    )
    plain, kept = run(make_optimizer=optax.adam), run(make_optimizer=injected)
    np.testing.assert_allclose([row.loss for row in kept.rows], [row.loss for row in plain.rows], rtol=1e-5)


OPTIMIZERS = {
    "muon": optax.contrib.muon,
    "schedule_free": lambda rate: optax.contrib.schedule_free(optax.sgd(rate), learning_rate=rate, b1=0.9),
    "lion": optax.lion,
    "accumulating": lambda rate: optax.MultiSteps(optax.sgd(rate), 2),
    "reads the loss": lambda rate: optax.chain(optax.sgd(rate), optax.contrib.reduce_on_plateau(patience=1)),
    "partition": lambda rate: optax.partition({"a": optax.adamw(rate), "b": optax.sgd(rate)}, {"w": "a", "v": "b"}),
    "finite": lambda rate: optax.apply_if_finite(optax.sgd(rate), 3),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_of_optax_are_swept_as_they_are(name):
    loss = lambda params, batch: square(jnp.mean(params["w"]) + jnp.mean(params["v"]), batch)  # noqa: E731
    init = lambda key: {"w": jnp.ones((2, 3)), "v": jnp.ones(2)}  # noqa: E731
    found = suggest(loss, init, OPTIMIZERS[name], ONES, horizons=(8,), rates=(1e-4, 1e-2, 0.1), seeds=1, lanes="vmap")
    assert len({row.loss for row in found.rows}) == 3


def test_all_lanes_are_one_program():
    def traces(rates, horizons):
        calls = []

        def counted(w, batch):
            calls.append(0)
            return square(w, batch)

        suggest(counted, one, optax.sgd, ONES, horizons=horizons, rates=rates, lanes="vmap")
        return len(calls)

    assert traces((0.01, 0.1, 0.2), (4,)) == traces((0.01, 0.3), (3, 4, 5))


def test_sweep_finds_the_drift_of_a_problem_with_noise_and_says_it():
    found = NOISY(horizons=(30, 240), rates=(0.03, 8.0), lanes="auto", num_steps=2000, schedule="constant")
    short, long = found.optima
    assert short.learning_rate > 2 * long.learning_rate  # the noise that stays is in proportion to the rate
    assert found.learning_rate == long.learning_rate
    assert found.interval[0] <= found.learning_rate <= found.interval[1]
    assert found.drift.interval[1] < -0.2
    assert found.extrapolation.learning_rate < long.learning_rate
    assert set(found.milliseconds) == {"vmap", "map"}
    assert found.lanes == min(found.milliseconds, key=found.milliseconds.get)
    text = repr(found)
    assert "Extrapolation, not a measurement" in text
    assert f"Learning rate for 240 steps: {long.learning_rate:.3g} [" in text
    assert json.loads(json.dumps(found.to_dict()))["optima"][0]["horizon"] == 30
    assert "Extrapolation" not in repr(found._replace(extrapolation=None))


def test_lanes_that_diverge_are_recorded_and_no_points_of_the_fit():
    found = suggest(
        square, one, optax.sgd, ONES, horizons=(30, 60), rates=(1e-3, 1e3), lanes="map", schedule="constant"
    )
    for row in found.rows:
        assert row.diverged == (row.learning_rate > 2 / CURVATURE)
        assert row.diverged_at is None or (row.diverged and 0 < row.diverged_at < row.horizon)
    assert any(row.diverged_at for row in found.rows)
    text = repr(found)
    assert text.count("diverged") >= 10
    assert found.figure().caption


def test_loss_that_grew_without_leaving_the_range_of_numbers_has_diverged():
    found = suggest(
        square, one, optax.sgd, ONES, horizons=(3,), rates=(0.01, 0.1, 1.2), lanes="map", schedule="constant"
    )
    assert {row.learning_rate for row in found.rows if row.diverged} == {1.2}
    assert {row.diverged_at for row in found.rows} == {None}
    assert all(np.isfinite(row.loss) for row in found.rows)
    assert found.at_edge == "divergence"


def test_extrapolation_to_a_rate_that_diverges_is_warned_of():
    found = NOISY(horizons=(30, 240), rates=(0.03, 30.0), lanes="map", num_steps=2000, schedule="constant", seeds=1)
    assert "Do not use it" not in repr(found)
    beyond = found.extrapolation._replace(learning_rate=25.0)
    assert "Do not use it: lanes diverged at" in repr(found._replace(extrapolation=beyond))


def test_edge_of_the_grid_is_said_instead_of_a_rate():
    found = suggest(square, one, optax.sgd, ONES, horizons=(3, 4), rates=(1e-5, 1e-3), lanes="map", num_steps=100)
    assert (found.at_edge, found.interval, found.drift, found.extrapolation) == ("high", None, None, None)
    assert found.learning_rate == pytest.approx(1e-3)
    text = repr(found)
    assert text.startswith("No learning rate measured for 4 steps")
    assert "upper edge of the grid" in text
    assert "no rate for 100 steps" in text
    assert "lies at an edge" in found.figure().caption


def test_single_seed_has_a_rate_without_an_interval_and_says_so():
    found = NOISY(horizons=(240,), rates=(0.03, 8.0), seeds=1, lanes="map", schedule="constant")
    assert found.interval is None
    assert "no interval: a single seed shows no spread" in repr(found)
    assert "one horizon was run" in repr(found)


def test_final_loss_is_that_of_the_evaluation_batches():
    held_out = [np.full(2, 7.0, np.float32)]
    found = suggest(
        square, one, optax.sgd, ONES, horizons=(2,), rates=(1e-6, 2e-6, 3e-6), lanes="map", eval_batches=held_out
    )
    assert found.start_loss == pytest.approx(0.5 * CURVATURE * 7 + 1)
    assert found.rows[0].loss == pytest.approx(found.start_loss, rel=1e-3)


def test_each_pass_takes_every_batch_once_in_an_order_of_its_seed():
    orders = shuffled(7, 18, 2, np.random.default_rng(0))
    assert orders.shape == (2, 18)
    assert all(sorted(row[:7]) == sorted(row[7:14]) == list(range(7)) for row in orders.tolist())
    assert (orders[0] != orders[1]).any()
    assert (orders[0, :7] != orders[0, 7:14]).any()


def test_batches_may_stream_without_end():
    def endless():
        while True:
            yield {"x": np.ones(2)}

    assert stacked(endless, 5)["x"].shape == (5, 2)


REFUSED = {
    "rates must be two positive": {"rates": (0.0, 0.1)},
    "positive numbers": {"rates": (1e-3, float("nan"), 1.0)},
    "rates must be different": {"rates": (0.1, 0.01)},
    "horizons must be numbers of steps that grow": {"horizons": (800, 200)},
    "not \\(1,\\)": {"horizons": (1,)},
    "num_steps=10 is no longer than the longest horizon, 12": {"num_steps": 10},
    "seeds must be": {"seeds": 0},
    "did you mean 'linear'": {"schedule": "linar"},
    "lanes must be": {"lanes": "pmap"},
    "level must be between": {"level": 95},
    r"of batch 1 has the shape \(3,\) where batch 0 has \(4,\)": {"batches": [np.ones(4), np.ones(3)]},
    "batch 1 is another tree": {"batches": [np.ones(4), {"x": np.ones(4)}]},
    "holds no batch": {"batches": []},
    "put a single batch into a list": {"batches": {"x": np.ones(4)}},
    "eval_batches holds no batch": {"eval_batches": []},
    "the loss of the initial parameters is nan": {"init": lambda key: jnp.full((), jnp.nan)},
    "init must be a traceable function": {"init": lambda key: {"w": jnp.ones(()), "name": "dense"}},
    "must return a scalar": {"loss_fn": lambda w, batch: w * batch},
    "cannot build an optimizer whose learning rate is traced": {"make_optimizer": lambda rate: optax.sgd(float(rate))},
    "whose learning rate is traced \\(T": {
        "make_optimizer": lambda rate: optax.sgd(0.1 if rate > 0 else 0.2), "schedule": "constant"
    },
    "ignores its argument": {"make_optimizer": lambda rate: optax.sgd(0.1)},
    "every lane of 6 steps diverged": {"rates": (1e9, 1e12)},
    "add a constant": {"loss_fn": lambda w, batch: square(w, batch) - 1.5},
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_bad_input_is_refused_in_a_sentence(message):
    good = dict(loss_fn=square, init=one, make_optimizer=optax.sgd, batches=ONES, horizons=(6, 12), rates=(0.01, 0.5))
    with pytest.raises(LrjaxError, match=message) as refusal:
        suggest(**(good | {"lanes": "map"} | REFUSED[message]))
    assert "\n" not in str(refusal.value)
