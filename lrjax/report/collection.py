"""report.html of a sweep: the runs of a folder on one page, with what each set, how it ended, its claims and its figures."""

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lrjax.errors import LrjaxError, check
from lrjax.experiment.config.canonical import flatten
from lrjax.experiment.rundir.files import damaged, is_plain, read_json, write_atomic
from lrjax.experiment.rundir.metrics import read_status
from lrjax.experiment.rundir.records import OF_STATUS, OTHER_STATUS, sum_of
from lrjax.papers.claim import claims_in
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
    notice: str = ""  # what is damaged


def is_collection(folder: Path) -> bool:
    """Whether a folder contains runs, rather than being one."""
    return not (folder / "config.json").exists() and ((folder / JOBS).exists() or bool(_begun(folder)))


def _begun(folder: Path) -> list[str]:
    """The folders that are runs, also those that have lost a file."""
    return sorted({path.parent.name for name in ("config.json", "status.json") for path in folder.glob(f"*/{name}")})


def read_runs(folder: Path) -> list[Run]:
    """The runs of a folder: those that a sweep planned, in its order, or else every one that is there.

    Writes the report of a finished run that has none yet, as after a kill.

    Raises:
        LrjaxError: jobs.json is damaged.
    """
    planned = read_jobs(folder)
    if planned is None:
        names = sorted(_begun(folder), key=_by_number)
        planned = {name: {"values": values} for name, values in zip(names, _differences(folder, names), strict=True)}
    return [_read(folder / name, entry) for name, entry in planned.items()]


def _by_number(name: str) -> list[tuple[int, str]]:
    """Sorts width-8 before width-20."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def read_jobs(folder: Path) -> dict[str, dict[str, Any]] | None:
    """jobs.json of a folder: name of a run -> values, command; None where there is none.

    Raises:
        LrjaxError: it is damaged, or names something outside of the folder.
    """
    path, remedy = folder / JOBS, "remove it, or run launch.jobs again"
    try:
        planned = read_json(path, dict, remedy)
    except FileNotFoundError:
        return None
    for name, entry in planned.items():
        check(is_plain(name), f"{path} names {name!r}, which is no folder in {folder}; {remedy}")
        known = isinstance(entry, dict) and isinstance(entry.get("values"), dict)
        if not known or not isinstance(entry.get("command") or "", str):
            damaged(path, f"{name} has no values", remedy)
    return planned


def _differences(folder: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """In which keys the configs of runs differ; one that cannot be read has none."""
    flat = []
    for name in names:
        try:
            flat.append(flatten(read_json(folder / name / "config.json", dict)))
        except (OSError, LrjaxError):
            flat.append({})
    keys = dict.fromkeys(key for config in flat for key in config)
    known = [config for config in flat if config]
    differ = [key for key in keys if len({json.dumps(config.get(key)) for config in known}) > 1]
    return [{key: config[key] for key in differ if key in config} for config in flat]


def _check_files(workdir: Path, status: dict[str, Any]) -> None:
    """Refuses a run that has begun and lost its config or status."""
    remedy = "restore it from another copy of the run"
    begun = bool(status) or any((workdir / name).exists() for name in ("ckpt", "claims.json", "report.html"))
    check(bool(status) or not begun, f"{workdir}/status.json is missing; {remedy}")
    try:
        read_json(workdir / "config.json", dict, remedy)
    except FileNotFoundError:  # a planned run that has not begun
        check(not begun, f"{workdir}/config.json is missing; {remedy}")


def _read(workdir: Path, entry: dict[str, Any]) -> Run:
    status, notes = {}, []
    try:
        status = read_status(workdir) or {}
        for key, fits in OF_STATUS.items():
            if key in status and not fits(status[key]):
                damaged(workdir / "status.json", f"{key} is {str(status[key])[:40]!r}")
        if status.get("sum") not in (None, sum_of(status)):
            notes.append(f"{workdir.name}/{OTHER_STATUS}")
        _check_files(workdir, status)
        written = all((workdir / name).exists() for name in ("report.html", "claims.json"))
        # A link leads to a folder that is not this one's to write to.
        if status.get("state") == "done" and not written and not workdir.is_symlink():
            write_report(workdir)
    except LrjaxError as error:
        notes.append(str(error))
    claims = claims_in(workdir / "claims.json")
    if claims is None and (os.path.lexists(workdir / "claims.json") or (workdir / "report.html").exists()):
        lost = "damaged or a link" if os.path.lexists(workdir / "claims.json") else "missing"
        notes.append(f"{workdir.name}/claims.json is {lost}; python -m lrjax.report {workdir} writes it again")
    figures = workdir / "figures"
    return Run(
        name=workdir.name,
        values=entry["values"],
        state="damaged" if notes and not status.get("state") else status.get("state", "new"),
        wall_time_s=status.get("wall_time_s") if not notes else None,
        claims=claims or [],
        figures=[] if figures.is_symlink() else sorted(path.name for path in figures.glob("*.png")),
        report=(workdir / "report.html").exists(),
        command=entry.get("command") or (status.get("command") if not notes else None),
        notice="; ".join(notes),
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
    begun, unread = [], {}
    for run in (run for run in runs if run.state != "new"):
        if len(begun) == MOST_RUNS:
            break
        try:
            if "lanes" in (read_status(folder / run.name) or {}):
                begun.append(read(folder / run.name, run.name, judged=False))
        except LrjaxError as error:
            unread[run.name] = str(error)
    return compared(begun, unread) if begun and len(begun) + len(unread) > 1 else None


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
        "most": comparison is not None and len(comparison["names"]) == MOST_RUNS,
    }
    return filled("collection.html", context, charts=comparison is not None)
