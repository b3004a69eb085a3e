"""Queues: text files of jobs, in the order in which they run. `queues/gpu.txt` is one: what a GPU decides.

A line is CONFIG[:EXPERIMENT][,scale=SCALE], and config keys of that job alone, --config.KEY=VALUE; # begins a comment.
"""

import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

from lrjax.errors import LrjaxError, check
from lrjax.experiment.config.overrides import parse_value

SHIPPED = Path(__file__).with_name("queues")


class Line(NamedTuple):
    """A job of a queue, or the jobs of a sweep."""

    spec: str  # FILE[:EXPERIMENT][,scale=SCALE]
    overrides: dict[str, Any]  # dotted key -> value


def find(name: str) -> Path:
    """The file of a queue: a path, or the name of one that comes with lrjax, such as gpu.

    Raises:
        LrjaxError: there is no such file.

    Example:
        >>> find("gpu").name
        'gpu.txt'
    """
    shipped = {path.stem: path for path in sorted(SHIPPED.glob("*.txt"))}
    path = Path(name)
    if not path.is_file() and path.name.removesuffix(".txt") in shipped:
        return shipped[path.name.removesuffix(".txt")]  # as launch/queues/gpu.txt, where there is no checkout
    check(path.is_file(), f"--queue={name}: there is no such file; with lrjax come: {', '.join(shipped)}")
    return path


def read(path: Path) -> list[Line]:
    """The jobs of a queue.

    Raises:
        LrjaxError: a line is none of a queue; its number is named.

    Example:
        >>> read(find("gpu"))[0].spec
        'configs/break_even.py:E3,scale=medium'
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise LrjaxError(f"cannot read the queue {path} ({error}); it is a text file, a line a job") from error
    found = [_line(words, f"{path}:{number}") for number, words in _words(text, path) if words]
    check(bool(found), f"{path} has no job; write a line a job, as configs/break_even.py:E3,scale=medium")
    return found


def _words(text: str, path: Path) -> list[tuple[int, list[str]]]:
    split = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            split.append((number, shlex.split(line, comments=True)))
        except ValueError as error:
            raise LrjaxError(f"{path}:{number} cannot be read ({error}); quote values as a shell would") from error
    return split


def _line(words: list[str], place: str) -> Line:
    spec, *rest = words
    check(not spec.startswith("-"), f"{place} begins with {spec!r}; begin with the config, as configs/break_even.py:E3")
    overrides = {}
    for word in rest:
        match = re.fullmatch(r"--config\.([^=]+)=(.*)", word, re.DOTALL)
        check(match is not None, f"{place}: cannot read {word!r}; after the config stand --config.KEY=VALUE alone")
        overrides[match[1]] = parse_value(match[2])  # pyright: ignore[reportOptionalSubscript]
    return Line(spec, overrides)
