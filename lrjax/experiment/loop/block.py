"""A block of lanes: the compiled program it runs, and one chunk of steps of it."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from lrjax import data, models
from lrjax.data.order import Orders
from lrjax.data.streaming import Feed
from lrjax.devices import parallel
from lrjax.experiment.config.canonical import Config, freeze
from lrjax.experiment.config.durations import due
from lrjax.experiment.loop import branch, full_device, sweep
from lrjax.experiment.loop.probe import PROBES, Probe
from lrjax.experiment.step import representation
from lrjax.experiment.step.engines import ENGINES
from lrjax.experiment.step.hparams import HParams
from lrjax.experiment.step.scale import require_invariance
from lrjax.experiment.step.train_step import StepInputs, TrainState, init_state, row_metrics, train_step

PROBED = 16  # examples on which a network must not depend on the scale of its weights


class Program(NamedTuple):
    """What is compiled for one static config on one mesh; every hparam is an argument."""

    init: Callable  # (hparams, data) -> TrainState
    advance: Callable  # (state, hparams, data, rows) -> (state, metrics [lanes, K])
    generate: Callable | None  # hparams -> data, where each lane has its own
    rescale: Callable | None  # state -> state between chunks, where weights grow without end
    probes: dict[str, Probe]


@functools.lru_cache(maxsize=64)
def _program(static: Config, mesh: Mesh) -> Program:
    source = data.DATASETS[static.data.name]
    engine = ENGINES[static.engine](static, static.data.num_classes, parallel.batch_sharder(mesh))
    shared = () if source.per_lane else (1,)
    loop = static.lane_loop

    def advance(state: Any, hparams: HParams, arrays: Any, rows: StepInputs) -> Any:
        if static.step_loop == "host":
            state, metrics = train_step(engine, static, state, hparams, arrays, jax.tree.map(lambda a: a[0], rows))
            return state, jax.tree.map(lambda a: a[None], metrics)
        known = (
            row_metrics(rows) if static.rule.name == "none" else {}
        )  # before the steps, so that the scan need not carry it out

        def one(state: Any, row: StepInputs) -> Any:
            state, metrics = train_step(engine, static, state, hparams, arrays, row)
            return state, {name: value for name, value in metrics.items() if name not in known}

        state, metrics = jax.lax.scan(one, state, rows)
        return state, metrics | known

    return Program(
        init=parallel.lanes(lambda h, d: init_state(engine, static, h, d), mesh, loop, shared=shared, alone=True),
        advance=parallel.lanes(advance, mesh, loop, shared=tuple(i + 1 for i in shared), donate=(0,)),
        generate=parallel.lanes(lambda h: source.load(static, h), mesh, loop) if source.per_lane else None,
        rescale=None
        if static.representation == "weight_decay"
        else parallel.lanes(representation.rescaled, mesh, loop, donate=(0,)),
        probes={name: PROBES[name](static, engine, mesh) for name in static.probes},
    )


def program(static: Config, mesh: Mesh) -> Program:
    """The compiled functions of a static config; the same object for equal configs, so nothing compiles twice.

    Data that all lanes share is an argument too: its settings are no part of the program.
    """
    content = static.to_dict()
    source = data.DATASETS[static.data.name]
    if not source.per_lane:
        content["data"] = {"name": static.data.name}
    if content["lane_loop"] == "auto":
        content["lane_loop"] = parallel.best_lane_loop(static.engine)
    content["probes"] = dict.fromkeys(content["probes"], 0)  # when to measure or save is the loop's affair
    content["checkpoint_every"] = content["keep_checkpoints"] = 0
    content["data"]["num_classes"] = source.spec(static).num_classes
    return _program(freeze(content | {"data_dir": ""}), mesh)


def rows_of(index: np.ndarray, tables: list["ScheduleTable"], start: int) -> StepInputs:
    """What the steps from `start` on of a padded block of lanes read: indices, rates, activity, coefficients.

    Args:
        index: of the examples, int32 [lanes, steps, batch].
    """
    size, count = index.shape[:2]

    def rows(*columns: np.ndarray) -> np.ndarray:
        block = np.zeros((size, count), columns[0].dtype)
        for place, column in enumerate(columns):
            own = column[start : start + count]
            block[place, : own.size] = own
        return block

    active = rows(*(np.ones(own.rates.size, bool) for own in tables))
    return StepInputs(
        index, rows(*(t.rates for t in tables)), active, jax.tree.map(rows, *(t.coefficients for t in tables))
    )


class ScheduleTable(NamedTuple):
    """What a lane reads step by step, for all its steps."""

    rates: np.ndarray  # [steps]
    coefficients: representation.Coefficients  # arrays [steps]


class Saved(NamedTuple):
    """What a checkpoint of a block holds: every lane's state, and what each probe remembers."""

    state: TrainState
    memory: dict[str, Any]


