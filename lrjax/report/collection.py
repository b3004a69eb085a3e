"""report.html of a sweep: the runs of a folder on one page, with what each set, how it ended, its claims and its figures."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lrjax.errors import LrjaxError
from lrjax.experiment.config.canonical import flatten
from lrjax.experiment.rundir.metrics import read_status, write_atomic
from lrjax.report import write_report
from lrjax.report.compare import MOST_RUNS, compared, read
from lrjax.report.page import filled

JOBS = "jobs.json"  # what `launch.jobs` leaves: name -> command, values


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
    """Whether a folder contains runs, rather than being one."""
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
    runs = read_runs(folder)
    write_atomic(page, render(folder.resolve().name, runs, _compared(folder, runs)))
    return page


def _compared(folder: Path, runs: Sequence[Run]) -> dict[str, Any] | None:
    """The comparison of the runs that have lanes; of a sweep that is too large for a page, of the first."""
    begun = [run for run in runs if "lanes" in (read_status(folder / run.name) or {})][:MOST_RUNS]
    if len(begun) < 2:
        return None
    return compared([read(folder / run.name, run.name) for run in begun])


def render(title: str, runs: Sequence[Run], comparison: dict[str, Any] | None = None) -> str:
    """The page of some runs.

    Example:
        >>> "1 new" in render("sweep", [Run("one", {"seed": 3}, "new", None, [], [], False, None)])
        True
    """
    states = Counter(run.state for run in runs)
    judged: dict[tuple[str, str], list[tuple[Run, dict[str, Any]]]] = {}
    for run in runs:
        for entry in run.claims:
            judged.setdefault((entry["paper"], entry["id"]), []).append((run, entry))
    context = {
        "title": title,
        "runs": runs,
        "states": states,
        "unfinished": len(runs) - states["done"],
        "wall_time_s": sum(run.wall_time_s or 0.0 for run in runs),
        "judged": judged,
        "commands": "\n".join(run.command for run in runs if run.command),
        "comparison": comparison,
        "interactive": comparison is not None,
    }
    return filled("collection.html", context)
