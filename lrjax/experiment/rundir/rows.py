"""The rows of metrics.jsonl as they are read back: those that are rows of this run, and what is wrong with the file."""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from lrjax.errors import LrjaxError
from lrjax.experiment.rundir.files import parsed, read_bytes
from lrjax.experiment.rundir.records import is_number

MOST_ROWS = 1 << 31  # bytes of metrics.jsonl


class Rows(NamedTuple):
    """The rows of metrics.jsonl, and what is wrong with the file, a sentence each."""

    rows: list[dict[str, Any]]
    gaps: tuple[str, ...]


def _row(line: bytes, lanes: Sequence[Mapping[str, Any]] | None) -> dict[str, Any]:
    """A row, of a lane of the run where these are known.

    Raises:
        ValueError: it is none.
    """
    row = parsed(line)
    named = isinstance(row, dict) and type(row.get("lane")) is int and type(row.get("step")) is int
    if not named or row["lane"] < 0 or row["step"] < 0 or not isinstance(row.get("arm", ""), str):
        raise ValueError("it is no row")
    if lanes is None:
        return row
    if row["lane"] >= len(lanes):
        raise ValueError("it is of no lane")
    lane = lanes[row["lane"]]
    told = {"arm": lane["arm"], **lane["values"]}
    measured = (value for key, value in row.items() if key not in told)
    if any(row.get(key, value) != value for key, value in told.items()) or row["step"] > lane["steps"]:
        raise ValueError("it is of another lane")
    if not all(value is None or is_number(value) for value in measured):
        raise ValueError("it holds no numbers")
    return row


def read_rows(workdir: Path, status: Mapping[str, Any] = MappingProxyType({})) -> Rows:
    """The rows of metrics.jsonl that can be read.

    Args:
        workdir: a run directory.
        status: status.json, checked; read here are `state` (in a finished run a last line without an end is damage, not a
            row under way), `bytes` and `rows` (size and checksum of what was written) and `lanes`.
    """
    path, finished = workdir / "metrics.jsonl", status.get("state") == "done"
    size = status.get("bytes", 0)
    try:
        content = read_bytes(path, MOST_ROWS)
    except FileNotFoundError:
        return Rows([], ("metrics.jsonl is missing",) if finished or size else ())
    except LrjaxError as error:
        return Rows([], (str(error),))
    rows, bad = [], []
    lines = content.split(b"\n")
    if lines and not finished:
        lines.pop()  # empty, or a row under way
    for number, line in enumerate(lines, start=1):
        try:
            if line or number < len(lines):
                rows.append(_row(line, status.get("lanes")))
        except ValueError:
            bad.append(number)
    what = "a line that is no row" if len(bad) == 1 else f"{len(bad)} lines that are no rows, the first"
    gaps = [f"metrics.jsonl has {what}: line {bad[0]}"] if bad else []
    if len(content) < size:
        gaps.append(f"metrics.jsonl has {len(content)} bytes of the {size} that the run wrote")
    elif not gaps and status.get("rows") not in (None, zlib.crc32(content)):
        gaps.append("metrics.jsonl is not the file that the run wrote")
    return Rows(rows, tuple(gaps))
