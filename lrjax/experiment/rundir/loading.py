"""The arrays of a run put together lane by lane, in whatever state it is: what is there, and what is missing, in words."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lrjax.experiment.rundir.pieces import read_block, valid
from lrjax.experiment.rundir.records import ends_of, lost_meta, newest

Records = list[dict[str, Any]]


class Assembled(NamedTuple):
    """Lanes with what is known of their end, the arrays of each, why some are short (by lane), and what is damaged."""

    lanes: Records
    arrays: list[dict[str, np.ndarray]]
    missing: dict[int, str]
    gaps: tuple[str, ...]


def _of_lane(block: Mapping[str, np.ndarray], place: int, lane: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """One lane's arrays, cut where the lane ended: at its own length, or after the step at which it diverged."""
    diverged = lane.get("diverged_at")
    ended = lane.get("stopped_at", lane["steps"])  # by a rule
    last = ended if diverged is None else diverged
    start = lane.get("start") or {"what": ""}
    begin = start["at"] if start["what"] == "run" else 0
    arrays = {}
    for name, array in block.items():
        stream, own = name.split("/")[0], array[:, place]
        if stream == "step":
            arrays[name] = own[: max(0, (ended if diverged is None else diverged + 1) - begin)]
        elif stream == "data":
            arrays[name] = own[0]
        else:
            steps = block.get(f"{stream}/step")
            arrays[name] = own if steps is None else own[: int(np.searchsorted(steps[:, place], last)) + 1]
    return arrays


def joined(arrays: dict[str, np.ndarray], before: dict[str, np.ndarray], at: int) -> dict[str, np.ndarray]:
    """A lane's arrays with those of the run that it goes on with, up to step `at`, in front.

    A measurement at `at` itself is that of the run before: the lane begins in the same state, and a probe that remembers
    having measured it there leaves it out.

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
        if stream == "step":
            whole[name] = np.concatenate([before[name][:at], array])
            continue
        steps = before[f"{stream}/step"]
        kept = int(np.searchsorted(steps, at, side="right"))
        again = kept > 0 and steps[kept - 1] == at
        own = int(np.searchsorted(arrays[f"{stream}/step"], at, side="right" if again else "left"))
        whole[name] = np.concatenate([before[name][:kept], array[own:]])
    return whole


def _go_on(index: int, found: "Assembled", done: set[int]) -> None:
    """Joins a lane's arrays to those of the run that it goes on with, the earliest run first; it lacks what that lacks."""
    start = found.lanes[index].get("start")
    if index in done or start is None or start["what"] != "run":
        return
    done.add(index)
    before = start["lane"]
    _go_on(before, found, done)
    if before in found.missing:
        found.missing.setdefault(index, found.missing[before])
        found.arrays[index] = {}
    else:
        found.arrays[index] = joined(found.arrays[index], found.arrays[before], start["at"])


def _standing(status: Mapping[str, Any]) -> str:
    """Why a lane may end early, in a word on the run."""
    if status.get("state") == "failed":
        return f"the run failed ({status.get('error') or 'its own output says why'})"
    return {"preempted": "the run was preempted", "done": "its arrays are not there"}.get(
        status.get("state", ""), "the run is not finished"
    )


def _short(lane: Mapping[str, Any], until: int, begin: int) -> str:
    """Where a lane's arrays end, where that is before the lane does; else ""."""
    ended = lane.get("stopped_at", lane["steps"])
    if lane["diverged_at"] is not None:
        ended = min(ended, lane["diverged_at"] + 1)
    if until >= ended:
        return ""
    return (
        f"lane {lane['lane']} is at step {until} of {lane['steps']}"
        if until > begin
        else f"lane {lane['lane']} has no data"
    )


def _unlike(lane: Mapping[str, Any], end: Mapping[str, Any]) -> list[str]:
    return [key for key in end if key in lane and lane[key] != end[key]]


def assembled(workdir: Path, status: Mapping[str, Any]) -> Assembled:
    """What a run directory has of each lane.

    Args:
        workdir: the run directory.
        status: status.json, checked by `lrjax.experiment.rundir.records.check_status`.
    """
    lanes: Records = [dict(lane) for lane in status["lanes"]]
    arrays: list[dict[str, np.ndarray]] = [{} for _ in lanes]
    missing = {index: f"lane {index} is in no block of status.json" for index in range(len(lanes))}
    gaps, done = [], status.get("state") == "done"
    for number, members in enumerate(status["blocks"]):
        folder = workdir / "ckpt" / f"block-{number:03d}"
        meta = newest(folder)
        gaps += lost_meta(folder, written=status.get("state") != "running")
        for index, end in ends_of(meta, members).items():
            gaps += [
                f"status.json has another {key} of lane {index} than ckpt" for key in _unlike(lanes[index], end) if done
            ]
            lanes[index] = (end | lanes[index]) if done and "seal" not in meta else (lanes[index] | end)
        stated = status["arrays"] if done and len(status.get("arrays", ())) == len(status["blocks"]) else None
        account = stated[number] if stated is not None else valid(meta.get("pieces"))
        first: dict[str, Any] = lanes[members[0]].get("start") or {"what": ""}
        begin = first["at"] if first["what"] == "run" else 0
        block = read_block(workdir / "arrays", number, len(members), begin, account)
        gaps += [block.lack] if block.lack else []
        for place, index in enumerate(members):
            lanes[index] = {"diverged_at": None, "last_finite_loss": None} | lanes[index]
            arrays[index] = _of_lane(block.arrays, place, lanes[index])
            short = _short(lanes[index], block.until, begin)
            missing[index] = short and f"{short}: {block.lack or _standing(status)}"
    missing = {index: why for index, why in missing.items() if why}
    gaps += [why for why in missing.values() if done and why.endswith(("are not there", "status.json"))]
    found = Assembled(lanes, arrays, missing, tuple(gaps))
    joints: set[int] = set()
    for index in range(len(lanes)):
        _go_on(index, found, joints)
    return found
