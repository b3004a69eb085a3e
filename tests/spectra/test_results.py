"""Results as text and as plain Python."""

import json
import math
import pickle
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrjax import spectra
from lrjax.spectra.results import PARAMETER_SPACE, readable, to_dict

BOUND = spectra.matrix(np.diag([5.0, 3.0, 1.0, -4.0]))
NUMBERS = np.random.default_rng(0).normal(size=(8, 4))


def loss(w, x):
    return jnp.mean((x @ w) ** 2)


RESULTS = {
    "Eigen": lambda: spectra.lanczos(BOUND, 2),
    "Eigen of values": lambda: spectra.extreme_values(BOUND, 1),
    "Density": lambda: spectra.density(BOUND, jax.random.key(0), num_probes=2, num_steps=3),
    "Curve": lambda: spectra.density(BOUND, jax.random.key(0), num_probes=2, num_steps=3).on(),
    "LogCurve": lambda: spectra.density(BOUND, jax.random.key(0), num_probes=2, num_steps=3).on_log(),
    "Estimate": lambda: spectra.density(BOUND, jax.random.key(0), num_probes=1, num_steps=3).moment(1),
    "Trace": lambda: spectra.trace(BOUND, jax.random.key(0), num_probes=2, method="hutchinson"),
    "Diagonal": lambda: spectra.diagonal(BOUND, jax.random.key(0), num_probes=2),
    "Frobenius": lambda: spectra.frobenius(BOUND, jax.random.key(0), num_probes=2),
    "Gram": lambda: spectra.gram(NUMBERS),
    "Spread": lambda: spectra.spread(len, 1000, size=1000, key=jax.random.key(0)),
    "Interval": lambda: spectra.intervals(spectra.gram(NUMBERS), "trace"),
    "NoiseScale": lambda: spectra.gradient_noise_scale(np.eye(3) + 2, batch_size=4),
    "BatchSharpness": lambda: spectra.batch_sharpness(loss, jnp.ones(4), [NUMBERS]),
    "Landscape": lambda: spectra.loss_landscape(loss, jnp.ones(4), [NUMBERS], 0, num_points=2, normalise=None),
    "LinearPath": lambda: spectra.linear_path(loss, jnp.ones(4), jnp.zeros(4), [NUMBERS]),
}
NAMED_TUPLES = {name for name in spectra.__all__ if hasattr(getattr(spectra, name), "_fields")}


def test_every_public_result_is_among_those_tested():
    assert {name.split()[0] for name in RESULTS} == NAMED_TUPLES - {"Distribution", "Selection"}


def plain(value):
    if isinstance(value, dict):
        return all(type(name) is str and plain(member) for name, member in value.items())
    if isinstance(value, list):
        return all(map(plain, value))
    return value is None or type(value) in (bool, int, float, str)


@pytest.mark.parametrize("name", RESULTS)
def test_results_become_plain_python_that_json_writes_without_the_vectors(name):
    result = RESULTS[name]()
    short, whole = result.to_dict(), result.to_dict(vectors=True)
    assert plain(whole)
    assert json.loads(json.dumps(whole)).keys() == whole.keys() == set(result._fields)
    hidden = set(PARAMETER_SPACE.get(type(result).__name__, ()))
    assert short.keys() == whole.keys() - hidden
    for field in whole:
        if isinstance(getattr(result, field), (np.ndarray, jax.Array)):
            np.testing.assert_array_equal(np.array(whole[field]), np.asarray(getattr(result, field)))


@pytest.mark.parametrize("name", RESULTS)
def test_results_print_themselves_and_stay_tuples(name):
    result = RESULTS[name]()
    assert repr(result) == str(result) == readable(result)
    assert repr(result).startswith(type(result).__name__ + "(")
    assert "array(" not in repr(result)
    assert all(len(line) <= 120 for line in repr(result).splitlines())
    assert repr(pickle.loads(pickle.dumps(jax.device_get(result)))) == repr(result)


def test_a_text_has_numbers_with_their_errors_and_how_many_converged():
    top = spectra.lanczos(BOUND, 2, key=jax.random.key(1))._replace(
        values=np.array([5.0, 3.0]), residuals=np.array([1e-7, 0.25]), converged=np.array([True, False])
    )
    text = repr(top)
    assert "values=[5, 3]" in text
    assert "residuals=[1e-07, 0.25]" in text
    assert "converged=1 of 2" in text
    assert f"products={top.products}" in text
    exact = spectra.trace(BOUND, jax.random.key(0), num_probes=4)
    assert repr(exact._replace(stderr=0.125)).startswith("Trace(value=5 +- 0.125, ")
    norm = spectra.frobenius(BOUND, jax.random.key(0), num_probes=4)._replace(value=2.0, stderr=0.1, squared_stderr=0.4)
    assert repr(norm) == "Frobenius(value=2 +- 0.1, squared=51 +- 0.4, products=4)"


class Any_(NamedTuple):
    number: object
    other: object = None


@pytest.mark.parametrize(
    ("value", "text", "plain_value"),
    [
        (np.float32(0.5), "0.5", 0.5),
        (float("nan"), "nan", math.nan),
        (jnp.ones(2, jnp.bfloat16), "[1, 1]", [1.0, 1.0]),
        (np.arange(7), "[7] from 0 to 6", list(range(7))),
        (np.full((2, 2), np.nan), "[2 x 2]", [[math.nan] * 2] * 2),
        (np.zeros((0, 3)), "[0 x 3]", []),
        (np.array([np.inf, 1.0]), "[inf, 1]", [math.inf, 1.0]),
        (np.bool_(True), "True", True),
        ((np.ones(1), 2), "([1], 2)", [[1.0], 2]),
        ({"a": np.int64(3)}, None, {"a": 3}),
        (None, "None", None),
        ("name", "'name'", "name"),
        (12345678, "12345678", 12345678),
    ],
    ids=str,
)
def test_fields_of_any_kind_become_text_and_plain_python(value, text, plain_value):
    if text is not None:
        assert readable(Any_(value)) == f"Any_(number={text}, other=None)"
    given = to_dict(Any_(value, Any_(1)))
    assert plain(given)
    np.testing.assert_equal(given["number"], plain_value)
    assert given["other"] == {"number": 1, "other": None}


def test_a_traced_result_can_be_printed():
    texts = []

    @jax.jit
    def traced(x):
        texts.append(readable(Any_(x)))
        return x

    traced(jnp.ones(3))
    assert texts[0].startswith("Any_(")
