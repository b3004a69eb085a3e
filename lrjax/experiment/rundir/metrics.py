"""Files of a run as they are written: status.json, metrics.jsonl (a row a chunk and lane), arrays/*.npz.

Reports, claims and figures work from these files alone; `load_run` reads them back.
"""

import json
import math
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from lrjax.errors import LrjaxError
from lrjax.experiment.config.canonical import fingerprint
from lrjax.experiment.rundir import frames, summary
from lrjax.experiment.rundir.files import (
    disk_error,
    own_folder,
    read_json,
    refuse_link,
    write_atomic,
)
from lrjax.experiment.rundir.loading import assembled
from lrjax.experiment.rundir.pieces import NAME, checksum, piece_name, require
from lrjax.experiment.rundir.records import OTHER_STATUS, check_lanes, check_status, lanes_seal, sum_of
from lrjax.experiment.rundir.rows import read_rows
from lrjax.experiment.rundir.sinks import SINKS, Sink

CHANGED = "config.json is not the config that this run was made with"
OTHER_LANES = "the lanes in status.json are not those that the run wrote"


class RunResult(NamedTuple):
    """A run directory in memory.

    Attributes:
        metrics: rows of metrics.jsonl, one a chunk and lane.
        arrays: one dict a lane, name -> array. "step/<x>" has one entry a step (the loss before the update, the learning
            rate used); "<probe>/<x>" one a measurement, at the steps "<probe>/step"; "data/<x>" is fixed.
        status: status.json; of a run that is not finished, its lanes are as the last checkpoints say.
        workdir: its path.
        config: the config as JSON.
        lanes: one dict a lane: lane, arm, seed, values (set by the sweep), steps, learning_rate, config (dotted keys whose
            resolved value differs from that in `config`, see `lrjax.experiment.rundir.lanes.lane_config`), diverged_at,
            last_finite_loss.
        missing: lane -> in words, why its arrays end before the lane does: it is still running, was killed, or a file of
            its arrays is lost. They are whole up to there.
        gaps: what is damaged or lost in the directory, a sentence each; empty for a run that is only not finished.
    """

    metrics: list[dict[str, Any]]
    arrays: list[dict[str, np.ndarray]]
    status: dict[str, Any]
    workdir: Path
    config: dict[str, Any]
    lanes: list[dict[str, Any]]
    missing: Mapping[int, str] = MappingProxyType({})
    gaps: tuple[str, ...] = ()

    def to_frame(self, table: str = "metrics") -> Any:
        """A table of the run as a tidy data frame, of pandas or polars, whichever is there.

        Args:
            table: "metrics" (a row a chunk and lane), "lanes" (a row a lane), "step" (a row a step and lane), or the name
                of a probe (a row a measurement and lane); see `lrjax.experiment.rundir.frames.columns`.

        Raises:
            LrjaxError: no such table, or neither package is installed.
        """
        return frames.frame(frames.columns(self, table))

    def __repr__(self) -> str:
        return summary.summary(self)


