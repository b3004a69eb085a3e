"""Sphinx configuration: `sphinx-build -W --keep-going -b html docs build/docs`."""

import re
import shutil
from pathlib import Path
from typing import Any

from lrjax.version import __version__

HERE = Path(__file__).parent

project = "lrjax"
author = "The lrjax authors"
copyright = "The lrjax authors"
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "myst_nb",
]
exclude_patterns = ["results", "figures", "_templates"]
templates_path = ["_templates"]
html_theme = "furo"
html_title = f"lrjax {__version__}"
html_static_path = ["_static"]
html_css_files = ["wide_tables.css"]

# Single backticks in docstrings are code, which needs no role.
default_role = "code"
python_maximum_signature_line_length = 100
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autosummary_generate = True
autosummary_imported_members = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
napoleon_custom_sections = [("Source", "notes_style"), ("Sources", "notes_style")]

myst_enable_extensions = ["colon_fence", "dollarmath", "deflist"]
myst_heading_anchors = 3
# The notebooks keep the outputs of their last run; the tests of colabs/ run them.
nb_execution_mode = "off"

_LITERAL = re.compile(r"(``.+?``|`[^`]+`)")
_SEVERAL = re.compile(r"^ +\w+(?:, \w+)+: ")  # "b1, b2: ..." in Args
_LETTER = re.compile(r"(?<=: )([A-Za-z])\.$")  # "batch_size: S." would begin a list
_MARKUP = re.compile(r"(?<!\\)([|*]|(?<=\w)_(?=\W|$))")


def _escape_maths(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """|v|, g* and lambda_ in a docstring are maths, not reStructuredText's markup; arguments may share a description."""
    in_example = False
    for number, line in enumerate(lines):
        stripped = line.strip()
        in_example = stripped.startswith(">>>") or (in_example and bool(stripped))
        if in_example or stripped.startswith("*"):
            continue
        line = _LETTER.sub(r"\1\.", _SEVERAL.sub(lambda match: match.group().replace(", ", ","), line))
        pieces = _LITERAL.split(line)
        lines[number] = "".join(p if _LITERAL.fullmatch(p) else _MARKUP.sub(r"\\\1", p) for p in pieces)


def _skip_tuple_fields(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Fields of a NamedTuple are described under Attributes; their own docstring is "Alias for field number 0"."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def _copy_notebooks() -> None:
    """Sphinx reads pages from its own folder alone."""
    target = HERE / "notebooks"
    target.mkdir(exist_ok=True)
    for path in sorted((HERE.parent / "colabs").glob("*.ipynb")):
        copy = target / path.name
        if not copy.exists() or copy.read_bytes() != path.read_bytes():
            shutil.copyfile(path, copy)


def setup(app: Any) -> None:
    """Hooks; the escape comes before napoleon, which runs at 500."""
    _copy_notebooks()
    app.connect("autodoc-process-docstring", _escape_maths, priority=400)
    app.connect("autodoc-skip-member", _skip_tuple_fields)
