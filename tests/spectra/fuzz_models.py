"""Networks of the fuzz in Linen, NNX, Equinox and plain trees; of each, the same outputs in float64 as a plain formula."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tests.spectra import fuzz_data as data
from tests.spectra import oracle

EPSILON = 1e-5


class Model(NamedTuple):
    """Parameters as a user passes them, what is selected, and the same for the oracle.

    Attributes:
        params: of the framework.
        where: for `bind`.
        outputs: (params, x) -> [..., C].
        numbers: params -> the vector that a penalty squares.
        coordinates: the chosen numbers in float64.
        exact: (tree of `coordinates`, x) -> outputs, in float64.
        exact_numbers: as `numbers`, of the tree of `coordinates`.
        ordered: whether the order of `coordinates` is that of the leaves.
    """

    params: Any
    where: Any
    outputs: Callable
    numbers: Callable
    coordinates: oracle.Coordinates
    exact: Callable
    exact_numbers: Callable
    ordered: bool = False


def plain(case):
    tree, chosen = data.parameters(case)
    mix = data.mixing(data.numbers_of(tree).size, case.seed)
    activation, exact = data.ACTIVATIONS[case.activation], data.EXACT_ACTIVATIONS[case.activation]
    dtype = None if case.inside == "float32" else jnp.dtype(case.inside)
    return Model(
        tree,
        data.where_of(case, tree, chosen),
        lambda params, x: data.forward(*data.mixed(params, mix), x, activation, dtype),
        data.numbers_of,
        oracle.Coordinates(tree, chosen),
        lambda params, x: data.forward(*data.mixed(params, mix), x, exact),
        data.numbers_of,
        ordered="complex" not in case.leaves,
    )


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=True, epsilon=EPSILON, name="norm")(
            nn.Dense(data.HIDDEN, name="hidden")(x)
        )
        x = nn.Dropout(0.5, deterministic=True)(jnp.tanh(x))
        return nn.Dense(data.CLASSES, name="out")(x)


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(data.FEATURES, data.HIDDEN, rngs=rngs)
        self.repeated = self.hidden  # a shared module counts once
        self.norm = nnx.BatchNorm(data.HIDDEN, use_running_average=True, epsilon=EPSILON, rngs=rngs)
        self.drop = nnx.Dropout(0.5, deterministic=True, rngs=rngs)
        self.out = nnx.Linear(data.HIDDEN, data.CLASSES, rngs=rngs)

    def __call__(self, x):
        return self.out(self.drop(jnp.tanh(self.norm(self.repeated(x)))))


class Equinox(eqx.Module):
    hidden: eqx.nn.Linear
    out: eqx.nn.Linear
    activation: Callable  # a leaf that is no array
    name: str = "network"

    def __init__(self, key):
        first, second = jax.random.split(key)
        self.hidden = eqx.nn.Linear(data.FEATURES, data.HIDDEN, key=first)
        self.out = eqx.nn.Linear(data.HIDDEN, data.CLASSES, key=second)
        self.activation = jnp.tanh

    def __call__(self, x):
        return self.out(self.activation(self.hidden(x)))


def formula(tree, x):
    """Dense, normalisation with running statistics, tanh, dense."""
    hidden, norm, out, (mean, var) = tree["hidden"], tree["norm"], tree["out"], tree["statistics"]
    wide = lambda a: jnp.broadcast_to(a, (*x.shape[:-1], a.size))  # noqa: E731
    h = x @ hidden["kernel"] + wide(hidden["bias"])
    h = (h - wide(mean)) / wide(jnp.sqrt(var + EPSILON)) * wide(norm["scale"]) + wide(norm["bias"])
    return jnp.tanh(h) @ out["kernel"] + wide(out["bias"])


def _model(params, where, outputs, layers, statistics, numbers, case):
    tree = {"hidden": layers["hidden"], "norm": layers["norm"], "out": layers["out"], "statistics": statistics}
    selected = {name: case.where == "all" or name == "hidden" for name in tree} | {"statistics": False}
    if case.framework == "equinox":
        selected["norm"] = False
    chosen = [selected[path[0].key] for path, _ in jax.tree.leaves_with_path(tree)]
    exact = lambda t: jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves((t["hidden"], t["out"]))])  # noqa: E731
    return Model(params, where, outputs, numbers, oracle.Coordinates(tree, chosen), formula, exact)


def _flat(*leaves):
    return jnp.concatenate([jnp.ravel(leaf) for leaf in leaves])


def _statistics(random):
    return jnp.asarray(random.normal(size=data.HIDDEN), jnp.float32), jnp.asarray(
        random.uniform(0.5, 2.0, data.HIDDEN), jnp.float32
    )


def linen(case):
    model, random = Linen(), np.random.default_rng(case.seed)
    variables = model.init(jax.random.key(case.seed), jnp.zeros((1, data.FEATURES)))
    mean, var = _statistics(random)
    variables = {"params": variables["params"], "batch_stats": {"norm": {"mean": mean, "var": var}}}
    where = None if case.where == "all" else lambda path: "hidden" in path
    numbers = lambda v: _flat(*jax.tree.leaves((v["params"]["hidden"], v["params"]["out"])))  # noqa: E731
    return _model(variables, where, model.apply, variables["params"], (mean, var), numbers, case)


def of_nnx(case):
    model, random = Nnx(nnx.Rngs(case.seed)), np.random.default_rng(case.seed)
    mean, var = _statistics(random)
    model.norm.mean, model.norm.var = nnx.BatchStat(mean), nnx.BatchStat(var)
    dense = lambda layer: {"kernel": layer.kernel[...], "bias": layer.bias[...]}  # noqa: E731
    layers = {"hidden": dense(model.hidden), "out": dense(model.out)}
    layers["norm"] = {"scale": model.norm.scale[...], "bias": model.norm.bias[...]}
    where = nnx.Param if case.where == "all" else nnx.All(nnx.Param, nnx.PathContains("hidden"))
    numbers = lambda m: _flat(m.hidden.kernel[...], m.hidden.bias[...], m.out.kernel[...], m.out.bias[...])  # noqa: E731
    where = None if case.where == "all" and case.seed % 2 else where
    return _model(model, where, lambda m, x: m(x), layers, (mean, var), numbers, case)


def equinox(case):
    model = Equinox(jax.random.key(case.seed))
    dense = lambda layer: {"kernel": layer.weight.T, "bias": layer.bias}  # noqa: E731
    ones, zeros = jnp.ones(data.HIDDEN), jnp.zeros(data.HIDDEN)
    layers = {"hidden": dense(model.hidden), "out": dense(model.out), "norm": {"scale": ones, "bias": zeros}}
    where = None
    if case.where != "all":
        nothing = jax.tree.map(lambda _: False, model)
        where = eqx.tree_at(lambda m: m.hidden, nothing, jax.tree.map(lambda _: True, model.hidden))

    def outputs(m, x):
        call = m
        for _ in range(x.ndim - 1):
            call = jax.vmap(call)
        return call(x)

    numbers = lambda m: _flat(m.hidden.weight, m.hidden.bias, m.out.weight, m.out.bias)  # noqa: E731
    return _model(model, where, outputs, layers, (zeros, ones - EPSILON), numbers, case)


MODELS = {"plain": plain, "linen": linen, "nnx": of_nnx, "equinox": equinox}


class Task:
    """The functions of a case: as a user writes them, and in float64."""

    def __init__(self, case):
        self.case, self.model, self.data = case, MODELS[case.framework](case), data.Data(case)
        of_outputs = case.operator == "fisher"
        self.scale = 1.0 if of_outputs else 10.0**case.exponent
        self.output_scale = 10.0**case.exponent if of_outputs else 1.0

    def _batch_major(self, a):
        return jnp.moveaxis(a, 1, 0) if self.case.layout == "time_major" else a

    def predict(self, params, batch):
        """Outputs, examples first."""
        x = data.unpack(self.case, batch)[0]
        return self._batch_major(self.model.outputs(params, jnp.asarray(x, jnp.float32))) * self.output_scale

    def token_losses(self, outputs, batch):
        """Of each example, or token."""
        _, y, _, constant = data.unpack(self.case, batch)
        y = self._batch_major(jnp.asarray(y))
        return head(self.case.head, outputs, y) * self.data.factor(constant, y) * self.scale

    def example_losses(self, params, batch):
        """[B]."""
        each = self.token_losses(self.predict(params, batch), batch)
        each = each if self.case.layout == "flat" else jnp.mean(each, axis=1)
        return each + self.penalty(params)

    def penalty(self, params):
        return 0.5 * self.scale * jnp.sum(self.model.numbers(params) ** 2) if self.case.penalty else 0.0

    def loss_of_outputs(self, outputs, batch):
        """The loss of a batch, normalised as the case says."""
        each, w = self.token_losses(outputs, batch), jnp.asarray(data.unpack(self.case, batch)[2])
        if self.case.weights == "tokens":
            return jnp.sum(w * each) / jnp.sum(w)
        each = each if self.case.layout == "flat" else jnp.mean(each, axis=1)
        if self.case.weights == "summed":
            return jnp.sum(each)
        return jnp.mean(each) if self.case.weights == "equal" else jnp.sum(w * each) / jnp.sum(w)

    def loss(self, params, batch):
        penalty = 0.0 if self.case.weights == "summed" else self.penalty(params)
        return self.loss_of_outputs(self.predict(params, batch), batch) + penalty

    def formed(self, function):
        """The function in the form of the case: jitted, partial, a method, with aux."""
        form = self.case.form
        if form == "aux":
            return lambda params, batch: (function(params, batch), {"seen": jnp.ones(())})
        if form == "partial":
            return functools.partial(lambda factor, params, batch: factor * function(params, batch), 1.0)
        jit = eqx.filter_jit if self.case.framework == "equinox" else jax.jit
        return {"jit": jit, "method": lambda f: f, "plain": lambda f: lambda *args: f(*args)}[form](function)


def head(name, outputs, y):
    """Loss of each example or token, from outputs [..., C] and labels [...]."""
    hot = jax.nn.one_hot(y, data.CLASSES, dtype=outputs.dtype)
    if name == "cross_entropy":
        return jax.nn.logsumexp(outputs, axis=-1) - jnp.sum(hot * outputs, axis=-1)
    return jnp.sum((outputs - hot) ** 2 if name == "squares" else (1 + hot) * outputs, axis=-1)
