"""python -m lrjax.report WORKDIR: judge a run again, redraw its report, print the claims."""

import argparse
import sys
from collections.abc import Sequence

from lrjax.claims import print_table
from lrjax.errors import LrjaxError
from lrjax.report import write_report


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report of one run directory and print its claims; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lrjax.report", description=__doc__)
    parser.add_argument("workdir", metavar="WORKDIR", help="directory of a run, as printed by python -m lrjax.main")
    workdir = parser.parse_args(argv).workdir
    try:
        entries = write_report(workdir)
    except LrjaxError as error:
        print(error, file=sys.stderr)
        return 1
    print_table(entries)
    print(f"\nreport: {workdir.rstrip('/')}/report.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
