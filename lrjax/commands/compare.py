"""`lrjax compare RUN RUN ...`: several runs on one page, as `python -m lrjax.report RUN RUN ...` writes it."""

from collections.abc import Sequence

from lrjax.errors import check


def main(arguments: Sequence[str], *, alone: bool) -> int:
    """Writes the page of several runs; see `lrjax.report.__main__`."""
    if set(arguments) & {"-h", "--help"}:
        print("usage: lrjax compare RUN RUN [RUN ...] [--output=FILE] [--debug]\n")
        print("What differs in the configs, the curves over each other, end values and claims")
        print("side by side, in comparison.html or --output. The flags are those of")
        print("python -m lrjax.report.")
        return 0
    runs = [word for word in arguments if not word.startswith("-")]
    check(len(runs) > 1, "give two runs or more: lrjax compare RUN RUN; a single one is for lrjax report")
    from lrjax.report.__main__ import main as report

    return report(list(arguments))
