"""A record: of a run directory what its checks and figures read, in two small files.

`config.json` is that of the run. `record.npz` holds the arrays, those of all lanes one after the other, and as JSON text under
"run" the status, the lanes and which lane has which array in which shape.
"""

import io
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from lrjax.errors import LrjaxError
from lrjax.experiment.rundir.files import damaged, read_bytes, read_json, write_atomic
from lrjax.experiment.rundir.metrics import RunResult, finite
from lrjax.experiment.rundir.reading import PREFIX, Kept, Watched
from lrjax.experiment.rundir.records import check_status

ARRAYS, CONFIG = "record.npz", "config.json"
OF_STATUS = ("state", "command", "wall_time_s", "version", "commit", "started", "device", "versions", "joined")
RUN = "run"
REMEDY = "restore it, or make it again: python -m lrjax.report.record WORKDIR"


def is_record(folder: Path) -> bool:
    """Whether a folder holds a record, and no run directory.

    Example:
        >>> is_record(Path("no/such/folder"))
        False
    """
    return (folder / ARRAYS).is_file() and not (folder / "status.json").exists()


def write_record(folder: Path, run: RunResult, lanes: Sequence[Watched]) -> dict[str, int]:
    """Writes the record of a run.

    Args:
        folder: of the record; made where it is missing.
        run: the whole run.
        lanes: its arrays, after all that reads them has read.

    Returns:
        name -> bytes that an array takes in it.
    """
    arrays, index = {}, {}
    for name, own in _by_name(lanes).items():
        kinds = {array.dtype for array in own.values()}
        joined = np.concatenate([array.ravel() for array in own.values()])
        arrays[name] = joined
        shapes = [list(array.shape) for array in own.values()]
        index[name] = {"lanes": list(own), "shapes": shapes[:1] if all(s == shapes[0] for s in shapes) else shapes}
        if len(kinds) > 1:
            raise LrjaxError(f"{name} has the types {', '.join(sorted(map(str, kinds)))} in different lanes")
    facts = {
        "status": {key: run.status[key] for key in OF_STATUS if key in run.status},
        "lanes": run.lanes,
        "arrays": index,
        "names": sorted({name for lane in lanes for name in lane.whole}),
    }
    text = json.dumps(finite(facts), separators=(",", ":")).encode()
    folder.mkdir(parents=True, exist_ok=True)
    stored: Any = {name.replace("/", "__"): array for name, array in arrays.items()}
    stored |= {RUN: np.frombuffer(text, np.uint8)}
    config = run.config | {"data_dir": ""}
    write_atomic(folder / CONFIG, json.dumps(config, indent=1, sort_keys=True) + "\n")
    write_atomic(folder / ARRAYS, lambda file: np.savez_compressed(file, **stored))
    with zipfile.ZipFile(folder / ARRAYS) as written:
        return {item.filename.removesuffix(".npy"): item.compress_size for item in written.infolist()}


def _by_name(lanes: Sequence[Watched]) -> dict[str, dict[int, NDArray[Any]]]:
    """name -> lane -> array, of all that was read or derived."""
    found: dict[str, dict[int, NDArray[Any]]] = {}
    for number, lane in enumerate(lanes):
        read = lane.read | {
            f"{name.split('/')[0]}/step" for name in lane.read
        }  # a series is of no use without its steps
        kept = {name: np.asarray(lane.whole[name]) for name in sorted(read) if name in lane.whole}
        for name, array in (kept | {PREFIX + name: array for name, array in sorted(lane.made.items())}).items():
            found.setdefault(name, {})[number] = array
    return found


def load_record(folder: str | Path) -> RunResult:
    """Reads a record as a run whose lanes have `lrjax.experiment.rundir.reading.Kept` arrays, and no rows of metrics.jsonl.

    Raises:
        LrjaxError: a file of it is missing or damaged.
    """
    folder = Path(folder)
    path = folder / ARRAYS
    config = read_json(folder / CONFIG, dict, REMEDY)
    try:
        with np.load(io.BytesIO(read_bytes(path)), allow_pickle=False) as stored:
            content = {name: stored[name] for name in stored.files}
    except (
        OSError,
        ValueError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
        KeyError,
        AttributeError,
        RuntimeError,
    ) as error:
        raise LrjaxError(f"{path} cannot be read ({error}); {REMEDY}") from error
    facts = _facts(path, content)
    lanes = facts["lanes"]
    try:
        check_status(path, {"lanes": lanes, "blocks": [list(range(len(lanes)))]} | facts["status"])
    except LrjaxError:
        _not_written(path)
    own: list[dict[str, NDArray[Any]]] = [{} for _ in lanes]
    for name, place in facts["arrays"].items():
        _hand_out(path, name, place, content, own)
    arrays: list[Any] = [Kept(array, facts["names"]) for array in own]
    return RunResult([], arrays, facts["status"], folder, config, lanes)


def _facts(path: Path, content: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    kinds = {"status": dict, "lanes": list, "arrays": dict, "names": list}
    try:
        facts = json.loads(content[RUN].tobytes())
        known = all(isinstance(facts[key], kind) for key, kind in kinds.items())
        known = known and all(isinstance(name, str) for name in facts["names"])
    except (KeyError, ValueError, TypeError, RecursionError):
        _not_written(path)
    return facts if known else _not_written(path)


def _hand_out(
    path: Path, name: str, place: Any, content: Mapping[str, NDArray[Any]], own: list[dict[str, NDArray[Any]]]
) -> None:
    """Gives each lane its part of an array."""
    try:
        joined, lanes = content[name.replace("/", "__")], place["lanes"]
        if joined.dtype.kind not in "fiub" or len(set(lanes)) != len(lanes):
            _not_written(path)
        shapes = place["shapes"] * (len(lanes) if len(place["shapes"]) == 1 else 1)
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
        if len(shapes) != len(lanes) or joined.ndim != 1 or ends[-1] != joined.size or min(lanes) < 0:
            _not_written(path)
        for lane, shape, part in zip(lanes, shapes, np.split(joined, ends[:-1]), strict=True):
            own[lane][name] = part.reshape(shape)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        _not_written(path)


def _not_written(path: Path) -> NoReturn:
    damaged(path, "it is not what a record has", REMEDY)
