"""`lrjax report RUN`: `python -m lrjax.report`."""

from collections.abc import Sequence

from lrjax.errors import check


def main(arguments: Sequence[str], *, alone: bool) -> int:
    """Writes the report of a run, or of a folder of runs; see `lrjax.report.__main__`."""
    if set(arguments) & {"-h", "--help"}:
        print("usage: lrjax report RUN [RUN ...] [--joined=FOLDER] [--refresh=SECONDS] [--config=FILE] [--debug]\n")
        print("Judge a run again, redraw its page and print its claims; a folder of runs, such")
        print("as that of a sweep, gets one page of all. --refresh writes the page again until")
        print("the run has ended. --joined judges several runs that differ in their seeds alone")
        print("as one, and puts its claims and its page into a new folder. The flags are those")
        print("of python -m lrjax.report.")
        return 0
    check(bool(arguments), "give the directory of a run: lrjax report RUN")
    from lrjax.report.__main__ import main as report

    return report(list(arguments))
