"""Probes: measurements during training, and the registry that a config names them by.

The loop calls them; `lrjax.probes` brings those of lrjax, and others add theirs to `PROBES`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax.sharding import Mesh

from lrjax.experiment.config.canonical import Config
from lrjax.experiment.step.hparams import HParams
from lrjax.experiment.step.train_step import Engine, TrainState


def _nothing(state: TrainState, hparams: HParams, data: Any) -> tuple:
    return ()


class Probe(NamedTuple):
    """How to measure a block of lanes. It changes nothing in the run, but may remember what it found.

    Attributes:
        measure: `(state, hparams, data, memory, live) -> (arrays, memory)`: arrays by name, each [lanes, ...]. The first `live`
            lanes are runs, the others fill up the block. One number a lane is also written to metrics.jsonl.
        start: `(state, hparams, data) -> memory` before the first measurement: a pytree of arrays [lanes, ...], () for none.
            Checkpoints hold it, so that a run that goes on measures the same bits.
    """

    measure: Callable[[TrainState, Any, Any, Any, int], tuple[dict[str, Any], Any]]
    start: Callable[[TrainState, Any, Any], Any] = _nothing


def without_memory(function: Callable[[TrainState, Any, Any], dict[str, Any]]) -> Probe:
    """A probe from a function of what there is now.

    Example:
        >>> without_memory(lambda state, hparams, data: {"twice": 2 * state}).measure(3, {}, {}, (), 1)
        ({'twice': 6}, ())
    """
    return Probe(lambda state, hparams, data, memory, live: (function(state, hparams, data), memory))


def versions(static: Config, state: TrainState) -> dict[str, Any]:
    """The parameters to measure: those of the last step and, where it is kept, their average ("averaged_" names)."""
    return {"": state.params} | ({} if static.averaging is None else {"averaged_": state.average})


# name -> (static, engine, mesh) -> Probe
PROBES: dict[str, Callable[[Any, Engine, Mesh], Probe]] = {}
# name -> (config, training examples in memory) -> None; raises LrjaxError where the probe cannot be measured in that run
CHECKS: dict[str, Callable[[Config, int], None]] = {}
