"""`lrjax list [FILE.py] [WORD]`: every experiment of the configs, or of one file, also of one's own; loads no JAX."""

import argparse
import re
from collections.abc import Sequence

from lrjax.commands import painted
from lrjax.errors import check, refuse
from lrjax.experiment.config.listing import experiments

IS_FILE = re.compile(r"\.py([:,]|$)")


def main(arguments: Sequence[str], *, alone: bool) -> int:
    """Prints the experiments, or those of a config file, or those whose lines hold a word."""
    about = "Every experiment: claim, scales, run time."
    parser = argparse.ArgumentParser(prog="lrjax list", description=about, allow_abbrev=False)
    parser.error = refuse
    parser.add_argument("word", nargs="*", help="a config file, also of your own; a word, such as E2 or sharpness")
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")
    flags = parser.parse_args(arguments)
    files = [word for word in flags.word if IS_FILE.search(word)]
    words = [word for word in flags.word if word not in files]
    check(len(files) < 2 and len(words) < 2, f"give one file and one word at most, not {' '.join(flags.word)}")
    shown = experiments(*files)
    if words:
        shown = matching(shown, words[0])
        check(bool(shown), f"no experiment mentions {words[0]!r}; {' '.join(['lrjax list', *files])} shows all of them")
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
