"""python -m lrjax.report WORKDIR: judge a run again, redraw its report, print the claims; or collect a folder of runs.

With --joined=FOLDER, several runs that differ in their seeds alone are judged as the run that had all the seeds.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from lrjax.errors import LrjaxError, check, refuse
from lrjax.experiment.config.load import read_spec
from lrjax.papers.terminal import print_table
from lrjax.report import Judged, report
from lrjax.report.collection import is_collection, write_collection
from lrjax.report.compare import write_comparison
from lrjax.report.joined import write_joined


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report of a run directory and print its claims, or of a folder of runs; returns the exit status."""
    parser = _parser()
    try:
        flags = parser.parse_args(argv)
    except LrjaxError as error:
        print(f"error: {error}; --help lists the flags", file=sys.stderr)
        return 1
    workdir = flags.joined or flags.workdirs[0]
    try:
        check(flags.refresh is None or flags.refresh > 0, f"--refresh is in seconds, 1 or more, not {flags.refresh}")
        check(
            not (flags.refresh and flags.joined), "--refresh is for a run that goes on, and --joined for finished ones"
        )
        if flags.config:
            read_spec(flags.config)
        judged = _judged(flags, workdir)
    except Exception as error:
        if flags.debug:
            raise
        first = f"{type(error).__name__}: {error}".split("\n")[0]
        other = f"{workdir} cannot be judged by this version of lrjax ({first}); run again with --debug to see where"
        print(f"error: {error if isinstance(error, LrjaxError) else other}", file=sys.stderr)
        return 1
    if judged is None:
        return 0
    for sentence in judged.notices:
        print(f"note: {sentence}", file=sys.stderr)
    print_table(judged.entries)
    print(f"\nreport: {workdir.rstrip('/')}/report.html")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lrjax.report", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "workdirs", nargs="+", metavar="WORKDIR", help="a run, a sweep's folder, or several runs to compare"
    )
    parser.add_argument("--output", default="comparison.html", metavar="FILE", help="the page of a comparison")
    parser.add_argument(
        "--joined", metavar="FOLDER", help="judge runs that differ in their seeds alone as one; its report goes in here"
    )
    parser.add_argument(
        "--refresh", type=int, metavar="SECONDS", help="write the page of a run again until it has ended"
    )
    parser.add_argument(
        "--config", metavar="FILE", help="a config file of your own that registers the run's paper, to judge by it"
    )
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")
    parser.error = refuse  # one sentence and status 1
    return parser


def _judged(flags: argparse.Namespace, workdir: str) -> Judged | None:
    """Writes what is asked for; None where that is a page of several runs, which is printed here."""
    if flags.joined:
        return write_joined(flags.workdirs, Path(workdir))
    if len(flags.workdirs) > 1:
        page, notes = write_comparison(flags.workdirs, Path(flags.output))
        print(*(f"note: {sentence}" for sentence in notes), sep="\n", end="\n" * bool(notes), file=sys.stderr)
        print(f"report: {page}")
        return None
    if is_collection(Path(workdir)):
        print(f"report: {write_collection(Path(workdir))}")
        return None
    return _until_done(workdir, flags.refresh) if flags.refresh else report(workdir)


def _until_done(workdir: str, seconds: int) -> Judged:
    """Writes the report every some seconds while the run goes on, and once when it has ended, or on an interrupt."""
    judged = report(workdir, refresh=seconds)
    print(f"report: {workdir.rstrip('/')}/report.html, again every {seconds} s", file=sys.stderr)
    try:
        while judged.state == "running":
            time.sleep(seconds)
            judged = report(workdir, refresh=seconds)
    except KeyboardInterrupt:
        judged = report(workdir)
    return judged


if __name__ == "__main__":
    sys.exit(main())
