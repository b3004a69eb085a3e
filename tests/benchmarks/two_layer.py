"""The two-layer network of benign oscillation: microseconds a step and run, by engine and lane loop, against a peer.

Run:  python -m tests.benchmarks.two_layer        (PyTorch joins in where the `peers` extra is installed)
"""

from collections.abc import Callable

import jax
import numpy as np

import lrjax
import lrjax.probes  # registers the probes that configs name
from lrjax.devices import parallel
from lrjax.experiment.loop.block import Block
from lrjax.experiment.loop.sweep import expand
from tests import reference
from tests.benchmarks.timing import medians, seconds

STEPS, LANES, REPEATS = 2000, 8, 7
PEER_STEPS = 400


def engine_runner(engine: str, loop: str) -> tuple[Callable[[], None], Block]:
    """A function that advances a block of CLEAR by STEPS steps and waits for it."""
    overrides = {
        "engine": engine,
        "lane_loop": loop,
        "log_every": STEPS,
        "steps": STEPS,
        "sweep.seed": tuple(range(LANES)),
    }
    fixed = {"sweep.e": (1.25,), "arms.small_rate": None, "arms.time_matched": None, "lanes_per_device": LANES}
    probes = {"probes.features": None, "probes.test_accuracy": None, "probes.curvature": None}
    group = expand(lrjax.load_config("configs/benign_osc.py:CLEAR", {**overrides, **fixed, **probes}))[0]
    block = Block(0, group, group.lanes, parallel.make_mesh(1, LANES, 1), None)
    start = block.start().state

    def run() -> None:
        state, _ = block.advance(parallel.put_lanes(start, block.mesh), 0)
        jax.block_until_ready(state)

    return run, block


def numpy_runner() -> Callable[[], None]:
    """The same steps of one run in plain NumPy."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((64, 3, 400)) * 0.02, np.where(np.arange(64) % 2 == 0, 1.0, -1.0)
    filters = 0.01 * rng.standard_normal((2, 16, 400))
    return lambda: reference.train(filters, x, y, 5.0, np.arange(PEER_STEPS) % 64) and None


def torch_runner() -> Callable[[], None] | None:
    """The same steps of one run in an eager PyTorch loop with its SGD; None where torch is missing."""
    try:
        import torch
    except ModuleNotFoundError:
        return None
    torch.manual_seed(0)
    x, y = 0.02 * torch.randn(64, 3, 400), torch.where(torch.arange(64) % 2 == 0, 1.0, -1.0)
    signs = torch.tensor([1.0, -1.0])

    def run() -> None:
        filters = (0.01 * torch.randn(2, 16, 400)).requires_grad_()
        optimizer = torch.optim.SGD([filters], lr=5.0)
        for t in range(PEER_STEPS):
            optimizer.zero_grad()
            active = torch.relu(torch.einsum("jrd,pd->jrp", filters, x[t % 64]))
            loss = (torch.einsum("jrp,j->", active.square(), signs) / 16 - y[t % 64]).square()
            loss.backward()
            optimizer.step()

    return run


def main() -> None:
    """Prints the table."""
    runners, per_call = {}, {}
    for engine, loop in (("gram", "vmap"), ("gram", "map"), ("direct", "map"), ("direct", "vmap")):
        name = f"lrjax {engine}, {loop}"
        runners[name], per_call[name] = engine_runner(engine, loop)[0], STEPS * LANES
    for name, run in (("PyTorch eager", torch_runner()), ("NumPy", numpy_runner())):
        if run is not None:
            runners[name], per_call[name] = run, PEER_STEPS
    times = medians({name: seconds(run) for name, run in runners.items()}, REPEATS)
    micro = {name: 1e6 * total / per_call[name] for name, total in times.items()}
    peer = "PyTorch eager" if "PyTorch eager" in micro else "NumPy"
    print(f"CLEAR (n 64, d 400, m 16), batch 1, {LANES} runs; median of {REPEATS}; ratio to {peer}")
    for name, value in micro.items():
        print(f"  {name:<20} {value:9.2f} us a step and run   ratio {value / micro[peer]:.4f}")


if __name__ == "__main__":
    main()
