"""A list of arrays is a tree: of parameters, of their gradients, of directions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrjax import spectra
from tests.spectra import oracle
from tests.spectra.verdicts import refused, right_or_refused

RANDOM = np.random.default_rng(0)
G1, G2 = (np.float32(RANDOM.normal(size=(12, 5))) for _ in range(2))
STACKED = np.float64(np.concatenate([G1, G2], axis=1))
X, Y = np.float32(RANDOM.normal(size=(10, 3))), np.float32(RANDOM.normal(size=10))
PARAMS = [np.float32(RANDOM.normal(size=(3, 4))), np.float32(RANDOM.normal(size=4))]


def loss(p, b):
    return jnp.mean((jnp.tanh(b[0] @ p[0]) @ p[1] - b[1]) ** 2)


AT = oracle.Coordinates(PARAMS)
EXACT = oracle.hessian(lambda v: loss(AT.fill(v), (np.float64(X), np.float64(Y))), AT.start)
GRADIENT = jax.grad(loss)([jnp.asarray(p) for p in PARAMS], (X, Y))
FLAT = np.concatenate([np.float64(g).ravel() for g in GRADIENT])


def trace_of(rows):
    return np.trace(oracle.second_moment(rows, centred=True))


@pytest.mark.parametrize("form", ["list", "dict", "nested", "namedtuple_free"])
def test_stacked_gradients_of_a_list_are_one_tree(form):
    forms = {
        "list": [G1, G2],
        "dict": {"a": G1, "b": G2},
        "nested": {"a": [G1], "b": {"c": G2}},
        "namedtuple_free": [[G1], [G2]],
    }
    found = spectra.gram(forms[form])
    assert (found.inner.shape, found.dimension) == ((12, 12), 10)
    np.testing.assert_allclose(found.trace, trace_of(STACKED), rtol=1e-5)


def test_stacked_gradients_of_leaves_of_other_shapes():
    trees = [np.float32(RANDOM.normal(size=(12, 3, 4))), np.float32(RANDOM.normal(size=(12, 4)))]
    found = spectra.gram(trees)
    rows = np.concatenate([np.float64(t).reshape(12, -1) for t in trees], axis=1)
    assert (found.inner.shape, found.dimension) == ((12, 12), 16)
    np.testing.assert_allclose(found.trace, trace_of(rows), rtol=1e-5)


def test_several_trees_are_a_tuple_or_an_iterator_of_them():
    trees = [{"a": a, "b": b} for a, b in zip(G1, G2, strict=True)]
    for several in (tuple(trees), iter(trees)):
        found = spectra.gram(several)
        assert (found.inner.shape, found.dimension) == ((12, 12), 10)
        np.testing.assert_allclose(found.trace, trace_of(STACKED), rtol=1e-5)
    lists = tuple([a, b] for a, b in zip(G1, G2, strict=True))
    np.testing.assert_allclose(spectra.gram(lists).trace, trace_of(STACKED), rtol=1e-5)


def test_a_list_of_gradient_trees_is_right_or_refused():
    """Twelve trees in a list: as a tree, its leaves have no common first axis."""
    trees = [{"a": a, "b": b} for a, b in zip(G1, G2, strict=True)]
    right_or_refused(lambda: spectra.gram(trees).trace, trace_of(STACKED), "tuple", rtol=1e-5)
    vectors = list(np.float32(RANDOM.normal(size=(4, 9))))
    right_or_refused(lambda: spectra.gram(vectors).trace, trace_of(np.float64(vectors)), "tuple", "stack", rtol=1e-5)


def test_a_gradient_of_list_parameters_is_a_direction_a_start_and_a_vector():
    bound = spectra.hessian(loss).bind(PARAMS, [(X, Y)])
    quotient = FLAT @ EXACT @ FLAT / (FLAT @ FLAT)
    np.testing.assert_allclose(spectra.quadratic_form(bound, GRADIENT), [quotient], rtol=1e-4)
    found = spectra.lanczos(bound, 1, start=GRADIENT)
    np.testing.assert_allclose(found.values[0], oracle.eigenvalues(EXACT)[-1], rtol=1e-3)
    product = EXACT @ FLAT
    np.testing.assert_allclose(bound.ravel(bound.matvec(GRADIENT)), product, atol=1e-4 * np.abs(product).max())


def test_several_directions_of_list_parameters():
    bound = spectra.hessian(loss).bind(PARAMS, [(X, Y)])
    other = [np.float32(RANDOM.normal(size=p.shape)) for p in PARAMS]
    flat = np.concatenate([np.float64(o).ravel() for o in other])
    right = [v @ EXACT @ v / (v @ v) for v in (FLAT, flat)]
    np.testing.assert_allclose(spectra.quadratic_form(bound, (GRADIENT, other)), right, rtol=1e-3)
    np.testing.assert_allclose(spectra.quadratic_form(bound, np.float32([FLAT, flat])), right, rtol=1e-3)


def test_a_gradient_of_list_parameters_for_each_example():
    each = lambda p, b: (jnp.tanh(b[0] @ p[0]) @ p[1] - b[1]) ** 2  # noqa: E731
    unit = FLAT / np.linalg.norm(FLAT)
    data = np.float64(X), np.float64(Y)
    right = [unit @ oracle.hessian(lambda v, i=i: each(AT.fill(v), data)[i], AT.start) @ unit for i in range(len(X))]
    measured = spectra.curvature_along(each, PARAMS, GRADIENT, [(X, Y)])
    np.testing.assert_allclose(measured, right, rtol=1e-3, atol=1e-3 * np.abs(right).max())
    rows = oracle.jacobian(lambda v: each(AT.fill(v), data), AT.start)
    norms = spectra.gradient_norms(each, PARAMS, [(X, Y)], center=GRADIENT)
    np.testing.assert_allclose(norms, np.sum((rows - FLAT) ** 2, axis=1), rtol=1e-3)


def test_a_list_of_the_wrong_leaves_is_refused():
    bound = spectra.hessian(loss).bind(PARAMS, [(X, Y)])
    for wrong in ([GRADIENT[1], GRADIENT[0]], [GRADIENT[0].T, GRADIENT[1]], [GRADIENT[0]], [*GRADIENT, GRADIENT[0]]):
        refused(lambda wrong=wrong: spectra.quadratic_form(bound, wrong), "shape", "tree", "structure", "leaf", "path")
        refused(
            lambda wrong=wrong: spectra.lanczos(bound, 1, start=wrong), "shape", "tree", "structure", "leaf", "path"
        )
    refused(lambda: spectra.gram([G1, G2[:5]]), "first axis", "shape", "L")
