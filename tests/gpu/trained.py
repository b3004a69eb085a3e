"""Runs on a device: in the memory that a dry run tells, cut off and resumed, in more lanes or fewer."""

import tempfile
from typing import Any

import jax
import numpy as np

import lrjax
import lrjax.probes  # registers the probes that configs name
from lrjax.devices import parallel
from lrjax.experiment.loop import calibrate, sweep
from lrjax.experiment.loop.block import Block
from lrjax.experiment.loop.dry_run import compiled_memory
from lrjax.experiment.loop.stopping import Preempted
from tests.gpu.arithmetic import Found, error
from tests.runs import equal_trees, final_states, tiny

LANES = 1e-4  # of losses, after 100 steps
ROUNDED = 1.02  # of the memory told: the allocator gives whole blocks, and a chunk has its indices and metrics too


def images(batch_size: int) -> Block:
    """SimpleCNN on made-up images, in chunks of four steps."""
    small = {"data.num_train": 2048, "data.num_test": 512, "batch_size": batch_size, "steps": 8, "log_every": 4}
    config = lrjax.load_config("configs/break_even.py:E1,scale=smoke", small)
    with config.unlocked(), config.ignore_type():
        config.update(probes={}, arms={}, sweep={}, step_loop="scan" if jax.default_backend() != "cpu" else "host")
        config.optimizer.learning_rate = 0.01
    group = sweep.expand(config)[0]
    mesh = parallel.make_mesh(1, 1, batch_size)
    return Block(0, group, group.lanes[:1], mesh, parallel.put_shared(calibrate._made_up(group), mesh))


def advanced(block: Block, state: Any, start: int) -> Any:
    """A state, on the host, one chunk later."""
    return parallel.fetch(block.advance(parallel.put_lanes(state, block.mesh), start)[0])


def memory() -> Found:
    """A training step holds no more than `--dry_run` says."""
    name, device = "held, as a share of what a dry run tells", jax.devices()[0]
    before = device.memory_stats() if device.platform != "cpu" else None
    if not before or "peak_bytes_in_use" not in before:
        yield name, f"a {device.device_kind} tells no peak of its memory", ROUNDED
        return
    block = images(2048)
    told = compiled_memory(sweep.Group(block.static, block.lanes)).needed
    advanced(block, block.start().state, 0)
    peak = (device.memory_stats() or {})["peak_bytes_in_use"]
    if peak <= before["peak_bytes_in_use"]:
        yield name, "this process has held more before; --checks=memory alone tells", ROUNDED
    elif told is None:
        yield "the dry run says that it does not fit, and it did", 1.0, 0
    else:
        yield name, (peak - before["bytes_in_use"]) / told, ROUNDED


def resumed() -> Found:
    """A run that is cut off after each chunk ends with the bits of one that is not, and so does a network of convolutions."""
    config = tiny({"steps": 200, "arms.small_rate.steps": 150, "arms.time_matched.steps": 200})
    with tempfile.TemporaryDirectory() as whole, tempfile.TemporaryDirectory() as cut:
        lrjax.run(config, whole)
        cuts = 0
        while True:
            try:
                lrjax.run(config, cut, time_limit=1e-3)
                break
            except Preempted:
                cuts += 1
        same = equal_trees(final_states(whole), final_states(cut)) and cuts > 2
    yield f"the same bits after {cuts} cuts", float(not same), 0
    block = images(32)
    half = advanced(block, block.start().state, 0)
    ends = [jax.tree.leaves(advanced(block, half, block.chunk)) for _ in range(2)]
    jax.clear_caches()
    ends.append(jax.tree.leaves(advanced(images(32), half, block.chunk)))
    yield "the same bits again, simple_cnn", float(not equal_trees(ends[0], ends[1])), 0
    yield "the same bits compiled anew, simple_cnn", float(not equal_trees(ends[0], ends[2])), 0


def lanes() -> Found:
    """A lane's losses do not depend on how many lanes a device holds."""
    short = {"steps": 100, "arms.small_rate.steps": 100, "arms.time_matched.steps": 100}
    runs = []
    for count in (1, 2, 4):
        with tempfile.TemporaryDirectory() as folder:
            found = lrjax.run(tiny({**short, "lanes_per_device": count}), folder)
            runs.append([np.asarray(arrays["step/loss"]) for arrays in found.arrays])
    for count, other in zip((2, 4), runs[1:], strict=True):
        yield f"{count} lanes on a device under 1", error(other, runs[0]), LANES
