"""A bound operator: the same however batched, kept, chunked, streamed and spread over devices; in stated memory."""

import dataclasses
import functools
import json
import socket
import subprocess
import sys
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from lrjax.models import build_model
from lrjax.spectra import bind, fisher, from_function, gradient_covariance, hessian, matrix
from tests.runs import REPOSITORY, environment
from tests.spectra import problems
from tests.spectra.problems import NUM_SAMPLES, UNEVEN, N, cast, dense, difference, split

KEY = jax.random.key(7)
PROBLEM = problems.two_layer_linear()
PARAMS, BATCH = problems.cast((PROBLEM.params, PROBLEM.batch), np.float32)
BATCHES, EVEN = split(BATCH), split(BATCH, (9, 9, 9))
TABLE = problems.operator_table(PROBLEM.predict, PROBLEM.losses, PROBLEM.distribution, KEY)
TABLE |= problems.preconditioned_table(TABLE)
SIZE, OF_W = 14, slice(6, 14)
QUICKLY = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}


@pytest.fixture(scope="module", autouse=True)
def _quickly_compiled():
    with problems.quick_compilation():
        yield


@pytest.fixture(scope="module")
def closed():
    """Name of the operator -> its matrix in closed form."""
    outputs = jnp.asarray(PROBLEM.predict(PROBLEM.params, PROBLEM.batch), np.float32)
    drawn = problems.drawn_labels(PROBLEM.distribution, KEY, outputs, NUM_SAMPLES)
    found = problems.closed_forms(PROBLEM, drawn)
    return found | problems.preconditioned_forms(found)


# what is the same matrix -> (batches, where, options, its rows and columns)
ARRANGEMENTS = {
    "one batch": ([BATCH], None, {}, slice(None)),
    "seven uneven batches": (BATCHES, None, {}, slice(None)),
    "three batches, one layer": (EVEN, "w", {}, OF_W),
    "a stream, kept, in chunks": (lambda: iter(EVEN), None, {"keep_bytes": 10**8, "chunk": 7}, slice(None)),
}


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_every_operator_is_the_dense_matrix_however_batched(arrangement, name, closed):
    batches, where, options, block = ARRANGEMENTS[arrangement]
    bound = bind(TABLE[name], PARAMS, batches, where, checks=False, **options)
    expected = closed[name][block, block]
    found = dense(bound)
    assert difference(found, expected) <= 1e-5
    assert (bound.size, bound.products, bound.num_examples) == (len(expected), len(expected), N)
    assert bound.psd == (name.removeprefix("preconditioned_") != "hessian")
    assert np.array_equal(dense(bound), found), "two calls differ"
    again = bind(TABLE[name], PARAMS, batches, where, checks=False, **options)
    assert np.array_equal(dense(again), found), "two bindings differ"


def test_covariances_of_batches_are_not_the_covariance(closed):
    """What an operator centred by each batch's own mean would give: the comparison above would catch it."""
    slopes, _ = problems.output_derivatives(
        "gaussian", PROBLEM.predict(PROBLEM.params, PROBLEM.batch), PROBLEM.batch[1]
    )
    gradients = np.split(np.einsum("ica,ic->ia", PROBLEM.jacobian, slopes), np.cumsum(UNEVEN)[:-1])
    own = sum(len(g) * np.cov(g, rowvar=False, bias=True) for g in gradients) / N
    assert difference(own, closed["gradient_covariance"]) > 0.1
    equal_weights = np.mean([g.T @ g / len(g) for g in gradients], axis=0)
    assert difference(equal_weights, closed["empirical_fisher"]) > 0.1


def test_covariance_and_the_mean_gradient_make_the_empirical_fisher():
    names = ("gradient_covariance", "empirical_fisher")
    covariance, second_moment = (dense(bind(TABLE[name], PARAMS, BATCHES, checks=False)) for name in names)
    loss = functools.partial(problems.differentiated, TABLE["hessian"])
    g = np.asarray(ravel_pytree(jax.jit(jax.grad(loss))(PARAMS, BATCH))[0], np.float64)
    assert difference(covariance + np.outer(g, g), second_moment) <= 1e-5


def test_any_kind_of_key_draws_the_same_labels_however_batched():
    """The numbers of an rbg key depend on what it is mapped with."""
    operator = fisher(PROBLEM.predict, jax.random.key(0, impl="rbg"), distribution="gaussian")
    bounds = (bind(operator, PARAMS, batches, checks=False) for batches in ([BATCH], EVEN))
    whole, parts = (bound.matvec(jnp.ones(SIZE)) for bound in bounds)
    assert difference(parts, np.asarray(whole)) <= 1e-5


