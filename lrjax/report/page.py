"""report.html: one file with everything inside, for a phone and for a desk, in light and in dark."""

import base64
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import jinja2

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.claim import SHOWN, summary
from lrjax.report.again import command_of_run

_MANY_LANES = 12
_MANY_VALUES = 8


class Picture(NamedTuple):
    """A rendered figure: file name without ending, heading, caption, and the PNG file as bytes."""

    name: str
    title: str
    caption: str
    png: bytes


def render(
    run: RunResult,
    entries: Sequence[dict[str, Any]],
    pictures: Sequence[Picture],
    *,
    note: str | None = None,
    notices: Sequence[str] = (),
) -> str:
    """Build the page. Every text is HTML-escaped; nothing in it loads from elsewhere.

    Args:
        run: a `lrjax.experiment.rundir.metrics.RunResult`; read here are `config`, `status` and `lanes`.
        entries: judged claims, see `lrjax.papers.claim.judge`.
        pictures: the figures, in the order in which they are shown.
        note: what of the paper had to be reconstructed, in words; left out when None.
        notices: what the run lacks, a sentence each.

    Returns:
        A complete HTML document.

    Example:
        >>> from types import SimpleNamespace
        >>> config = {"paper": "benign_osc", "experiment": "E1"}
        >>> run = SimpleNamespace(config=config, status={"state": "done"}, lanes=[])
        >>> "<h1>benign_osc: E1</h1>" in render(run, [], [])
        True
    """
    title = f"{run.config.get('paper')}: {run.config.get('experiment')}"
    context = {
        "title": title,
        "summary": summary(entries),
        "state": run.status.get("state", "unknown"),
        "status": run.status | {"command": command_of_run(run)},
        "notices": notices,
        "config": run.config,
        "config_json": json.dumps(run.config, indent=2, sort_keys=True, default=str),
        "lanes": run.lanes,
        "diverged": [lane for lane in run.lanes if lane.get("diverged_at") is not None],
        "many_lanes": _MANY_LANES,
        "entries": entries,
        "pictures": pictures,
        "note": note,
        "versions": {
            "lrjax": run.status.get("version"),
            "commit": _commit(run.status),
            **run.status.get("versions", {}),
        },
    }
    return filled("page.html", context)


def filled(template: str, context: dict[str, Any]) -> str:
    """A template of this package with its names filled in; every text is escaped."""
    return _TEMPLATES.get_template(template).render(context)


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


def _known(value: Any) -> Any:
    return "unknown" if value is None or isinstance(value, jinja2.Undefined) else value


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


def _commit(status: Mapping[str, Any]) -> str | None:
    commit = status.get("commit")
    return f"{commit}, with changed sources" if commit and status.get("changed") else commit


_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("lrjax.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
)
_TEMPLATES.filters |= {
    "address": lambda text: quote(text, safe="/=,+"),
    "axis": _axis,
    "base64": lambda content: base64.b64encode(content).decode("ascii"),
    "duration": duration,
    "known": _known,
    "loss": _loss,
    "verdicts": _verdicts,
}
