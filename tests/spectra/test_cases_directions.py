"""A vector as a tree has the paths and the shapes of the parameters, or is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrjax import spectra
from tests.spectra.two_layers import BATCHES, EXACT, OPERATOR, PARAMS, RANDOM, loss, right
from tests.spectra.verdicts import refused

SHAPES = ("shape", "structure", "tree", "path", "leaf")
G = {"hidden": np.float32(RANDOM.normal(size=(3, 4))), "out": np.float32(RANDOM.normal(size=(4, 1)))}
WRONG = {
    "transposed": {"hidden": G["hidden"].T, "out": G["out"]},
    "flattened_leaf": {"hidden": G["hidden"].ravel(), "out": G["out"]},
    "exchanged_names": {"hidden": np.zeros((4, 1), np.float32), "out": np.zeros((3, 4), np.float32)},
    "other_names": {"first": G["hidden"], "last": G["out"]},
    "one_missing": {"hidden": G["hidden"]},
    "one_more": G | {"more": np.ones(2, np.float32)},
    "as_a_list": [G["hidden"], G["out"]],
    "batched": {"hidden": G["hidden"][None], "out": G["out"][None]},
    "out_squeezed": {"hidden": G["hidden"], "out": G["out"][:, 0]},
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("call", ["matvec", "ravel", "quadratic_form", "start", "curvature_along"])
def test_a_tree_of_another_structure_is_refused(name, call):
    bound, each = OPERATOR.bind(PARAMS, BATCHES), lambda p, b: jnp.ones(len(b[0])) * loss(p, b)
    calls = {
        "matvec": bound.matvec,
        "ravel": bound.ravel,
        "quadratic_form": lambda tree: spectra.quadratic_form(bound, tree),
        "start": lambda tree: spectra.lanczos(bound, 1, start=tree),
        "curvature_along": lambda tree: spectra.curvature_along(each, PARAMS, tree, BATCHES, checks=False),
    }
    refused(lambda: calls[call](WRONG[name]), *SHAPES)


def test_trees_of_the_right_structure_are_taken_in_every_form():
    bound = OPERATOR.bind(PARAMS, BATCHES)
    flat = np.concatenate([G["hidden"].ravel(), G["out"].ravel()])
    product = EXACT @ flat
    for tree in (G, jax.tree.map(jnp.asarray, G), jax.tree.map(lambda a: a.astype(np.float64), G)):
        np.testing.assert_allclose(bound.ravel(bound.matvec(tree)), product, atol=1e-4 * np.abs(product).max())
    np.testing.assert_allclose(bound.matvec(flat), product, atol=1e-4 * np.abs(product).max())
    part = OPERATOR.bind(PARAMS, BATCHES, "hidden")
    for tree in (G, {"hidden": G["hidden"], "out": None}):
        np.testing.assert_allclose(part.ravel(tree), flat[:12])


def test_preconditioning_takes_a_tree_like_params_and_no_other():
    positive = jax.tree.map(lambda a: 1 + np.abs(a), G)
    root = np.sqrt(np.concatenate([positive["hidden"].ravel(), positive["out"].ravel()]))
    right(spectra.preconditioned(OPERATOR, positive).bind(PARAMS, BATCHES), EXACT / np.outer(root, root))
    transposed = positive | {"hidden": positive["hidden"].T}
    refused(lambda: spectra.preconditioned(OPERATOR, transposed).bind(PARAMS, BATCHES), *SHAPES)
