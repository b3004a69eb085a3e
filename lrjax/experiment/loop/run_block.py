"""One block of lanes from its last checkpoint to its end: train, measure, write, save."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lrjax.devices import hosts, parallel
from lrjax.experiment.config.durations import due
from lrjax.experiment.loop import branch, process
from lrjax.experiment.loop.block import Block, Saved
from lrjax.experiment.loop.progress import Progress
from lrjax.experiment.loop.stopping import ended
from lrjax.experiment.rundir.checkpoint import Checkpoints, fitted, read
from lrjax.experiment.rundir.metrics import Writer


def _write_chunk(writer: Writer, block: Block, start: int, metrics: Any, measured: dict[str, Any]) -> None:
    """Reads a chunk from the device (the next one is already running) and appends its rows and arrays."""
    metrics, measured = parallel.fetch((metrics, measured))
    live = len(block.lanes)
    arrays = {f"step/{name}": np.swapaxes(array[:live], 0, 1) for name, array in metrics.items()}
    for probe, values in measured.items():
        arrays |= {f"{probe}/{name}": array[None, :live] for name, array in values.items()}
    writer.collect(arrays)
    # Not those at the end of a block: a row must not depend on how long the lanes beside it are.
    regular = [probe for probe in measured if due(block.static.probes[probe], start + block.chunk)]
    rows = []
    for place, lane in enumerate(block.lanes):
        stop = min(start + block.chunk, lane.config.steps)
        if metrics and stop > start:
            own = {name: array[place, : stop - start] for name, array in metrics.items()}
            row = {"lane": lane.index, "arm": lane.arm, "step": stop, **lane.values}
            row |= {name: float(array[-1]) for name, array in own.items()} | {"mean_loss": float(np.mean(own["loss"]))}
            scalars = {
                f"{p}/{n}": a[place] for p in regular for n, a in measured[p].items() if a.ndim == 1 and n != "step"
            }
            rows.append(row | {name: float(value) for name, value in scalars.items()})
    writer.rows(rows)


def _save(checkpoints: Checkpoints, writer: Writer, block: Block, at: int, saved: Saved, clock: Callable) -> list[dict]:
    writer.flush(block.number, at)
    saved = parallel.fetch(saved)
    lanes = block.outcome(saved.state)
    meta = {"offset": writer.offset, "finished": at >= block.length, "lanes": lanes, "wall_time_s": clock()}
    meta["pieces"] = writer.account.get(block.number, {})
    if hosts.writes():
        checkpoints.save(at, saved, meta)
    return lanes


def _restored(checkpoints: Checkpoints, template: Saved) -> tuple[Any, dict[str, Any]] | None:
    """The newest whole checkpoint; one process says which that is."""
    own = []

    def newest() -> dict[str, Any] | None:
        own.append(checkpoints.restore(template))
        return own[0] and own[0][1]

    meta = hosts.agreed(newest)
    if meta is None or own:
        return own[0] if own else None
    return fitted(read(checkpoints.folder, meta["step"])[0], template), meta


def _leave_fork(folder: Path, at: int, saved: Saved) -> None:
    """Keeps a state that other lanes begin from."""
    saved = parallel.fetch(saved)
    if hosts.writes():
        others = Checkpoints(folder, "all")
        others.save(at, saved, {})
        others.close()


def run_block(
    block: Block,
    writer: Writer,
    folder: Path,
    offset: int,
    clock: Callable,
    progress: Progress,
    stop: Callable[[], str],
    trace: Path | None = None,
) -> list:
    """Takes a block from its last checkpoint to its end; returns how its lanes ended.

    A trace is made of the second chunk, or of the only one: the first compiles.

    Raises:
        Preempted: `stop()` gave a reason after a chunk; everything is saved.
        KeyboardInterrupt: that reason was Ctrl-C.
    """
    checkpoints = Checkpoints(folder / f"block-{block.number:03d}", block.static.keep_checkpoints)
    begin = block.start()
    restored = _restored(checkpoints, begin)
    if restored is None:
        begin = block.first(begin)
        first, state = block.begin, parallel.put_lanes(begin.state, block.mesh)
        writer.rewind(block.number, -1, offset)
        writer.collect(block.fixed_arrays())
        measured, memory = block.measure(state, begin.memory, first)
        pending: tuple | None = (first, {}, measured)
    else:
        (state, memory), meta = restored
        first, state = meta["step"], parallel.put_lanes(state, block.mesh)
        progress.skip(sum(min(first, table.rates.size) - block.begin for table in block.tables))
        writer.vouch(block.number, meta)
        writer.rewind(block.number, first, meta["offset"])
        pending = None
    every = -(-block.static.checkpoint_every // block.chunk) * block.chunk
    lanes: list[dict] = []
    watched = min(first + block.chunk, block.length - block.chunk)
    for start in range(first, block.length, block.chunk):
        with process.traced(trace if start == watched else None) as whole:
            state, metrics = whole(block.advance(state, start))
        at = start + block.chunk
        measured, memory = block.measure(state, memory, at)
        if pending is not None:
            _write_chunk(writer, block, *pending)
        pending = (start, metrics, measured)
        progress.advance(sum(min(at, t.rates.size) - min(start, t.rates.size) for t in block.tables), block.name)
        if at in block.forks:
            _leave_fork(branch.forks(folder, block.number), at, Saved(state, memory))
        stopping = stop()
        if at % every == 0 or at == block.length or stopping:
            _write_chunk(writer, block, *pending)
            pending = None
            lanes = _save(checkpoints, writer, block, at, Saved(state, memory), clock)
        if stopping and at < block.length:
            checkpoints.close()
            raise ended(stopping)
    checkpoints.close()
    return lanes
