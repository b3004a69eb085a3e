"""What status.json and the checkpoints say of a run's lanes and blocks, checked before anything relies on it."""

import json
import math
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lrjax.experiment.config.canonical import flatten
from lrjax.experiment.rundir.files import damaged, read_json
from lrjax.experiment.rundir.pieces import valid

Record = dict[str, Any]
MOST_STEPS = 1 << 31


def _whole(value: Any, low: int = 0, high: int = MOST_STEPS) -> bool:
    return type(value) is int and low <= value < high


def is_number(value: Any) -> bool:
    """Whether a value of a JSON file is a number that a float can hold.

    Example:
        >>> is_number(0.1), is_number(10**400), is_number(True), is_number(float("nan"))
        (True, False, False, False)
    """
    return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)


def _text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _joined(value: Any) -> bool:
    """Whether it names runs that were joined, each with its seeds."""
    of_runs = {"workdir": _text, "seeds": lambda seeds: isinstance(seeds, list)}
    return isinstance(value, list) and all(
        isinstance(run, dict)
        and all(key in run and fits(run[key]) for key, fits in of_runs.items())
        and all(OF_STATUS[key](item) for key, item in run.items() if key in OF_STATUS)
        for run in value
    )


OF_STATUS = {  # key -> what it may be, where it is there
    "state": lambda value: isinstance(value, str),
    "wall_time_s": lambda value: value is None or (is_number(value) and value >= 0),
    "command": _text,
    "version": _text,
    "commit": _text,
    "code": _text,
    "config": _text,
    "error": _text,
    "started": _text,
    "device": _text,
    "changed": lambda value: value is None or isinstance(value, bool),
    "versions": lambda value: isinstance(value, dict) and all(isinstance(item, str) for item in value.values()),
    "joined": _joined,
    "bytes": _whole,
    "rows": lambda value: value is None or _whole(value, 0, 1 << 32),
    "seal": lambda value: value is None or _whole(value, 0, 1 << 32),
    "sum": lambda value: value is None or _whole(value, 0, 1 << 32),
    "arrays": lambda value: isinstance(value, list) and all(valid(account) is not None for account in value),
}
OF_LANE = {
    "arm": lambda value: isinstance(value, str),
    "seed": lambda value: _whole(value, -MOST_STEPS, 1 << 63),
    "values": lambda value: isinstance(value, dict),
    "steps": _whole,
    "learning_rate": is_number,
    "e": lambda value: value is None or is_number(value),
    "config": lambda value: isinstance(value, dict),
    "diverged_at": lambda value: value is None or _whole(value),
    "last_finite_loss": lambda value: value is None or is_number(value),
    "stopped_at": _whole,
}
NEEDED = ("lane", "arm", "seed", "values", "steps")
OTHER_STATUS = "status.json is not the file that the run wrote"
ENDED = ("diverged_at", "last_finite_loss", "stopped_at")  # what is known of a lane once it has run


def _check_start(start: Any, count: int) -> bool:
    known = isinstance(start, dict) and isinstance(start.get("what"), str)
    return known and _whole(start.get("lane"), 0, count) and _whole(start.get("at"))


def check_status(path: Path, status: Mapping[str, Any]) -> None:
    """Refuses a status.json whose lanes and blocks are not those of a run.

    Args:
        path: of status.json, for the message.
        status: its content.

    Raises:
        LrjaxError: something in it is of the wrong kind, or parts contradict each other.
    """
    for key, fits in OF_STATUS.items():
        if key in status and not fits(status[key]):
            damaged(path, f"{key} is {str(status[key])[:40]!r}")
    lanes, blocks = status.get("lanes"), status.get("blocks")
    if not isinstance(lanes, list) or not isinstance(blocks, list):
        damaged(path, "it has no lanes and blocks")
    for index, lane in enumerate(lanes):
        if not isinstance(lane, dict) or lane.get("lane") != index:
            damaged(path, f"lane {index} is no record of it")
        if lost := [key for key in NEEDED if key not in lane]:
            damaged(path, f"lane {index} has no {lost[0]}")
        for key, fits in OF_LANE.items():
            if key in lane and not fits(lane[key]):
                damaged(path, f"{key} of lane {index} is {str(lane[key])[:40]!r}")
        if lane.get("start") is not None and not _check_start(lane["start"], len(lanes)):
            damaged(path, f"start of lane {index} names no lane and step")
    seen: set[int] = set()
    for number, members in enumerate(blocks):
        fits = isinstance(members, list) and all(_whole(index, 0, len(lanes)) for index in members)
        if not fits or not members or seen & set(members) or len(set(members)) < len(members):
            damaged(path, f"block {number} is {str(members)[:40]}, of {len(lanes)} lanes")
        seen |= set(members)


