"""Rows of `speed.py` that are for a card: steps by precision, top pairs, the CLEAR sweep, 32 lanes three ways.

Each runs on a CPU too, in seconds, with `speed.py --smoke`: two cores would take hours for the sizes of a card.
"""

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import jax
import numpy as np

import lrjax
from lrjax import spectra
from lrjax.devices.accelerators import PEAK_FLOPS
from lrjax.experiment.loop import dry_run
from lrjax.experiment.loop.sweep import expand
from tests.benchmarks.spectra import cut
from tests.benchmarks.timing import medians, seconds

PRECISIONS = ("float32", "tensorfloat32", "bfloat16")
WORKERS = 4  # processes on one card
SUBSET = 2500  # images of the top pairs, as break-even measures them


def on_card() -> bool:
    """Whether this process computes on something else than a CPU."""
    return jax.default_backend() != "cpu"


def overrides(precision: str) -> dict[str, Any]:
    """The config of training steps in a precision: of products, or of activations too."""
    if precision == "bfloat16":
        return {"compute_dtype": "bfloat16", "matmul_precision": "bfloat16"}
    return {"matmul_precision": precision}


def throughput(config: Any, each: float, precision: str, device: str | None = None) -> str:
    """TFLOP/s of a step that takes `each` seconds, and the share of the card's peak where that is known.

    Args:
        config: of the run.
        each: seconds a step.
        precision: one of `PRECISIONS`.
        device: its kind; default: of this process.
    """
    rate = dry_run.estimate(expand(config)[0])["flops_per_step"] / each
    device = jax.devices()[0].device_kind if device is None else device
    peak = next((peaks[precision] for name, peaks in PEAK_FLOPS.items() if name in device), None)
    return f"{rate / 1e12:.3g} TFLOP/s" + (f", {100 * rate / peak:.2g} % of the peak" if peak else "")


def top_pairs(speed: Any, peers: dict[str, Callable], name: str, x: np.ndarray, y: np.ndarray, repeats: int) -> None:
    """Five largest eigenvalues of the Hessian of a fresh network, to a residual of 1e-3."""
    functions, variables, batches, _ = speed.problem(name, x[: speed.BATCH], y[: speed.BATCH])
    size = len(next(iter(batches))["y"])
    bound = spectra.hessian(functions.loss).bind(variables, cut({"x": x, "y": y}, size), "params")
    found = medians({"lrjax": seconds(lambda: spectra.lanczos(bound, 5, tol=1e-3))} | peers, repeats)
    own = found.pop("lrjax")
    if not found:
        print(f"  top5         {name:<11} {own:9.2f} s", flush=True)
    for peer, other in found.items():
        print(f"  top5         {name:<11} {own:9.2f} s   {peer} {other:9.2f} s   ratio {own / other:.2f}", flush=True)


def clear(scale: str) -> None:
    """The whole sweep of benign_osc's CLEAR, from config to a finished run directory, with its compilation and without."""
    for label in ("with compilation", "compiled"):
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            run = lrjax.run(lrjax.load_config(f"configs/benign_osc.py:CLEAR,scale={scale}"), folder, quiet=True)
            took = time.perf_counter() - begin
        print(f"  clear        {scale:<11} {took:9.2f} s   {len(run.lanes)} lanes, {label}", flush=True)


_OWN: dict[str, Callable[[], Any]] = {}  # of a worker: what it runs


def _prepared(model: dict[str, Any], data_dir: str, count: int) -> bool:
    from tests.benchmarks import speed

    _OWN["run"] = speed.advance(speed.config(model, data_dir, count))
    _OWN["run"]()
    return True


def _again(times: int) -> bool:
    for _ in range(times):
        _OWN["run"]()
    return True


def in_processes(pools: list[ProcessPoolExecutor], lanes: int) -> Callable[[], Any]:
    """Runs `lanes` lanes, shared out among processes that each have compiled the program of one."""

    def run() -> None:
        shares = [lanes // len(pools) + (place < lanes % len(pools)) for place in range(len(pools))]
        for future in [pool.submit(_again, share) for pool, share in zip(pools, shares, strict=True)]:
            future.result()

    return run


def lanes_three_ways(speed: Any, name: str, data_dir: str, lanes: int, workers: int, repeats: int) -> None:
    """Lanes of a network as one program over all, one after the other in one program, and in processes side by side."""
    count, runners = speed.STEPS.get(name, 2), {}
    runners["one lane"] = seconds(speed.advance(speed.config(speed.MODELS[name], data_dir, count)))
    for loop in ("vmap", "map"):
        own = {"sweep.seed": tuple(range(lanes)), "lanes_per_device": lanes, "lane_loop": loop}
        runners[loop] = seconds(speed.advance(speed.config(speed.MODELS[name], data_dir, count, own)))
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # of the workers: each would take most of the card
    pools = [ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) for _ in range(workers)]
    try:
        for future in [pool.submit(_prepared, speed.MODELS[name], data_dir, count) for pool in pools]:
            future.result()
        runners[f"{workers} processes"] = seconds(in_processes(pools, lanes))
        times = medians(runners, repeats)
    finally:
        for pool in pools:
            pool.shutdown()
    alone = times.pop("one lane")
    for way, total in times.items():
        each = 1e3 * total / lanes / count
        print(
            f"  lanes32      {name:<11} {way:<12} {each:9.3f} ms a step and lane   ratio {total / lanes / alone:.2f} to one",
            flush=True,
        )
