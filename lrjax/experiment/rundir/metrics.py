"""Files of a run, written and read back: status.json, metrics.jsonl (a row a chunk and lane), arrays/*.npz.

Reports, claims and figures work from these files alone.
"""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from lrjax.errors import LrjaxError
from lrjax.experiment.rundir import frames, summary
from lrjax.experiment.rundir.sinks import SINKS, Sink


class RunResult(NamedTuple):
    """A run directory in memory.

    Attributes:
        metrics: rows of metrics.jsonl, one a chunk and lane.
        arrays: one dict a lane, name -> array. "step/<x>" has one entry a step (the loss before the update, the learning
            rate used); "<probe>/<x>" one a measurement, at the steps "<probe>/step"; "data/<x>" is fixed.
        status: status.json.
        workdir: its path.
        config: the config as JSON.
        lanes: one dict a lane: lane, arm, seed, values (set by the sweep), steps, learning_rate, config (dotted keys whose
            resolved value differs from that in `config`, see `lrjax.experiment.rundir.lanes.lane_config`), diverged_at,
            last_finite_loss.
    """

    metrics: list[dict[str, Any]]
    arrays: list[dict[str, np.ndarray]]
    status: dict[str, Any]
    workdir: Path
    config: dict[str, Any]
    lanes: list[dict[str, Any]]

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


def write_atomic(path: Path, content: str | bytes | Callable[[BinaryIO], object]) -> None:
    """Writes a file whole or not at all: its content, or what a function writes to the open file.

    Raises:
        LrjaxError: the disk is full or not writable.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _disk_error(path, error) from error


def _disk_error(path: Path, error: OSError) -> LrjaxError:
    return LrjaxError(
        f"could not write {path} ({error.strerror or error}). Free disk space and run the same command again."
    )


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
    """Replaces status.json."""
    write_atomic(workdir / "status.json", json.dumps(finite(status), indent=1) + "\n")


def read_status(workdir: Path) -> dict[str, Any] | None:
    """status.json, or None where there is none."""
    try:
        return json.loads((workdir / "status.json").read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise LrjaxError(f"{workdir}/status.json is damaged; run with --fresh to start over") from error


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
            config = json.loads((self.workdir / "config.json").read_text())
            kept = _rows(self.workdir)
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
        self._sinks = SinksOf(workdir, sinks)
        self._path = workdir / "metrics.jsonl"
        self._pieces: dict[str, list[np.ndarray]] = {}
        if silent:
            return
        try:
            (workdir / "arrays").mkdir(exist_ok=True)
            self._path.touch()
        except OSError as error:
            raise _disk_error(workdir, error) from error
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
            raise _disk_error(self._path, error) from error
        self.offset += len(text)
        self._sinks.send(rows)

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
            self.save(f"block-{block:03d}-{stop:09d}", content)
            self._pieces = {}

    def save(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes arrays/<name>.npz whole or not at all."""
        named: Any = {key.replace("/", "__"): array for key, array in arrays.items()}
        write_atomic(self.workdir / "arrays" / f"{name}.npz", lambda file: np.savez(file, **named))

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
            _, number, stop = path.stem.split("-")
            if int(number) > block or (int(number) == block and int(stop) > step):
                path.unlink()


def _pieces(workdir: Path, block: int) -> dict[str, np.ndarray]:
    pieces: dict[str, list[np.ndarray]] = {}
    for path in sorted((workdir / "arrays").glob(f"block-{block:03d}-*.npz")):
        with np.load(path) as file:
            for key in file.files:
                pieces.setdefault(key.replace("__", "/"), []).append(file[key])
    return {name: np.concatenate(arrays) for name, arrays in pieces.items()}


def _of_lane(block: Mapping[str, np.ndarray], place: int, lane: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """One lane's arrays, cut where the lane ended: at its own length, or after the step at which it diverged."""
    diverged = lane.get("diverged_at")
    ended = lane.get("stopped_at", lane["steps"])  # by a rule
    last = ended if diverged is None else diverged
    start = lane.get("start") or {"what": ""}
    begin = start["at"] if start["what"] == "run" else 0
    arrays = {}
    for name, array in block.items():
        stream = name.split("/")[0]
        own = array[:, place]
        if stream == "step":
            arrays[name] = own[: max(0, (ended if diverged is None else diverged + 1) - begin)]
        elif stream == "data":
            arrays[name] = own[0]
        else:
            steps = block[f"{stream}/step"][:, place]
            arrays[name] = own[: int(np.searchsorted(steps, last)) + 1]
    return arrays


def joined(arrays: dict[str, np.ndarray], before: dict[str, np.ndarray], at: int) -> dict[str, np.ndarray]:
    """A lane's arrays with those of the run that it goes on with, up to step `at`, in front.

    Args:
        arrays: the lane's own, from step `at` on.
        before: those of the lane that it began from.
        at: the step.

    Example:
        >>> import numpy as np
        >>> joined({"step/loss": np.array([3.0])}, {"step/loss": np.array([1.0, 2.0, 9.0])}, 2)["step/loss"].tolist()
        [1.0, 2.0, 3.0]
    """
    whole = dict(arrays)
    for name, array in arrays.items():
        stream = name.split("/")[0]
        if name not in before or stream == "data":
            continue
        kept = at if stream == "step" else int(np.searchsorted(before[f"{stream}/step"], at))
        whole[name] = np.concatenate([before[name][:kept], array])
    return whole


def _go_on(index: int, lanes: list[dict[str, Any]], arrays: list[dict[str, np.ndarray]], done: set[int]) -> None:
    """Joins a lane's arrays to those of the run that it goes on with, the earliest run first."""
    start = lanes[index].get("start")
    if index in done or start is None or start["what"] != "run":
        return
    done.add(index)
    _go_on(start["lane"], lanes, arrays, done)
    arrays[index] = joined(arrays[index], arrays[start["lane"]], start["at"])


def _rows(workdir: Path) -> list[dict[str, Any]]:
    path = workdir / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def load_run(workdir: str | Path) -> RunResult:
    """Reads a run directory.

    Raises:
        LrjaxError: it is no run directory.
    """
    workdir = Path(workdir)
    status = read_status(workdir)
    if status is None:
        raise LrjaxError(f"{workdir} holds no run of lrjax (no status.json); give the --workdir of a run")
    config = json.loads((workdir / "config.json").read_text())
    lanes = status["lanes"]
    arrays: list[dict[str, np.ndarray]] = [{} for _ in lanes]
    for block, members in enumerate(status["blocks"]):
        content = _pieces(workdir, block)
        for place, index in enumerate(members):
            arrays[index] = _of_lane(content, place, lanes[index])
    done: set[int] = set()
    for index in range(len(lanes)):
        _go_on(index, lanes, arrays, done)
    return RunResult(_rows(workdir), arrays, status, workdir, config, lanes)
