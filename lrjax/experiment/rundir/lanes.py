"""The lanes of a finished run: those that recorded an array, those of an arm, how they ended, and the config of each."""

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lrjax.errors import check
from lrjax.experiment.config.canonical import Config, flatten, freeze
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.experiment.rundir.reading import NotJudged as NotJudged
from lrjax.experiment.rundir.reading import NotMeasured as NotMeasured
from lrjax.experiment.rundir.reading import Recorded as Recorded
from lrjax.experiment.rundir.reading import Withheld as Withheld
from lrjax.experiment.rundir.reading import entries

Arrays: TypeAlias = Mapping[str, NDArray[Any]]
Lanes: TypeAlias = list[tuple[dict[str, Any], Arrays]]


def whole(run: RunResult) -> RunResult:
    """The run for checks: lanes that are not whole have `Withheld` arrays."""
    missing = getattr(run, "missing", {})
    if not missing:
        return run
    arrays: list[Any] = [Withheld(missing[i]) if i in missing else own for i, own in enumerate(run.arrays)]
    return run._replace(arrays=arrays)


def without_missing(run: RunResult) -> RunResult:
    """The run for observations: lanes that are not whole have no arrays."""
    missing = getattr(run, "missing", {})
    return run._replace(arrays=[{} if i in missing else own for i, own in enumerate(run.arrays)]) if missing else run


def check_whole(run: RunResult) -> None:
    """Refuses a run of which something is missing.

    Raises:
        LrjaxError: it is not finished, or lacks lanes or files.
    """
    lack = next(iter((*run.missing.values(), *run.gaps)), None)
    check(
        run.status.get("state") == "done" and lack is None,
        f"{run.workdir} is not whole ({lack or 'it is not finished'}); name a finished run with all its files",
    )


def recorded(run: RunResult, *names: str) -> Lanes:
    """Lanes, with their arrays, that have at least one entry of each of these arrays."""
    pairs = zip(run.lanes, run.arrays, strict=True)
    return [(lane, arrays) for lane, arrays in pairs if all(entries(arrays, name) for name in names)]


def diverged(lane: Mapping[str, Any]) -> bool:
    """Whether the lane ended by a loss that is too large or not finite."""
    return lane.get("diverged_at") is not None


def lanes(run: RunResult, arms: str | Iterable[str], *, allow_diverged: bool = False, **wanted: float) -> Lanes:
    """(lane, arrays) of some arms, in the order of the run; the arrays are `Recorded`.

    Args:
        run: a run directory in memory.
        arms: one name, or several.
        allow_diverged: return lanes that diverged too, rather than raise.
        **wanted: numbers of the lane's record, such as e=1.25 or learning_rate=0.1, to 1e-9.

    Raises:
        NotMeasured: there is none, or one of them diverged.

    Example:
        >>> from types import SimpleNamespace
        >>> run = SimpleNamespace(lanes=[{"lane": 0, "arm": "main", "e": 1.25}], arrays=[{}])
        >>> [lane["lane"] for lane, arrays in lanes(run, "main", e=1.25)]
        [0]
    """
    names = {arms} if isinstance(arms, str) else set(arms)
    chosen: Lanes = [
        (lane, Recorded(arrays))
        for lane, arrays in recorded(run)
        if lane["arm"] in names and all(abs(lane[key] - value) < 1e-9 for key, value in wanted.items())
    ]
    at = _listed(wanted)
    if not chosen:
        raise NotMeasured(f"this run has no lane {' or '.join(sorted(names))}{at and f' at {at}'}")
    for lane, _ in chosen:
        if diverged(lane) and not allow_diverged:
            facts = {key: lane[key] for key in ("e", "seed") if lane.get(key) is not None}
            told = ", ".join([lane["arm"], *([_listed(facts)] if facts else [])])
            raise NotMeasured(f"lane {lane['lane']} ({told}) diverged at step {lane['diverged_at']}")
    return chosen


def _listed(values: Mapping[str, float]) -> str:
    return ", ".join(f"{key} = {value:.4g}" for key, value in values.items())


def by_arm(pairs: Lanes) -> dict[str, Lanes]:
    """Lanes by arm, arms and lanes in the order given."""
    arms: dict[str, Lanes] = {}
    for pair in pairs:
        arms.setdefault(pair[0]["arm"], []).append(pair)
    return arms


def end(pairs: Lanes, name: str) -> NDArray[np.float64]:
    """The last record of an array in each lane."""
    return np.array([arrays[name][-1] for _, arrays in pairs], np.float64)


def differing(config: Mapping[str, Any] | Config, other: Mapping[str, Any] | Config) -> dict[str, Any]:
    """The dotted keys of `config` whose values are not those of `other` (nested or flat); None for a key that it lacks.

    Example:
        >>> differing({"steps": 9, "optimizer": {"name": "sgd"}}, {"steps": 4, "optimizer": {"name": "sgd"}, "seed": 0})
        {'steps': 9, 'seed': None}
    """
    ours, theirs = flatten(config), flatten(other)
    changed = {key: value for key, value in ours.items() if key not in theirs or theirs[key] != value}
    return changed | {key: None for key in theirs if key not in ours}


def on_cpu(run: RunResult) -> bool:
    """Whether all of a run was on CPUs, as one was that names no device.

    Example:
        >>> from types import SimpleNamespace
        >>> [on_cpu(SimpleNamespace(status={"device": d})) for d in ("CPU: 2 cores", "CPU: 2 cores, then 1 x NVIDIA H100")]
        [True, False]
    """
    return all(part.startswith("CPU") for part in str(run.status.get("device") or "CPU").split(", then "))


def lane_config(run: RunResult, lane: Mapping[str, Any]) -> Config:
    """The config of one lane: that of the run, with what is its own.

    That is stored in the lane's record, resolved. A run directory without it (of an earlier version) gets what the
    sweep and then the arm set, with durations as they were written.

    Args:
        run: whose `config` is read.
        lane: one of `run.lanes`.

    Returns:
        A frozen config without `sweep` and `arms`.

    Example:
        >>> from types import SimpleNamespace
        >>> run = SimpleNamespace(config={"seed": 0, "arms": {"heavy": {"optimizer": {"momentum": 0.9}}}})
        >>> flatten(lane_config(run, {"arm": "heavy", "values": {"seed": 3}}))
        {'optimizer.momentum': 0.9, 'seed': 3}
    """
    whole = {key: value for key, value in run.config.items() if key not in ("sweep", "arms")}
    stored = lane.get("config")
    if stored is None:
        arm = flatten(run.config.get("arms", {}).get(lane.get("arm"), {}))
        stored = {**lane.get("values", {}), **{key: arm[key] for key in arm if not key.startswith("sweep.")}}
    for dotted, value in stored.items():
        whole = _with(whole, dotted.split("."), value)
    return _frozen(json.dumps(whole))


@lru_cache(maxsize=4096)
def _frozen(text: str) -> Config:
    """Freezing takes far longer than reading, and a check asks for the config of the same lane many times."""
    return freeze(json.loads(text))


def _with(node: Mapping[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    first, *rest = path
    return {**node, first: _with(node.get(first, {}), rest, value) if rest else value}
