"""Running statistics of Flax, NNX and Equinox: recomputed with the decay that is measured, and their powers."""

import equinox
import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lrjax.errors import LrjaxError
from lrjax.transforms import correct_statistics, recompute_statistics, statistic_powers

X = jnp.asarray(np.random.default_rng(0).normal(size=(4, 16, 5)), jnp.float32)


class Network(linen.Module):
    first: float = 0.9
    second: float = 0.99
    frozen: bool = False

    @linen.compact
    def __call__(self, x, train):
        norm = lambda decay, frozen=False: linen.BatchNorm(  # noqa: E731
            use_running_average=frozen or not train, momentum=decay, use_scale=False, use_bias=False
        )
        h = linen.relu(norm(self.first, self.frozen)(linen.Dense(4, use_bias=False)(x)))
        return norm(self.second)(linen.Dense(3, use_bias=False)(h))


def flax_problem(network):
    """apply, parameters and the collection "batch_stats"."""
    variables = network.init(jax.random.key(0), X[0], True)

    def apply(params, state, x, *, train):
        variables = {"params": params, "batch_stats": state}
        out, new = network.apply(variables, x, train, mutable=["batch_stats"])
        return out, new["batch_stats"]

    return apply, variables["params"], variables["batch_stats"]


def hidden(params):
    return X.reshape(-1, 5) @ params["Dense_0"]["kernel"]


def test_each_decay_is_measured():
    apply, params, state = flax_problem(Network())
    found = recompute_statistics(apply, params, state, list(X))
    np.testing.assert_allclose(found["BatchNorm_0"]["mean"], hidden(params).mean(0), atol=1e-5)
    np.testing.assert_allclose(found["BatchNorm_0"]["var"], hidden(params).var(0), rtol=1e-4)
    # The wrong variant: with decay 0.9 the second variance would be a tenth of this.
    single = recompute_statistics(apply, params, state, [X[0]])["BatchNorm_1"]["var"]
    _, updated = apply(params, jax.tree.map(jnp.zeros_like, state), X[0], train=True)
    np.testing.assert_allclose(single, updated["BatchNorm_1"]["var"] / 0.01, rtol=1e-3)


@pytest.mark.parametrize("decay", [0.9, 0.999])
def test_decay_that_is_not_the_one_measured_is_refused(decay):
    apply, params, state = flax_problem(Network(0.99))
    np.testing.assert_allclose(
        recompute_statistics(apply, params, state, X, decay=0.99)["BatchNorm_0"]["var"],
        recompute_statistics(apply, params, state, X)["BatchNorm_0"]["var"],
        rtol=1e-4,
    )
    with pytest.raises(LrjaxError, match=f"decay={decay} is not that of 'BatchNorm_0/mean', .* times 0.99"):
        recompute_statistics(apply, params, state, X, decay=decay)
    with pytest.raises(LrjaxError, match=r"decay must be in \[0, 1\)"):
        recompute_statistics(apply, params, state, X, decay=1.5)


def test_frozen_statistics_are_kept_and_normalise_as_they_are():
    apply, params, state = flax_problem(Network(frozen=True))
    state["BatchNorm_0"]["var"] = jnp.full(4, 4.0)
    found = recompute_statistics(apply, params, state, list(X))
    np.testing.assert_array_equal(found["BatchNorm_0"]["var"], 4.0)
    second = linen.relu(hidden(params) / jnp.sqrt(4 + 1e-5)) @ params["Dense_1"]["kernel"]
    np.testing.assert_allclose(found["BatchNorm_1"]["mean"], second.mean(0), atol=1e-5)
    np.testing.assert_allclose(found["BatchNorm_1"]["var"], second.var(0), rtol=1e-4)


