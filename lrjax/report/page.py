"""report.html: one file with everything inside, for a phone and for a desk, in light and in dark."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import jinja2

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.claim import SHOWN, summary
from lrjax.plots.page.rendering import asset, environment
from lrjax.report import about
from lrjax.report.again import again_of
from lrjax.report.curves import as_json, packed
from lrjax.report.lane_table import Table, lane_table, lines_of
from lrjax.report.own import title_of_run

_MANY_LANES = 12
_MANY_VALUES = 8


class Picture(NamedTuple):
    """A figure of the page: file name without ending, heading, caption, PNG file; and how the page shows it instead, if so."""

    name: str
    title: str
    caption: str
    png: bytes
    svg: bytes | None = None
    table: Table | None = None


def held_words(premises: Sequence[dict[str, Any]]) -> str:
    """How many premises of a claim hold, in words.

    Example:
        >>> held_words([{"holds": True}, {"holds": True}]), held_words([{"holds": True}, {"holds": False}])
        ('2 premises hold', '1 of 2 premises does not hold')
    """
    failed, count = sum(not premise["holds"] for premise in premises), len(premises)
    if not failed:
        return f"{count} premise{'s hold' if count != 1 else ' holds'}"
    return f"{failed} of {count} premise{'s' * (count != 1)} {'does' if failed == 1 else 'do'} not hold"


def render(
    run: RunResult,
    entries: Sequence[dict[str, Any]],
    pictures: Sequence[Picture],
    *,
    paper: Any = None,
    notices: Sequence[str] = (),
    refresh: int | None = None,
) -> str:
    """Build the page. Every text is HTML-escaped; nothing in it loads from elsewhere.

    Args:
        run: a `lrjax.experiment.rundir.metrics.RunResult`.
        entries: judged claims, see `lrjax.papers.claim.judge`.
        pictures: the figures, in the order in which they are shown.
        paper: the paper's module: read here are the first line of its docstring, and optionally NOTE (what had to be
            reconstructed) and SHOWN_IN (claim -> the figure that shows it).
        notices: what the run lacks, a sentence each.
        refresh: seconds after which a browser reads the page again; None for a page that stays as it is.

    Returns:
        A complete HTML document.

    Example:
        >>> from types import SimpleNamespace
        >>> config = {"paper": "benign_osc", "experiment": "E1"}
        >>> run = SimpleNamespace(config=config, status={"state": "done"}, lanes=[], arrays=[])
        >>> "<h1>benign_osc: E1</h1>" in render(run, [], [])
        True
    """
    names, paper_of_run = {picture.name for picture in pictures}, about.paper_of(paper)
    context = {
        "title": title_of_run(run),
        "summary": summary(entries),
        "state": run.status.get("state", "unknown"),
        "status": run.status,
        "again": again_of(run),
        "notices": notices,
        "config": run.config,
        "config_json": json.dumps(run.config, indent=2, sort_keys=True, default=str),
        "lanes": run.lanes,
        "diverged": [lane for lane in run.lanes if lane.get("diverged_at") is not None],
        "many_lanes": _MANY_LANES,
        "entries": entries,
        "pictures": pictures,
        "note": getattr(paper, "NOTE", None),
        "paper": paper_of_run,
        "scale": about.SCALES.get(run.config.get("scale") or "") if paper_of_run else None,
        "tested": about.what_is_tested(run),
        "facts": about.facts(run),
        "shown_in": {claim: name for claim, name in getattr(paper, "SHOWN_IN", {}).items() if name in names},
        "curves": packed(lines_of(run)),
        "lane_table": lane_table(run),
        "joined": about.joined_runs(run),
        "refresh": refresh,
    }
    return filled("page.html", context)


def filled(template: str, context: dict[str, Any], *, charts: bool = True) -> str:
    """A template of this package with its names filled in; every text is escaped.

    Args:
        template: its file name.
        context: name -> value.
        charts: with the scripts and the style of curves and of tables that sort.
    """
    return _TEMPLATES.get_template(template).render(context | (_CHARTS if charts else {}))


def _loss(value: float | None) -> str:
    return "none" if value is None or isinstance(value, jinja2.Undefined) else f"{value:.4g}"


def _axis(value: Any) -> str:
    """A value that the sweep set; a long axis by its ends."""
    if isinstance(value, list) and len(value) > _MANY_VALUES:
        return f"{len(value)} values, {value[0]} to {value[-1]}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _verdicts(entries: Sequence[dict[str, Any]]) -> dict[str, int]:
    """How many claims have each verdict, in the order of `SHOWN`."""
    counts = Counter(entry["verdict"] for entry in entries)
    return {verdict: counts[verdict] for verdict in SHOWN if counts[verdict]}


_TEMPLATES = environment("lrjax.report")
_TEMPLATES.filters |= {
    "address": lambda text: quote(text, safe="/=,+"),
    "axis": _axis,
    "hold": held_words,
    "loss": _loss,
    "script_json": as_json,
    "verdicts": _verdicts,
}
_CHARTS = {
    # Without the end of line that is no part of what a browser hashes.
    "scripts": [asset("lrjax.report", name).strip() for name in ("uplot/uPlot.iife.min.js", "page.js")],
    "style": asset("lrjax.report", "uplot/uPlot.min.css"),
}
