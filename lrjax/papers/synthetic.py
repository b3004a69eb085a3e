"""Synthetic run directories: what the checks of claims are tested on, see `lrjax.papers.error_rates`.

A paper's module `synthetic` has a dict `SYNTHETIC`, claim id -> `Synthetic`, with runs in memory whose lanes are those of the
experiment's own config: the effect as the claim states it, none, the reverse, and each premise broken in turn.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import lrjax.probes  # noqa: F401 -- those that configs name
from lrjax.experiment.config.canonical import to_json
from lrjax.experiment.config.load import load_config
from lrjax.experiment.loop.sweep import expand
from lrjax.experiment.rundir.files import parsed
from lrjax.experiment.rundir.metrics import RunResult

Draw = Callable[[float, np.random.Generator], RunResult]


@dataclass(frozen=True)
class Synthetic:
    """How the runs of one claim are drawn.

    Args:
        draw: (effect, generator) -> a run. Effect 1 is what the claim states, of the size it names; 0 is none, which for
            "the same" is a difference equal to the margin; -1 is the reverse.
        effect: the size of effect 1 and the deviation of seeds, in words.
        broken: premise name -> generator -> a run with the effect in which this premise does not hold.
        exact: the claim is mathematics: effect 0 is a wrong variant, and nothing is drawn at random.

    Example:
        >>> Synthetic(lambda effect, generator: None, "a ratio of 3, seeds 0.3 apart in its logarithm").exact
        False
    """

    draw: Draw
    effect: str
    broken: Mapping[str, Callable[[np.random.Generator], RunResult]] = field(default_factory=dict)
    exact: bool = False


@cache
def _expanded(paper: str, experiment: str, scale: str, overrides: tuple) -> tuple[dict[str, Any], tuple[dict, ...]]:
    config = load_config(f"configs/{paper}.py:{experiment},scale={scale}", dict(overrides))
    # Through JSON, as lanes of a run directory are: with lists for tuples, of which FrozenConfigDict takes none twice.
    records = json.loads(json.dumps([lane.record() for group in expand(config) for lane in group.lanes]))
    return parsed(to_json(config)), tuple(sorted(records, key=lambda record: record["lane"]))


def blank(paper: str, experiment: str, scale: str = "small", **overrides: Any) -> RunResult:
    """A finished run of an experiment, with its lanes and no arrays.

    Args:
        paper, experiment, scale: of the config.
        **overrides: of its keys, with `__` for a dot.

    Returns:
        A `RunResult` whose arrays are empty dicts, to be filled in the order of `lanes`.

    Example:
        >>> run = blank("break_even", "E3", sweep__seed=(0, 1, 2))
        >>> len(run.lanes), run.lanes[0]["arm"]
        (6, 'large_rate')
    """
    asked = tuple(sorted((key.replace("__", "."), value) for key, value in overrides.items()))
    config, records = _expanded(paper, experiment, scale, asked)
    lanes = [dict(record, diverged_at=None) for record in records]
    status = {"state": "done", "command": None, "wall_time_s": None, "version": None}
    return RunResult([], [{} for _ in lanes], status, Path(), dict(config), lanes)


def filled(run: RunResult, arrays_of: Callable[[dict[str, Any]], dict[str, np.ndarray]]) -> RunResult:
    """The run with arrays: `arrays_of` takes a lane's record.

    Example:
        >>> run = filled(blank("break_even", "E3"), lambda lane: {"step/loss": np.ones(lane["steps"])})
        >>> len(run.arrays[0]["step/loss"]) == run.lanes[0]["steps"]
        True
    """
    return run._replace(arrays=[arrays_of(lane) for lane in run.lanes])


def one_seed(run: RunResult) -> RunResult:
    """The same run with the lanes of its first seed: `seeds` does not hold.

    Example:
        >>> {lane["seed"] for lane in one_seed(blank("break_even", "E3", sweep__seed=(0, 1, 2))).lanes}
        {0}
    """
    first = run.lanes[0]["seed"]
    kept = [(lane, own) for lane, own in zip(run.lanes, run.arrays, strict=True) if lane["seed"] == first]
    lanes = [dict(lane, lane=index) for index, (lane, _) in enumerate(kept)]
    return run._replace(lanes=lanes, arrays=[own for _, own in kept])


def changed(run: RunResult, change: Callable[[dict[str, Any], dict[str, np.ndarray]], Any]) -> RunResult:
    """The run with a change to the arrays of each lane, which `change(lane, arrays)` makes in place, in copies.

    Example:
        >>> run = filled(blank("break_even", "E3"), lambda lane: {"x/y": np.ones(2)})
        >>> changed(run, lambda lane, arrays: arrays.update({"x/y": np.zeros(2)})).arrays[0]["x/y"].tolist()
        [0.0, 0.0]
    """
    copies = [{name: np.array(value) for name, value in own.items()} for own in run.arrays]
    for lane, own in zip(run.lanes, copies, strict=True):
        change(lane, own)
    return run._replace(arrays=copies)
