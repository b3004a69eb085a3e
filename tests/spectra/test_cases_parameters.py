"""Which parameters are measured: every form of `where`, complex numbers, leaves that are no real arrays."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrjax import spectra
from tests.spectra import oracle
from tests.spectra.two_layers import BATCHES, COORDINATES, EXACT, HIDDEN, OPERATOR, PARAMS, X64, Y64, dense, loss, right
from tests.spectra.verdicts import refused, right_or_refused

FORMS = {
    "boolean_tree": {"hidden": True, "out": False},
    "numpy_booleans": {"hidden": np.True_, "out": np.False_},
    "path": "hidden",
    "pattern": "hid*",
    "patterns": ("hidden", "nothing*"),
    "predicate": lambda path: path == "hidden",
    "leaf_predicate": lambda path, leaf: leaf.shape == (3, 4),
    "leaf_by_default": lambda path, leaf=None: path == "hidden",
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_where_selects_the_same_leaves(form):
    right(OPERATOR.bind(PARAMS, BATCHES, FORMS[form]), EXACT[:12, :12])


def test_every_function_with_where_takes_the_same_forms():
    each = lambda p, b: jnp.sum((jnp.tanh(b[0] @ p["hidden"]) @ p["out"] - b[1]) ** 2, axis=1)  # noqa: E731
    rows = oracle.jacobian(lambda v: each(COORDINATES.fill(v), (X64, Y64)), COORDINATES.start)[:, :12]
    for where in FORMS.values():
        norms = spectra.gradient_norms(each, PARAMS, BATCHES, where=where)
        np.testing.assert_allclose(norms, np.sum(rows**2, axis=1), rtol=1e-4)
    gradients = spectra.batch_gradients(loss, PARAMS, BATCHES[:1] * 2, FORMS["boolean_tree"])
    assert gradients.shape == (2, 12)
    along = spectra.curvature_along(each, PARAMS, {"hidden": HIDDEN, "out": None}, BATCHES, where=FORMS["boolean_tree"])
    assert along.shape == (10,)


def test_a_prefix_of_booleans_selects_below_it():
    nested = {"net": {"a": PARAMS["hidden"], "b": PARAMS["out"]}, "head": jnp.ones(2)}
    inner = lambda p, b: loss({"hidden": p["net"]["a"], "out": p["net"]["b"]}, b) * p["head"][0]  # noqa: E731
    right(spectra.hessian(inner).bind(nested, BATCHES, {"net": True, "head": False}), EXACT)
    right(
        spectra.hessian(inner).bind(nested, BATCHES, {"net": {"a": True, "b": False}, "head": False}), EXACT[:12, :12]
    )


def test_booleans_of_a_list_and_of_a_named_tuple():
    listed = lambda p, b: loss({"hidden": p[0], "out": p[1]}, b)  # noqa: E731
    pair = [PARAMS["hidden"], PARAMS["out"]]
    right(spectra.hessian(listed).bind(pair, BATCHES, [True, False]), EXACT[:12, :12])
    right(spectra.hessian(listed).bind(tuple(pair), BATCHES, (True, False)), EXACT[:12, :12])


@pytest.mark.parametrize(
    "where",
    [
        {"hidden": False, "out": False},
        {"hidden": True},
        {"hidden": True, "out": False, "more": True},
        {"hidden": "yes", "out": "no"},
        [True, False],
        "hiden",
        lambda path: False,
        lambda path, leaf: False,
        3,
    ],
    ids=["nothing", "one_missing", "one_more", "words", "list", "misspelt", "predicate", "leaf_predicate", "number"],
)
def test_a_choice_that_selects_nothing_or_fits_no_tree_is_refused(where):
    refused(lambda: OPERATOR.bind(PARAMS, BATCHES, where), "where", "select")


COMPLEX = {"c": jnp.asarray([0.3 + 0.1j, -0.2 + 0.4j, 0.5 - 0.3j], jnp.complex64), "r": jnp.float32([0.1, 0.2, -0.3])}


def complex_loss(p, b):
    return jnp.mean((jnp.tanh(jnp.abs(b[0] @ p["c"]) ** 2 + b[0] @ p["r"]) - b[1][:, 0]) ** 2)


@pytest.mark.parametrize("name", ["both", "alone", "nested"])
def test_complex_leaves_are_pairs_or_refused(name):
    cases = {
        "both": (COMPLEX, complex_loss),
        "alone": (COMPLEX["c"], lambda c, b: complex_loss({"c": c, "r": jnp.zeros(3)}, b)),
        "nested": ({"a": [COMPLEX]}, lambda p, b: complex_loss(p["a"][0], b)),
    }
    params, of_case = cases[name]
    at = oracle.Coordinates(params)
    values = oracle.eigenvalues(oracle.hessian(lambda v: of_case(at.fill(v), (X64, Y64)), at.start))
    bind = lambda: oracle.eigenvalues(dense(spectra.hessian(of_case).bind(params, BATCHES)))  # noqa: E731
    right_or_refused(bind, values, "complex", atol=1e-4)


def test_complex_leaves_that_are_not_selected_are_constants():
    at = oracle.Coordinates(COMPLEX, [False, True])
    matrix = oracle.hessian(lambda v: complex_loss(at.fill(v), (X64, Y64)), at.start)
    right(spectra.hessian(complex_loss).bind(COMPLEX, BATCHES, "r"), matrix)


def test_leaves_that_are_no_real_arrays_stay_constants():
    odd = PARAMS | {"step": 3, "done": False, "name": None, "key": jax.random.key(0), "empty": jnp.zeros((0, 2))}
    right(spectra.hessian(loss).bind(odd, BATCHES), EXACT)


def test_float64_of_the_host_is_measured_in_float32():
    params = jax.tree.map(lambda a: np.asarray(a, np.float64), PARAMS)
    bound = OPERATOR.bind(params, BATCHES)
    assert bound.dtype == jnp.float32
    right(bound, EXACT)
    found = spectra.lanczos(bound, 1, start=params)
    np.testing.assert_allclose(found.values[0], oracle.eigenvalues(EXACT)[-1], rtol=1e-3)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
    params: dict
    step: jax.Array


def test_parameters_inside_a_state_by_path():
    state = State(PARAMS, jnp.asarray(3))
    right(spectra.hessian(lambda s, b: loss(s.params, b)).bind(state, BATCHES), EXACT)
    right(spectra.hessian(lambda s, b: loss(s.params, b)).bind(state, BATCHES, "params/hidden"), EXACT[:12, :12])
