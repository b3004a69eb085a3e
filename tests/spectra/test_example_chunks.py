"""Per-example gradients: any chunk gives the same norms, a device's memory chooses it, and a loss is checked once as it is."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.core import Tracer

from lrjax import spectra
from lrjax.devices import accelerators
from lrjax.errors import LrjaxError
from lrjax.spectra import example_gradients, validation
from lrjax.spectra.chunks import bytes_written, chunk_size


def problem(size=13, dim=6):
    rng = np.random.default_rng(0)
    batch = {
        "x": jnp.asarray(rng.normal(size=(size, dim)), jnp.float32),
        "y": jnp.asarray(rng.normal(size=size), jnp.float32),
    }
    params = {"w": jnp.asarray(rng.normal(size=(dim, 3)), jnp.float32), "v": jnp.ones(3)}
    calls = []

    def loss(params, batch):
        calls.append(isinstance(batch["x"], Tracer))
        return (jnp.tanh(batch["x"] @ params["w"]) @ params["v"] - batch["y"]) ** 2

    return loss, params, batch, calls


def directly(loss, params, batch):
    rows = [jax.grad(lambda p, i=i: loss(p, {k: a[i : i + 1] for k, a in batch.items()})[0])(params) for i in range(13)]
    return [
        float(sum(np.sum(np.square(np.asarray(leaf, np.float64))) for leaf in jax.tree.leaves(row))) for row in rows
    ]


@pytest.mark.parametrize("chunk", [None, 1, 4, 13, 64])
def test_norms_are_those_of_each_example_whatever_the_chunk(chunk):
    loss, params, batch, _ = problem()
    parts = [{k: a[:9] for k, a in batch.items()}, {k: a[9:] for k, a in batch.items()}]
    found = spectra.gradient_norms(loss, params, parts, chunk=chunk)
    assert np.allclose(found, directly(loss, params, batch), rtol=1e-5)


@pytest.mark.parametrize(("free", "chunk"), [(None, 8), (0, 1), (10**9, 13)])
def test_an_accelerator_takes_as_many_examples_as_a_quarter_of_its_memory_holds(free, chunk, monkeypatch):
    monkeypatch.setattr(accelerators, "free_memory", lambda: free)
    loss, params, batch, _ = problem()
    taken = []
    program = example_gradients._squared_distances
    monkeypatch.setattr(
        example_gradients, "_squared_distances", lambda *a: taken.append(len(jax.tree.leaves(a[-2])[0])) or program(*a)
    )
    assert np.allclose(spectra.gradient_norms(loss, params, [batch]), directly(loss, params, batch), rtol=1e-5)
    assert set(taken) == {chunk}


def test_a_chunk_of_half_the_memory_is_a_power_of_two_and_stays_while_memory_fills(monkeypatch):
    loss, params, batch, _ = problem()
    one = {k: a[:1] for k, a in batch.items()}
    gradient = jax.grad(lambda batch: loss(params, batch)[0])
    need = bytes_written(gradient, one)
    monkeypatch.setattr(accelerators, "free_memory", lambda: 4 * need * 7)
    assert chunk_size(gradient, one, most=128) == 4
    assert chunk_size(gradient, one, most=3) == 3
    first = spectra.gradient_norms(loss, params, [batch])
    kept = list(example_gradients.SIZES.made)
    monkeypatch.setattr(accelerators, "free_memory", lambda: 0)
    assert np.array_equal(spectra.gradient_norms(loss, params, [batch]), first)
    assert list(example_gradients.SIZES.made) == kept


def uncompiled(calls):
    return sum(not traced for traced in calls)


def test_a_loss_is_called_outside_a_program_at_its_first_use_alone():
    loss, params, batch, calls = problem()
    first = spectra.gradient_norms(loss, params, [batch])
    checked = uncompiled(calls)
    assert checked >= 4  # twice on a part, on the other part, and on the batch
    for _ in range(2):
        assert np.array_equal(spectra.gradient_norms(loss, params, [batch]), first)
    assert uncompiled(calls) == checked
    traced = len(calls)
    spectra.gradient_norms(loss, jax.tree.map(lambda a: a + 1, params), [batch])
    assert len(calls) == traced


def test_another_loss_another_shape_and_another_selection_are_checked_anew():
    loss, params, batch, calls = problem()
    spectra.gradient_norms(loss, params, [batch])
    before = uncompiled(calls)
    spectra.gradient_norms(loss, params, [{k: a[:7] for k, a in batch.items()}])
    assert uncompiled(calls) > before
    before = uncompiled(calls)
    spectra.gradient_norms(loss, params, [batch], where="w")
    assert uncompiled(calls) > before
    other, _, _, more = problem()
    spectra.gradient_norms(other, params, [batch])
    assert uncompiled(more) >= 4


def test_a_loss_that_passed_on_other_numbers_is_still_refused_where_examples_depend_on_each_other():
    def loss(params, batch):
        return batch["m"] * (batch["x"] @ params["w"]).sum(-1) ** 2 / jnp.mean(batch["m"])

    _, params, batch, _ = problem()
    full = {"x": batch["x"], "m": jnp.ones(13)}
    spectra.gradient_norms(loss, params, [full])
    with pytest.raises(LrjaxError, match="depends on the others of its batch"):
        spectra.gradient_norms(loss, params, [full | {"m": jnp.arange(13.0) + 1}])
    with pytest.raises(LrjaxError, match="NaN or infinite"):
        spectra.gradient_norms(loss, params, [full | {"x": batch["x"].at[3].set(jnp.nan)}])


def test_what_is_remembered_of_a_loss_is_forgotten_with_it():
    loss, params, batch, _ = problem()
    gc.collect()
    before = len(validation.PASSED.made), len(example_gradients.SIZES.made)
    spectra.gradient_norms(loss, params, [batch])
    assert len(validation.PASSED.made) == before[0] + 1
    del loss
    gc.collect()
    assert (len(validation.PASSED.made), len(example_gradients.SIZES.made)) == before
