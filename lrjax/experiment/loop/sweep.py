"""Expands an experiment into lanes, and groups the lanes that share one compiled program."""

import copy
import inspect
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from lrjax import data
from lrjax.errors import LrjaxError, check
from lrjax.experiment.config.axes import Point, as_axes, chain, without
from lrjax.experiment.config.canonical import Config, flatten, freeze, to_json
from lrjax.experiment.config.load import load_config, read_spec
from lrjax.experiment.config.overrides import OPEN, apply_overrides, replace
from lrjax.experiment.config.reach import Design, design_of
from lrjax.experiment.loop import branch
from lrjax.experiment.loop.points import points
from lrjax.experiment.loop.resolve import resolve
from lrjax.experiment.rundir.lanes import differing
from lrjax.experiment.step.engines import ENGINES
from lrjax.experiment.step.representation import Coefficients
from lrjax.experiment.step.representation import coefficients as coefficients_of
from lrjax.experiment.step.schedules import table

ARRAYS = {"seed", "label_noise", "averaging_decay", "averaging_start", "divergence_loss"}
ARRAYS |= {"model.init_scale", "model.strong_start", "model.weak_start"}
PER_LANE = ("steps", "e", "order", "schedule", "correct_buffer", "start")  # become tables of the lane, or masks
NAMES = ("paper", "experiment", "scale", "sweep", "arms")


class Lane(NamedTuple):
    """One run of a sweep."""

    index: int
    arm: str
    values: dict[str, Any]  # what the sweep set
    config: Config  # resolved
    origin: branch.Origin | None = None  # where it begins, if not by itself
    changed: Point = {}  # dotted key -> resolved value, where it is not that of the run's config

    @property
    def begin(self) -> int:
        """The step at which it begins: what comes before is another lane's."""
        return self.origin.begin if self.origin else 0

    def hparams(self) -> dict[str, Any]:
        """The numbers that are arguments of the compiled step: dotted key -> scalar."""
        flat = flatten(self.config)
        return {key: np.asarray(flat[key], _dtype(key)) for key in sorted(_array_keys(flat))}

    def learning_rates(self) -> np.ndarray:
        """The lane's schedule as a table: float32 [steps]."""
        return table(self.config.schedule, self.config.optimizer.learning_rate, self.config.steps)

    def coefficients(self) -> Coefficients:
        """What each step reads beside its rate, in the lane's representation: arrays [steps]."""
        return coefficients_of(self.config, self.learning_rates())

    def record(self) -> dict[str, Any]:
        """What the run directory says of the lane before it has run."""
        config = self.config
        record = {
            "lane": self.index,
            "arm": self.arm,
            "seed": config.seed,
            "values": self.values,
            "steps": config.steps,
        }
        record["learning_rate"] = config.optimizer.learning_rate
        if self.origin:
            record["start"] = {"lane": self.origin.lane, "at": self.origin.at, "what": self.origin.what}
        return record | ({"e": config.e} if "e" in config else {}) | {"config": self.changed}


class Group(NamedTuple):
    """Lanes that one compiled program runs."""

    static: Config
    lanes: list[Lane]


def _dtype(key: str) -> Any:
    integers = {"seed": np.uint32, "averaging_start": np.int32, "data.n_weak": np.int32}
    return integers.get(key, jax.dtypes.canonicalize_dtype(np.float64))


def _array_keys(flat: dict[str, Any]) -> set[str]:
    def is_number(key: str) -> bool:
        return isinstance(flat.get(key), (int, float)) and not isinstance(flat[key], bool)

    named = ARRAYS | set(data.DATASETS[flat["data.name"]].arrays)
    return {key for key in flat if is_number(key) and (key in named or key.startswith("optimizer."))}


