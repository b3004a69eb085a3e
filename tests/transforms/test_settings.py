"""Settings of the transforms: what would be read in another way than meant is refused with its real cause."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrjax.errors import LrjaxError
from lrjax.transforms import (
    clip_by_scaled_norm,
    from_wd_free,
    scale_eps,
    texp,
    texp_schedule,
    texp_tables,
    to_wd_free,
    to_weight_decay,
    wd_free_adamw,
    wd_free_plan,
    wd_free_sgd,
)

ARRAYS = [np.linspace(0.1, 0.4, 4), [0.1, 0.2], (0.1,), np.full(1, 0.1), np.full((2, 2), 0.1)]
SGD = ("learning_rate", "weight_decay", "momentum")
ADAMW = ("learning_rate", "weight_decay", "b1", "b2", "eps")
OPEN = [(wd_free_sgd, name) for name in SGD] + [(wd_free_adamw, name) for name in ADAMW]
by_setting = pytest.mark.parametrize(("build", "name"), OPEN, ids=lambda value: getattr(value, "__name__", value))


def settings(build, name, value):
    start = {"learning_rate": 0.1, "weight_decay": 0.0} if build is wd_free_sgd else {"learning_rate": 0.1}
    return start | {name: value}


@by_setting
@pytest.mark.parametrize(
    "value", [*ARRAYS, jnp.full(3, 0.1)], ids=lambda value: f"{type(value).__name__}-{np.shape(value)}"
)
def test_an_array_of_rates_in_the_open_form_is_refused(build, name, value):
    with pytest.raises(LrjaxError, match=f"{name} holds .* num_steps="):
        build(**settings(build, name, value))


@by_setting
def test_an_array_that_is_traced_is_refused_and_one_that_is_mapped_over_is_not(build, name):
    ones = jnp.ones(4)

    def update(value):
        tx = build(**settings(build, name, value))
        return tx.update(ones, tx.init(ones))[0]

    values = jnp.array([0.1, 0.2, 0.3])
    with pytest.raises(LrjaxError, match=f"{name} holds 3 numbers"):
        jax.jit(update)(values)
    found = jax.jit(jax.vmap(update))(values)
    np.testing.assert_allclose(found, jnp.stack([update(float(value)) for value in values]), rtol=1e-6)


@by_setting
@pytest.mark.parametrize(
    "value",
    ["0.1", True, np.bool_(True), float("nan"), float("inf"), 1j, object()],
    ids=lambda value: str(value).split(" at ")[0],
)
def test_what_is_no_finite_number_is_refused(build, name, value):
    with pytest.raises(LrjaxError, match=f"{name} must be"):
        build(**settings(build, name, value))


@pytest.mark.parametrize(("build", "name"), [(b, n) for b, n in OPEN if n != "weight_decay"])
def test_a_number_out_of_range_is_refused(build, name):
    for value in (-0.1, 1.5) if name in ("momentum", "b1", "b2") else (-0.1,):
        with pytest.raises(LrjaxError, match=f"{name} must be"):
            build(**settings(build, name, value))


@pytest.mark.parametrize(("build", "name"), [(b, n) for b, n in OPEN if n != "momentum"])
def test_none_is_refused_in_the_open_form(build, name):
    with pytest.raises(LrjaxError, match=f"{name} is None, .* pass 0.0"):
        build(**settings(build, name, None))


@by_setting
def test_a_schedule_that_returns_an_array_is_refused(build, name):
    tx, ones = build(**settings(build, name, lambda count: jnp.full(4, 0.1))), jnp.ones(4)
    with pytest.raises(LrjaxError, match=f"schedule {name} must return one number"):
        tx.update(ones, tx.init(ones))


def test_number_of_steps_that_is_injected_is_refused_with_its_cause_and_may_be_static():
    injected = optax.inject_hyperparams(wd_free_sgd)(0.1, weight_decay=5e-4, momentum=0.9, num_steps=24)
    with pytest.raises(LrjaxError, match=r"inject_hyperparams.*leave num_steps out.*static_args"):
        injected.init(jnp.ones(2))
    static = optax.inject_hyperparams(wd_free_sgd, static_args=("num_steps", *SGD))
    tx, plain = static(0.1, 5e-4, 0.9, num_steps=24), wd_free_sgd(0.1, 5e-4, 0.9, num_steps=24)
    ones = jnp.ones(2)
    found, expected = (jax.jit(t.update)(ones, t.init(ones))[0] for t in (tx, plain))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("num_steps", [0, -1, 2.0, True, "3", None])
def test_number_of_steps_is_a_positive_integer(num_steps):
    with pytest.raises(LrjaxError, match="num_steps must be a positive integer"):
        wd_free_plan(0.1, 5e-4, 0.9, num_steps)
    with pytest.raises(LrjaxError, match="num_steps must be a positive integer"):
        texp_tables((), (0.1,), 5e-4, 0.9, num_steps)


@pytest.mark.parametrize("boundaries", [(2.5,), (float("nan"),), ("2",), (True,), 2, (None,), ((2,),)])
def test_boundary_that_is_no_step_is_refused(boundaries):
    for build in (texp, texp_schedule):
        with pytest.raises(LrjaxError, match="boundaries must be"):
            build(boundaries, (0.1, 0.01), 5e-4, 0.9)


def test_boundaries_may_be_whole_floats():
    assert (
        texp_tables((2.0,), (0.1, 0.01), 5e-4, 0.9, 4)[1].tolist()
        == texp_tables((2,), (0.1, 0.01), 5e-4, 0.9, 4)[1].tolist()
    )
    with pytest.raises(LrjaxError, match=r"boundaries must be whole numbers of steps, not \[2.5\]"):
        to_weight_decay((1.001, 1.001), (0.1, 0.01), boundaries=(2.5,))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"momentum": None}, "momentum is None"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\)"),
        ({"weight_decay": None}, "weight_decay must be a number"),
        ({"weight_decay": float("nan")}, "weight_decay must be finite"),
        ({"weight_decay": (1e-4, 1e-4, 1e-4)}, "weight_decay must be one number or 2"),
        ({"learning_rates": (0.1, "0.01")}, "learning_rates must be a number"),
        ({"learning_rates": (0.1, float("inf"))}, "learning rates of phases must be positive"),
    ],
)
def test_texp_names_the_setting_that_is_wrong(wrong, message):
    right = {"learning_rates": (0.1, 0.01), "weight_decay": 5e-4, "momentum": 0.9}
    with pytest.raises(LrjaxError, match=message):
        texp((2,), **right | wrong)


HOST = {
    "open": lambda: wd_free_sgd(0.1, 5e-4, 0.9),
    "table": lambda: wd_free_sgd(0.1, 5e-4, 0.9, num_steps=4),
    "adamw": lambda: wd_free_adamw(0.1),
    "texp": lambda: texp((2,), (0.1, 0.01), 5e-4, 0.9),
    "clip": lambda: clip_by_scaled_norm(1.0, np.zeros(4)),
}


@pytest.mark.parametrize("name", HOST)
def test_host_arrays_are_stepped_as_those_of_jax(name):
    tx, host = HOST[name](), {"w": np.full(3, 3.0), "n": None}
    ours = jax.tree.map(jnp.asarray, host)
    found, expected = (tx.update(tree, tx.init(tree), tree)[0]["w"] for tree in (host, ours))
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == expected.dtype


def test_host_arrays_are_converted_and_constants_kept():
    decayed, free = optax.chain(optax.add_decayed_weights(0.01), optax.sgd(0.2, 0.9)), wd_free_sgd(0.2, 0.01, 0.9)
    host, plan = {"w": np.full(3, 3.0)}, wd_free_plan(0.2, 0.01, 0.9, 4)
    there, state = to_wd_free(host, decayed.init(host), plan, 2, free.init(host))
    back, _ = from_wd_free(there, state, plan, 2, decayed.init(host))
    np.testing.assert_allclose(back["w"], host["w"], rtol=1e-6)
    eps = scale_eps({"norm_eps": {"n": {"eps": np.float64(1)}}}, 1e-5, 0.0)["norm_eps"]["n"]["eps"]
    np.testing.assert_allclose(eps, 1e-5, rtol=1e-5)


def test_parameters_that_are_no_floats_are_refused_by_name():
    for build in (lambda: wd_free_sgd(0.1, 0.0, 0.9), lambda: wd_free_adamw(0.1)):
        for leaf in (jnp.arange(3), jax.random.key(0), np.ones(2, bool)):
            with pytest.raises(LrjaxError, match="only arrays of floats can be stepped, and 'counts' is"):
                build().init({"counts": leaf})
    tx = wd_free_sgd(0.1, 0.0)
    with pytest.raises(LrjaxError, match="only gradients of floats"):
        tx.update(jnp.arange(3), tx.init(jnp.ones(3)))
