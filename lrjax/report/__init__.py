"""Run directory -> claims.json, figures/*.png and one self-contained report.html.

Works from the files of a run alone: figures are redrawn and claims judged again without training.
"""

import json
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from lrjax.errors import FEW, LrjaxError
from lrjax.experiment.config import plugins
from lrjax.experiment.config.load import SCALES
from lrjax.experiment.rundir.files import damaged, is_plain, own_folder, write_atomic
from lrjax.experiment.rundir.lanes import without_missing
from lrjax.experiment.rundir.locks import undisturbed
from lrjax.experiment.rundir.metrics import CHANGED, RunResult, finite, load_run
from lrjax.experiment.rundir.record import is_record, load_record
from lrjax.papers.claim import judge
from lrjax.report.about import on_joined
from lrjax.report.lane_table import Table
from lrjax.report.own import belongs, paper_for, unregistered
from lrjax.report.page import Picture, render

RECORD = "Judged and drawn from a record: of the run it keeps what checks and figures read"


class Judged(NamedTuple):
    """What a report says: the claims, see `lrjax.papers.claim.judge`, what the run lacks, a sentence each, and its state."""

    entries: list[dict[str, Any]]
    notices: list[str]
    state: str


def write_report(workdir: str | os.PathLike[str], *, refresh: int | None = None) -> list[dict[str, Any]]:
    """Judge the run in `workdir` and write claims.json, figures/<name>.png and report.html beside its files.

    Args:
        workdir: a run directory, as `lrjax.run` or `python -m lrjax.main` leaves it, in any state: it may be running, or
            killed, or lack files. Or a record, see `lrjax.report.record`.
        refresh: seconds after which a browser reads the page of a run that goes on again.

    Returns:
        The judged claims, see `lrjax.papers.claim.judge`.

    Raises:
        LrjaxError: `workdir` is missing, holds no run, or cannot be written to.

    Example:
        >>> write_report("no/such/directory")
        Traceback (most recent call last):
        ...
        lrjax.errors.LrjaxError: there is no directory no/such/directory; name the workdir that a run printed.
    """
    return report(workdir, refresh=refresh).entries


def report(workdir: str | os.PathLike[str], *, refresh: int | None = None) -> Judged:
    """`write_report`, with what the run lacks.

    Args:
        workdir: a run directory.
        refresh: see `write_report`.

    Raises:
        LrjaxError: see `write_report`.
    """
    workdir = Path(workdir)
    if not workdir.is_dir():
        raise LrjaxError(f"there is no directory {workdir}; name the workdir that a run printed.")
    if not (workdir / "config.json").is_file():
        raise LrjaxError(f"{workdir} holds no run (it has no config.json); name the workdir that a run printed.")
    plugins.load()
    record = is_record(workdir)
    with nullcontext(True) if record else undisturbed(workdir) as alone:
        run = load_record(workdir) if record else as_it_stands(load_run(workdir), alone)
        paper = _paper_of(run)
        try:
            again = refresh if run.status.get("state") == "running" else None
            with readable(run):
                return written(run, paper, workdir, again)
        except OSError as error:
            raise LrjaxError(
                f"the report could not be written into {workdir} ({error.strerror or error}); free disk space or correct the "
                f"permissions, then run: python -m lrjax.report {workdir}"
            ) from error


def as_it_stands(run: RunResult, alone: bool) -> RunResult:
    """The run, killed where it calls itself running and no other process has it open (`alone`)."""
    if alone and run.status.get("state") == "running":
        return run._replace(status=run.status | {"state": "killed"})
    return run


