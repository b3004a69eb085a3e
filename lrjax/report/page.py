"""report.html: one file with everything inside, for a phone and for a desk, in light and in dark."""

import base64
import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, NamedTuple

from lrjax.papers.claim import summary
from lrjax.report.style import STYLE

_MANY_LANES = 12

# The policy makes the browser itself refuse whatever would come from a network.
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


class Picture(NamedTuple):
    """A rendered figure: file name without ending, heading, caption, and the PNG file as bytes."""

    name: str
    title: str
    caption: str
    png: bytes


def render(run: Any, entries: Sequence[dict[str, Any]], pictures: Sequence[Picture], *, note: str | None = None) -> str:
    """Build the page. Every text is HTML-escaped; nothing in it loads from elsewhere.

    Args:
        run: a `lrjax.experiment.rundir.metrics.RunResult`; read here are `config`, `status` and `lanes`.
        entries: judged claims, see `lrjax.papers.claim.judge`.
        pictures: the figures, in the order in which they are shown.
        note: what of the paper had to be reconstructed, in words; left out when None.

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
    parts = [
        _head(title, run, entries),
        section("Claims", _claims(entries)),
        section("Figures", "\n".join(map(_figure, pictures))) if pictures else "",
        section("Diverged lanes", _diverged(run.lanes)),
        section("Reproduce", f"<pre class=wrap><code>{escaped(run.status.get('command'))}</code></pre>"),
        section("What is reconstructed", _paragraphs(note)) if note else "",
        section("Versions", _versions(run.status)),
        section("Config", _config(run.config)),
    ]
    return document(title, parts)


def document(title: str, parts: Iterable[str]) -> str:
    """A complete page of parts that are HTML already; empty ones are left out."""
    return _PAGE.format(title=escaped(title), style=STYLE, body="\n".join(filter(None, parts)))


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


def escaped(value: Any) -> str:
    """Any value as text of the page."""
    return "unknown" if value is None else escape(str(value))


def section(heading: str, content: str) -> str:
    """A part of the page under a heading."""
    return f"<section>\n<h2>{escaped(heading)}</h2>\n{content}\n</section>"


def _paragraphs(text: str) -> str:
    return "\n".join(f"<p>{escaped(' '.join(part.split()))}</p>" for part in text.split("\n\n") if part.strip())


def _head(title: str, run: Any, entries: Sequence[dict[str, Any]]) -> str:
    state = run.status.get("state", "unknown")
    lanes = "1 lane" if len(run.lanes) == 1 else f"{len(run.lanes)} lanes"
    facts = [f"scale {escaped(run.config.get('scale'))}", lanes, f"wall time {duration(run.status.get('wall_time_s'))}"]
    lines = [
        f"<h1>{escaped(title)}</h1>",
        f"<p class=lead>{escaped(summary(entries))}.</p>",
        f"<p class=facts>{' · '.join(facts)}</p>",
    ]
    if state != "done":
        unfinished = f"This run is not finished (state: {state}); the claims are judged on what it has written so far."
        lines.append(f"<p class=notice>{escaped(unfinished)}</p>")
    return "\n".join(["<header>", *lines, "</header>"])


def _claims(entries: Sequence[dict[str, Any]]) -> str:
    if not entries:
        return "<p>This experiment judges no claim.</p>"
    columns = (("Measured", "measured"), ("Expected", "expected"), ("Paper reports", "paper_reports"))
    rows = []
    for entry in entries:
        verdict = escaped(entry["verdict"])
        claim = (
            f"<p>{escaped(entry['statement'])}</p><p class=source><code>{escaped(entry['id'])}</code> · "
            f"{escaped(entry['source'])}</p>"
        )
        cells = "".join(f'<td data-label="{label}">{escaped(entry[key])}</td>' for label, key in columns)
        rows.append(f'<tr><td><span class="verdict {verdict}">{verdict}</span></td><td>{claim}</td>{cells}</tr>')
    return table(("Verdict", "Claim", *(label for label, _ in columns)), rows, "claims")


def table(headings: Iterable[str], rows: Sequence[str], kind: str) -> str:
    """A table whose rows are HTML already; `kind` is a class of the style sheet."""
    head = "".join(f"<th scope=col>{escaped(heading)}</th>" for heading in headings)
    body = f"<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(rows) + "\n</tbody>"
    return f"<div class=scroll><table class={kind}>\n{body}\n</table></div>"


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode("ascii")
    return (
        f'<figure id="{escaped(picture.name)}">\n<h3>{escaped(picture.title)}</h3>\n'
        f'<img alt="{escaped(picture.title)}" src="data:image/png;base64,{data}">\n'
        f"<figcaption>{escaped(picture.caption)}</figcaption>\n</figure>"
    )


def _diverged(lanes: Sequence[dict[str, Any]]) -> str:
    diverged = [lane for lane in lanes if lane.get("diverged_at") is not None]
    if not diverged:
        return "<p>No lane diverged.</p>"
    labels = ("Lane", "Arm", "Values", "Seed", "Step", "Last finite loss")
    rows = []
    for lane in diverged:
        values = ", ".join(f"{name} = {value}" for name, value in lane.get("values", {}).items())
        loss = lane.get("last_finite_loss")
        shown = "none" if loss is None else f"{loss:.4g}"
        cells = (lane["lane"], lane.get("arm"), values, lane.get("seed"), lane["diverged_at"], shown)
        pairs = zip(labels, cells, strict=True)
        rows.append("<tr>" + "".join(f'<td data-label="{name}">{escaped(cell)}</td>' for name, cell in pairs) + "</tr>")
    listed = table(labels, rows, "lanes")
    count = f"<p>{len(diverged)} of {len(lanes)} lanes reached a loss that is not finite; the others went on.</p>"
    if len(diverged) > _MANY_LANES:
        listed = f"<details><summary>Show all {len(diverged)}</summary>\n{listed}\n</details>"
    return f"{count}\n{listed}"


def _versions(status: dict[str, Any]) -> str:
    versions = {"lrjax": status.get("version"), "commit": status.get("commit"), **status.get("versions", {})}
    items = "\n".join(
        f"<div><dt>{escaped(name)}</dt><dd>{escaped(version)}</dd></div>" for name, version in versions.items()
    )
    return f"<dl>\n{items}\n</dl>"


def _config(config: dict[str, Any]) -> str:
    text = json.dumps(config, indent=2, sort_keys=True, default=str)
    return f"<details><summary>Show the resolved config</summary>\n<pre><code>{escaped(text)}</code></pre>\n</details>"
