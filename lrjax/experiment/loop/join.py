"""Runs of one experiment that differ in their seeds alone, joined into the run that had all the seeds at once.

Lanes depend on no other lane but the one that they begin from, which has the same seed, so that nothing is computed anew: lanes
get the numbers that they would have had, and everything that names a lane follows.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from lrjax.errors import LrjaxError, check, refuse
from lrjax.experiment.config.canonical import fingerprint, flatten, to_json, tuples
from lrjax.experiment.loop.points import points
from lrjax.experiment.rundir.files import read_json
from lrjax.experiment.rundir.lanes import check_whole
from lrjax.experiment.rundir.metrics import RunResult, read_status

Place = tuple[int, int]  # number of a run, lane in it
FREE = ("sweep.seed", "data_dir")  # keys in which the configs of joined runs may differ
SHOWN = 3  # keys that a message names
OF_CODE = ("commit", "changed", "code")
OF_RUN = ("version", *OF_CODE, "device", "started", "wall_time_s")  # what is kept of each


def join_seeds(runs: Sequence[RunResult]) -> RunResult:
    """Joins whole runs of one experiment that differ in their seeds alone; their order does not matter.

    Args:
        runs: two or more, from `lrjax.load_run`.

    Returns:
        The run that had all the seeds, in increasing order. Its wall time is the sum, `status["joined"]` has for each run
        its directory, seeds, version, device and wall time, and `workdir` is that of the lowest seed.

    Raises:
        LrjaxError: there are fewer than two, one is not whole or sweeps no seed, two have the same seed, or they differ in
            a key of the config, in the kind of their device, or in the precision of an array.

    Example:
        >>> import lrjax, tempfile
        >>> def of(*seeds):
        ...     overrides = {"sweep.e": (0.5,), "sweep.seed": seeds, "steps": 300}
        ...     return lrjax.run(lrjax.load_config("configs/benign_osc.py:E1,scale=smoke", overrides), tempfile.mkdtemp())
        >>> joined, at_once = join_seeds([of(1), of(0)]), of(0, 1)
        >>> joined.lanes == at_once.lanes, joined.config["sweep"]["seed"]
        (True, [0, 1])
        >>> all((one["step/loss"] == two["step/loss"]).all() for one, two in zip(joined.arrays, at_once.arrays))
        True
    """
    check(len(runs) > 1, f"to join runs takes two or more, not {len(runs)}; name their directories")
    for run in runs:
        check_whole(run)
    own = [seeds_of(run.config, str(run.workdir)) for run in runs]
    runs = [runs[number] for number in sorted(range(len(runs)), key=lambda number: own[number])]
    for run in runs[1:]:
        _check_alike(runs[0], run)
    seeds = _all_seeds(runs)
    config = runs[0].config | {"sweep": runs[0].config["sweep"] | {"seed": seeds}}
    order = _order(runs, config)
    numbers = {place: number for number, place in enumerate(order)}
    lanes = [_lane(runs[number].lanes[index], number, numbers) for number, index in order]
    rows = [row | {"lane": numbers[number, row["lane"]]} for number, run in enumerate(runs) for row in run.metrics]
    blocks = [
        [numbers[number, i] for i in block] for number, run in enumerate(runs) for block in run.status.get("blocks", ())
    ]
    return RunResult(
        metrics=sorted(rows, key=lambda row: (row["step"], row["lane"])),
        arrays=[runs[number].arrays[index] for number, index in order],
        status=_status(runs) | {"config": fingerprint(config), "lanes": lanes, "blocks": blocks},
        workdir=runs[0].workdir,
        config=config,
        lanes=lanes,
    )


def seeds_of(config: Mapping[str, Any], name: str = "the run") -> tuple[int, ...]:
    """The seeds of a run, as its sweep has them.

    Args:
        config: of the run, as JSON.
        name: of the run, for the message.

    Raises:
        LrjaxError: its sweep has no axis `seed`.

    Example:
        >>> seeds_of({"sweep": {"seed": [0, 1]}})
        (0, 1)
    """
    sweep = config.get("sweep")
    seeds = sweep.get("seed") if isinstance(sweep, Mapping) else None
    seeds = (seeds,) if type(seeds) is int else tuple(seeds or ()) if isinstance(seeds, (list, tuple)) else ()
    if not seeds or not all(type(seed) is int for seed in seeds):
        refuse(
            f"{name} has no axis seed in its sweep, so that it cannot be joined; run it with --config.sweep.seed='(0,)'"
        )
    return seeds


def joinable(folders: Iterable[Path]) -> list[list[Path]]:
    """Of some directories those of finished runs whose configs differ in their seeds alone, two or more together.

    Args:
        folders: run directories; one that holds no finished run is left out.
    """
    found: dict[str, dict[tuple[int, ...], Path]] = {}
    for folder in folders:
        try:
            if (read_status(folder) or {}).get("state") != "done":
                continue
            config = read_json(folder / "config.json", dict)
            seeds = seeds_of(config)
        except (OSError, LrjaxError):
            continue
        found.setdefault(fingerprint(config | {"sweep": config["sweep"] | {"seed": []}}), {}).setdefault(seeds, folder)
    apart = [own for own in found.values() if len({s for seeds in own for s in seeds}) == sum(map(len, own))]
    return [[folder for _, folder in sorted(own.items())] for own in apart if len(own) > 1]


def _check_alike(run: RunResult, other: RunResult) -> None:
    """Refuses two runs that are not one experiment, on one kind of device, in one precision."""
    ours, theirs = flatten(run.config), flatten(other.config)
    keys = [key for key in {**ours, **theirs} if key not in FREE and ours.get(key, ...) != theirs.get(key, ...)]
    named = [key for key in ("paper", "experiment", "scale") if key in keys] or sorted(keys)
    told = [f"{key} ({_told(ours, key)} and {_told(theirs, key)})" for key in named[:SHOWN]]
    told += [f"{len(named) - SHOWN} more"] if len(named) > SHOWN else []
    both = f"{run.workdir} and {other.workdir}"
    check(not told, f"{both} differ in {', '.join(told)}; only runs that differ in sweep.seed alone can be joined")
    one, two = (_kind(each.status.get("device")) for each in (run, other))
    check(
        one == two,
        f"{both} ran on different devices ({one} and {two}), whose numbers are not those of one run; run all seeds on one",
    )
    mine, others = _types(run), _types(other)
    name = next((name for name in mine if others.get(name, mine[name]) != mine[name]), None)
    if name is not None:
        refuse(f"{both} differ in precision ({name} is {mine[name]} and {others[name]}); run all seeds in one")


def _told(flat: Mapping[str, Any], key: str) -> str:
    return str(flat[key])[:40] if key in flat else "not set"


def _kind(device: Any) -> str:
    """A device without how many there were: a lane's numbers do not depend on that.

    Example:
        >>> [_kind(device) for device in ("2 x NVIDIA H200", "CPU: 4 cores", "CPU: 1 core, then 1 x NVIDIA H100", None)]
        ['NVIDIA H200', 'CPU', 'CPU, then NVIDIA H100', 'unknown']
    """
    return re.sub(r"\b\d+ x |: \d+ cores?\b| \(\d+ processes\)", "", str(device or "unknown"))


def _types(run: RunResult) -> dict[str, str]:
    """The types of a run's arrays, by name."""
    return {name: str(np.asarray(array).dtype) for arrays in run.arrays for name, array in arrays.items()}


