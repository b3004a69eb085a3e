"""python -m lrjax.report WORKDIR: judge a run again, redraw its report, print the claims; or collect a folder of runs."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lrjax.errors import LrjaxError
from lrjax.papers.claim import print_table
from lrjax.report import report
from lrjax.report.collection import is_collection, write_collection


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report of a run directory and print its claims, or of a folder of runs; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lrjax.report", description=__doc__)
    parser.add_argument("workdir", metavar="WORKDIR", help="directory of a run, or of the runs of a sweep")
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")
    flags = parser.parse_args(argv)
    workdir = flags.workdir
    try:
        if is_collection(Path(workdir)):
            print(f"report: {write_collection(Path(workdir))}")
            return 0
        entries, notices = report(workdir)
    except Exception as error:
        if flags.debug:
            raise
        first = f"{type(error).__name__}: {error}".split("\n")[0]
        other = f"{workdir} cannot be judged by this version of lrjax ({first}); run again with --debug to see where"
        print(f"error: {error if isinstance(error, LrjaxError) else other}", file=sys.stderr)
        return 1
    for sentence in notices:
        print(f"note: {sentence}", file=sys.stderr)
    print_table(entries)
    print(f"\nreport: {workdir.rstrip('/')}/report.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
