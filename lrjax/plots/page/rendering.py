"""The templates that all pages share, what they call, and a page filled in."""

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from lrjax.plots.page.typeset import typeset


def environment(*packages: str) -> jinja2.Environment:
    """The shared templates, with those of packages before them; a page of theirs begins with `{% extends "base.html" %}`.

    Args:
        packages: import names of packages with a folder `templates`.

    Returns:
        An environment that escapes every text. The base takes `title`, and optionally `scripts` (texts, which the content
        security policy of the page names by their hashes), `style` (CSS before the shared one) and `refresh` (seconds).

    Example:
        >>> environment("lrjax.report").get_template("base.html").name
        'base.html'
    """
    loaders = [jinja2.PackageLoader(package) for package in (*packages, "lrjax.plots.page")]
    made = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    made.filters |= FILTERS
    made.globals |= {"scripts": (), "style": ""}
    return made


def filled(template: str, context: Mapping[str, Any]) -> str:
    """A shared template with its names filled in; every text is escaped.

    Example:
        >>> "<title>a &amp; b</title>" in filled("base.html", {"title": "a & b"})
        True
    """
    return _SHARED.get_template(template).render(context)


def asset(package: str, name: str) -> str:
    """A file of a package's folder `assets`.

    Args:
        package: import name.
        name: path in that folder, with "/".

    Example:
        >>> "uPlot" in asset("lrjax.report", "uplot/uPlot.iife.min.js")[:60]
        True
    """
    return files(package).joinpath("assets", *name.split("/")).read_text(encoding="utf-8")


def duration(seconds: float | None) -> str:
    """Wall time in words.

    Example:
        >>> [duration(seconds) for seconds in (None, 4.26, 38.4, 119.7, 7260)]
        ['unknown', '4.3 s', '38 s', '2 min 0 s', '2 h 1 min']
    """
    if seconds is None:
        return "unknown"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def word(value: Any) -> str:
    """A value of a config or an end value, short.

    Example:
        >>> [word(value) for value in (0.123456, None, "sgd", 2000, [1, 2])]
        ['0.1235', 'none', 'sgd', '2000', '1, 2']
    """
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(word, value))
    return "none" if value is None else str(value)


def _known(value: Any) -> Any:
    return "unknown" if value is None or isinstance(value, jinja2.Undefined) else value


def _digest(script: str) -> str:
    """How a content security policy names a script: the base64 of its SHA-256."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


FILTERS = {
    "base64": lambda content: base64.b64encode(content).decode("ascii"),
    "digest": _digest,
    "duration": duration,
    "known": _known,
    "trusted": Markup,
    "typeset": typeset,
    "word": word,
}
_SHARED = environment()
