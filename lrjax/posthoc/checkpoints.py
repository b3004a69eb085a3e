"""The states of a run from its directory: which lanes and steps there are, and each of them. Reads, and changes nothing."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from lrjax import data
from lrjax.devices import parallel
from lrjax.errors import LrjaxError, check
from lrjax.experiment.config.canonical import Config, fingerprint, freeze, to_json, tuples
from lrjax.experiment.config.overrides import apply_overrides
from lrjax.experiment.loop import sweep
from lrjax.experiment.loop.block import Block
from lrjax.experiment.rundir.checkpoint import fitted, read, stored_steps
from lrjax.experiment.rundir.files import read_json
from lrjax.experiment.rundir.metrics import CHANGED, read_status
from lrjax.experiment.rundir.records import check_status
from lrjax.experiment.step.train_step import TrainState

KEEP = "train with --config.keep_checkpoints=all to keep every checkpoint"


class Stored(NamedTuple):
    """A run directory whose lanes can be rebuilt.

    Attributes:
        workdir: its path.
        config: as it was run, with settings of its own for measuring.
        status: status.json.
        groups: its lanes by static config, see `lrjax.experiment.loop.sweep.expand`.
        own: its own probes and settings for measuring.
    """

    workdir: Path
    config: Config
    status: dict[str, Any]
    groups: list[sweep.Group]
    own: dict[str, Any]

    def folder(self, block: int) -> Path:
        """The checkpoints of a block."""
        return self.workdir / "ckpt" / f"block-{block:03d}"


class Point(NamedTuple):
    """One lane at one step, on the host.

    Attributes:
        lane: with its config.
        static: of the lane's program.
        state: its state; `state.step` is the step.
        train: its training examples, name -> [n, ...].
        data: all of its data, as engines take it.
    """

    lane: sweep.Lane
    static: Config
    state: TrainState
    train: dict[str, Any]
    data: dict[str, Any]

    @property
    def step(self) -> int:
        """Updates done."""
        return int(self.state.step)


def open_run(workdir: str | Path, overrides: Mapping[str, Any] | None = None) -> Stored:
    """Rebuilds the lanes of a run from config.json and status.json.

    Args:
        workdir: of a run; it need not be finished, and another process may have it open.
        overrides: dotted config key -> value, for `spectra.*` and `data_dir`.

    Raises:
        LrjaxError: it holds no run, a damaged one, one of another version, or an override is wrong.
    """
    workdir = Path(workdir)
    check(workdir.is_dir(), f"there is no directory {workdir}; give the --workdir of a run")
    status = read_status(workdir)
    try:
        content = read_json(workdir / "config.json", dict, "restore it from another copy of the run")
    except FileNotFoundError:
        content = None
    if status is None or content is None:
        raise LrjaxError(
            f"{workdir} holds no run of lrjax (no status.json or config.json); give the --workdir of a run"
        )
    if "lanes" in status or not isinstance(status.get("blocks"), list):
        check_status(workdir / "status.json", status)
    check(status.get("config") in (None, fingerprint(content)), f"{workdir}: {CHANGED}; restore it from another copy")
    try:
        # The probe is what makes the settings be checked.
        config = ConfigDict(tuples(content) | {"probes": content["probes"] | {"spectrum": "end"}})
        apply_overrides(config, overrides or {})
        own = {"probes": dict.fromkeys(content["probes"], 0), "spectra": content["spectra"]}
        return Stored(workdir, config, status, sweep.expand(config), own)
    except (AttributeError, KeyError, TypeError) as error:
        made = status.get("version")
        raise LrjaxError(
            f"{workdir} was made by another lrjax ({made}): its config.json is of another shape ({error})"
        ) from error


def lanes_of(stored: Stored, wanted: Sequence[int] | None) -> list[int]:
    """The lanes asked for, all for None.

    Raises:
        LrjaxError: there is no such lane.
    """
    known = sorted(lane.index for group in stored.groups for lane in group.lanes)
    unknown = sorted(set(wanted or ()) - set(known))
    listed = ", ".join(map(str, unknown))
    check(not unknown, f"there is no lane {listed}; the lanes of {stored.workdir} are {known[0]}..{known[-1]}")
    return known if wanted is None else sorted(set(wanted))


def steps_of(stored: Stored, lanes: Sequence[int], wanted: Sequence[int] | None) -> dict[int, list[int]]:
    """Block -> its steps to measure: those asked for, or for None all that are stored, and 0, which needs no checkpoint.

    Raises:
        LrjaxError: nothing is stored, or a step of those asked for is not.
    """
    blocks = [number for number, members in enumerate(stored.status["blocks"]) if set(members) & set(lanes)]
    found = {number: sorted({0, *stored_steps(stored.folder(number))}) for number in blocks}
    known = sorted({step for steps in found.values() for step in steps})
    if wanted is None:
        check(known != [0], f"{stored.workdir} holds no checkpoints; measure --steps=0, or {KEEP}")
        return found
    missing = sorted(set(wanted) - set(known))
    listed = ", ".join(map(str, known))
    check(
        not missing, f"step {', '.join(map(str, missing))} is not stored for these lanes; stored are {listed}; {KEEP}"
    )
    return {number: [step for step in steps if step in wanted] for number, steps in found.items()}


def points(stored: Stored, lanes: Sequence[int], steps: Mapping[int, Sequence[int]]) -> Iterator[Point]:
    """Every lane at every step, a block after the other, on any number of devices.

    A lane that has ended, or diverged, comes once, as it stood then.

    Raises:
        LrjaxError: a damaged checkpoint, or one of other shapes.
    """
    loaded: tuple[Any, Any] = (None, None)
    for number, numbers in steps.items():
        members = stored.status["blocks"][number]
        group = next(group for group in stored.groups if any(lane.index in members for lane in group.lanes))
        chosen = [lane for lane in group.lanes if lane.index in members and lane.index in lanes]
        mesh = parallel.make_mesh(1, len(chosen), group.static.batch_size)
        if loaded[0] is not group:
            loaded = (group, _shared(group))
        shared = loaded[1]
        # With the run's own probes and settings, so that the program is the run's, whatever is asked for.
        plain = freeze(json.loads(to_json(group.static)) | stored.own)
        size = group.static.lanes_per_device * parallel.sweep_devices(mesh)
        for first in range(0, len(chosen), size):
            part = chosen[first : first + size]
            placed = None if shared is None else parallel.put_shared(shared, mesh)
            block = Block(number, group._replace(static=plain), part, mesh, placed)
            for point in _of_block(stored, block, members, numbers, shared):
                yield point._replace(static=group.static)


def _shared(group: sweep.Group) -> Any:
    source = data.DATASETS[group.static.data.name]
    return None if source.per_lane else {"train": source.load(group.lanes[0].config).train, "tests": {}}


def _of_block(stored: Stored, block: Block, members: list[int], steps: Sequence[int], shared: Any) -> Iterator[Point]:
    begin = parallel.fetch(block.program.init(block.hparams, block.data))
    own = parallel.fetch(block.data) if shared is None else {}
    seen: set[tuple[int, int]] = set()
    for step in steps:
        saved = None if step == 0 else read(stored.folder(block.number), step)[0]["state"]
        for place, lane in enumerate(block.lanes):
            state = _at(begin, place)
            if saved is not None:
                state = fitted(_at(saved, members.index(lane.index)), state)
            if state is None:
                raise LrjaxError(
                    f"the state of step {step} in {stored.folder(block.number)} is not one of this version's"
                )
            arrays = _at(own, place) if shared is None else shared
            point = Point(lane, block.static, state, arrays["train"], arrays)
            if (lane.index, point.step) not in seen:
                seen.add((lane.index, point.step))
                yield point


def _at(tree: Any, place: int) -> Any:
    return jax.tree.map(lambda array: np.asarray(array[place]), tree)
