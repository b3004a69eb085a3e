"""Runs of one experiment that differ in their seeds alone, judged, drawn and shown as the run that had all the seeds."""

from collections.abc import Sequence
from pathlib import Path

from lrjax.errors import check
from lrjax.experiment.config import plugins
from lrjax.experiment.loop.join import join_seeds
from lrjax.experiment.rundir.files import disk_error, refuse_link
from lrjax.experiment.rundir.metrics import RunResult, load_run
from lrjax.experiment.rundir.record import is_record
from lrjax.report import Judged, check_config, readable, written
from lrjax.report.own import paper_for

FILES = {"claims.json", "observations.json", "figures", "report.html"}  # of a report of joined runs, and no more


def load_joined(folders: Sequence[str | Path]) -> RunResult:
    """Reads run directories and joins them, see `lrjax.experiment.loop.join.join_seeds`.

    Args:
        folders: run directories, in any order.

    Raises:
        LrjaxError: one holds no whole run, or they cannot be joined.

    Example:
        >>> load_joined(["docs/results/lr_decay-L3", "docs/results/lr_decay-L4"])
        Traceback (most recent call last):
        ...
        lrjax.errors.LrjaxError: docs/results/lr_decay-L3 is a record, which keeps what its own claims read; name the run ...
    """
    paths = [Path(folder) for folder in folders]
    for path in paths:
        check(not is_record(path), f"{path} is a record, which keeps what its own claims read; name the run directory")
    runs = [load_run(path) for path in paths]
    for run in runs:
        check_config(run)
    return join_seeds(runs)


def write_joined(folders: Sequence[str | Path], target: Path) -> Judged:
    """Joins runs and writes claims.json, figures/<name>.png and report.html of the joined run into a folder of their own.

    Args:
        folders: run directories, in any order; they are only read.
        target: made if missing; an earlier report of joined runs in it is replaced.

    Raises:
        LrjaxError: the runs cannot be joined, or the folder holds something else than such a report.

    Example:
        >>> from pathlib import Path
        >>> write_joined(["run-0", "run-1"], Path("docs/results/lr_decay-L3"))
        Traceback (most recent call last):
        ...
        lrjax.errors.LrjaxError: docs/results/lr_decay-L3 holds config.json, ...; name a new folder by --joined=FOLDER
    """
    _check_own(target)
    plugins.load()
    run = load_joined(folders)
    try:
        target.mkdir(parents=True, exist_ok=True)
        with readable(run):
            return written(run, paper_for(run.config), target, None)
    except OSError as error:
        raise disk_error(target, error) from error


def _check_own(target: Path) -> None:
    """Refuses a folder that holds anything but a report of joined runs: a run's would be replaced by that of others."""
    refuse_link(target)
    if not target.exists():
        return
    check(target.is_dir(), f"{target} is a file; name a new folder by --joined=FOLDER")
    other = sorted(path.name for path in target.iterdir() if path.name not in FILES)
    held = f"{target} holds {', '.join(other[:3])}, and no report of joined runs"
    check(not other, f"{held}; name a new folder by --joined=FOLDER")