def static_of(config: Config) -> dict[str, Any]:
    """What is compiled in of a resolved config, as JSON: no names, no per-lane tables, no hparams.

    An array number is absent, so that reading it there fails; "arrays" lists the dotted keys of those that there are.
    """
    content = json.loads(to_json(config))
    for key in (*NAMES, *PER_LANE):
        content.pop(key, None)
    if content["representation"] != "weight_decay":
        content["representation"] = "wd_free"  # one program: they differ in their tables
    content["l2_schedule"] = {"name": content["l2_schedule"]["name"]}  # whether the step reads a table of l2
    content["arrays"] = sorted(_array_keys(flatten(config)))
    for key in content["arrays"]:
        *path, leaf = key.split(".")
        node = content
        for part in path:
            node = node[part]
        del node[leaf]
    return content


def expand(config: Config) -> list[Group]:
    """Resolves every lane of an experiment and groups lanes by their static part, in the order of their first lane.

    Raises:
        LrjaxError: a lane's config is wrong.
    """
    groups: dict[str, Group] = {}
    lanes = []
    alone = copy.deepcopy(config)
    for key in ("sweep", "arms"):  # a thousand values that each of a thousand lanes would copy
        replace(alone, key, ConfigDict())
    written = flatten(freeze(alone))  # frozen as lanes are: with tuples for lists
    for index, (arm, values, overrides) in enumerate(points(config)):
        lane_config = apply_overrides(copy.deepcopy(alone), {**values, **overrides})
        resolved = resolve(lane_config)
        # Probes as they were written: resolved, each would differ in each lane, and "<probe>/step" has the steps.
        changed = differing({**resolved, "probes": lane_config.probes}, written)
        lanes.append(Lane(index, arm, values, resolved, changed=changed))
        lanes[-1].coefficients()  # refuses a rate that its representation does not have
    _check_distinct(lanes)
    for lane in [lane._replace(origin=branch.origin_of(lane, lanes)) for lane in lanes]:
        static = static_of(lane.config)
        key = to_json(static)
        if key not in groups:
            groups[key] = Group(freeze(static), [])
            _check_engine(groups[key].static, lane.config)
        groups[key].lanes.append(lane)
    return list(groups.values())


def _check_distinct(lanes: list[Lane]) -> None:
    """Refuses two lanes of an arm that are one and the same run: as two seeds they would look surer than they are."""
    first: dict[Any, Lane] = {}
    for lane in lanes:
        same = first.setdefault((lane.arm, repr(sorted(lane.changed.items()))), lane)
        if same is not lane:
            one, other = (", ".join(f"{k}={v!r}" for k, v in which.values.items()) for which in (same, lane))
            raise LrjaxError(
                f"the sweep has the same run twice in arm {lane.arm!r}, at {one} and at {other}; leave one out"
            )


def declared(spec: str) -> list[Point]:
    """The points of the `sweep()` in a config file; one that sets nothing where the file has none.

    Args:
        spec: as of `lrjax.load_config`. A `sweep` with parameters `experiment` or `scale` is given those.

    Raises:
        LrjaxError: no such config, or `sweep()` gives something else than points.

    Example:
        >>> declared("configs/benign_osc.py")
        [{}]
    """
    module, experiment, scale = read_spec(spec)
    if not hasattr(module, "sweep"):
        return [{}]
    known = {"experiment": experiment, "scale": scale}
    names = inspect.signature(module.sweep).parameters
    check(set(names) <= set(known), f"sweep({', '.join(names)}) in {spec}: it may take experiment and scale, no more")
    found = module.sweep(**{name: known[name] for name in names})
    right = isinstance(found, (list, tuple)) and len(found) > 0 and all(isinstance(p, Mapping) for p in found)
    check(right, f"sweep() in {spec} gives no points; return grid(...), zipped(...), chain(...) or crossed(...)")
    return list(found)