def finite(value: Any) -> Any:
    """JSON has no NaN: a number that is not finite becomes null."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def write_status(workdir: Path, status: Mapping[str, Any]) -> None:
    """Replaces status.json; a checksum of its lanes and blocks goes with it, and one of all of it."""
    content = finite(status)
    content |= {"seal": lanes_seal(content)} if "lanes" in content else {}
    content |= {"sum": sum_of(content)}
    write_atomic(workdir / "status.json", json.dumps(content, indent=1) + "\n")


def read_status(workdir: Path) -> dict[str, Any] | None:
    """status.json, or None where there is none.

    Raises:
        LrjaxError: it is damaged.
    """
    try:
        return read_json(workdir / "status.json", dict)
    except FileNotFoundError:
        return None


class SinksOf:
    """The sinks of a run, opened when it is known which rows of metrics.jsonl stand.

    Args:
        workdir: the run directory.
        names: of `lrjax.experiment.rundir.sinks.SINKS`.
    """

    def __init__(self, workdir: Path, names: Sequence[str]):
        self.workdir, self.names = workdir, names
        self._opened: list[Sink] | None = None

    def open(self) -> None:
        """Opens them once, with the rows that are there."""
        if self._opened is None and self.names:
            config = read_json(self.workdir / "config.json", dict)
            kept = read_rows(self.workdir).rows
            self._opened = [SINKS[name](self.workdir, config, kept) for name in self.names]

    def send(self, rows: list[dict[str, Any]]) -> None:
        """Hands on rows that were written."""
        for sink in self._opened or ():
            sink(rows)


class Writer:
    """Appends rows and arrays of a run; rows rewritten after a resume are deduplicated.

    Args:
        workdir: the run directory.
        silent: write nothing, where another process of the run does.
        sinks: names of `lrjax.experiment.rundir.sinks.SINKS` that get the rows too.
    """

    def __init__(self, workdir: Path, *, silent: bool = False, sinks: Sequence[str] = ()):
        self.workdir, self.silent, self.offset = workdir, silent, 0
        self.account: dict[int, dict[str, int]] = {}  # block -> its pieces
        self._sinks = SinksOf(workdir, sinks)
        self._path = workdir / "metrics.jsonl"
        self._pieces: dict[str, list[np.ndarray]] = {}
        if silent:
            return
        for path in (workdir / "ckpt", self._path):
            refuse_link(path)
        own_folder(workdir / "arrays")
        try:
            self._path.touch()
        except OSError as error:
            raise disk_error(workdir, error) from error
        self.offset = self._path.stat().st_size

    def rows(self, rows: list[dict[str, Any]]) -> None:
        """Appends rows to metrics.jsonl."""
        if self.silent:
            return
        text = "".join(json.dumps(finite(row)) + "\n" for row in rows).encode()
        try:
            with open(self._path, "ab") as file:
                file.write(text)
        except OSError as error:
            raise disk_error(self._path, error) from error
        self.offset += len(text)
        self._sinks.send(rows)

    def checksum_of_rows(self) -> int | None:
        """CRC-32 of metrics.jsonl; None where it cannot be read."""
        crc = 0
        try:
            with open(self._path, "rb") as file:
                while piece := file.read(1 << 20):
                    crc = zlib.crc32(piece, crc)
        except OSError:
            return None
        return crc

    def collect(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Adds arrays [time, lanes, ...] to the piece that `flush` writes."""
        if self.silent:
            return
        for name, array in arrays.items():
            self._pieces.setdefault(name, []).append(np.asarray(array))

    def flush(self, block: int, stop: int) -> None:
        """Writes what was collected since the last flush as the piece of a block that ends at step `stop`."""
        if self._pieces:
            content = {name: np.concatenate(pieces) for name, pieces in self._pieces.items()}
            name = piece_name(block, stop)
            self.save(name.removesuffix(".npz"), content)
            self.account.setdefault(block, {})[name] = checksum(self.workdir / "arrays" / name)
            self._pieces = {}

    def save(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes arrays/<name>.npz whole or not at all."""
        named: Any = {key.replace("/", "__"): array for key, array in arrays.items()}
        write_atomic(self.workdir / "arrays" / f"{name}.npz", lambda file: np.savez(file, **named))

    def vouch(self, block: int, meta: Mapping[str, Any]) -> None:
        """Checks that there is what a checkpoint of a block counts on, and goes on from its account.

        Raises:
            LrjaxError: rows or a piece of arrays are missing, by the name of the file.
        """
        if self.silent:
            return
        if self._path.stat().st_size < meta["offset"]:
            raise LrjaxError(f"{self._path} lacks rows that a checkpoint counts on; run with --fresh to start over")
        self.account[block] = require(self.workdir, meta.get("pieces"))

    def rewind(self, block: int, step: int, offset: int) -> None:
        """Truncates output newer than the checkpoint: rows beyond `offset` bytes, pieces of the block after `step`."""
        if self.silent:
            return
        if self._path.stat().st_size < offset:
            raise LrjaxError(f"{self._path} lacks rows that a checkpoint counts on; run with --fresh to start over")
        os.truncate(self._path, offset)
        self.offset = offset
        self._sinks.open()
        for path in (self.workdir / "arrays").glob("block-*.npz"):
            found = NAME.fullmatch(path.name)
            if found and (int(found[1]) > block or (int(found[1]) == block and int(found[2]) > step)):
                path.unlink()


def load_run(workdir: str | Path) -> RunResult:
    """Reads a run directory in whatever state: what is missing of it is named in `missing` and `gaps`.

    Raises:
        LrjaxError: it is no run directory, or status.json or config.json is damaged.
    """
    workdir = Path(workdir)
    status = read_status(workdir)
    if status is None:
        raise LrjaxError(f"{workdir} holds no run of lrjax (no status.json); give the --workdir of a run")
    check_status(workdir / "status.json", status)
    try:
        config = read_json(workdir / "config.json", dict, "restore it from another copy of the run")
    except FileNotFoundError as error:
        raise LrjaxError(f"{workdir} holds no run of lrjax (no config.json); give the --workdir of a run") from error
    found = assembled(workdir, status)
    rows = read_rows(workdir, status)
    other = [CHANGED] if status.get("config") not in (None, fingerprint(config)) else []
    other += [OTHER_LANES] if status.get("seal") not in (None, lanes_seal(status)) else []
    touched = [OTHER_STATUS] if status.get("sum") not in (None, sum_of(status)) else []
    if not other:
        check_lanes(workdir / "status.json", found.lanes, config)
    missing = dict.fromkeys(range(len(found.lanes)), other[0]) | dict(found.missing) if other else found.missing
    gaps = [*other, *touched, *found.gaps, *rows.gaps]
    known = status | {"lanes": found.lanes}
    return RunResult(rows.rows, found.arrays, known, workdir, config, found.lanes, missing, tuple(gaps))