def test_flat_vectors_trees_and_rows_give_the_same_product(closed):
    bound = bind(TABLE["hessian"], PARAMS, [BATCH])
    v = jax.random.normal(jax.random.key(0), (SIZE,))
    flat = bound.matvec(v)
    assert flat.shape == (SIZE,)
    assert difference(flat, closed["hessian"] @ np.asarray(v)) <= 1e-5
    tree = bound.matvec(bound.unravel(v))
    assert jax.tree.map(np.shape, tree) == jax.tree.map(np.shape, PARAMS)
    assert np.array_equal(bound.ravel(tree), flat)
    assert np.array_equal(bound.matvec(np.asarray(v)), flat)
    rows = bound.matmat(jnp.stack([2 * v, -v, v, 0 * v]))
    assert difference(rows, np.outer([2, -1, 1, 0], flat)) <= 1e-6
    assert bound.products == 7


def test_a_layer_is_a_tree_with_none_for_the_rest():
    bound = bind(TABLE["ggn"], PARAMS, [BATCH], where=lambda path: path == "w")
    assert bound.params["v"] is None
    product = bound.matvec({"v": None, "w": jnp.ones((2, 4))})
    assert product["v"] is None
    assert product["w"].shape == (2, 4)


def counted_loss(calls):
    def loss(params, batch):
        jax.debug.callback(lambda: calls.append(1))
        return problems.differentiated(TABLE["hessian"], params, batch)

    return loss


@pytest.mark.parametrize(("keep_bytes", "linearisations"), [(0, 21), (100, 21), (10**8, 7)])
def test_linearisations_that_fit_are_made_once(keep_bytes, linearisations, closed):
    """100 bytes are too few for seven batches, so that nothing is kept."""
    calls, opened = [], []

    def stream():
        opened.append(1)
        return iter(BATCHES)

    bound = bind(hessian(counted_loss(calls)), PARAMS, stream, keep_bytes=keep_bytes, checks=False)
    passes = len(opened) + 1
    for _ in range(3):
        assert difference(bound.matvec(jnp.ones(SIZE)), closed["hessian"].sum(axis=0)) <= 1e-5
    jax.effects_barrier()
    assert len(calls) == linearisations
    assert len(opened) - passes == (0 if linearisations == 7 else 2)  # one pass a product


def test_vectors_are_multiplied_in_pieces_whose_tangents_fit(monkeypatch, closed):
    bound = bind(TABLE["hessian"], PARAMS, EVEN, checks=False)
    made = bound._matmat.__wrapped__
    monkeypatch.setattr("lrjax.spectra.products.TANGENT_BYTES", 7 * made.first_bytes + 1)
    assert made.at_once(SIZE) == 7
    assert difference(dense(bound), closed["hessian"]) <= 1e-5


class Layers(NamedTuple):
    v: jax.Array
    w: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Module:
    """Like an Equinox module: a pytree with methods and static fields."""

    v: jax.Array
    w: jax.Array
    scale: float = dataclasses.field(default=1.0, metadata={"static": True})

    def __call__(self, x):
        return self.scale * x @ self.w.T @ self.v.T


# container -> (from v, w; predict; where; the rows and columns that this selects, in the order of the container)
PERMUTATION = np.array([2, 0, 3, 1])
CONTAINERS = {
    "nested dict": (
        lambda v, w: {"a": {"v": v}, "b": {"w": w}},
        lambda p, b: b[0] @ p["b"]["w"].T @ p["a"]["v"].T,
        "b",
        np.arange(6, 14),
    ),
    "list": (lambda v, w: [v, w], lambda p, b: b[0] @ p[1].T @ p[0].T, "0", np.arange(6)),
    "NamedTuple": (Layers, lambda p, b: b[0] @ p.w.T @ p.v.T, ("v", "w"), np.arange(14)),
    "dataclass": (Module, lambda p, b: p(b[0]), "[v]", np.arange(6)),
    "flat array": (
        lambda v, w: jnp.concatenate([v.ravel(), w.ravel()]),
        lambda p, b: b[0] @ p[6:].reshape(2, 4).T @ p[:6].reshape(3, 2).T,
        None,
        np.arange(14),
    ),
    "with integers and bfloat16": (
        lambda v, w: {"order": jnp.asarray(PERMUTATION), "v": v.astype(jnp.bfloat16), "w": w[:, PERMUTATION]},
        lambda p, b: b[0][:, p["order"]] @ p["w"].T @ p["v"].T,
        None,
        np.array([*range(6), *(6 + PERMUTATION), *(10 + PERMUTATION)]),
    ),
}


@pytest.mark.parametrize(("pack", "predict", "where", "places"), CONTAINERS.values(), ids=CONTAINERS)
def test_any_container_of_parameters_will_do(pack, predict, where, places, closed):
    params = pack(PARAMS["v"], PARAMS["w"])
    operator = hessian(lambda p, b: jnp.mean(problems.half_squared_losses(predict(p, b), b)))
    bound = bind(operator, params, [BATCH], where, checks=False)
    assert bound.dtype == np.float32  # half precision is measured in float32
    rows = bound.matmat(jnp.eye(len(places)))
    assert difference(rows, closed["hessian"][np.ix_(places, places)]) <= 1e-5
    tree = bound.unravel(rows[0])
    assert jax.tree.structure(tree) == jax.tree.structure(bound.params)
    assert np.array_equal(bound.ravel(tree), rows[0])


