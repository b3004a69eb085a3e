"""muP keeps the change of activations apart from the width; standard parameterisation does not, and the check tells."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrjax.errors import LrjaxError
from lrjax.monitor.coordinate_check import coordinate_check

INPUTS, RATE, BASE = 8, 0.01, 64  # at the width BASE the hidden layer has the same rate as the others under muP
BATCHES = [
    {"x": x, "y": np.sin(x.sum(1, keepdims=True))}
    for x in np.random.default_rng(0).normal(size=(4, 16, INPUTS)).astype(np.float32)
]


def model(width, mup):
    """An MLP of two hidden layers; under muP the readout is divided by the width, with weights of order 1."""

    def init(key):
        drawn = jax.random.normal(key, (INPUTS + width + 1, width))
        first, hidden, readout = drawn[:INPUTS], drawn[INPUTS:-1], drawn[-1][:, None]
        return {
            "input": first / INPUTS**0.5,
            "hidden": hidden / width**0.5,
            "readout": readout / (1 if mup else width) ** 0.5,
        }

    def activations(params, batch):
        first = batch["x"] @ params["input"]
        hidden = jax.nn.relu(first) @ params["hidden"]
        out = jax.nn.relu(hidden) @ params["readout"] / (width if mup else 1)
        return {"input": first, "hidden": hidden, "a readout": out}  # not in the order of the alphabet

    def loss_fn(params, batch):
        return jnp.mean((activations(params, batch)["a readout"] - batch["y"]) ** 2)

    return init, loss_fn, activations


def optimizer(width, mup):
    """Adam at one rate, and under muP at a rate of BASE / width of that for the hidden layer."""
    scaled = optax.stateless(lambda updates, params: updates | {"hidden": updates["hidden"] * BASE / width})
    return optax.chain(optax.adam(RATE), scaled) if mup else optax.adam(RATE / 16)


def checked(mup, **settings):
    return coordinate_check(
        functools.partial(model, mup=mup),
        functools.partial(optimizer, mup=mup),
        BATCHES,
        widths=(64, 128, 256, 512),
        seeds=6,
        **settings,
    )


@pytest.mark.slow
def test_slopes_are_flat_under_mup_and_grow_in_standard_parameterisation():
    mup, standard = checked(True), checked(False)
    assert [layer.layer for layer in mup.layers] == ["input", "hidden", "a readout"]
    assert mup.flat, mup
    assert not standard.flat
    for of_mup, of_standard in zip(mup.layers[1:], standard.layers[1:], strict=True):
        assert of_standard.reading == "grows"
        assert of_standard.interval[0] > 0.2  # not flat, by more than its interval
        assert of_standard.interval[0] > of_mup.interval[1]
    assert mup.changes["hidden"].shape == (4, 6, 10)
    assert "covers steps 1 to 10 only" in repr(mup)
    assert "grows" in repr(standard)
    assert mup.to_dict()["widths"] == [64, 128, 256, 512]


def test_slope_is_that_of_the_power_of_the_width_for_each_layer_by_its_name():
    def power(width):
        def activations(params, batch):
            return {"wide": params * width**0.5, "narrow": params / width, "fixed": jnp.ones(2), "as": params + 1}

        return lambda key: 1 + jax.random.uniform(key, ()), lambda params, batch: params, activations

    found = coordinate_check(power, lambda width: optax.sgd(0.1), [np.ones(1)], widths=(4, 8, 16), steps=3)
    slopes = {layer.layer: (round(layer.slope, 2), layer.reading) for layer in found.layers}
    assert slopes["wide"] == (0.5, "grows")
    assert slopes["narrow"] == (-1.0, "shrinks")
    assert slopes["as"][1] == "flat"
    assert slopes["fixed"][1] == "unchanged"
    assert list(slopes) == ["wide", "narrow", "fixed", "as"]
    np.testing.assert_allclose(found.layers[0].slopes, 0.5, atol=1e-4)


@pytest.mark.parametrize("widths", [(64, 128), (64, 80, 96), (64, 64, 64)])
def test_too_narrow_a_range_of_widths_is_refused(widths):
    with pytest.raises(LrjaxError, match="widths must be three or more"):
        coordinate_check(functools.partial(model, mup=True), lambda width: optax.adam(RATE), BATCHES, widths=widths)


def test_layers_that_differ_or_blow_up_are_refused_by_name():
    def scaled(names):
        def make_model(width):
            activations = lambda params, batch: dict.fromkeys(names(width), params * batch)  # noqa: E731
            return lambda key: jnp.ones(()), lambda params, batch: params**2, activations

        return make_model

    check = functools.partial(coordinate_check, batches=[np.ones(())], widths=(8, 16, 32), steps=4, seeds=1)
    with pytest.raises(LrjaxError, match="the same names at all widths: \\['layer16'\\] at 16, \\['layer8'\\] at 8"):
        check(scaled(lambda width: [f"layer{width}"]), lambda width: optax.sgd(0.1))
    with pytest.raises(LrjaxError, match="the activations of all at width 8 are not finite"):
        check(scaled(lambda width: ["all"]), lambda width: optax.sgd(1e30))
