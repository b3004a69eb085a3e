"""Branching: lanes that start from the state of another lane at a step.

A config says so by `start`: `arm` names the arm to begin from (its lane with the same swept values), `at` when, in that
lane's steps or epochs, and `what` is taken: "run" goes on with everything, as if the lane had made these steps itself;
"weights" takes parameters and running statistics, but those of the layers in `fresh`, and counts steps from 0. The lane
that is begun from leaves its state at that step in `ckpt/block-<number>-forks`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from lrjax.data import DATASETS
from lrjax.errors import by_path, check
from lrjax.experiment.config.canonical import flatten
from lrjax.experiment.rundir import checkpoint

WHAT = ("run", "weights")
# What may differ between a lane and the one whose run it goes on with.
FREE = ("schedule.", "start.", "probes.", "steps", "batch_size", "micro_batch", "log_every", "checkpoint_every")
FREE += (
    "rule.every",
    "keep_checkpoints",
    "arms.",
    "sweep.",
    "optimizer.learning_rate",
    "averaging_start",
    "averaging_decay",
    "model.activation_noise",
)


class Origin(NamedTuple):
    """Where a lane begins.

    Attributes:
        lane: index of the lane that it begins from.
        at: step of that lane.
        what: a word of `WHAT`.
        fresh: names of layers whose parameters are not taken.
        skip: added to the lane's own steps, it gives the place in its order of examples: an epoch of another batch size has
            another number of steps.
    """

    lane: int
    at: int
    what: str
    fresh: tuple[str, ...]
    skip: int

    @property
    def begin(self) -> int:
        """The own step at which the lane begins."""
        return self.at if self.what == "run" else 0


def forks(folder: Path, block: int) -> Path:
    """Where a block leaves the states that others begin from."""
    return folder / f"block-{block:03d}-forks"


def parent_of(lane: Any, lanes: Sequence[Any]) -> Any:
    """The lane that another begins from: of the arm that it names, with the same values where both are swept.

    Raises:
        LrjaxError: there is none, or more than one.
    """
    arm = lane.config.start.arm
    flat = flatten(lane.config)

    def agrees(other: Any) -> bool:
        return all(lane.values.get(key, flat.get(key)) == value for key, value in other.values.items())

    found = [other for other in lanes if other.arm == arm and other.index != lane.index and agrees(other)]
    swept = ", ".join(f"{key}={value}" for key, value in lane.values.items())
    check(
        len(found) == 1,
        f"start.arm={arm!r} of arm {lane.arm!r} must name one lane at {swept or 'its values'}, and it names {len(found)}; "
        "name an arm of this experiment that is swept over the same keys",
    )
    return found[0]


def origin_of(lane: Any, lanes: Sequence[Any], seen: tuple[int, ...] = ()) -> Origin | None:
    """Where a lane begins, None where it begins by itself.

    Raises:
        LrjaxError: it cannot begin there.
    """
    from lrjax.experiment.config.durations import to_steps

    start = lane.config.start
    if not start.arm:
        return None
    check(lane.index not in seen, f"arm {lane.arm!r} begins from itself, by start.arm")
    check(start.what in WHAT, f"start.what={start.what!r} must be one of {', '.join(WHAT)}")
    parent = parent_of(lane, lanes)
    before = origin_of(parent, lanes, (*seen, lane.index))
    config = parent.config
    epoch = DATASETS[config.data.name].num_train(config) // config.batch_size
    at = config.steps if start.at == "end" else to_steps(start.at, max(1, epoch), "start.at")
    inside = 0 < at <= config.steps and at % config.log_every == 0
    check(
        inside,
        f"start.at={start.at} of arm {lane.arm!r} is step {at}; it must be a multiple of log_every={config.log_every} of arm "
        f"{parent.arm!r} in 1..{config.steps}",
    )
    if start.what == "run":
        _check_same_run(lane, parent, at)
    skip = 0
    if start.what == "run" and lane.config.batch_size != config.batch_size:
        own_epoch = DATASETS[config.data.name].num_train(config) // lane.config.batch_size
        skip = round((at + (before.skip if before else 0)) / epoch * own_epoch) - at
    return Origin(parent.index, at, start.what, tuple(start.fresh), skip)


def _check_same_run(lane: Any, parent: Any, at: int) -> None:
    """Refuses to go on with a run that the lane could not have made."""
    mine, theirs = flatten(lane.config), flatten(parent.config)
    different = sorted(
        key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key) and not key.startswith(FREE)
    )
    check(
        not different,
        f"arm {lane.arm!r} cannot go on with the run of {parent.arm!r}: they differ in {', '.join(different[:3])}; set them "
        "alike, or take start.what='weights'",
    )
    check(
        lane.config.steps > at and at % lane.config.log_every == 0,
        f"arm {lane.arm!r} begins at step {at}; its steps={lane.config.steps} must be more, and its log_every="
        f"{lane.config.log_every} must divide it",
    )
    same = lane.config.batch_size != parent.config.batch_size or np.array_equal(
        lane.learning_rates()[:at], parent.learning_rates()[:at]
    )
    check(same, f"arm {lane.arm!r} begins at step {at} of {parent.arm!r}, but their learning rates differ before that")


def depth(lane: Any, lanes: Mapping[int, Any]) -> int:
    """How many lanes a lane begins from, one after the other."""
    count = 0
    while lane.origin is not None:
        lane, count = lanes[lane.origin.lane], count + 1
    return count


def _taken(path: str, origin: Origin) -> bool:
    if origin.what == "run":
        return True
    section, stored, *layers = path.split("/")
    of_weights = section == "state" and stored in ("params", "model_state")
    return of_weights and not set(layers) & set(origin.fresh)


def begun(template: Any, origins: Sequence[Origin], places: Sequence[tuple[Path, int]]) -> Any:
    """The state in which a block of lanes begins.

    Args:
        template: `lrjax.experiment.loop.block.Saved` as if the lanes began by themselves, arrays `[size, ...]`.
        origins: where each lane begins; the rest of the block repeats the last one.
        places: folder of the forks and place in its block of each lane that is begun from.

    Raises:
        LrjaxError: a fork is damaged, or of another shape.
    """
    leaves = {path: np.array(array) for path, array in by_path(template).items()}
    size = len(next(iter(leaves.values())))
    sources: dict[tuple[Path, int], dict[str, Any]] = {}
    for number in range(size):
        own = min(number, len(origins) - 1)
        origin, (folder, place) = origins[own], places[own]
        if (folder, origin.at) not in sources:
            sources[folder, origin.at] = by_path(checkpoint.read(folder, origin.at)[0])
        stored = sources[folder, origin.at]
        for path, array in leaves.items():
            if _taken(path, origin):
                check(
                    path in stored and stored[path].shape[1:] == array.shape[1:],
                    f"{path} does not fit what lane {origin.lane} left at step {origin.at}; name its layer in start.fresh, or "
                    "set model and optimizer alike",
                )
                array[number] = stored[path][place]
    return jax.tree.unflatten(jax.tree.structure(template), list(leaves.values()))
