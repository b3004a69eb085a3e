"""What the operators say of themselves: which are equal, what they take, and how their modules build on each other."""

import ast
import inspect
import pkgutil
from graphlib import TopologicalSorter
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from lrjax import spectra
from lrjax.spectra import (
    Operator,
    batch_gradients,
    batch_sharpness,
    bind,
    covariance_trace,
    curvature_along,
    empirical_fisher,
    fisher,
    ggn,
    gradient_covariance,
    gradient_norms,
    hessian,
    preconditioned,
)

PARAMS, X = jnp.array([0.5, -1.0, 2.0]), jnp.arange(12.0).reshape(4, 3) / 10


def predict(w, x):
    return jnp.tanh(x @ w)


def loss(w, x):
    return jnp.mean(predict(w, x))


def test_operators_of_another_kind_number_or_array_are_not_equal():
    f = predict
    key, other = jax.random.key(1), jax.random.key(2)
    different = [
        hessian(f),
        ggn(f, f),
        empirical_fisher(f),
        gradient_covariance(f),
        *(preconditioned(hessian(f), jnp.full(3, scale)) for scale in (1.0, 2.0)),
        preconditioned(hessian(f), jnp.ones(2)),
        preconditioned(hessian(f), {"w": jnp.ones(3)}),
        *(fisher(f, distribution=name) for name in ("gaussian", "bernoulli")),
        *(fisher(f, k, distribution="gaussian", num_samples=n) for k, n in ((key, 1), (other, 1), (key, 2))),
    ]
    assert len(set(different)) == len(different)
    assert fisher(f, key, distribution="gaussian") == fisher(f, jax.random.key(1), distribution="gaussian")
    assert hessian(f) != "hessian"


def test_operators_may_be_compared_where_their_arrays_are_traced():
    @jax.jit
    def compare(diagonal):
        mine, other = preconditioned(hessian(loss), diagonal), preconditioned(hessian(loss), diagonal + 1)
        same.extend((mine == preconditioned(hessian(loss), diagonal), mine == other))
        return mine.matvec(PARAMS, PARAMS, X)

    same = []
    compare(PARAMS**2)
    assert same == [True, False]


def test_the_options_of_bind_are_in_its_signature():
    found = inspect.signature(Operator.bind).parameters
    assert list(found)[1:] == ["params", "batches", "where", "mesh", "chunk", "keep_bytes", "checks"]
    assert all(option.kind is not option.VAR_KEYWORD for option in found.values())
    with pytest.raises(TypeError, match="keep_byte"):
        hessian(loss).bind(PARAMS, [X], keep_byte=1)


HEADINGS = ("Args:", "Returns:", "Raises:", "Source:", "Example:")
DOCUMENTED = (
    hessian,
    ggn,
    fisher,
    empirical_fisher,
    gradient_covariance,
    preconditioned,
    bind,
    spectra.matrix,
    spectra.from_function,
    spectra.quadratic_form,
    batch_gradients,
    batch_sharpness,
    curvature_along,
    gradient_norms,
    covariance_trace,
)


@pytest.mark.parametrize("function", DOCUMENTED, ids=lambda function: function.__name__)
def test_docstrings_say_arguments_result_errors_source_and_an_example_in_this_order(function):
    lines = [line.strip() for line in inspect.getdoc(function).splitlines()]
    places = [next(i for i, line in enumerate(lines) if line.startswith(heading)) for heading in HEADINGS]
    assert places == sorted(places)


def imports_of(path, modules):
    """Modules of the package that a file imports, at its head or inside a function."""
    for node in ast.walk(ast.parse(Path(path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in modules else node.module for name in inner)


def test_no_module_of_spectra_imports_itself_by_way_of_others():
    found = pkgutil.walk_packages(spectra.__path__, "lrjax.spectra.")
    modules = {module.name: module.module_finder.find_spec(module.name).origin for module in found}
    graph = {name: set(imports_of(path, modules)) & modules.keys() for name, path in modules.items()}
    assert "lrjax.spectra.products" in graph["lrjax.spectra.bound"]
    TopologicalSorter(graph).prepare()  # raises CycleError
