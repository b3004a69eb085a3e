"""`lrjax report RUN`: `python -m lrjax.report`."""

from collections.abc import Sequence


def main(arguments: Sequence[str], *, alone: bool) -> int:
    """Writes the report of a run, or of a folder of runs; see `lrjax.report.__main__`."""
    if not arguments or set(arguments) & {"-h", "--help"}:
        print("usage: lrjax report RUN [--refresh=SECONDS] [--config=FILE] [--debug]\n")
        print("Judge a run again, redraw its page and print its claims; a folder")
        print("of runs, such as that of a sweep, gets one page of all. The flags are those of python -m lrjax.report.")
        return 0
    from lrjax.report.__main__ import main as report

    return report(list(arguments))
