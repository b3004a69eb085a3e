"""report.html of a sweep: the runs of a folder on one page, with what each set, how it ended, its claims and its figures."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from lrjax.errors import LrjaxError
from lrjax.experiment.config.canonical import flatten
from lrjax.experiment.rundir.metrics import read_status, write_atomic
from lrjax.papers.claim import VERDICTS
from lrjax.report import write_report
from lrjax.report.page import document, duration, escaped, section, table

JOBS = "jobs.json"  # what `launch.jobs` leaves: name -> command, values
MANY_VALUES = 8


class Run(NamedTuple):
    """One run of the folder."""

    name: str
    values: dict[str, Any]  # dotted key -> what the sweep set
    state: str  # as in status.json, or "new"
    wall_time_s: float | None
    claims: list[dict[str, Any]]
    figures: list[str]  # file names
    report: bool
    command: str | None


def is_collection(folder: Path) -> bool:
    """Whether a folder holds runs, rather than being one."""
    return not (folder / "config.json").exists() and ((folder / JOBS).exists() or any(folder.glob("*/config.json")))


def read_runs(folder: Path) -> list[Run]:
    """The runs of a folder: those that a sweep planned, in its order, or else every one that is there.

    Writes the report of a finished run that has none yet, as after a kill.

    Raises:
        LrjaxError: a status.json is damaged, or a report cannot be written.
    """
    if (folder / JOBS).exists():
        planned = json.loads((folder / JOBS).read_text())
    else:
        names = sorted(path.parent.name for path in folder.glob("*/config.json"))
        planned = {name: {"values": values} for name, values in zip(names, _differences(folder, names), strict=True)}
    return [_read(folder / name, entry) for name, entry in planned.items()]


def _differences(folder: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """In which keys the configs of runs differ."""
    flat = [flatten(json.loads((folder / name / "config.json").read_text())) for name in names]
    keys = dict.fromkeys(key for config in flat for key in config)
    differ = [key for key in keys if len({json.dumps(config.get(key)) for config in flat}) > 1]
    return [{key: config[key] for key in differ if key in config} for config in flat]


def _read(workdir: Path, entry: dict[str, Any]) -> Run:
    status = read_status(workdir) or {}
    state = status.get("state", "new")
    if state == "done" and not (workdir / "report.html").exists():
        write_report(workdir)
    claims = workdir / "claims.json"
    return Run(
        name=workdir.name,
        values=entry["values"],
        state=state,
        wall_time_s=status.get("wall_time_s"),
        claims=json.loads(claims.read_text()) if claims.exists() else [],
        figures=sorted(path.name for path in (workdir / "figures").glob("*.png")),
        report=(workdir / "report.html").exists(),
        command=entry.get("command") or status.get("command"),
    )


def write_collection(folder: Path) -> Path:
    """Writes report.html of a folder of runs; their own reports stay beside them.

    Args:
        folder: the --workdir of `launch.jobs`, or any folder whose folders are runs.

    Returns:
        The page.

    Raises:
        LrjaxError: there are no runs, or the page cannot be written.

    Example:
        >>> write_collection(Path("no/such/folder"))
        Traceback (most recent call last):
        ...
        lrjax.errors.LrjaxError: no/such/folder holds no runs; name the --workdir of launch.jobs
    """
    if not is_collection(folder):
        raise LrjaxError(f"{folder} holds no runs; name the --workdir of launch.jobs")
    page = folder / "report.html"
    write_atomic(page, render(folder.resolve().name, read_runs(folder)))
    return page


def render(title: str, runs: Sequence[Run]) -> str:
    """The page of some runs.

    Example:
        >>> "1 new" in render("sweep", [Run("one", {"seed": 3}, "new", None, [], [], False, None)])
        True
    """
    states = Counter(run.state for run in runs)
    said = ", ".join(f"{count} {state}" for state, count in states.items())
    total = sum(run.wall_time_s or 0.0 for run in runs)
    head = f"<h1>{escaped(title)}</h1>\n<p class=lead>{len(runs)} runs: {escaped(said)}.</p>"
    open_runs = len(runs) - states["done"]
    notice = f"<p class=notice>{open_runs} of {len(runs)} runs are not finished.</p>" if open_runs else ""
    facts = f"<p class=facts>wall time {duration(total)} over all runs</p>"
    return document(
        title,
        [
            f"<header>\n{head}\n{facts}\n{notice}\n</header>",
            section("Runs", table(("Run", "Values", "State", "Claims", "Figures"), list(map(_row, runs)), "claims")),
            _claims(runs),
            _commands(runs),
        ],
    )


def _link(run: Run, file: str, label: str) -> str:
    return f'<a href="{quote(f"{run.name}/{file}", safe="/=,+")}">{escaped(label)}</a>'


def _value(value: Any) -> str:
    """A value that the sweep set; a long axis by its ends."""
    if isinstance(value, list) and len(value) > MANY_VALUES:
        return f"{len(value)} values, {value[0]} to {value[-1]}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _row(run: Run) -> str:
    counts = Counter(entry["verdict"] for entry in run.claims)
    badges = " ".join(f'<span class="verdict {v}">{counts[v]} {v}</span>' for v in VERDICTS if counts[v])
    values = "<br>".join(
        f"{escaped(key.removeprefix('sweep.'))} = {escaped(_value(v))}" for key, v in run.values.items()
    )
    figures = "<br>".join(_link(run, f"figures/{name}", Path(name).stem) for name in run.figures)
    name = _link(run, "report.html", run.name) if run.report else escaped(run.name)
    state = run.state if run.wall_time_s is None else f"{run.state}, {duration(run.wall_time_s)}"
    cells = (("Run", name), ("Values", values), ("State", escaped(state)), ("Claims", badges), ("Figures", figures))
    return "<tr>" + "".join(f'<td data-label="{label}">{cell}</td>' for label, cell in cells) + "</tr>"


def _claims(runs: Sequence[Run]) -> str:
    """Each claim once, with what every run measured."""
    found: dict[tuple[str, str], list[tuple[Run, dict[str, Any]]]] = {}
    for run in runs:
        for entry in run.claims:
            found.setdefault((entry["paper"], entry["id"]), []).append((run, entry))
    if not found:
        return ""
    parts = []
    for (paper, claim), judged in found.items():
        counts = Counter(entry["verdict"] for _, entry in judged)
        said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
        rows = []
        for run, entry in judged:
            badge = f'<span class="verdict {escaped(entry["verdict"])}">{escaped(entry["verdict"])}</span>'
            cells = (
                ("Verdict", badge),
                ("Run", _link(run, "report.html", run.name)),
                ("Measured", escaped(entry["measured"])),
            )
            rows.append("<tr>" + "".join(f'<td data-label="{label}">{cell}</td>' for label, cell in cells) + "</tr>")
        summary = f"{escaped(judged[0][1]['statement'])} <code>{escaped(f'{paper}: {claim}')}</code>: {said}"
        shown = table(("Verdict", "Run", "Measured"), rows, "claims")
        parts.append(f"<details><summary>{summary}</summary>\n{shown}\n</details>")
    return section("Claims", "\n".join(parts))


def _commands(runs: Sequence[Run]) -> str:
    lines = "\n".join(run.command for run in runs if run.command)
    if not lines:
        return ""
    shown = f"<pre class=wrap><code>{escaped(lines)}</code></pre>"
    return section("Reproduce", f"<details><summary>Show the command of each run</summary>\n{shown}\n</details>")
