"""report.html: one file with everything inside, for a phone and for a desk, in light and in dark."""

import base64
import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, NamedTuple

from lrjax.claims import summary
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
        run: a `lrjax.metrics.RunResult`; read here are `config`, `status` and `lanes`.
        entries: judged claims, see `lrjax.claims.judge`.
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
        _section("Claims", _claims(entries)),
        _section("Figures", "\n".join(map(_figure, pictures))) if pictures else "",
        _section("Diverged lanes", _diverged(run.lanes)),
        _section("Reproduce", f"<pre class=wrap><code>{_text(run.status.get('command'))}</code></pre>"),
        _section("What is reconstructed", _paragraphs(note)) if note else "",
        _section("Versions", _versions(run.status)),
        _section("Config", _config(run.config)),
    ]
    return _PAGE.format(title=_text(title), style=STYLE, body="\n".join(filter(None, parts)))


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


def _text(value: Any) -> str:
    return "unknown" if value is None else escape(str(value))


def _section(heading: str, content: str) -> str:
    return f"<section>\n<h2>{_text(heading)}</h2>\n{content}\n</section>"


def _paragraphs(text: str) -> str:
    return "\n".join(f"<p>{_text(' '.join(part.split()))}</p>" for part in text.split("\n\n") if part.strip())


def _head(title: str, run: Any, entries: Sequence[dict[str, Any]]) -> str:
    state = run.status.get("state", "unknown")
    lanes = "1 lane" if len(run.lanes) == 1 else f"{len(run.lanes)} lanes"
    facts = [f"scale {_text(run.config.get('scale'))}", lanes, f"wall time {duration(run.status.get('wall_time_s'))}"]
    lines = [
        f"<h1>{_text(title)}</h1>",
        f"<p class=lead>{_text(summary(entries))}.</p>",
        f"<p class=facts>{' · '.join(facts)}</p>",
    ]
    if state != "done":
        unfinished = f"This run is not finished (state: {state}); the claims are judged on what it has written so far."
        lines.append(f"<p class=notice>{_text(unfinished)}</p>")
    return "\n".join(["<header>", *lines, "</header>"])


def _claims(entries: Sequence[dict[str, Any]]) -> str:
    if not entries:
        return "<p>This experiment judges no claim.</p>"
    columns = (("Measured", "measured"), ("Expected", "expected"), ("Paper reports", "paper_reports"))
    rows = []
    for entry in entries:
        verdict = _text(entry["verdict"])
        claim = (
            f"<p>{_text(entry['statement'])}</p><p class=source><code>{_text(entry['id'])}</code> · "
            f"{_text(entry['source'])}</p>"
        )
        cells = "".join(f'<td data-label="{label}">{_text(entry[key])}</td>' for label, key in columns)
        rows.append(f'<tr><td><span class="verdict {verdict}">{verdict}</span></td><td>{claim}</td>{cells}</tr>')
    return _table(("Verdict", "Claim", *(label for label, _ in columns)), rows, "claims")


def _table(headings: Iterable[str], rows: Sequence[str], kind: str) -> str:
    head = "".join(f"<th scope=col>{_text(heading)}</th>" for heading in headings)
    body = f"<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(rows) + "\n</tbody>"
    return f"<div class=scroll><table class={kind}>\n{body}\n</table></div>"


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode("ascii")
    return (
        f'<figure id="{_text(picture.name)}">\n<h3>{_text(picture.title)}</h3>\n'
        f'<img alt="{_text(picture.title)}" src="data:image/png;base64,{data}">\n'
        f"<figcaption>{_text(picture.caption)}</figcaption>\n</figure>"
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
        rows.append("<tr>" + "".join(f'<td data-label="{name}">{_text(cell)}</td>' for name, cell in pairs) + "</tr>")
    table = _table(labels, rows, "lanes")
    count = f"<p>{len(diverged)} of {len(lanes)} lanes reached a loss that is not finite; the others went on.</p>"
    if len(diverged) > _MANY_LANES:
        table = f"<details><summary>Show all {len(diverged)}</summary>\n{table}\n</details>"
    return f"{count}\n{table}"


def _versions(status: dict[str, Any]) -> str:
    versions = {"lrjax": status.get("version"), "commit": status.get("commit"), **status.get("versions", {})}
    items = "\n".join(
        f"<div><dt>{_text(name)}</dt><dd>{_text(version)}</dd></div>" for name, version in versions.items()
    )
    return f"<dl>\n{items}\n</dl>"


def _config(config: dict[str, Any]) -> str:
    text = json.dumps(config, indent=2, sort_keys=True, default=str)
    return f"<details><summary>Show the resolved config</summary>\n<pre><code>{_text(text)}</code></pre>\n</details>"