def test_flax_parameters_and_a_model_of_lrjax_will_do():
    problem = problems.softmax_regression()
    batch, module = cast(problem.batch, np.float32), nn.Dense(3)
    params = cast({"bias": problem.params["b"], "kernel": problem.params["w"]}, np.float32)

    def example_loss(params, batch):
        return problem.losses(module.apply({"params": params}, batch[0]), batch)

    found = dense(gradient_covariance(example_loss).bind(params, [batch], checks=False))
    assert difference(found, problems.closed_forms(problem)["gradient_covariance"]) <= 1e-5


def test_covariance_of_the_two_layer_network_is_that_of_its_gradients():
    """f = (1/m) sum_j j sum_r sum_p relu(<w_jr, x_p>)^2, whose gradients are written out in numpy."""
    random = np.random.default_rng(0)
    filters, x = random.normal(size=(2, 3, 1, 4)).astype(np.float32), random.normal(size=(N, 2, 4)).astype(np.float32)
    model = build_model({"name": "two_layer", "width": 3, "share_filters": True}, num_classes=2)

    def example_loss(params, batch):
        return model.apply(params, {}, batch, train=True)[0]

    bound = gradient_covariance(example_loss).bind({"filters": jnp.asarray(filters)}, [jnp.asarray(x)], checks=False)
    active = np.maximum(np.einsum("jrd,ipd->ijrp", filters[:, :, 0], x), 0)
    gradients = 2 / 3 * np.einsum("j,ijrp,ipd->ijrd", [1.0, -1.0], active, x).reshape(N, -1)
    assert difference(dense(bound), np.cov(gradients, rowvar=False, bias=True)) <= 1e-5


def test_a_dense_matrix_and_a_function_are_operators():
    a = np.array([[2.0, 1.0], [1.0, -1.0]])
    for bound in (matrix(a), from_function(lambda rows: rows @ jnp.asarray(a, np.float32), 2)):
        np.testing.assert_allclose(dense(bound), a)
        assert not bound.psd


def run(task, *arguments, devices, **variables):
    """Starts a task of `tests/spectra/on_devices.py`."""
    command = [sys.executable, "-m", "tests.spectra.on_devices", task, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=REPOSITORY, env=environment(devices) | variables, **pipes)


def said(process):
    """The last line of a task that succeeded."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-3000:]
    return json.loads(out.splitlines()[-1])


@pytest.mark.slow
def test_four_devices_share_the_examples_of_a_batch_and_give_the_same_matrices(closed, tmp_path):
    found = said(run("operators", tmp_path / "found.npz", devices=4, **QUICKLY))
    assert found == {"devices": 4, "all_reduce": True, "split": [True, True, True, False]}
    with np.load(tmp_path / "found.npz") as file:
        assert set(file.files) == set(TABLE)
        for name in TABLE:
            assert difference(file[name], closed[name]) <= 1e-5, name


@pytest.mark.slow
def test_two_processes_give_the_products_and_eigenvalues_of_one(closed, tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    started = [run("processes", i, port, tmp_path / f"{i}.npz", devices=2, **QUICKLY) for i in range(2)]
    for process in started:
        assert said(process) == {"devices": 4, "processes": 2}
    expected = np.linalg.eigvalsh(closed["hessian"])[::-1][:3]
    for i in range(2):
        with np.load(tmp_path / f"{i}.npz") as file:
            assert difference(file["products"], file["rows"] @ closed["hessian"]) <= 1e-5
            assert difference(file["covariance"], file["rows"] @ closed["gradient_covariance"]) <= 1e-5
            np.testing.assert_allclose(file["values"], expected, rtol=1e-5)
            residuals = file["vectors"] @ closed["hessian"] - expected[:, None] * file["vectors"]
            assert np.abs(residuals).max() <= 1e-4 * expected[0]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
@pytest.mark.slow
def test_lanczos_holds_three_vectors_more_than_its_steps_and_six_without_a_basis():
    """At four million parameters. One vector of slack, for what the process itself does meanwhile."""
    # Freed memory goes back to the system at once, so that what is resident is what is in use.
    found = said(run("memory", 4_000_000, 40, devices=1, MALLOC_MMAP_THRESHOLD_="262144"))
    assert (found["vectors"]["products"], found["values"]["products"]) == (41, 40)  # one checks the pairs
    assert 40 < found["vectors"]["peak"] <= 40 + 3 + 1
    assert found["values"]["peak"] <= 6 + 1
