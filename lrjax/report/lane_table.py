"""The lanes of a run as a table: what each sets for itself, and where it ended."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrjax.experiment.config.canonical import flatten
from lrjax.experiment.rundir.lanes import lane_config
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.plots.page.rendering import word
from lrjax.report.curves import Line, names_of, title_of

MOST_ENDS = 8
MOST_SETTINGS = 8
LAST = 0.05  # of a lane's steps: a single step says little, least of all one of a single example
_DERIVED = ("data.sigma_p", "rule.every")  # follow from keys that are shown


class Table(NamedTuple):
    """Headings, and rows of cells; a cell is a number, a word or None."""

    headings: list[str]
    rows: list[list[Any]]


def settings_of(run: RunResult) -> list[dict[str, Any]]:
    """For each lane the keys in which lanes differ, without the seed: arm first, then values of the sweep, then the rest.

    Example:
        >>> from types import SimpleNamespace
        >>> lanes = [{"arm": "main", "values": {"e": e}} for e in (0.5, 1.1)]
        >>> settings_of(SimpleNamespace(lanes=lanes, config={}))
        [{'e': 0.5}, {'e': 1.1}]
    """
    flat = [_resolved(run, lane) for lane in run.lanes]
    swept = [key for lane in run.lanes for key in lane.get("values", {})]
    keys = dict.fromkeys(["arm", *swept, *(key for one in flat for key in one)])
    differ = [key for key in keys if key not in ("seed", *_DERIVED) and len({repr(one.get(key)) for one in flat}) > 1]
    # Two keys that tell the same lanes apart are one setting; the first says it. The rate is always worth a column.
    kept: dict[tuple[int, ...], str] = {}
    for key in differ:
        codes = list(dict.fromkeys(repr(one.get(key)) for one in flat))
        kept.setdefault((key == "optimizer.learning_rate", *(codes.index(repr(one.get(key))) for one in flat)), key)
    return [{key: one.get(key) for key in list(kept.values())[:MOST_SETTINGS]} for one in flat]


def _resolved(run: RunResult, lane: Mapping[str, Any]) -> dict[str, Any]:
    try:
        config = dict(flatten(lane_config(run, lane)))
    except (AttributeError, TypeError, ValueError):  # a config of another shape: what the lane says itself
        config = dict(lane.get("config") or {})
    return {"arm": lane.get("arm"), **config, **lane.get("values", {})}


def name_of(settings: Mapping[str, Any]) -> str:
    """A setting in words: the arm, and `key=value` of what else differs.

    Example:
        >>> name_of({"arm": "main", "e": 1.25, "optimizer.learning_rate": 0.1})
        'main, e=1.25, learning_rate=0.1'
    """
    parts = [str(value) if key == "arm" else f"{key.split('.')[-1]}={word(value)}" for key, value in settings.items()]
    return ", ".join(parts) or "all lanes"


def lines_of(run: RunResult, prefix: str = "") -> list[Line]:
    """The lanes of a run for the chart, each named by what differs and its seed."""
    settings = settings_of(run)
    keys = _telling(run, settings)
    several = len({lane.get("seed") for lane in run.lanes}) > 1
    lines = []
    for lane, own, arrays in zip(run.lanes, settings, run.arrays, strict=False):
        setting = prefix + name_of({key: own[key] for key in keys})
        lines.append(
            Line(setting + (f", seed={lane.get('seed')}" if several else ""), setting, dict(arrays))
        )  # see `ends_of`
    return lines


def _telling(run: RunResult, settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys that tell lanes apart in a name: the arm and what the sweep sets, where these are enough."""
    every = list(settings[0]) if settings else []
    brief = [key for key in every if key == "arm" or any(key in lane.get("values", {}) for lane in run.lanes)]

    def kinds(keys: Sequence[str]) -> int:
        return len({name_of({key: own[key] for key in keys}) for own in settings})

    if brief == ["arm"] and "optimizer.learning_rate" in every:  # what a reader wants to know of an arm first
        brief = [*brief, "optimizer.learning_rate"]
    return brief if kinds(brief) == kinds(every) else every


def end_of(name: str, values: NDArray[Any]) -> float | None:
    """Where a curve ended: of one with a number a step, the mean over the last 5 % of its steps; of a probe's, the last.

    None where it has no end: the lane diverged, or nothing is recorded.

    Example:
        >>> end_of("step/loss", np.arange(100.0)), end_of("probe/x", np.arange(100.0))
        (97.0, 99.0)
    """
    count = math.ceil(LAST * len(values)) if name.startswith("step/") else 1
    end = float(np.mean(values[-count:])) if len(values) else math.nan
    return end if math.isfinite(end) else None


def end_title(name: str) -> str:
    r"""The heading over the end values of a curve.

    Example:
        >>> end_title("step/loss"), end_title("test_accuracy/weak")
        ('Loss, mean of last 5\xa0%', 'test accuracy: weak')
    """
    if not name.startswith("step/"):
        return title_of(name)
    return f"{title_of(name)}, mean of last {LAST * 100:.0f}\N{NO-BREAK SPACE}%"


def ends_of(run: RunResult) -> tuple[list[str], list[dict[str, float]]]:
    """Which curves have an end value, and that of each lane, see `end_of`."""
    every = [dict(arrays) for arrays in run.arrays]  # of a record what it keeps: it refuses to be asked for more
    lines = [Line("", "", arrays) for arrays in every]
    names = [name for name in names_of(lines) if name != "step/learning_rate"][:MOST_ENDS]
    found = [{name: end_of(name, arrays[name]) for name in names if name in arrays} for arrays in every]
    ends = [{name: end for name, end in own.items() if end is not None} for own in found]
    return names, ends + [{} for _ in run.lanes[len(ends) :]]


def lane_table(run: RunResult) -> Table:
    """Every lane: number, settings that differ, seed, steps, end values, and the step at which it diverged."""
    settings, (names, ends) = settings_of(run), ends_of(run)
    keys = list(settings[0]) if settings else []
    headings = ["Lane", *(key.split(".")[-1].replace("_", " ") for key in keys), "seed", "steps"]
    headings += [*(end_title(name) for name in names), "diverged at"]
    rows = []
    for lane, own, last in zip(run.lanes, settings, ends, strict=True):
        cells = [lane.get("lane"), *own.values(), lane.get("seed"), lane.get("stopped_at", lane.get("steps"))]
        rows.append([*cells, *(last.get(name) for name in names), lane.get("diverged_at")])
    return Table(headings, rows)


def spread(values: Sequence[float]) -> str:
    """The mean of the seeds and their standard deviation; a single value alone.

    Example:
        >>> spread([0.9, 0.92, 0.94]), spread([0.9]), spread([])
        ('0.92 ± 0.02', '0.9', '')
    """
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 2:
        return f"{finite[0]:.4g}" if finite else ""
    mean, deviation = float(np.mean(finite)), float(np.std(finite, ddof=1))
    return f"{mean:.4g} ± {deviation:.2g}"
