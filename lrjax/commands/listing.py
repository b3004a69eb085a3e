"""`lrjax list [WORD]`: every experiment of the configs; loads no JAX."""

import argparse
import re
from collections.abc import Sequence

from lrjax.commands import painted
from lrjax.errors import check, refuse
from lrjax.experiment.config.listing import experiments


def main(arguments: Sequence[str], *, alone: bool) -> int:
    """Prints the experiments, or those whose lines hold a word."""
    parser = argparse.ArgumentParser(prog="lrjax list", description="Every experiment: claim, scales, run time.")
    parser.error = refuse
    parser.add_argument("word", nargs="?", help="only experiments that mention it, such as E2 or sharpness")
    flags = parser.parse_args(arguments)
    shown = matching(experiments(), flags.word) if flags.word else experiments()
    check(bool(shown), f"no experiment mentions {flags.word!r}; lrjax list shows all of them")
    for line in shown.splitlines():
        print(painted(line, "1") if line and not line.startswith(" ") else line)
    return 0


def matching(listing: str, word: str) -> str:
    """The part of a listing that mentions a word, with the headings above it.

    Example:
        >>> print(matching("Paper A\\n  --config=a:E1\\n      sharp\\n  --config=a:E2\\n      flat", "flat"))
        Paper A
          --config=a:E2
              flat
    """
    kept = []
    for paper in re.split(r"\n(?=\S)", listing):
        heading, *entries = re.split(r"\n(?=  --)", paper.rstrip())
        found = [entry for entry in entries if word.lower() in entry.lower()]
        if word.lower() in heading.lower():
            found = entries
        kept += ["\n".join([heading, *found])] if found else []
    return "\n\n".join(kept)
