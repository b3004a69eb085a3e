"""python -m lrjax.report WORKDIR: judge a run again, redraw its report, print the claims; or collect a folder of runs."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lrjax.errors import LrjaxError
from lrjax.papers.claim import print_table
from lrjax.report import write_report
from lrjax.report.collection import is_collection, write_collection


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report of a run directory and print its claims, or of a folder of runs; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lrjax.report", description=__doc__)
    parser.add_argument("workdir", metavar="WORKDIR", help="directory of a run, or of the runs of a sweep")
    workdir = parser.parse_args(argv).workdir
    try:
        if is_collection(Path(workdir)):
            print(f"report: {write_collection(Path(workdir))}")
            return 0
        entries = write_report(workdir)
    except LrjaxError as error:
        print(error, file=sys.stderr)
        return 1
    print_table(entries)
    print(f"\nreport: {workdir.rstrip('/')}/report.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
