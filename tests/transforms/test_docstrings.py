"""Public docstrings: sections in one order everywhere, a reference and an example for each function."""

import inspect
import re

import pytest

from lrjax import transforms

SECTIONS = ["Attributes", "Args", "Returns", "Raises", "References", "Example"]
PUBLIC = [getattr(transforms, name) for name in transforms.__all__]
METHODS = [transforms.InvarianceReport.require, transforms.InvarianceReport.labels]


def sections(thing):
    return re.findall(r"^(\w+):$", inspect.getdoc(thing) or "", re.MULTILINE)


@pytest.mark.parametrize("thing", [*PUBLIC, *METHODS], ids=lambda thing: thing.__qualname__)
def test_sections_are_complete_and_in_order(thing):
    names = sections(thing)
    assert names == [name for name in SECTIONS if name in names], f"{names} are other sections, or in another order"
    if inspect.isclass(thing):
        needed = {"Attributes", "Example"}
    elif thing in METHODS:
        needed = {"Args", "Example"}
    else:
        needed = {"Args", "Returns", "References", "Example"}
    assert needed <= set(names)


@pytest.mark.parametrize("thing", PUBLIC, ids=lambda thing: thing.__qualname__)
def test_example_runs_as_a_doctest_and_attributes_are_those_of_the_class(thing):
    document = inspect.getdoc(thing) or ""
    assert ">>> " in document.split("Example:")[1]
    if inspect.isclass(thing):
        described = document.split("Attributes:\n")[1].split("\n\n")[0]
        names = re.findall(r"^    (\w[\w, ]*):", described, re.MULTILINE)
        assert [name for line in names for name in line.split(", ")] == list(thing._fields)