def _all_seeds(runs: Sequence[RunResult]) -> list[int]:
    first: dict[int, RunResult] = {}
    for run in runs:
        for seed in seeds_of(run.config):
            other = first.setdefault(seed, run)
            check(other is run, f"{other.workdir} and {run.workdir} both have seed {seed}; leave one of them out")
    return sorted(first)


def _order(runs: Sequence[RunResult], config: Mapping[str, Any]) -> list[Place]:
    """Where each lane of the joined run is now, in the order in which a run with this config has its lanes."""
    places: dict[str, list[Place]] = {}
    for number, run in enumerate(runs):
        for lane in run.lanes:
            places.setdefault(to_json({"arm": lane["arm"], "values": lane["values"]}), []).append(
                (number, lane["lane"])
            )
    order = []
    for arm, values, _ in points(ConfigDict(tuples(config))):
        found = places.pop(to_json({"arm": arm, "values": values}), [])
        if len(found) > 1:
            refuse(
                f"arm {arm!r} sets its seed itself, so that each run has the same lanes of it; they cannot be joined"
            )
        order += found
    check(
        not places and len(order) == sum(len(run.lanes) for run in runs),
        f"{runs[0].workdir} and the runs beside it do not have the lanes of their configs; run them with this version of lrjax",
    )
    return order


def _lane(lane: Mapping[str, Any], number: int, numbers: Mapping[Place, int]) -> dict[str, Any]:
    """The record of a lane under its new number; the lane that it begins from is one of the same run."""
    start = lane.get("start")
    renumbered = {"start": start | {"lane": numbers[number, start["lane"]]}} if start else {}
    return {**lane, "lane": numbers[number, lane["lane"]], **renumbered}


def _status(runs: Sequence[RunResult]) -> dict[str, Any]:
    """The facts of the joined run: those of its code that all runs share, and in `joined` those of each."""
    each = [run.status for run in runs]

    def known(key: str) -> list[Any]:
        return [own[key] for own in each if own.get(key) is not None]

    def by_all(key: str) -> bool:
        return len(known(key)) == len(runs)

    versions = known("versions")
    packages = dict.fromkeys(name for own in versions for name in own)
    status = {
        "state": "done",
        "wall_time_s": round(sum(known("wall_time_s")), 2) if by_all("wall_time_s") else None,
        "command": " && ".join(known("command")) if by_all("command") else None,
        "version": _listed(known("version"), ", "),
        "device": _listed(known("device"), ", then "),
        "versions": {name: _listed([own[name] for own in versions if name in own], ", ") for name in packages},
        "started": min(known("started"), default=None),
        "joined": [one for run in runs for one in run.status.get("joined") or [_origin(run)]],
    }
    status |= {key: known(key)[0] for key in OF_CODE if by_all(key) and len(set(known(key))) == 1}
    return {key: value for key, value in status.items() if value is not None}


def _origin(run: RunResult) -> dict[str, Any]:
    of_run = {key: run.status[key] for key in OF_RUN if key in run.status}
    return {"workdir": str(run.workdir), "seeds": list(seeds_of(run.config))} | of_run


def _listed(values: Iterable[str], between: str) -> str | None:
    return between.join(dict.fromkeys(values)) or None
