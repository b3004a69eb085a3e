"""Modules of Equinox, NNX and Linen as they are: trainable parameters alone, shared ones once, statistics never."""

from collections.abc import Callable

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from lrjax import spectra
from lrjax.errors import LrjaxError
from tests.spectra import oracle
from tests.spectra.two_layers import BATCHES, EXACT, PARAMS, X64, Y64, X, right, same_spectrum
from tests.spectra.verdicts import sentence


class Net(eqx.Module):
    hidden: jax.Array
    out: jax.Array
    activation: Callable
    slope: float = 0.5
    steps: int = 3

    def __call__(self, x):
        return self.activation(x @ self.hidden) @ self.out


def of_module(model, b):
    return jnp.mean((model(b[0]) - b[1]) ** 2)


def equinox_net():
    return Net(PARAMS["hidden"], PARAMS["out"], jnp.tanh)


def test_an_equinox_module_as_it_is():
    model = equinox_net()
    right(spectra.hessian(of_module).bind(model, BATCHES), EXACT)
    spec = eqx.tree_at(lambda m: m.hidden, jax.tree.map(lambda _: False, model), replace=True)
    right(spectra.hessian(of_module).bind(model, BATCHES, spec), EXACT[:12, :12])
    right(spectra.hessian(of_module).bind(model, BATCHES, jax.tree.map(eqx.is_inexact_array, model)), EXACT)
    right(spectra.hessian(of_module).bind(model, BATCHES, eqx.is_inexact_array), EXACT)


def test_equinox_arrays_and_statics_in_two_halves():
    arrays, static = eqx.partition(equinox_net(), eqx.is_array)
    halves = lambda p, b: of_module(eqx.combine(p, static), b)  # noqa: E731
    right(spectra.hessian(halves).bind(arrays, BATCHES), EXACT)


def test_layers_of_equinox_with_dropout_and_a_frozen_list():
    class Deep(eqx.Module):
        layers: list
        drop: eqx.nn.Dropout

        def __init__(self):
            one, two = jax.random.split(jax.random.key(0))
            self.layers = [eqx.nn.Linear(3, 4, key=one), jnp.tanh, eqx.nn.Linear(4, 1, key=two)]
            self.drop = eqx.nn.Dropout(0.5, inference=True)

        def __call__(self, x):
            for layer in self.layers:
                x = layer(x)
            return self.drop(x)

    model = Deep()
    flat = {
        "w": model.layers[0].weight,
        "b": model.layers[0].bias,
        "v": model.layers[2].weight,
        "c": model.layers[2].bias,
    }
    at = oracle.Coordinates(flat)

    def exact(v):
        p = at.fill(v)
        hidden = jnp.tanh(X64 @ p["w"].T + p["b"][None])
        return jnp.mean((hidden @ p["v"].T + p["c"][None] - Y64) ** 2)

    bound = spectra.hessian(lambda m, b: jnp.mean((jax.vmap(m)(b[0]) - b[1]) ** 2)).bind(model, BATCHES)
    same_spectrum(bound, oracle.hessian(exact, at.start))