class Block:
    """A block of lanes on its way through the loop: what it needs beside its state."""

    def __init__(self, number: int, group: sweep.Group, lanes: list[sweep.Lane], mesh: Mesh, shared_data: Any):
        static = group.static
        self.number, self.lanes, self.static, self.mesh = number, lanes, static, mesh
        self.size = static.lanes_per_device * parallel.sweep_devices(mesh)
        self.program = program(static, mesh)
        self.hparams = parallel.put_lanes(sweep.stacked(lanes, self.size), mesh)
        self.data = self.program.generate(self.hparams) if self.program.generate else shared_data
        configs = [lane.config for lane in lanes] + [lanes[-1].config] * (self.size - len(lanes))
        num_train = data.DATASETS[static.data.name].num_train(lanes[0].config)
        self.orders = Orders([c.seed for c in configs], [c.order for c in configs], num_train, static.batch_size)
        self.tables = [ScheduleTable(lane.learning_rates(), lane.coefficients()) for lane in lanes]
        self.chunk = static.log_every
        self.length = -(-max(table.rates.size for table in self.tables) // self.chunk) * self.chunk
        self.begin = lanes[0].begin
        self.orders.skip = lanes[0].origin.skip if lanes[0].origin else 0
        stream = data.DATASETS[static.data.name].stream(lanes[0].config)
        self.feed = Feed(self.orders, stream, self.chunk, self.length) if stream else None
        self.places: list = []  # where the states lie that the lanes begin from: see `lrjax.experiment.loop.branch`
        self.forks: frozenset[int] = frozenset()  # steps whose state other lanes begin from

    def start(self) -> Saved:
        """Where a run begins, on the host; also the shapes of what is restored."""
        state = self.program.init(self.hparams, self.data)
        if self.program.rescale:
            self._require_invariance(state)
        memory = {name: probe.start(state, self.hparams, self.data) for name, probe in self.program.probes.items()}
        return parallel.fetch(Saved(state, memory))

    def first(self, saved: Saved) -> Saved:
        """The state at step `begin`: that of `start`, or what other lanes left."""
        origins = [lane.origin for lane in self.lanes if lane.origin is not None]
        return branch.begun(saved, origins, self.places) if origins else saved

    def _require_invariance(self, state: Any) -> None:
        """Refuses a network that a run without weight decay would train differently."""
        x = self.data["train"]["x"][0] if self.program.generate else self.data["train"]["x"]
        params, model_state = jax.tree.map(lambda a: a[0], parallel.fetch((state.params, state.model_state)))
        classes = data.DATASETS[self.static.data.name].spec(self.lanes[0].config).num_classes
        model = models.configured(self.static, classes)
        few = parallel.fetch(x[:PROBED])
        require_invariance(model, params, model_state, few, self.static.representation)

    @property
    def name(self) -> str:
        """What the progress bar shows."""
        return f"{self.lanes[0].arm} ({len(self.lanes)} lane{'s' * (len(self.lanes) != 1)})"

    def fixed_arrays(self) -> dict[str, np.ndarray]:
        """What a report needs to know of each lane's data: "data/<name>" [1, lanes, ...]."""
        describe = data.DATASETS[self.static.data.name].describe
        arrays = parallel.fetch(describe(self.data)) if describe else {}
        return {f"data/{name}": array[None, : len(self.lanes)] for name, array in arrays.items()}

    def advance(self, state: Any, start: int) -> tuple[Any, Any]:
        """One chunk of steps: (state, per-step metrics [lanes, chunk], still on the device)."""
        if self.feed:
            index, train = self.feed.chunk(start)
            arrays = self.data | {"train": parallel.put_shared(train, self.mesh)}
        else:
            index, arrays = self.orders.rows(start, self.chunk), self.data
        state, metrics = self._steps(state, rows_of(index, self.tables, start), arrays)
        return (self.program.rescale(state) if self.program.rescale else state), metrics

    def _steps(self, state: Any, rows: StepInputs, arrays: Any) -> tuple[Any, Any]:
        if self.static.step_loop == "scan":
            return self.program.advance(state, self.hparams, arrays, parallel.put_lanes(rows, self.mesh))
        pieces = []
        for t in range(self.chunk):
            one = jax.tree.map(lambda a, t=t: a[:, t : t + 1], rows)
            state, metrics = self.program.advance(state, self.hparams, arrays, parallel.put_lanes(one, self.mesh))
            pieces.append(metrics)
        return state, jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *map(parallel.fetch, pieces))

    def precision(self) -> Any:
        """Context in which what is evaluated has the precision of the training step."""
        return jax.default_matmul_precision(self.static.matmul_precision)

    def measure(self, state: Any, memory: dict[str, Any], at: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the probes due at step `at` and at the end read, and what they remember; they change nothing else.

        Arrays may still be on the device.
        """
        measured = {}
        for name, when in self.static.probes.items():
            if due(when, at) or at == self.length:
                probe = self.program.probes[name]
                # Curvature asks for float32 inside.
                with self.precision(), full_device.told(full_device.of_probe(name, self.static)):
                    arrays, kept = probe.measure(state, self.hparams, self.data, memory[name], len(self.lanes))
                measured[name], memory = {"step": state.step + 0, **arrays}, memory | {name: kept}
        return measured, memory

    def outcome(self, state: Any) -> list[dict[str, Any]]:
        """How each lane stands: whether and when it diverged."""
        at, loss = np.asarray(state.diverged_at), np.asarray(state.last_finite_loss)
        stopped = np.asarray(state.rule.stopped_at) if state.rule else np.full(at.shape, -1)
        return [
            {"lane": lane.index, "diverged_at": int(at[i]) if at[i] >= 0 else None, "last_finite_loss": float(loss[i])}
            | ({"stopped_at": int(stopped[i])} if stopped[i] >= 0 else {})
            for i, lane in enumerate(self.lanes)
        ]