def check_lanes(path: Path, lanes: list[Record], config: Mapping[str, Any]) -> None:
    """Refuses a status.json in which a lane contradicts its own config.

    Args:
        path: of status.json, for the message.
        lanes: checked by `check_status`.
        config: that the run was made with.

    Raises:
        LrjaxError: a lane's seed, steps, rate or swept number is another one than its config has.
    """
    common = flatten(config)
    for lane in lanes:
        if "config" not in lane:  # of an earlier version
            continue
        own = common | lane["config"]
        told = {key: lane[key] for key in ("seed", "steps", "e") if key in lane}
        told |= {"optimizer.learning_rate": lane["learning_rate"]} if "learning_rate" in lane else {}
        for key, value in [*told.items(), *lane["values"].items()]:
            if is_number(value) and is_number(own.get(key)) and value != own[key]:
                damaged(path, f"lane {lane['lane']} has {key}={value}, and its config {own[key]}")


def seal_of(content: Any) -> int:
    """A checksum of what JSON holds, the same before it is written and after it is read.

    Example:
        >>> seal_of({"a": (1, 2), "b": None}) == seal_of({"b": None, "a": [1, 2]})
        True
    """
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def lanes_seal(status: Mapping[str, Any]) -> int:
    """The checksum of the lanes and blocks of status.json, which `seal` there states."""
    return seal_of([status.get("lanes"), status.get("blocks")])


def sum_of(status: Mapping[str, Any]) -> int:
    """The checksum of status.json, which `sum` there states of all else in it."""
    return seal_of({key: value for key, value in status.items() if key != "sum"})


def sealed(record: Mapping[str, Any]) -> Record:
    """The record of a checkpoint with a checksum of its own, so that a changed one is seen.

    Example:
        >>> sealed({"step": 4}) == sealed(sealed({"step": 4}))
        True
    """
    plain = {key: value for key, value in record.items() if key != "seal"}
    return plain | {"seal": seal_of(plain)}


def _read_meta(path: Path) -> Record:
    record = read_json(path, dict)
    if not _whole(record.get("step", 0)) or not is_number(record.get("wall_time_s", 0.0)):
        damaged(path, "it is no record of a checkpoint")
    if "seal" in record and record != sealed(record):  # earlier versions wrote none
        damaged(path, "it is not the record that the run wrote")
    return record


def read_meta(folder: Path) -> list[Record]:
    """The JSON records of a block's checkpoints, without reading any state; a damaged one is left out, see `lost_meta`."""
    records = []
    for path in sorted(folder.glob("*/meta/metadata")):
        with suppress(OSError, ValueError):
            records.append(_read_meta(path))
    return records


def lost_meta(folder: Path, *, written: bool) -> list[str]:
    """Which records of a block's checkpoints are damaged or missing, a sentence each.

    Args:
        folder: the checkpoints of a block.
        written: nobody is writing there: a checkpoint without its record has lost it.
    """
    sentences = []
    for place in sorted(path for path in folder.glob("*") if path.name.isdigit()):
        path = place / "meta" / "metadata"
        try:
            _read_meta(path)
        except FileNotFoundError:
            sentences += [f"ckpt/{folder.name}/{place.name}/meta/metadata is missing"] if written else []
        except (OSError, ValueError) as error:
            sentences.append(str(error))
    return sentences


def newest(folder: Path) -> Record:
    """The record of a block's newest checkpoint; {} where there is none."""
    return max(read_meta(folder), key=lambda record: record.get("step", 0), default={})


def ends_of(record: Mapping[str, Any], members: list[int]) -> dict[int, Record]:
    """How the lanes of a block stood at a checkpoint: lane -> diverged_at, last_finite_loss, stopped_at."""
    found = {}
    lanes = record.get("lanes")
    for lane in lanes if isinstance(lanes, list) else ():
        if isinstance(lane, dict) and lane.get("lane") in members:
            own = {key: lane[key] for key in ENDED if key in lane}
            if all(OF_LANE[key](value) for key, value in own.items()):
                found[lane["lane"]] = own
    return found
