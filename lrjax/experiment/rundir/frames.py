"""A run as tidy tables: an observation a row, a variable a column."""

import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lrjax.errors import check, nearest, refuse
from lrjax.experiment.config.canonical import flatten
from lrjax.experiment.rundir.names import lane_names

if TYPE_CHECKING:
    from lrjax.experiment.rundir.metrics import RunResult

Columns = dict[str, np.ndarray]
OF_LANE = ("lane", "name", "arm")
WIDE = 64  # columns at most that an array becomes by default


def tables(run: "RunResult") -> list[str]:
    """The tables that a run has: "metrics", "lanes", "step", and each probe that measured."""
    streams = {name.split("/")[0] for arrays in run.arrays for name in arrays} - {"data", "step"}
    return ["metrics", "lanes", "step", *sorted(streams)]


def columns(run: "RunResult", table: str = "metrics", widest: int = WIDE) -> Columns:
    """A table of a run as columns of one length.

    Args:
        run: a run directory in memory.
        table: "metrics": a row a chunk and lane, as in metrics.jsonl; "lanes": a row a lane, with its settings and how it
            ended; "step": a row a step and lane (loss before the update, learning rate used); a probe's name: a row a
            measurement and lane. Entries of an array become columns, "values.0", "values.1".
        widest: entries of an array at most; larger ones are no columns, see `left_out`, and stay in `run.arrays`.

    Returns:
        Column -> array. "lane", "name" and "arm" first, then what was swept. Missing numbers are NaN.

    Raises:
        LrjaxError: there is no such table.
    """
    known = tables(run)
    check(table in known, f"this run has no table {table!r}; {nearest(table, known)}")
    if table == "lanes":
        return _columns([{"name": name, **_flat(lane)} for name, lane in zip(_names(run), run.lanes, strict=True)])
    if table == "metrics":
        names = dict(zip((lane["lane"] for lane in run.lanes), _names(run), strict=True))
        return _columns([{"name": names[row["lane"]], **row} for row in run.metrics])
    return _measured(run, table, widest)


def left_out(run: "RunResult", table: str, widest: int = WIDE) -> dict[str, int]:
    """The arrays of a table that have too many entries for columns: name -> entries a measurement."""
    own = [(name, array) for arrays in run.arrays for name, array in arrays.items() if name.split("/")[0] == table]
    return {name: size for name, array in own if (size := int(np.prod(array.shape[1:]))) > widest}


def _names(run: "RunResult") -> list[str]:
    return lane_names(run.lanes)


def _flat(lane: Mapping[str, Any]) -> dict[str, Any]:
    """A lane's record as one row: swept values under their own keys, what the config has of its own besides."""
    plain = {key: value for key, value in lane.items() if not isinstance(value, Mapping)}
    return plain | {key: value for key, value in flatten(lane.get("values") or {}).items() if key not in plain}


def _measured(run: "RunResult", stream: str, widest: int) -> Columns:
    parts: list[Columns] = []
    for name, lane, arrays in zip(_names(run), run.lanes, run.arrays, strict=True):
        own = {key.split("/", 1)[1]: array for key, array in arrays.items() if key.split("/")[0] == stream}
        count = min((len(array) for array in own.values()), default=0)
        if not count:
            continue
        part = {key: np.full(count, value) for key, value in _of_lane(name, lane).items()}
        part["step"] = own.pop("step", np.arange(count))[:count]
        for key, array in own.items():
            part |= _spread(key, np.asarray(array)[:count], widest)
        parts.append(part)
    return {key: _joined([_or_missing(part, key) for part in parts]) for key in _in_order(parts)}


def _of_lane(name: str, lane: Mapping[str, Any]) -> dict[str, Any]:
    swept = {key: value for key, value in (lane.get("values") or {}).items() if isinstance(value, (int, float, str))}
    return {"lane": lane["lane"], "name": name, "arm": lane["arm"], **swept}


def _spread(name: str, array: np.ndarray, widest: int) -> Columns:
    """[rows, ...] -> a column an entry; none where there are too many."""
    if array.ndim == 1:
        return {name: array}
    size = int(np.prod(array.shape[1:]))
    if size > widest:
        return {}
    places = [".".join(map(str, np.unravel_index(number, array.shape[1:]))) for number in range(size)]
    return {f"{name}.{place}": array.reshape(len(array), size)[:, i] for i, place in enumerate(places)}


def _or_missing(part: Columns, key: str) -> np.ndarray:
    return part[key] if key in part else np.full(len(part["lane"]), np.nan)


def _joined(pieces: Sequence[np.ndarray]) -> np.ndarray:
    texts = any(piece.dtype.kind in "US" for piece in pieces)
    return np.concatenate([piece.astype(str) if texts else piece for piece in pieces])


def _in_order(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every key, those that name the lane first."""
    keys = dict.fromkeys(key for row in rows for key in row)
    return [key for key in OF_LANE if key in keys] + [key for key in keys if key not in OF_LANE]


def _columns(rows: Sequence[Mapping[str, Any]]) -> Columns:
    return {key: _column([row.get(key) for row in rows]) for key in _in_order(rows)}


def _column(values: list[Any]) -> np.ndarray:
    """Whole numbers, floats (None is NaN) or text, whichever all of them are."""
    numbers = all(
        value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)) for value in values
    )
    if numbers and all(isinstance(value, int) for value in values):
        return np.array(values, np.int64)
    if numbers:
        return np.array([np.nan if value is None else value for value in values], np.float64)
    if all(isinstance(value, bool) for value in values):
        return np.array(values, bool)
    return np.array(["" if value is None else str(value) for value in values])


def frame(content: Columns) -> Any:
    """Columns as a data frame of pandas or of polars, whichever is there; of the one that is imported, where both are.

    Raises:
        LrjaxError: neither is installed.
    """
    order = sorted(("pandas", "polars"), key=lambda name: name not in sys.modules)
    for name in order:
        try:
            return importlib.import_module(name).DataFrame(content)
        except ImportError:
            continue
    refuse(
        "a data frame needs pandas or polars: pip install pandas; without either, lrjax export RUN --format=csv writes "
        "the tables, and run.arrays has the numbers"
    )