class Normed(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(3, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, use_running_average=True, rngs=rngs)
        self.drop = nnx.Dropout(0.5, deterministic=True, rngs=rngs)
        self.last = nnx.Linear(4, 1, rngs=rngs)
        self.norm.mean = nnx.BatchStat(jnp.array([0.1, -0.2, 0.3, 0.5]))
        self.norm.var = nnx.BatchStat(jnp.array([0.5, 2.0, 1.5, 1.0]))

    def __call__(self, x):
        return self.last(self.drop(jnp.tanh(self.norm(self.first(x)))))


def exact_normed(model, twice=False):
    """The Hessian in float64, from the arrays of the module."""
    tree = {
        "w": model.first.kernel[...], "b": model.first.bias[...], "s": model.norm.scale[...], "t": model.norm.bias[...],
        "v": model.last.kernel[...], "c": model.last.bias[...],
    }  # fmt: skip
    at = oracle.Coordinates(tree)
    mean, var = (np.asarray(a, np.float64) for a in (model.norm.mean[...], model.norm.var[...]))

    def exact(v):
        p = at.fill(v)
        h = ((X64 @ p["w"] + p["b"][None]) - mean[None]) / np.sqrt(var + 1e-5)[None]
        h = jnp.tanh(h * p["s"][None] + p["t"][None])
        return jnp.mean((h @ p["v"] + p["c"][None] - Y64) ** 2)

    return oracle.hessian(exact, at.start)


def test_an_nnx_module_as_it_is_without_its_statistics():
    model = Normed(nnx.Rngs(0))
    for where in (None, nnx.Param, nnx.All(nnx.Param), nnx.Not(nnx.BatchStat), lambda path: True):
        same_spectrum(spectra.hessian(of_module).bind(model, BATCHES, where), exact_normed(model))
    before = np.asarray(model.norm.mean[...])
    np.testing.assert_array_equal(before, model.norm.mean[...])


def test_a_part_of_an_nnx_module_by_filter_and_by_path():
    model = Normed(nnx.Rngs(0))
    for where in (nnx.PathContains("last"), nnx.All(nnx.Param, nnx.PathContains("last")), lambda path: "last" in path):
        assert spectra.hessian(of_module).bind(model, BATCHES, where).size == 5


def test_statistics_are_not_measured_though_a_filter_names_them():
    model = Normed(nnx.Rngs(0))
    try:
        bound = spectra.hessian(of_module).bind(model, BATCHES, nnx.BatchStat)
    except LrjaxError as error:
        sentence(error)
    else:
        assert bound.size == 8, "statistics were asked for by name"


def test_a_module_that_two_names_share_counts_once():
    class Tied(nnx.Module):
        def __init__(self, rngs):
            self.encoder = nnx.Linear(3, 3, use_bias=False, rngs=rngs)
            self.decoder = self.encoder
            self.last = nnx.Linear(3, 1, use_bias=False, rngs=rngs)

        def __call__(self, x):
            return self.last(self.decoder(jnp.tanh(self.encoder(x))))

    model = Tied(nnx.Rngs(0))
    at = oracle.Coordinates({"w": model.encoder.kernel[...], "v": model.last.kernel[...]})

    def exact(v):
        p = at.fill(v)
        return jnp.mean((jnp.tanh(X64 @ p["w"]) @ p["w"] @ p["v"] - Y64) ** 2)

    same_spectrum(spectra.hessian(of_module).bind(model, BATCHES), oracle.hessian(exact, at.start))


def test_an_nnx_state_and_a_split_module():
    model = Normed(nnx.Rngs(0))
    definition, params, rest = nnx.split(model, nnx.Param, ...)
    merged = lambda p, b: of_module(nnx.merge(definition, p, rest), b)  # noqa: E731
    same_spectrum(spectra.hessian(merged).bind(params, BATCHES), exact_normed(model))


def test_linen_variables_as_they_are_without_their_statistics():
    class Linen(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.BatchNorm(use_running_average=True, name="norm")(nn.Dense(4, name="first")(x))
            return nn.Dense(1, name="last")(jnp.tanh(x))

    model = Linen()
    variables = model.init(jax.random.key(0), X)
    variables = {"params": variables["params"], "batch_stats": {"norm": {"mean": jnp.ones(4), "var": 2 * jnp.ones(4)}}}
    of_variables = lambda v, b: jnp.mean((model.apply(v, b[0]) - b[1]) ** 2)  # noqa: E731
    at = oracle.Coordinates(variables["params"])

    def exact(v):
        p = at.fill(v)
        h = (X64 @ p["first"]["kernel"] + p["first"]["bias"][None] - 1) / np.sqrt(2 + 1e-5)
        h = jnp.tanh(h * p["norm"]["scale"][None] + p["norm"]["bias"][None])
        return jnp.mean((h @ p["last"]["kernel"] + p["last"]["bias"][None] - Y64) ** 2)

    same_spectrum(spectra.hessian(of_variables).bind(variables, BATCHES), oracle.hessian(exact, at.start))
