"""The page of a monitor's report: advice with its evidence, the instruments, one figure, and what measuring cost."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from lrjax.errors import check, nearest
from lrjax.plots.page.rendering import asset, duration, environment
from lrjax.plots.page.typeset import typeset

ENTRIES = {
    "advice": ("sentence", "evidence", "source"),
    "rows": ("instrument", "value", "line", "reading", "source"),
    "costs": ("instrument", "flops", "times", "seconds", "share"),
}
KEYS = ("title", "summary", *ENTRIES, "figure", "notices", "facts")
FIGURE = ("title", "caption", "svg", "png")
_ARXIV = re.compile(r"arXiv[: ]?(?P<number>\d{4}\.\d{4,5})")


def monitor_page(context: Mapping[str, Any]) -> str:
    """The HTML page of a monitor's report. Every text is escaped and its formulas are set; nothing loads from elsewhere.

    Args:
        context: a mapping with the keys below; `title` and `summary` are needed. Texts are as `lrjax.plots.page.typeset`
            takes them: "2 / eta", "lambda_1", "`code`". A source may name "arXiv 1812.06162", which becomes a link.

            - `title`: str.
            - `summary`: str, one line.
            - `advice`: list of {`sentence`: str, `evidence`: str, `source`: str}; parts of evidence are separated by "; ".
            - `rows`: list of {`instrument`: str, `value`: number, str or None (not measured), `line`: number, str or None
              (it is compared with nothing), `reading`: str, `source`: str}.
            - `figure`: {`title`: str, `caption`: str, `svg`: bytes, see `lrjax.plots.svg.svg`, or None, `png`: bytes, for
              where there is no SVG}, or None.
            - `costs`: list of {`instrument`: str, `flops`: of one measurement, relative to those of a training step, or
              None, `times`: int, `seconds`: wall time of all of its measurements, or None, `share`: of the wall time of
              the training, 0 to 1, or None}; their sums are added.
            - `notices`: list of str, a sentence each, without its full stop.
            - `facts`: mapping name -> value, such as optimizer, learning rate, steps, devices, versions; None is unknown.

    Returns:
        A complete HTML document.

    Raises:
        LrjaxError: a key is missing or unknown, or the figure has neither SVG nor PNG.

    Example:
        >>> row = {"instrument": "gain ratio", "value": 0.97, "line": "r > .95", "reading": "small steps", "source": "ours"}
        >>> page = monitor_page({"title": "A run", "summary": "Far too small.", "rows": [row], "facts": {"optimizer": "adam"}})
        >>> "<h1>A run</h1>" in page, "adam" in page, "<script" in page
        (True, True, False)
    """
    _check(context)
    empty = {"advice": (), "rows": (), "costs": (), "figure": None, "notices": (), "facts": {}}
    figure = context.get("figure")
    given = {
        "figure": None if figure is None else {"name": "monitor", **figure},
        "total": total(context.get("costs") or ()),
        "style": asset("lrjax.plots.page", "monitor.css"),
    }
    return _TEMPLATES.get_template("monitor.html").render({**empty, **context, **given})


def _check(context: Mapping[str, Any]) -> None:
    for key in ("title", "summary"):
        check(key in context, f"the page of a monitor has no {key}; give it, a str")
    _known_keys("the page of a monitor", context, KEYS)
    for kind, names in ENTRIES.items():
        for entry in context.get(kind) or ():
            _known_keys(f"an entry of {kind}", entry, names)
            check(names[0] in entry, f"an entry of {kind} has no {names[0]}; give it, a str")
    figure = context.get("figure")
    if figure is not None:
        _known_keys("the figure", figure, FIGURE)
        drawn = figure.get("svg") or figure.get("png")
        check(isinstance(drawn, bytes), "the figure has neither svg nor png; give one of them, as bytes")


def _known_keys(name: str, given: Mapping[str, Any], valid: Sequence[str]) -> None:
    for key in given:
        check(key in valid, f"{name} takes no {key!r}; {nearest(str(key), valid)}")


def total(costs: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Wall time and share of all instruments together; None for fewer than two, or where one is not known.

    Example:
        >>> total([{"seconds": 1.5, "share": 0.01}, {"seconds": 0.5, "share": 0.005}])
        {'seconds': 2.0, 'share': 0.015}
    """
    known = [(cost["seconds"], cost["share"]) for cost in costs if None not in (cost.get("seconds"), cost.get("share"))]
    if len(costs) < 2 or len(known) < len(costs):
        return None
    return {"seconds": sum(seconds for seconds, _ in known), "share": sum(share for _, share in known)}


def cited(text: str) -> Markup:
    """A source with its formulas set and its arXiv numbers as links.

    Example:
        >>> print(cited("McCandlish 2018, arXiv 1812.06162"))
        McCandlish 2018, <a href="https://arxiv.org/abs/1812.06162" rel="noreferrer">arXiv 1812.06162</a>
    """
    link = Markup('<a href="https://arxiv.org/abs/{}" rel="noreferrer">arXiv {}</a>')
    parts, done = [], 0
    for found in _ARXIV.finditer(text):
        parts += [typeset(text[done : found.start()]), link.format(found["number"], found["number"])]
        done = found.end()
    return Markup("").join([*parts, typeset(text[done:])])


def brief(seconds: float | None) -> str:
    """Wall time in words, with milliseconds below a second.

    Example:
        >>> [brief(seconds) for seconds in (None, 0.0421, 4.26, 119.7)]
        ['unknown', '42 ms', '4.3 s', '2 min 0 s']
    """
    return f"{1000 * seconds:.0f} ms" if seconds is not None and seconds < 0.995 else duration(seconds)


def percent(share: float | None) -> str:
    """A share in percent, with two digits below ten.

    Example:
        >>> [percent(share) for share in (0.0123, 0.5, 0.00004, None)]
        ['1.2 %', '50 %', '0.004 %', 'unknown']
    """
    return "unknown" if share is None else f"{100 * share:.{2 if share < 0.1 else 3}g} %"


_TEMPLATES = environment()
_TEMPLATES.filters |= {"brief": brief, "cited": cited, "percent": percent}