def test_networks_whose_statistics_cannot_be_recomputed_are_refused():
    apply, params, state = flax_problem(Network())
    with pytest.raises(LrjaxError, match="mutable"):
        recompute_statistics(lambda params, state, x, train: (x, state), params, state, list(X))
    with pytest.raises(LrjaxError, match="at least one batch"):
        recompute_statistics(apply, params, state, [])
    with pytest.raises(LrjaxError, match="without 'BatchNorm_0/mean'"):
        recompute_statistics(lambda params, state, x, train: (x, {}), params, state, list(X))

    def depends(params, state, x, *, train):
        return x, {"bn": {name: 0.9 * a + 0.1 * x.mean(0) * jnp.arange(5) * a for name, a in state["bn"].items()}}

    with pytest.raises(LrjaxError, match="no exponential average"):
        recompute_statistics(depends, params, {"bn": {"mean": jnp.zeros(5), "var": jnp.ones(5)}}, list(X))
    _, state = equinox.nn.make_with_state(equinox.nn.BatchNorm)(5, "batch", mode="batch")
    with pytest.raises(LrjaxError, match="debiased by a counter"):
        recompute_statistics(apply, params, state, list(X))


def test_statistics_in_bfloat16_ask_for_the_decay():
    def apply(params, state, x, *, train):
        new = {"mean": x.mean(0), "var": x.var(0)}
        return x, {"bn": {k: (0.99 * a + 0.01 * new[k]).astype(a.dtype) for k, a in state["bn"].items()}}

    state = {"bn": {"mean": jnp.zeros(5, jnp.bfloat16), "var": jnp.ones(5, jnp.bfloat16)}}
    with pytest.raises(LrjaxError, match="cannot be measured in bfloat16: give decay"):
        recompute_statistics(apply, {}, state, list(X))
    found = recompute_statistics(apply, {}, state, list(X), decay=0.99)["bn"]["var"]
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(found), X.reshape(-1, 5).var(0), rtol=0.05)


class NNXNetwork(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(5, 3, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(3, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.dense(x))


def test_statistics_of_an_nnx_module():
    graph, params, state = nnx.split(NNXNetwork(nnx.Rngs(0)), nnx.Param, nnx.BatchStat)

    def apply(params, state, x, *, train):
        model = nnx.merge(graph, params, state)  # which updates these statistics in place
        model.train() if train else model.eval()
        return model(x), nnx.state(model, nnx.BatchStat)

    found = recompute_statistics(apply, params, state, list(X))["norm"]
    expected = X.reshape(-1, 5) @ params["dense"]["kernel"][...]
    np.testing.assert_allclose(found["mean"][...], expected.mean(0), atol=1e-5)
    np.testing.assert_allclose(found["var"][...], expected.var(0), rtol=1e-4)
    assert statistic_powers(apply, params, state, X[0]) == {"norm/mean": 1, "norm/var": 2}
    corrected = correct_statistics(state, 0.5)["norm"]["var"]
    np.testing.assert_allclose(corrected[...], 4 * state["norm"]["var"][...])


def test_statistics_of_an_equinox_module():
    module, state = equinox.nn.make_with_state(equinox.nn.BatchNorm)(5, "batch", mode="ema")
    module = equinox.tree_inference(module, False)

    def apply(params, state, x, *, train):
        return jax.vmap(params, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)

    mean, var = jax.tree.leaves(recompute_statistics(apply, module, state, list(X)))[1:]
    np.testing.assert_allclose(mean, X.reshape(-1, 5).mean(0), atol=1e-5)
    np.testing.assert_allclose(var, X.reshape(-1, 5).var(0), rtol=1e-4)


def test_powers_are_measured_for_the_collection_alone():
    apply, params, state = flax_problem(Network())
    powers = statistic_powers(apply, params, state, X[0])
    # Behind a normalisation without affine only the layer between counts.
    assert powers == {f"BatchNorm_{n}/{name}": power for n in (0, 1) for name, power in (("mean", 1), ("var", 2))}
    with pytest.raises(LrjaxError, match="stays zero after a batch"):
        statistic_powers(lambda params, state, x, train: (x, state), params, state, X[0])


def test_host_statistics_are_corrected_in_the_dtype_that_jax_computes_in():
    host = {"bn": {"mean": np.ones(2), "var": np.ones(2)}}
    found = correct_statistics(host, np.float64(0.5))["bn"]
    np.testing.assert_array_equal(found["mean"], 2.0)
    np.testing.assert_array_equal(found["var"], 4.0)
    for alpha in (np.ones(2), 0.0, -1.0, float("nan")):
        with pytest.raises(LrjaxError, match="alpha must be"):
            correct_statistics(host, alpha)