@contextmanager
def readable(run: RunResult) -> Iterator[None]:
    """Makes one sentence of what goes wrong in reading a run whose config or status is of another shape."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        if isinstance(error.__cause__, LrjaxError):
            raise
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise LrjaxError(
            f"{run.workdir}/config.json and status.json do not hold what this version of lrjax reads of a run "
            f"({type(error).__name__}: {error}, in {Path(place.filename).name}:{place.lineno}); judge it with the version "
            f"that made it ({run.status.get('version')})"
        ) from error


def check_config(run: RunResult) -> None:
    """Refuses a config.json that names no experiment.

    Raises:
        LrjaxError: it is damaged.
    """
    paper, experiment, scale = (run.config.get(key) for key in ("paper", "experiment", "scale"))
    if not isinstance(paper, str) or not isinstance(experiment, str) or scale not in SCALES:
        damaged(
            run.workdir / "config.json",
            f"paper {paper!r}, experiment {experiment!r}, scale {scale!r}",
            "restore it from another copy of the run",
        )
    if paper and not belongs(run.config) and CHANGED in run.gaps:  # a damaged name is no experiment of one's own
        damaged(
            run.workdir / "config.json",
            f"{paper}: {experiment} is not what ran",
            "restore it from another copy of the run",
        )


def _paper_of(run: RunResult) -> Any:
    check_config(run)
    return paper_for(run.config, run.workdir)


def notices(run: RunResult) -> list[str]:
    """What a reader of a report has to know of the run's state, a sentence each; [] for a whole run.

    Example:
        >>> from types import SimpleNamespace
        >>> notices(SimpleNamespace(status={"state": "failed", "error": "the disk is full"}))
        ['This run failed: the disk is full']
    """
    state = run.status.get("state", "unknown")
    words = {
        "done": "",
        "failed": f"This run failed: {run.status.get('error') or 'what it printed says why'}",
        "killed": "This run was killed: no process has it open; the same command goes on from its last checkpoint",
        "preempted": "This run was preempted; the same command goes on from its last checkpoint",
        "running": "This run is going on",
    }
    gaps, missing = getattr(run, "gaps", ()), getattr(run, "missing", {})
    found = [words.get(state, f"This run is not finished (state: {state})"), *(f"Damaged: {gap}" for gap in gaps)]
    found += [RECORD] if is_record(getattr(run, "workdir", Path())) else []
    found += [*on_joined(run), unregistered(getattr(run, "config", {})) or ""]
    if missing:
        few = "; ".join(list(missing.values())[:FEW])
        more = f"; and {len(missing) - FEW} more" if len(missing) > FEW else ""
        found.append(
            f"{len(missing)} of {len(run.lanes)} lanes {'is' if len(missing) == 1 else 'are'} not whole, and claims that need "
            f"{'it' if len(missing) == 1 else 'them'} not judged: {few}{more}"
        )
    return [sentence for sentence in found if sentence]


def write_files(run: RunResult, paper: Any, workdir: Path, refresh: int | None = None) -> list[dict[str, Any]]:
    """Write the report of a loaded run; `write_report` without the loading.

    Args:
        run: a `lrjax.experiment.rundir.metrics.RunResult`.
        paper: what a module of `lrjax.papers` offers: CLAIMS, figures(run), and optionally NOTE (a string) and
            observations(run), a record a lane for observations.json.
        workdir: directory to write into.
        refresh: seconds after which a browser reads the page again.

    Returns:
        The judged claims.
    """
    return written(run, paper, workdir, refresh).entries


def written(run: RunResult, paper: Any, workdir: Path, refresh: int | None) -> Judged:
    """`write_files`, with what the run lacks, and beside it what could not be drawn of a run that is not whole."""
    own_folder(workdir / "figures")
    entries = judge(paper.CLAIMS, run) or list(getattr(paper, "stored", ()))
    write_atomic(workdir / "claims.json", json.dumps(entries, indent=2, allow_nan=False) + "\n")
    if hasattr(paper, "observations") and not is_record(run.workdir):
        seen = json.dumps(finite(_observed(paper, run)), indent=1, allow_nan=False)
        write_atomic(workdir / "observations.json", seen + "\n")
    pictures, lost = drawings(run, paper)
    for picture in pictures:
        write_atomic(workdir / "figures" / f"{picture.name}.png", picture.png)
    told = notices(run) + lost
    page = render(run, entries, pictures, paper=paper, notices=told, refresh=refresh)
    write_atomic(workdir / "report.html", page)
    return Judged(entries, told, run.status.get("state", "unknown"))


def drawings(run: RunResult, paper: Any) -> tuple[list[Picture], list[str]]:
    """The figures of a run, and which could not be drawn, a sentence each; of a whole run that is a fault, and raises."""
    pictures, lost = [], []

    def tried(make: Callable[[], Any], what: str) -> Any:
        try:
            return make()
        except Exception as error:
            if _is_whole(run) or isinstance(error, LrjaxError):
                raise
            lost.append(f"{what} could not be drawn of a run that is not whole ({type(error).__name__})")
            return []

    for draw, what in ((paper.figures, "The figures of the paper"), (_curvature, "The figures of curvature")):
        for figure in tried(lambda draw=draw: draw(run), what):
            picture = tried(lambda figure=figure: _picture(figure), f"The figure {figure.name}")
            pictures += [picture] if picture else []
    return pictures, lost


def _picture(figure: Any) -> Picture:
    from lrjax.plots.drawing import png
    from lrjax.plots.svg import svg

    if not is_plain(figure.name):
        raise LrjaxError(f"the figure {figure.name!r} cannot be a file of its own in figures; name it without a /")
    drawn, vector, table = png(figure.fig), svg(figure.fig, figure.name), getattr(figure, "table", None)
    return Picture(figure.name, figure.title, figure.caption, drawn, vector, table and Table(*table))


def _observed(paper: Any, run: RunResult) -> list[dict[str, Any]]:
    try:
        return paper.observations(without_missing(run))
    except Exception as error:
        if _is_whole(run):
            raise
        return [{"problem": f"{type(error).__name__}: the run is not whole"}]


def _is_whole(run: RunResult) -> bool:
    """Whether its lanes have all that they should: none lacks a file, or ended before its last step."""
    diverged = any(lane.get("diverged_at") is not None for lane in run.lanes)
    return not diverged and not getattr(run, "missing", ()) and not getattr(run, "gaps", ())


def _curvature(run: RunResult) -> list[Any]:
    """The figures of a run that measured its curvature, whichever paper it belongs to."""
    if not any(len(arrays.get("spectrum/step", ())) for arrays in run.arrays):
        return []
    from lrjax.probes.figures import figures

    return figures(run)
