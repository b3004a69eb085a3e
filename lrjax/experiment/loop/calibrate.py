"""How long an experiment would take on this machine, from a few real steps on made-up data: an estimate, before any run."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrjax import data
from lrjax.data.order import Orders
from lrjax.devices import parallel
from lrjax.experiment.loop import sweep
from lrjax.experiment.loop.block import Block

BUDGET_S = 1.0  # of measured steps of a group, and the longest step that is measured at all
EDGE = 1024  # of the matrices whose product tells the speed of the machine
EXAMPLES = 2048  # made-up ones at most
ROOM = 2**30  # bytes of state and data at most


class Timing(NamedTuple):
    """What the training steps of a group of lanes would take.

    Attributes:
        seconds: of all steps of all its blocks.
        measured: steps that were made and timed; 0: from FLOPs and the speed of a matrix product, a lower bound.
        compiling: seconds until the first step was done.
    """

    seconds: float
    measured: int
    compiling: float


def _fastest(call: Callable[[], Any]) -> float:
    """The shortest of a few times, in seconds."""
    times: list[float] = []
    while len(times) < 3 and sum(times) < BUDGET_S:
        began = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - began)
    return min(times)


def machine_flops() -> float:
    """Floating point operations a second of a float32 matrix product here, on all devices together."""
    matrix = jnp.ones((EDGE, EDGE), jnp.float32)
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(matrix, matrix))
    return 2 * EDGE**3 / _fastest(lambda: product(matrix, matrix)) * jax.local_device_count()


def block_steps(group: sweep.Group, size: int) -> int:
    """Steps of all blocks of `size` lanes of a group, in whole chunks: a block runs as long as its longest lane."""
    chunk = group.static.log_every
    longest = (max(lane.config.steps - lane.begin for lane in lanes) for lanes in sweep.blocks(group, size))
    return sum(-(-steps // chunk) * chunk for steps in longest)


def timing(group: sweep.Group, found: dict[str, Any], num_lanes: int, speed: float, *, tried: bool = True) -> Timing:
    """Times the steps of a group.

    Args:
        group: of an experiment.
        found: what `lrjax.experiment.loop.dry_run.estimate` says of it.
        num_lanes: of the experiment.
        speed: as of `machine_flops`.
        tried: compile and make some steps where they are short enough.
    """
    static = group.static
    mesh = parallel.make_mesh(static.data_devices, num_lanes, static.batch_size)
    size = static.lanes_per_device * parallel.sweep_devices(mesh)
    blocks, chunk, steps = sweep.blocks(group, size), static.log_every, block_steps(group, size)
    guess = found["flops_per_step"] * size / speed  # of a step of a block
    source = data.DATASETS[static.data.name]
    large = (found["state"] + (found["data"] if source.per_lane else 0)) * size > ROOM
    if not tried or guess > BUDGET_S or large or source.stream(group.lanes[0].config) is not None:
        return Timing(guess * steps, 0, 0.0)
    block = Block(0, group, blocks[0], mesh, None if source.per_lane else parallel.put_shared(_made_up(group), mesh))
    if not source.per_lane:
        examples = block.data["train"]["y"].shape[0]
        block.orders = Orders(block.orders.seeds.tolist(), block.orders.kinds, examples, static.batch_size)
    block.chunk = max(1, min(chunk, int(BUDGET_S / max(guess, 1e-9))))
    began = time.perf_counter()
    state = parallel.put_lanes(block.start().state, mesh)
    state, metrics = block.advance(state, 0)
    jax.block_until_ready((state, metrics))
    compiling = time.perf_counter() - began
    states = [state]

    def again() -> Any:
        states.append(block.advance(states.pop(), block.chunk)[0])  # its state is given away
        return states[0]

    a_chunk = _fastest(again)
    return Timing(a_chunk / block.chunk * steps, block.chunk, max(0.0, compiling - a_chunk))


def _made_up(group: sweep.Group) -> dict[str, Any]:
    """Data of the right shapes, of few examples: a step takes as long whatever the images show."""
    spec = data.DATASETS[group.static.data.name].spec(group.lanes[0].config)
    most = max(EXAMPLES, group.static.batch_size)
    random = np.random.default_rng(0)

    def one(leaf: Any) -> np.ndarray:
        shape = (min(leaf.shape[0], most), *leaf.shape[1:])
        real = np.issubdtype(leaf.dtype, np.floating)
        return random.normal(size=shape).astype(leaf.dtype) if real else np.zeros(shape, leaf.dtype)

    return jax.tree.map(one, {"train": spec.train, "tests": spec.tests})


def said(timings: list[Timing]) -> str:
    """The line of a dry run.

    Example:
        >>> said([Timing(300.0, 50, 2.0)])
        'estimated time on this machine: about 5 min of training steps (50 steps measured; compiling took 2 s; ...)'
    """
    total, compiling = sum(t.seconds for t in timings), sum(t.compiling for t in timings)
    made = sum(t.measured for t in timings)
    rest = "probes, reading data and the report come on top"
    if all(t.measured for t in timings):
        return (
            f"estimated time on this machine: about {span(total)} of training steps ({made} steps measured; compiling "
            f"took {span(compiling)}; {rest})"
        )
    return (
        f"estimated time on this machine: {span(total)} of training steps or more (from FLOPs and the speed of a matrix "
        f"product, where no step was tried; {rest})"
    )


def span(seconds: float) -> str:
    """A time to one or two digits.

    Example:
        >>> span(0.2), span(42.4), span(300), span(5400), span(4e5)
        ('1 s', '42 s', '5 min', '1.5 h', '4.6 days')
    """
    for limit, unit, word in ((100, 1, "s"), (5400, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{max(1, round(seconds / unit))} {word}" if unit < 3600 else f"{seconds / unit:.2g} {word}"
    return f"{seconds / 86400:,.1f} days"
