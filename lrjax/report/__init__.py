"""Run directory -> claims.json, figures/*.png and one self-contained report.html.

Works from the files of a run alone: figures are redrawn and claims judged again without training.
"""

import json
import os
from pathlib import Path
from typing import Any

from lrjax.errors import LrjaxError
from lrjax.experiment.config import plugins
from lrjax.experiment.rundir.metrics import RunResult, finite, load_run, write_atomic
from lrjax.papers.claim import judge
from lrjax.report.lane_table import Table
from lrjax.report.page import Picture, render


def write_report(workdir: str | os.PathLike[str], *, refresh: int | None = None) -> list[dict[str, Any]]:
    """Judge the run in `workdir` and write claims.json, figures/<name>.png and report.html beside its files.

    Args:
        workdir: a run directory, as `lrjax.run` or `python -m lrjax.main` leaves it. It need not be finished.
        refresh: seconds after which a browser reads the page of a run that goes on again.

    Returns:
        The judged claims, see `lrjax.papers.claim.judge`.

    Raises:
        LrjaxError: `workdir` is missing, holds no run or a run of an unknown paper, or cannot be written to.

    Example:
        >>> write_report("no/such/directory")
        Traceback (most recent call last):
        ...
        lrjax.errors.LrjaxError: there is no directory no/such/directory; name the workdir that a run printed.
    """
    workdir = Path(workdir)
    if not workdir.is_dir():
        raise LrjaxError(f"there is no directory {workdir}; name the workdir that a run printed.")
    if not (workdir / "config.json").is_file():
        raise LrjaxError(f"{workdir} holds no run (it has no config.json); name the workdir that a run printed.")
    # Imported here, so that a wrong path is answered before jax and the papers are loaded.
    from lrjax.papers import PAPERS

    plugins.load()
    run = load_run(workdir)
    paper = run.config.get("paper")
    if paper not in PAPERS:
        known = ", ".join(sorted(PAPERS))
        raise LrjaxError(
            f"{workdir} is a run of the paper {paper!r}; known are {known}. A paper of a config file is judged by running "
            "python -m lrjax.main --config=FILE again."
        )
    try:
        return write_files(run, PAPERS[paper], workdir, refresh if run.status.get("state") == "running" else None)
    except OSError as error:
        reason = error.strerror or error
        raise LrjaxError(
            f"the report could not be written into {workdir} ({reason}); free disk space or correct the permissions, "
            f"then run: python -m lrjax.report {workdir}"
        ) from error


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
    from lrjax.plots.drawing import png
    from lrjax.plots.svg import svg

    entries = judge(paper.CLAIMS, run)
    write_atomic(workdir / "claims.json", json.dumps(entries, indent=2, allow_nan=False) + "\n")
    if hasattr(paper, "observations"):
        seen = json.dumps(finite(paper.observations(run)), indent=1, allow_nan=False)
        write_atomic(workdir / "observations.json", seen + "\n")
    (workdir / "figures").mkdir(exist_ok=True)
    pictures = []
    for figure in [*paper.figures(run), *_curvature(run)]:
        drawn, vector = png(figure.fig), svg(figure.fig, figure.name)
        table = getattr(figure, "table", None)
        picture = Picture(figure.name, figure.title, figure.caption, drawn, vector, table and Table(*table))
        write_atomic(workdir / "figures" / f"{picture.name}.png", picture.png)
        pictures.append(picture)
    page = render(run, entries, pictures, paper=paper, refresh=refresh)
    write_atomic(workdir / "report.html", page)
    return entries


def _curvature(run: RunResult) -> list[Any]:
    """The figures of a run that measured its curvature, whichever paper it belongs to."""
    if not any(len(arrays.get("spectrum/step", ())) for arrays in run.arrays):
        return []
    from lrjax.probes.figures import figures

    return figures(run)
