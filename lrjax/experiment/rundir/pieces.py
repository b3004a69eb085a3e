"""The pieces in which a block's arrays lie on disk, checked one by one: a lost or damaged one is named, never stepped over.

A piece is arrays/block-<number>-<last step>.npz. The account says which pieces there are, with a checksum each; checkpoints
and status.json hold it. A run directory of an earlier version has none: there the steps of the pieces must join.
"""

import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrjax.errors import LrjaxError

Account = Mapping[str, int]  # file name -> checksum
NAME = re.compile(r"block-(\d{3,9})-(\d{9,12})\.npz")
MOST_BYTES = 1 << 35  # of the arrays of one piece, as its header claims them


class BlockArrays(NamedTuple):
    """What is there of a block.

    Attributes:
        arrays: name -> [time, lanes, ...], whole up to the step `until`.
        until: the step.
        lack: the file that ends it, and what is wrong with it; "" where nothing is.
    """

    arrays: dict[str, NDArray[Any]]
    until: int
    lack: str


def piece_name(block: int, stop: int) -> str:
    """File name of the piece of a block that ends at a step.

    Example:
        >>> piece_name(0, 400)
        'block-000-000000400.npz'
    """
    return f"block-{block:03d}-{stop:09d}.npz"


def checksum(path: Path) -> int:
    """Of the names, sizes and checksums of the arrays in a piece; reads its table of contents only.

    Raises:
        OSError, ValueError, zipfile.BadZipFile: it is no such file.
    """
    with zipfile.ZipFile(path) as file:
        entries = sorted((info.filename, info.CRC, info.file_size) for info in file.infolist())
    return zlib.crc32(repr(entries).encode())


def lacking(folder: Path, account: Account) -> str:
    """The first piece of an account that is missing or another one, and which of both; "" where all are there.

    Args:
        folder: arrays/ of a run directory.
        account: of one block or of several.
    """
    for name in sorted(account):
        if why := _unlike(folder / name, account[name]):
            return why
    return ""


def _unlike(path: Path, wanted: int | None) -> str:
    if not path.is_file():
        return f"arrays/{path.name} is missing"
    try:
        found = checksum(path)
    except Exception as error:  # zipfile and zlib each have their own; any of them means damaged
        return f"arrays/{path.name} is damaged ({_first_line(error)})"
    return "" if wanted is None or found == wanted else f"arrays/{path.name} is not the file that the run wrote"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def _loaded(path: Path) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(path) as file:
        if sum(info.file_size for info in file.infolist()) > MOST_BYTES:
            raise ValueError("its arrays are too large")
    with np.load(path, allow_pickle=False) as file:  # which checks the checksum of each array
        return {key.replace("__", "/"): file[key] for key in file.files}


def _misshapen(piece: Mapping[str, NDArray[Any]], before: Mapping[str, list], lanes: int) -> str:
    """What is wrong with the shapes of a piece; "" where nothing is."""
    for name, array in piece.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biufc":
            return f"{name} holds no numbers"
        if array.ndim < 2 or array.shape[1] != lanes:
            return f"{name} has the shape {array.shape}, for {lanes} lanes"
        stream = name.split("/")[0]
        beside = piece.get("step/loss" if stream == "step" else f"{stream}/step", array)
        if stream != "data" and beside.shape[:1] != array.shape[:1]:
            return f"{name} has {array.shape[0]} entries for {beside.shape[0]} steps"
        if name in before and before[name][0].shape[2:] != array.shape[2:]:
            return f"{name} has another shape than in the pieces before"
    lost = [name for name in before if name.startswith("step/") and name not in piece]
    return f"{lost[0]} is not in it" if lost else ""


def read_block(folder: Path, block: int, lanes: int, begin: int, account: Account | None) -> BlockArrays:
    """The arrays of a block as far as its pieces are whole.

    Args:
        folder: arrays/ of a run directory.
        block: its number.
        lanes: how many it has.
        begin: its first step.
        account: its pieces; None where nothing says which there are.
    """
    names = sorted(account) if account is not None else [path.name for path in folder.glob(f"block-{block:03d}-*.npz")]
    stops = {name: int(match[2]) for name in names if (match := NAME.fullmatch(name)) and int(match[1]) == block}
    joined: dict[str, list[NDArray[Any]]] = {}
    at, lack = begin, ""
    for name in sorted(stops, key=lambda name: stops[name]):
        lack = _unlike(folder / name, account[name] if account is not None else None)
        if lack:
            break
        try:
            piece = _loaded(folder / name)
        except Exception as error:  # zipfile, zlib and numpy each have their own; any of them means damaged
            lack = f"arrays/{name} is damaged ({_first_line(error)})"
            break
        if why := _misshapen(piece, joined, lanes):
            lack = f"arrays/{name} is damaged ({why})"
            break
        start = stops[name] - (len(piece["step/loss"]) if "step/loss" in piece else stops[name] - at)
        if start != at:
            lack = (
                f"arrays/{piece_name(block, start)} is missing"
                if start > at
                else f"arrays/{name} is damaged (its steps)"
            )
            break
        for key, array in piece.items():
            joined.setdefault(key, []).append(array)
        at = stops[name]
    return BlockArrays({key: np.concatenate(parts) for key, parts in joined.items()}, at, lack)


def require(workdir: Path, account: Any) -> dict[str, int]:
    """The account of a checkpoint, where every piece that it counts on is there.

    Args:
        workdir: the run directory.
        account: None in checkpoints of earlier versions.

    Raises:
        LrjaxError: one is missing or damaged, by its name.
    """
    known = valid(account) or {}
    if why := lacking(workdir / "arrays", known):
        raise LrjaxError(
            f"{workdir}/{why}, and a checkpoint counts on it; restore it, or run with --fresh to start over"
        )
    return known


def valid(account: Any) -> dict[str, int] | None:
    """An account as it was read from a file; None where it is none."""
    if not isinstance(account, dict) or not all(NAME.fullmatch(name) for name in account):
        return None
    return account if all(type(value) is int for value in account.values()) else None
