"""gauge_rescale on trees of Flax, NNX, Equinox, Chex and Haiku: buffers and statistics by what they are, never half of them."""

import dataclasses

import chex
import equinox
import flax.linen as linen
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.core import FrozenDict
from flax.training.train_state import TrainState

from lrjax.errors import LrjaxError
from lrjax.transforms import correct_statistics, gauge_rescale
from lrjax.transforms.gauge import FIELDS

PARAMS = {"w": jnp.full((2, 3), 3.0), "b": jnp.full(3, 2.0)}
ONES = jax.tree.map(jnp.ones_like, PARAMS)
STATISTICS = {"bn": {"mean": jnp.ones(3), "var": jnp.ones(3)}}
HAIKU = {
    f"bn/~/{name}": {"hidden": jnp.ones(3), "average": jnp.ones(3), "counter": 2} for name in ("mean_ema", "var_ema")
}


class Network(linen.Module):
    @linen.compact
    def __call__(self, x, train):
        x = linen.BatchNorm(use_running_average=not train, epsilon=0.0)(linen.Dense(3, use_bias=False)(x))
        return x


class NNXNetwork(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(4, 3, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(3, epsilon=0.0, use_bias=False, use_scale=False, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.dense(x))


@chex.dataclass
class ChexState:
    trace: dict
    step: int


@flax.struct.dataclass
class StructState:
    mu: dict
    nu: dict
    inner: tuple


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Registered:
    trace: dict
    step: int


class EquinoxState(equinox.Module):
    trace: dict


class Unnamed:
    def __init__(self, trace):
        self.trace = trace


jax.tree_util.register_pytree_node(Unnamed, lambda node: ((node.trace,), None), lambda _, children: Unnamed(*children))


def values(tree):
    """Every array as one number."""
    return jax.tree.map(lambda leaf: float(np.ravel(leaf)[0]), tree)


def inputs():
    return jnp.asarray(np.random.default_rng(0).normal(1.0, 2.0, size=(16, 4)), jnp.float32)


def test_statistics_of_flax_keep_the_outputs_in_every_form_that_they_are_passed_in():
    network, x = Network(), inputs()
    variables = network.init(jax.random.key(0), x, True)
    _, updated = network.apply(variables, x, True, mutable=["batch_stats"])
    variables = {**variables, **updated}
    scale, bias = variables["params"]["BatchNorm_0"]["scale"], variables["params"]["BatchNorm_0"]["bias"]
    labels = {"Dense_0": "si", "BatchNorm_0": "other"}
    right = network.apply(variables, x, False)

    def outputs(params, statistics):
        return network.apply({"params": params, "batch_stats": statistics}, x, False)

    call = lambda state: gauge_rescale(variables["params"], (), state, labels=labels, k=7)  # noqa: E731
    params, _, statistics, _ = call(variables["batch_stats"])
    np.testing.assert_array_equal(outputs(params, statistics), right)
    np.testing.assert_array_equal(params["BatchNorm_0"]["scale"], scale)
    np.testing.assert_array_equal(params["BatchNorm_0"]["bias"], bias)
    for whole in (variables, FrozenDict(variables)):
        found = call(whole)[2]
        np.testing.assert_array_equal(outputs(found["params"], found["batch_stats"]), right)
    nested = call({"model": {"batch_stats": variables["batch_stats"]}})[2]
    np.testing.assert_array_equal(outputs(params, nested["model"]["batch_stats"]), right)
    # The wrong variant: statistics as they were.
    assert float(jnp.max(jnp.abs(outputs(params, variables["batch_stats"]) - right))) > 10


def test_statistics_and_optimizer_of_nnx_are_rescaled():
    model, x = NNXNetwork(nnx.Rngs(0)), inputs()
    model(x)
    optimizer = nnx.Optimizer(model, optax.adam(0.1), wrt=nnx.Param)
    graph, params, statistics, rest = nnx.split(model, nnx.Param, nnx.BatchStat, ...)
    moments = jax.tree.map(lambda a: jnp.ones_like(a) if a.dtype == jnp.float32 else a, optimizer.opt_state)
    model.eval()
    right = model(x)
    new, state, moved, _ = gauge_rescale(params, moments, statistics, k=3)
    after = nnx.merge(graph, new, moved, rest)
    after.eval()
    np.testing.assert_array_equal(after(x), right)
    assert set(jax.tree.leaves(values(state[0].mu))) == {1 / 8}
    assert set(jax.tree.leaves(values(state[0].nu))) == {1 / 64}
    whole = gauge_rescale(params, (), nnx.state(model), k=3)[2]
    np.testing.assert_array_equal(whole["dense"]["kernel"][...], new["dense"]["kernel"][...])
    np.testing.assert_array_equal(whole["norm"]["var"][...], 64 * statistics["norm"]["var"][...])
    with pytest.raises(LrjaxError, match=r"'norm/mean', which is no parameter: pass .*nnx.Param"):
        gauge_rescale(nnx.state(model, (nnx.Param, nnx.BatchStat)), ())
    with pytest.raises(LrjaxError, match="which is no parameter"):
        gauge_rescale({"params": PARAMS, "batch_stats": STATISTICS}, ())


@pytest.mark.parametrize("mode", ["ema", "batch"])
def test_statistics_of_equinox_are_told_by_their_marker(mode):
    _, state = equinox.nn.make_with_state(equinox.nn.BatchNorm)(3, "batch", mode=mode)
    state = jax.tree.map(jnp.ones_like, state)
    moved = jax.tree.leaves(gauge_rescale(PARAMS, (), state, k=2)[2])[1:]
    assert values(moved) == [4.0, 16.0]
    unnamed = equinox.nn.State(equinox.nn.BatchNorm(3, "batch", mode=mode))
    with pytest.raises(LrjaxError, match="unnamed StateIndex"):
        gauge_rescale(PARAMS, (), unnamed, k=2)


def test_statistics_of_haiku_are_told_by_their_averages():
    moved = gauge_rescale(PARAMS, (), HAIKU, k=2)[2]
    assert values(moved["bn/~/mean_ema"]) == {"hidden": 4.0, "average": 4.0, "counter": 2.0}
    assert values(moved["bn/~/var_ema"]) == {"hidden": 16.0, "average": 16.0, "counter": 2.0}


@pytest.mark.parametrize(
    ("state", "name"),
    [
        ({"batch_stats": STATISTICS, "cache": {"k": jnp.ones(2)}}, "cache/k"),
        ({"batch_stats": STATISTICS, "data": {"mean": jnp.ones(2), "var": jnp.ones(2)}}, "data/mean"),
        ({"data": {"mean": jnp.ones(2), "std": jnp.ones(2)}}, "data/mean"),
        ({"temperature": jnp.float32(1)}, "temperature"),
        ({"temperature": 0.5}, "temperature"),
    ],
)
def test_model_state_that_is_not_known_is_refused_by_name_until_it_is_told(state, name):
    with pytest.raises(LrjaxError, match=f"how '{name}' of model_state scales"):
        gauge_rescale(PARAMS, (), state, k=1)
    with pytest.raises(LrjaxError, match=f"how '{name}' of model_state scales"):
        correct_statistics(state, 0.5)
    told = dict.fromkeys(("data/std", "data/mean", "data/var", name), 0)
    told = {path: 0 for path in told if path in _paths(state)}
    moved = gauge_rescale(PARAMS, (), state, k=1, statistics=told)[2]
    assert values(moved.get("data", moved)) == values(state.get("data", moved))


def _paths(state):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree_util.tree_leaves_with_path(state)
    }


def test_powers_for_paths_that_are_not_there_are_refused():
    with pytest.raises(
        LrjaxError, match="'batch_stats/bn/mean', which model_state does not hold; valid names: bn/mean"
    ):
        gauge_rescale(PARAMS, (), STATISTICS, statistics={"batch_stats/bn/mean": 1})


def test_correction_of_statistics_has_the_same_rule():
    for state in (STATISTICS, {"batch_stats": STATISTICS}, FrozenDict({"batch_stats": STATISTICS, "params": PARAMS})):
        moved = correct_statistics(state, 0.5)
        inner = moved.get("batch_stats", moved)["bn"]
        assert values(dict(inner)) == {"mean": 2.0, "var": 4.0}
    assert values(moved["params"].unfreeze() if hasattr(moved["params"], "unfreeze") else moved["params"]) == values(
        PARAMS
    )


TRACE = optax.TraceState(ONES)
CONTAINERS = {
    "FrozenDict": (FrozenDict({"opt": TRACE}), lambda s: s["opt"].trace),
    "FrozenDict of buffers": (FrozenDict({"trace": ONES}), lambda s: s["trace"].unfreeze()),
    "buffer that is a FrozenDict": (optax.TraceState(FrozenDict(ONES)), lambda s: s.trace.unfreeze()),
    "chex": (ChexState(trace=ONES, step=1), lambda s: s.trace),
    "flax.struct": (StructState(ONES, ONES, (TRACE,)), lambda s: s.mu),
    "flax.struct, inner": (StructState(ONES, ONES, (TRACE,)), lambda s: s.inner[0].trace),
    "dataclass": (Registered(ONES, 1), lambda s: s.trace),
    "equinox": (EquinoxState(ONES), lambda s: s.trace),
    "registered without names": (Unnamed(ONES), lambda s: s.trace),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_momentum_is_found_in_any_registered_node(name):
    state, buffer = CONTAINERS[name]
    moved = gauge_rescale(PARAMS, state, k=2)[1]
    assert type(moved) is type(state)
    assert values(buffer(moved)) == {"b": 0.25, "w": 0.25}


def test_train_state_is_rescaled_as_a_whole():
    class WithStatistics(TrainState):
        batch_stats: dict

    tx = optax.sgd(0.1, momentum=0.9)
    state = WithStatistics.create(apply_fn=None, params=PARAMS, tx=tx, batch_stats=STATISTICS)
    state = state.replace(opt_state=(TRACE, optax.EmptyState()))
    params, moved, _, _ = gauge_rescale(PARAMS, state, k=2)
    assert values(moved.params) == values(params) == {"b": 8.0, "w": 12.0}
    assert values(moved.opt_state[0].trace) == {"b": 0.25, "w": 0.25}
    assert values(moved.batch_stats["bn"]) == {"mean": 4.0, "var": 16.0}
    assert int(moved.step) == 0


@pytest.mark.parametrize(
    ("state", "name"),
    [
        (FrozenDict({"velocity": ONES}), "velocity"),
        (flax.struct.dataclass(type("Averaged", (), {"__annotations__": {"ema": dict}}))(ONES), "Averaged.ema"),
        (equinox.nn.Linear(2, 2, key=jax.random.key(0)), "Linear.weight"),
        (optax.EmaState(jnp.int32(0), ONES), "EmaState.ema"),
        ({"loss_scale": jnp.float32(8)}, "loss_scale"),
    ],
)
def test_state_that_is_not_known_is_refused_by_name(state, name):
    with pytest.raises(LrjaxError, match=f"how {name} scales with the parameters"):
        gauge_rescale(PARAMS, state)


POWERS = {
    "amsgrad": (optax.amsgrad, {"mu": -1, "nu": -2, "nu_max": -2}),
    "nadam": (optax.nadam, {"mu": -1, "nu": -2}),
    "adabelief": (optax.adabelief, {"mu": -1, "nu": -2}),
    "lion": (optax.lion, {"mu": -1}),
    "adafactor": (optax.adafactor, {"v_row": -2, "v_col": -2, "v": -2}),
    "adagrad": (optax.adagrad, {"sum_of_squares": -2}),
    "novograd": (optax.novograd, {"mu": 0, "nu": -2}),
    "adan": (optax.adan, {"m": -1, "v": -1, "n": -2, "g": -1}),
    "muon": (optax.contrib.muon, {"mu": -1, "nu": -2, "ns_coeffs": 0}),
    "ademamix": (optax.contrib.ademamix, {"m1": -1, "m2": -1, "nu": -2}),
    "masked": (lambda rate: optax.masked(optax.adam(rate), {"w": True, "b": False}), {"mu": -1, "nu": -2}),
    "multi": (lambda rate: optax.MultiSteps(optax.adam(rate), 2), {"acc_grads": -1, "mu": -1, "nu": -2}),
    "inject": (optax.inject_hyperparams(optax.adam), {"mu": -1, "nu": -2, "hyperparams": 0}),
}


@pytest.mark.parametrize("name", POWERS)
def test_states_of_optax_scale_field_by_field(name):
    build, powers = POWERS[name]
    ones = jax.tree.map(
        lambda leaf: jnp.ones_like(leaf) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, build(0.1).init(PARAMS)
    )
    moved = gauge_rescale(PARAMS, ones, k=1)[1]
    for field, power in powers.items():
        for _, tree in optax.tree.get_all_with_path(moved, field):
            assert {float(value) for leaf in jax.tree.leaves(tree) for value in np.ravel(leaf)} <= {2.0**power}


@pytest.mark.parametrize(
    "build",
    [
        optax.contrib.schedule_free_sgd,
        optax.contrib.prodigy,
        optax.contrib.dog,
        optax.adadelta,
        optax.rprop,
        optax.sm3,
        lambda rate: optax.rmsprop(rate, momentum=0.9),
        lambda rate: optax.chain(optax.scale_by_adam(), optax.trace(0.9)),
        lambda rate: optax.chain(optax.scale_by_schedule(lambda t: rate), optax.trace(0.9)),
    ],
)
def test_states_whose_scale_depends_on_more_than_the_field_are_refused(build):
    with pytest.raises(LrjaxError, match=r"fields|not among the parameters"):
        gauge_rescale(PARAMS, build(0.1).init(PARAMS))


def test_told_fields_are_taken_at_their_word():
    chain = optax.chain(optax.scale_by_adam(), optax.trace(0.9))
    state = chain.init(PARAMS)
    state = (state[0], optax.TraceState(ONES))
    assert values(gauge_rescale(PARAMS, state, k=1, fields={**FIELDS, "trace": 0})[1][1].trace) == values(ONES)


def test_lookahead_scales_both_sets_of_weights():
    tx = optax.lookahead(optax.sgd(0.1, momentum=0.9), 5, 0.5)
    both = optax.LookaheadParams.init_synced(PARAMS)
    state = tx.init(both)
    state = state._replace(fast_state=(TRACE, optax.EmptyState()))
    params, moved, _, _ = gauge_rescale(both, state, k=1)
    assert values(params.fast) == values(params.slow) == {"b": 4.0, "w": 6.0}
    assert values(moved.fast_state[0].trace) == {"b": 0.5, "w": 0.5}


def test_partition_under_other_labels_than_those_of_the_group():
    tx = optax.partition({"x": optax.sgd(0.1, 0.9), "y": optax.sgd(0.1, 0.9)}, {"w": "x", "b": "y"})
    state = jax.tree.map(jnp.ones_like, tx.init(PARAMS))
    moved = gauge_rescale(PARAMS, state, labels={"w": "si", "b": "other"}, k=1)[1]
    found = {
        key: value
        for label in ("x", "y")
        for key, value in moved.inner_states[label].inner_state[0].trace.items()
        if jax.tree.leaves(value)
    }
    assert values(found) == {"w": 0.5, "b": 1.0}
    crossed = optax.partition({"si": optax.sgd(0.1, 0.9), "y": optax.sgd(0.1, 0.9)}, {"w": "y", "b": "si"})
    with pytest.raises(LrjaxError, match="steps parameters of the group 'si' under its label 'y'"):
        gauge_rescale(PARAMS, crossed.init(PARAMS), labels={"w": "si", "b": "other"}, k=1)


def test_host_arrays_and_constants_among_the_parameters():
    constants = {"i": np.arange(3), "t": True, "n": None, "z": jnp.zeros(0), "key": jax.random.key(0), "f": jnp.sin}
    params, _, _, k = gauge_rescale({"w": np.full(3, 3.0), **constants}, ())
    np.testing.assert_array_equal(params["w"], np.full(3, 0.75))
    assert params["w"].dtype == jax.dtypes.canonicalize_dtype(np.float64)
    assert int(k) == -2
    assert all(params[name] is constants[name] for name in constants)
    _, state, statistics, _ = gauge_rescale(
        {"w": np.full(3, 3.0)},
        optax.TraceState({"w": np.ones(3)}),
        {"bn": {"mean": np.ones(3), "var": np.ones(3)}},
        k=1,
    )
    assert values(state.trace) == {"w": 0.5}
    assert values(statistics["bn"]) == {"mean": 2.0, "var": 4.0}
    moved = gauge_rescale({"c": jnp.array([3 + 4j])}, (), k=1)[0]["c"]
    np.testing.assert_array_equal(moved, [6 + 8j])


@pytest.mark.parametrize(
    ("params", "settings", "message"),
    [
        ({"i": jnp.arange(3)}, {}, "no array of floats among the parameters"),
        ({"z": jnp.zeros(0), "n": None}, {}, "no array of floats among the parameters"),
        ({"p": 0.5, "w": jnp.ones(2)}, {}, "plain number 0.5"),
        ({"w": jnp.ones(2)}, {"k": 1.5}, "k must be one integer"),
        ({"w": jnp.ones(2)}, {"k": jnp.arange(2)}, "k must be one integer"),
        ({"w": jnp.ones(2)}, {"labels": {"v": "si"}}, "labels must be a tree like params"),
    ],
)
def test_what_cannot_be_rescaled_is_refused_in_a_sentence(params, settings, message):
    with pytest.raises(LrjaxError, match=message):
        gauge_rescale(params, (), **settings)


@pytest.mark.skipif(jax.config.read("jax_enable_x64"), reason="float64 holds the number")
def test_number_beyond_float32_is_refused():
    with pytest.raises(LrjaxError, match="beyond the range of float32"):
        gauge_rescale({"w": np.array([1e300])}, ())
