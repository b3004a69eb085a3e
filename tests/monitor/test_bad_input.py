"""What the monitor cannot measure is one sentence, once, and the training goes on."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrjax.errors import LrjaxError
from lrjax.monitor import Monitor, MonitorWarning
from tests.monitor import loops

PARAMS = loops.plain_params()


def said(loss=loops.plain_loss, optimizer=None, state=None, params=PARAMS, batches=None, steps=30, **options):
    """The warnings of a loop, and the monitor after it."""
    optimizer = optax.adam(1e-2) if optimizer is None else optimizer
    monitor = Monitor(loss, optimizer, **({"every": 5, "budget": 0, "num_steps": 100} | options))
    state = optimizer.init(params) if state is None else state
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(steps):
            batch = loops.batch_of(step) if batches is None else batches(step)
            assert isinstance(monitor.update(step, params, state, batch), dict)
    assert all(one.category is MonitorWarning for one in caught)
    texts = [str(one.message) for one in caught]
    assert list(monitor.report().notices) == texts
    assert str(monitor.report())
    return texts, monitor


GENERATOR = np.random.default_rng(0)


def by_generator(params, batch):
    return loops.plain_loss(params, batch) * (1 + GENERATOR.normal())


def by_large_constant(params, batch):
    return loops.plain_loss(params, batch) + jnp.mean(jnp.asarray(GENERATOR.normal(size=5000)))


def by_callback(params, batch):
    noise = jax.pure_callback(lambda: np.float32(GENERATOR.normal()), jax.ShapeDtypeStruct((), jnp.float32))
    return loops.plain_loss(params, batch) * (1 + jax.lax.stop_gradient(noise))


@pytest.mark.parametrize("loss", [by_generator, by_large_constant, by_callback])
def test_a_loss_that_is_not_deterministic_is_named(loss):
    (text,), monitor = said(loss)
    assert "not deterministic" in text
    assert monitor.rows() == []


def test_batches_of_changing_shape_are_named_once():
    def batches(step):
        return jax.tree.map(lambda x: x[: 8 - step % 4], loops.batch_of(step))

    (text,), monitor = said(batches=batches)
    assert "pad them" in text
    assert monitor.rows()


REFUSED = {
    "scalar": ({"loss": lambda p, b: (b["x"] @ p["dense"]["w"] - b["y"]) ** 2}, "must return a scalar"),
    "state": ({"state": optax.sgd(0.1).init(PARAMS)}, "does not belong"),
    "integers": (
        {"params": {"dense": {**PARAMS["dense"], "steps": jnp.arange(3)}}, "optimizer": optax.set_to_zero()},
        "int32, which have no gradient",
    ),
    "nothing": ({"params": {}}, "holds no arrays"),
    "keywords": ({"optimizer": optax.contrib.sophia(0.1)}, "needs obj_fn; pass extra_args="),
    "examples": (
        {"optimizer": optax.contrib.differentially_private_aggregate(1.0, 0.1, jax.random.key(0))}, "gradient_fn=",
    ),
    "labels": ({"groups": ("labels", {"other": 1})}, "labels does not fit"),
    "a failing loss": ({"loss": lambda p, b: p["missing"]}, "not measured: KeyError: 'missing'"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_measured_is_one_sentence(name):
    keywords, wanted = REFUSED[name]
    (text,), monitor = said(**keywords)
    assert wanted in text
    assert monitor.rows() == []


NOT_FINITE = {
    "params": {"params": jax.tree.map(lambda p: p * jnp.nan, PARAMS)},
    "batches": {"batches": lambda step: jax.tree.map(lambda x: x * (jnp.nan if step > 8 else 1), loops.batch_of(step))},
}


@pytest.mark.parametrize("name", NOT_FINITE)
def test_numbers_that_are_not_finite_are_told_by_the_report(name):
    _, monitor = said(budget=0.5, **NOT_FINITE[name])
    codes = [one.code for one in monitor.report().advice]
    assert "not_finite" in codes
    assert not {"keep", "decay", "far_too_small"} & set(codes)


def test_one_instrument_that_fails_leaves_the_others_their_measurements(monkeypatch):
    from lrjax.monitor import measure

    def broken(*arguments):
        raise RuntimeError("no such kernel at 123")

    monkeypatch.setitem(measure.INSTRUMENTS, "rho", broken)
    (text,), monitor = said(steps=100, every=2)
    assert text == "rho: not measured: RuntimeError: no such kernel at 123"
    assert {"gain_ratio", "noise", "valley_gap"} <= {key for row in monitor.rows() for key in row}


def test_update_inside_a_compiled_function_says_where_it_belongs():
    monitor = Monitor(loops.plain_loss, optax.sgd(0.1))

    @jax.jit
    def step(params, index, batch):
        monitor.update(index, params, optax.sgd(0.1).init(params), batch)
        return params

    with pytest.warns(MonitorWarning, match="call it in the Python loop"):
        step(PARAMS, 0, loops.batch_of(0))


def test_parameters_that_were_given_away_are_told_as_such():
    params = jax.tree.map(jnp.copy, PARAMS)
    jax.tree.map(lambda leaf: leaf.delete(), params)
    texts, _ = said(params=params, state=optax.adam(1e-2).init(PARAMS))
    assert len(texts) == 1
    assert "call update before the step" in texts[0]


def test_a_file_that_cannot_be_written_is_told_and_the_rows_are_kept(tmp_path):
    (text,), monitor = said(path=tmp_path / "missing" / "rows.jsonl")
    assert "not written" in text
    assert len(monitor.rows()) >= 3


ARGUMENTS = {
    "every": [0, -1, 1.5, "10", None, True],
    "budget": [-0.1, 1.0, float("nan"), "much", None],
    "num_steps": [0, 1.5, "many"],
    "learning_rate": [-0.1, float("nan"), "0.1", jnp.ones(2)],
    "probe": [[], {}, 3],
    "groups": ["layers", 3],
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_out_of_range_are_refused_at_once(name):
    for value in ARGUMENTS[name]:
        with pytest.raises(LrjaxError, match="there is no grouping|" + name):
            Monitor(loops.plain_loss, optax.sgd(0.1), **{name: value})


def test_numbers_of_numpy_and_jax_are_numbers():
    monitor = Monitor(
        loops.plain_loss, optax.sgd(0.1), every=np.int64(5), num_steps=np.int32(7), learning_rate=jnp.float32(0.1)
    )
    assert (monitor.every, monitor.num_steps) == (5, 7)


@pytest.mark.parametrize("optimizer", [None, "adam", optax.adam, object()])
def test_what_is_no_optimizer_is_refused(optimizer):
    with pytest.raises(LrjaxError, match="must be an optax.GradientTransformation"):
        Monitor(loops.plain_loss, optimizer)
    with pytest.raises(LrjaxError, match="loss_fn must be a function"):
        Monitor(3, optax.sgd(0.1))
