"""Adam's moments and preconditioner: found whatever wraps them, by group where there are several, or refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrjax.errors import LrjaxError
from lrjax.spectra.adam import adam_preconditioner, adam_state
from lrjax.spectra.preconditioner import preconditioner
from tests.spectra.optimizer_states import ALL, B1, B2, EPS, GRADIENTS, PARAMS, ROOT, adam, after, of


@dataclasses.dataclass
class PlainTrainState:
    step: int
    opt_state: object


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class TreeTrainState:
    params: object
    opt_state: object


ADAMW = optax.adamw(0.1, b1=B1, b2=B2, eps=EPS, eps_root=ROOT)
WRAPPED = {
    "chain": after(optax.chain(optax.clip_by_global_norm(1e6), ADAMW, optax.ema(0.5))),
    "named chain": after(optax.named_chain(("clip", optax.clip(1e6)), ("adamw", ADAMW))),
    "apply_if_finite": after(optax.apply_if_finite(ADAMW, 2)),
    "MultiSteps": after(optax.MultiSteps(ADAMW, 2), [g for g in GRADIENTS for _ in range(2)]),
    "masked, all": after(optax.masked(ADAMW, {"b": True, "w": True})),
    "schedule_free": after(optax.contrib.schedule_free(optax.adam(0.1, 0.0, B2, EPS, ROOT), 0.1)),
    "plain train state": PlainTrainState(3, after(ADAMW)),
    "registered train state": TreeTrainState(PARAMS, after(ADAMW)),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_adam_is_found_inside_whatever_wraps_it(name):
    moments = adam_state(WRAPPED[name])
    direct = adam_preconditioner(moments.nu, moments.count, B2, EPS, ROOT)
    found = preconditioner("adamw", WRAPPED[name], **ALL)
    for leaf in PARAMS:
        np.testing.assert_allclose(found[leaf], adam(of(leaf)), rtol=1e-5)
        np.testing.assert_array_equal(found[leaf], direct[leaf])


def test_flax_train_states_and_nnx_optimizers_are_taken():
    nnx, train_state = pytest.importorskip("flax.nnx"), pytest.importorskip("flax.training.train_state")
    linen = train_state.TrainState.create(apply_fn=None, params=jax.tree.map(jnp.asarray, PARAMS), tx=ADAMW)
    for gradient in GRADIENTS:
        linen = linen.apply_gradients(grads=jax.tree.map(jnp.asarray, gradient))
    np.testing.assert_allclose(preconditioner("adamw", linen, **ALL)["w"], adam(of("w")), rtol=1e-5)

    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, ADAMW, wrt=nnx.Param)
    optimizer.update(model, jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param)))
    diagonal = preconditioner("adamw", optimizer, **ALL)
    assert isinstance(diagonal["kernel"], jax.Array)
    np.testing.assert_allclose(diagonal["kernel"], np.full((3, 2), np.sqrt(1 + ROOT) + EPS), rtol=1e-5)
    moments = adam_state(optimizer)
    np.testing.assert_array_equal(
        adam_preconditioner(moments.nu, moments.count, B2, EPS, ROOT)["bias"], diagonal["bias"]
    )


LABELS = {"b": "no_decay", "w": "decay"}
TWO = after(optax.partition({"decay": ADAMW, "no_decay": optax.adam(0.1, B1, B2, EPS, ROOT)}, LABELS))


@pytest.mark.parametrize(("group", "held", "masked"), [("decay", "w", "b"), ("no_decay", "b", "w")])
def test_each_group_of_a_partition_has_its_diagonal(group, held, masked):
    moments = adam_state(TWO, group)
    for diagonal in (
        preconditioner("adam", TWO, group=group, **ALL),
        adam_preconditioner(moments.nu, moments.count, B2, EPS, ROOT),
    ):
        np.testing.assert_allclose(diagonal[held], adam(of(held)), rtol=1e-5)
        assert diagonal[masked] == optax.MaskedNode()


def test_list_of_groups_gives_the_diagonal_of_all():
    diagonal = preconditioner("adam", TWO, group=["decay", "no_decay"], **ALL)
    for leaf in PARAMS:
        np.testing.assert_allclose(diagonal[leaf], adam(of(leaf)), rtol=1e-5)
    with pytest.raises(LrjaxError, match="share parameters"):
        preconditioner("adam", TWO, group=["decay", "decay"], **ALL)


def test_several_adams_are_never_one_of_them():
    with pytest.raises(LrjaxError, match=r"2 groups; choose by group=: 'decay' \(w\), 'no_decay' \(b\)"):
        preconditioner("adam", TWO, **ALL)
    chained = after(
        optax.chain(optax.masked(ADAMW, {"b": True, "w": False}), optax.masked(ADAMW, {"b": False, "w": True}))
    )
    with pytest.raises(LrjaxError, match=r"'1/inner_state/0' \(w\)"):
        adam_state(chained)
    np.testing.assert_allclose(
        preconditioner("adam", chained, group="0/inner_state/0", **ALL)["b"], adam(of("b")), rtol=1e-5
    )
    with pytest.raises(LrjaxError, match=r"no group 'head'; groups: 'decay' \(w\)"):
        adam_state(TWO, "head")


def test_muon_leaves_its_matrices_out_and_is_refused_as_a_group():
    state = after(optax.contrib.muon(0.1, adam_b2=B2, eps=EPS, adam_eps_root=ROOT))
    for group in (None, "adam"):
        diagonal = preconditioner("adam", state, group=group, **ALL)
        np.testing.assert_allclose(diagonal["b"], adam(of("b")), rtol=1e-5)
        assert diagonal["w"] == optax.MaskedNode()
    with pytest.raises(
        LrjaxError, match="group 'muon' holds no second moments of 'adam'; Muon keeps none|Muon keeps no"
    ):
        preconditioner("adam", state, group="muon", **ALL)


@pytest.mark.parametrize(
    ("nu", "eps", "words"),
    [
        ({"w": jnp.array([1.0, 0.0])}, 0.0, "preconditioner of w is zero, NaN or infinite in 1 of 2"),
        ({"w": jnp.array([1.0, -1.0])}, 1e-8, "moments of w hold negative"),
        ({"w": jnp.array([1.0, jnp.nan])}, 1e-8, "moments of w hold negative numbers, NaN"),
        ({"w": jnp.array([1, 2])}, 1e-8, "not real numbers"),
        ({"w": jnp.array([1j, 2])}, 1e-8, "not real numbers"),
    ],
)
def test_moments_that_cannot_be_are_refused_by_name(nu, eps, words):
    with pytest.raises(LrjaxError, match=words):
        adam_preconditioner(nu, 1, 0.9, eps)


def test_preconditioner_is_what_optax_divides_by():
    settings = {"b2": 0.95, "eps": 1e-3, "eps_root": 1e-4}
    chain, gradient = optax.scale_by_adam(b1=0.0, **settings), {"w": jnp.array([0.1, -2.0]), "b": jnp.array([0.0])}
    state = chain.init(gradient)
    for step in range(1, 4):
        updates, state = chain.update(gradient, state)
        found = adam_preconditioner(adam_state(state).nu, step, **settings)
        for name in gradient:
            np.testing.assert_allclose(updates[name] * found[name], gradient[name], rtol=1e-5)


def test_preconditioner_under_jit_is_that_outside():
    nu = {"w": jnp.array([0.1, 2.0])}
    inside = jax.jit(lambda nu, step, b2: adam_preconditioner(nu, step, b2, 1e-3))(nu, 3, 0.9)
    np.testing.assert_allclose(inside["w"], adam_preconditioner(nu, 3, 0.9, 1e-3)["w"], rtol=1e-5)


def test_half_precision_moments_and_b2_near_one_keep_their_digits():
    """0.999 in bfloat16 is one, whose correction divides by zero."""
    nu = jnp.array([0.001, 0.004], jnp.bfloat16)
    found = adam_preconditioner(nu, 1, 0.999, 0.0)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, np.sqrt(np.asarray(nu, np.float64) / 0.001), rtol=1e-6)


def test_host_moments_below_float32_do_not_become_zero():
    found = adam_preconditioner(np.array([1e-60, 1e-50]), np.int64(1), 0.9, 0.0)
    np.testing.assert_allclose(found, np.sqrt([1e-59, 1e-49]), rtol=1e-6)


def test_state_of_several_runs_is_mapped_over():
    states = jax.vmap(lambda scale: after(ADAMW, [jax.tree.map(lambda g: scale * g, g) for g in GRADIENTS]))(
        jnp.ones(2)
    )
    with pytest.raises(LrjaxError, match="map over them with jax.vmap"):
        preconditioner("adamw", states, **ALL)
    found = jax.vmap(lambda state: preconditioner("adamw", state, **ALL))(states)
    np.testing.assert_allclose(found["w"][1], adam(of("w")), rtol=1e-5)
