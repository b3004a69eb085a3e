"""Interface of the package: equality of operators, signatures, docstrings, and imports between its modules."""

import ast
import inspect
import pkgutil
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from lrjax import spectra
from lrjax.spectra import (
    Operator,
    empirical_fisher,
    fisher,
    ggn,
    gradient_covariance,
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
    options = inspect.signature(Operator.bind).parameters
    assert list(options)[1:] == [
        *("params", "batches", "where", "weight", "num_examples", "in_axes", "shuffles", "additive", "differentiation"),
        *("mesh", "chunk", "keep_bytes", "checks"),
    ]
    assert all(option.kind is not option.VAR_KEYWORD for option in options.values())
    with pytest.raises(TypeError, match="keep_byte"):
        hessian(loss).bind(PARAMS, [X], keep_byte=1)


HEADINGS = ("Args:", "Attributes:", "Returns:", "Raises:", "References:", "Example:")
FUNCTIONS = tuple(name for name in spectra.__all__ if inspect.isfunction(getattr(spectra, name)))
CLASSES = tuple(name for name in spectra.__all__ if inspect.isclass(getattr(spectra, name)))
CONSTANTS = tuple(sorted(set(spectra.__all__) - {*FUNCTIONS, *CLASSES}))
MODULES = {
    module.name: Path(module.module_finder.find_spec(module.name).origin)
    for module in pkgutil.walk_packages(spectra.__path__, "lrjax.spectra.")
}
NO_FIELDS = {"SmallSubsetWarning"}


def headings(docstring):
    """Headings of a docstring and the lines under each: lines of their own at its lowest indent, that end in a colon."""
    lines = inspect.cleandoc(docstring).splitlines()
    places = [i for i, line in enumerate(lines) if re.fullmatch(r"[A-Z][a-z]+:", line)]
    return [(lines[i], "".join(lines[i + 1 : end]).strip()) for i, end in pairwise([*places, len(lines)])]


def faults(docstring, needed):
    """The headings of `needed` that are missing, empty or out of order, those that occur twice, and unknown ones."""
    given = headings(docstring)
    names = [name for name, _ in given]
    missing = [name for name in needed if name not in names]
    empty = [name for name, text in given if not text]
    known = [name for name in HEADINGS if name in names]
    return missing, empty, [] if names == known else names


@pytest.mark.parametrize("name", FUNCTIONS)
def test_public_functions_document_arguments_result_errors_references_and_an_example_in_this_order(name):
    function = getattr(spectra, name)
    assert faults(function.__doc__, ("Args:", "Returns:", "Raises:", "References:", "Example:")) == ([], [], [])
    undocumented = [
        p for p in inspect.signature(function).parameters if not re.search(rf"\n +\**{p}: ", function.__doc__)
    ]
    assert undocumented == []
    assert ">>> " in dict(headings(function.__doc__))["Example:"]


@pytest.mark.parametrize("name", CLASSES)
def test_public_classes_document_attributes_references_and_an_example_in_this_order(name):
    cls = getattr(spectra, name)
    fields = () if name in NO_FIELDS else ("Attributes:",)
    assert faults(cls.__doc__, (*fields, "References:", "Example:")) == ([], [], [])
    fields = getattr(cls, "_fields", tuple(getattr(cls, "__dataclass_fields__", ())))
    assert [field for field in fields if not re.search(rf"\n +([a-z_]+, )*{field}(, [a-z_]+)*: ", cls.__doc__)] == []
    assert ">>> " in dict(headings(cls.__doc__))["Example:"]


@pytest.mark.parametrize("name", CONSTANTS)
def test_public_constants_are_documented_below_their_assignment(name):
    (docstring,) = [
        after.value.value
        for path in MODULES.values()
        for before, after in pairwise(ast.parse(path.read_text()).body)
        if isinstance(before, ast.AnnAssign) and ast.unparse(before.target) == name and isinstance(after, ast.Expr)
    ]
    assert faults(docstring, ("References:",)) == ([], [], [])


@pytest.mark.parametrize("module", MODULES)
def test_no_docstring_has_an_unknown_heading_or_an_order_of_its_own(module):
    nodes = ast.walk(ast.parse(MODULES[module].read_text()))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = [ast.get_docstring(node) for node in nodes if isinstance(node, documented)]
    assert [faults(text, ()) for text in docstrings if text and faults(text, ()) != ([], [], [])] == []
    assert not [text for text in docstrings if text and "Source:" in text]


ORDERED = "Args:\n    a: b.\n\nRaises:\n    c: d."


@pytest.mark.parametrize(
    ("docstring", "fault"),
    [
        (ORDERED, ([], [], [])),
        ("Args:\n    a: b.", (["Raises:"], [], [])),
        ("Raises:\n    c: d.\n\nArgs:\n    a: b.", ([], [], ["Raises:", "Args:"])),
        (ORDERED + "\n\nExample:", ([], ["Example:"], [])),
        (ORDERED + "\n\nSource:\n    e.", ([], [], ["Args:", "Raises:", "Source:"])),
        (ORDERED + "\n\nRaises:\n    e: f.", ([], [], ["Args:", "Raises:", "Raises:"])),
    ],
    ids=["right", "missing", "order", "empty", "unknown", "twice"],
)
def test_the_check_of_docstrings_sees_headings_that_are_missing_empty_unknown_or_out_of_order(docstring, fault):
    assert faults(docstring, ("Args:", "Raises:")) == fault


def test_public_signatures_are_annotated_and_none_with_any():
    for name in FUNCTIONS:
        annotations = {p.name: p.annotation for p in inspect.signature(getattr(spectra, name)).parameters.values()}
        assert [p for p, annotation in annotations.items() if annotation in ("Any", Any, inspect.Parameter.empty)] == []
        assert inspect.signature(getattr(spectra, name)).return_annotation not in ("Any", inspect.Signature.empty)


HEAVY = ("flax", "orbax", "ml_collections", "matplotlib", "tqdm", "jaxtyping", "chex", "scipy")


def test_the_package_imports_jax_optax_and_numpy_alone():
    code = f"import sys, lrjax.spectra; print([name for name in {HEAVY} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def imports_of(path, modules):
    """Modules of the package that a file imports, at its head or inside a function."""
    for node in ast.walk(ast.parse(Path(path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in modules else node.module for name in inner)


def test_no_module_of_spectra_imports_itself_by_way_of_others():
    graph = {name: set(imports_of(path, MODULES)) & MODULES.keys() for name, path in MODULES.items()}
    assert "lrjax.spectra.products" in graph["lrjax.spectra.binding"]
    TopologicalSorter(graph).prepare()  # raises CycleError