def runs(spec: str, chosen: Iterable[Point], overrides: Mapping[str, Any] | None = None, most: int = 0) -> list[Point]:
    """The runs that the points of a sweep need: those that differ in array values alone share one compiled program.

    Points that set different keys, or keys of arms, probes or the sweep itself, are runs of their own.

    Args:
        spec: as of `lrjax.load_config`.
        chosen: points, see `lrjax.experiment.config.axes`.
        overrides: of all of them; a point's own value comes first.
        most: points of a run at most; 0: no limit.

    Returns:
        The overrides of each run, as `lrjax.load_config` takes them: the points that share it are axes of its sweep.

    Raises:
        LrjaxError: a point has an unknown key or a wrong value.

    Example:
        >>> import lrjax.probes  # registers the probes that configs name
        >>> from lrjax.experiment.config.axes import grid
        >>> runs("configs/benign_osc.py", grid({"batch_size": (1, 2), "seed": (0, 1)}))
        [{'batch_size': 1, 'sweep.seed': (0, 1)}, {'batch_size': 2, 'sweep.seed': (0, 1)}]
    """
    groups: dict[Any, list[Point]] = {}
    design = design_of(load_config(spec, overrides))
    for point in chain(chosen):
        named = [key for key in point if key in NAMES]
        check(not named, f"{named} cannot be swept; name another experiment or scale in --config")
        try:
            program = _programs(load_config(spec, _over(overrides or {}, point) | _placed(point, design)))
        except LrjaxError as error:
            raise LrjaxError(f"the sweep at {', '.join(f'{k}={v!r}' for k, v in point.items())}: {error}") from error
        own = {key: value for key, value in point.items() if key.split(".")[0] in OPEN}
        groups.setdefault((program, tuple(sorted(point)), repr(sorted(own.items()))), []).append(point)
    shared = []
    for members in groups.values():
        size = most or len(members)
        shared += [members[start : start + size] for start in range(0, len(members), size)]
    return [_over(overrides or {}, members[0]) | _placed(_together(members), design) for members in shared]


def _placed(point: Point, design: Design) -> Point:
    """A point's value in the place of the experiment's own axis, where an arm stands beside that axis."""
    beside = {key for own in design.arms.values() for key in own if key in design.axes}
    return {f"sweep.{k}" if k in beside else k: (value,) if k in beside else value for k, value in point.items()}


def _over(overrides: Mapping[str, Any], point: Point) -> Point:
    """The overrides less what a point sets itself."""
    axes = {key.removeprefix("sweep."): value for key, value in overrides.items() if key.startswith("sweep.")}
    values = {key: value for key, value in overrides.items() if not key.startswith("sweep.") and key not in point}
    return values | {f"sweep.{key}": value for key, value in without(axes, point).items()}


def _together(members: list[Point]) -> Point:
    """What the points of one run have in common, and the axes along which they differ."""
    common = {key: value for key, value in members[0].items() if all(value == point[key] for point in members)}
    varying = [{key: value for key, value in point.items() if key not in common} for point in members]
    axes = as_axes(varying) if varying[0] else {}
    return common | {f"sweep.{key}": values for key, values in axes.items()}


def _programs(config: Config) -> tuple[str, ...]:
    """What tells the programs of a config apart, read off one lane of each arm."""
    firsts = {arm: {**values, **overrides} for arm, values, overrides in reversed(points(config))}
    return tuple(to_json(static_of(resolve(apply_overrides(copy.deepcopy(config), own)))) for own in firsts.values())


def _check_engine(static: Config, config: Config) -> None:
    """Lets the engine refuse the model, its options or the optimizer before anything is written."""
    ENGINES[static.engine](static, data.DATASETS[static.data.name].spec(config).num_classes)


def blocks(group: Group, size: int) -> list[list[Lane]]:
    """Lanes in blocks of at most `size`, longest first, so that a block's lanes end at about the same step.

    Lanes of one block begin at the same step, and in the same way.
    """
    ordered = sorted(group.lanes, key=lambda lane: -lane.config.steps)
    alike: dict[Any, list[Lane]] = {}
    for lane in ordered:
        alike.setdefault((lane.begin, lane.origin and (lane.origin.what, lane.arm)), []).append(lane)
    return [own[i : i + size] for own in alike.values() for i in range(0, len(own), size)]


def stacked(lanes: list[Lane], size: int) -> dict[str, np.ndarray]:
    """The lanes' hyper-parameters, each [size]; missing lanes repeat the last one (and are never active)."""
    rows = [lane.hparams() for lane in lanes]
    rows += [rows[-1]] * (size - len(rows))
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}
