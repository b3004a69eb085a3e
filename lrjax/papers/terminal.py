"""The table of judged claims for a terminal."""

import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, TextIO

from lrjax.papers.claim import NOT_JUDGED, VERDICTS, summary

_ANSI = {
    "supported": "\x1b[1;32m",
    "contradicted": "\x1b[1;31m",
    "inconclusive": "\x1b[1;33m",
    NOT_JUDGED: "\x1b[1;33m",
}
_ANSI_END = "\x1b[0m"


def table(entries: Sequence[dict[str, Any]], color: bool = False, width: int = 100) -> str:
    """Lay out judged claims for a terminal: a block a claim, the verdict first, long text wrapped to `width`.

    Args:
        entries: what `judge` returned, or the content of a `claims.json`.
        color: paint the verdict words with ANSI codes; they stay words either way.
        width: columns of the terminal; less than 40 is taken as 40.

    Returns:
        The text, without a newline at its end.

    Example:
        >>> print(table([{"verdict": "supported", "id": "c1", "statement": "Loss falls.", "measured": "ratio 0.1",
        ...               "expected": "ratio < 1", "paper_reports": "0.12"}]))
        supported     c1
            Loss falls.
            measured  ratio 0.1
            expected  ratio < 1
            paper     0.12
        <BLANKLINE>
        1 claim: 1 supported, 0 contradicted, 0 inconclusive
    """
    if not entries:
        return "This experiment judges no claim."
    blocks = [_block(entry, color, max(width, 40)) for entry in entries]
    return "\n\n".join([*blocks, textwrap.fill(summary(entries), max(width, 40))])


def _block(entry: dict[str, Any], color: bool, width: int) -> str:
    word = entry["verdict"].ljust(max(map(len, VERDICTS)))
    if color:
        word = f"{_ANSI[entry['verdict']]}{word}{_ANSI_END}"
    facts = (("measured", "measured"), ("expected", "expected"), ("paper", "paper_reports"))
    lines = [f"{word}  {entry['id']}", *_wrapped("    ", entry["statement"], width)]
    for label, key in facts:
        lines += _wrapped(f"    {label:<8}  ", str(entry[key]), width)
    for premise in entry.get("premises", ()):
        told = f"{premise['premise']} {'holds' if premise['holds'] else 'DOES NOT HOLD'}: {premise['measured']}"
        lines += _wrapped(f"    {'premise':<8}  ", told, width)
    return "\n".join(lines)


def _wrapped(first: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, initial_indent=first, subsequent_indent=" " * len(first))


def print_table(entries: Sequence[dict[str, Any]], stream: TextIO | None = None) -> None:
    """Print `table` as wide as the terminal; in colour only on a terminal, and never if NO_COLOR is set."""
    out = sys.stdout if stream is None else stream
    color = out.isatty() and not os.environ.get("NO_COLOR")
    width = min(shutil.get_terminal_size((100, 24)).columns, 120)
    print(table(entries, color=color, width=width), file=out)
