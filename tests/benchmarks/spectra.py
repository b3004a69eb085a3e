"""Curvature of SimpleCNN on real CIFAR-10: seconds and products, beside matfree, curvlinops, PyHessian and SciPy.

Run:  python -m tests.benchmarks.spectra [--data_dir=...] [--examples=1024] [--train_steps=0,300]
      [--parts=top5,batches,vectors,noise]
(PyTorch's tools join in where the `peers` extra is installed.)
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow_datasets as tfds
from jax.flatten_util import ravel_pytree

from lrjax import models, spectra
from lrjax.devices.parallel import examples_at_once
from lrjax.experiment.step import micro_batches
from lrjax.experiment.step.curvature_losses import losses
from lrjax.experiment.step.losses import LOSSES

BATCH, K, TOL = 128, 5, 1e-3
SHARED = Path(__file__).resolve().parents[3] / "shared" / "tfds"


def problem(examples: int, data_dir: str) -> tuple[Any, Any, dict[str, np.ndarray]]:
    """SimpleCNN, its parameters at step 0 and standardised images (per-pixel mean, one standard deviation)."""
    source = tfds.data_source("cifar10", data_dir=data_dir, download=False, split="train")
    records = source.__getitems__(list(range(examples)))
    x = np.stack([record["image"] for record in records]).astype(np.float32)
    x = (x - x.mean(axis=0)) / x.std()
    model = models.build_model({"name": "simple_cnn"}, 10)
    params, model_state = model.init(jax.random.key(0), x[:1])
    data = {"x": x, "y": np.array([record["label"] for record in records], np.int32)}
    return model, {"params": params, "model_state": model_state}, data


def cut(data: dict[str, np.ndarray], size: int) -> list[dict[str, jax.Array]]:
    """Batches on the device."""
    count = data["y"].size
    return [{k: jnp.asarray(a[start : start + size]) for k, a in data.items()} for start in range(0, count, size)]


def trained(variables: Any, loss: Callable, batches: list, steps: int) -> Any:
    """The parameters after plain SGD at 0.05, one batch after the other."""

    def objective(params: Any, batch: Any, key: jax.Array) -> Any:
        return loss({"params": params, "model_state": variables["model_state"]}, batch), (
            {},
            jnp.zeros_like(batch["x"]),
        )

    params, part = variables["params"], examples_at_once(variables)
    gradient = jax.jit(lambda params, b: micro_batches.value_and_grad(objective, params, b, jax.random.key(0), part)[1])
    for t in range(steps):
        slope = gradient(params, batches[t % len(batches)])
        params = jax.tree.map(lambda p, g: p - 0.05 * g, params, slope)
    return variables | {"params": params}


def median_time(run: Callable[[], Any], repeats: int = 3) -> float:
    """Median seconds, after one call to compile."""
    jax.block_until_ready(run())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def show(name: str, seconds: float, products: int, residual: float, values: np.ndarray) -> None:
    """One line of the table of eigenpairs."""
    print(
        f"  {name:<28} {seconds:7.1f} s  {products:3d} products  residual {residual:.0e}  {np.round(values, 3)}",
        flush=True,
    )


def top_pairs(model: Any, variables: Any, data: dict, functions: Any) -> None:
    """Top five eigenpairs to a relative residual of 1e-3, by every tool there is."""
    bound = spectra.hessian(functions.loss).bind(variables, cut(data, examples_at_once(variables)), "params")
    bound.matmat(jnp.ones((1, bound.size)))  # compiles
    start = time.perf_counter()
    found = spectra.lanczos(bound, K, tol=TOL)
    show(
        "lrjax.lanczos",
        time.perf_counter() - start,
        found.products,
        np.max(found.residuals / found.values),
        found.values,
    )

    few = {name: array[:BATCH] for name, array in data.items()}
    small = spectra.hessian(functions.loss).bind(variables, cut(few, examples_at_once(variables)), "params")
    small.matmat(jnp.ones((1, small.size)))
    start = time.perf_counter()
    first = spectra.lanczos(small, K, tol=0.1)
    found = spectra.lanczos(bound, K, tol=TOL, start=first.vectors)
    passes = found.products + round(first.products * BATCH / data["y"].size)
    residual = np.max(found.residuals / found.values)
    show(f"lrjax, begun on {BATCH} images", time.perf_counter() - start, passes, residual, found.values)

    flat, unravel = ravel_pytree(variables["params"])

    def product(v: jax.Array, params: Any, model_state: Any, batch: Any) -> jax.Array:
        slope = jax.grad(lambda p: functions.loss({"params": p, "model_state": model_state}, batch))
        return ravel_pytree(jax.jvp(slope, (params,), (unravel(v),))[1])[0]

    import matfree.decomp  # of the dev extra; the other parts need it not

    tridiagonalise = matfree.decomp.tridiag_sym(found.products)
    whole = (variables["params"], variables["model_state"], jax.tree.map(jnp.asarray, data))
    vector = jax.random.normal(jax.random.key(0), flat.shape)
    compiled = jax.jit(lambda v, *rest: tridiagonalise(product, v, *rest).J_small).lower(vector, *whole).compile()
    start = time.perf_counter()
    values = np.linalg.eigvalsh(np.asarray(compiled(vector, *whole), np.float64))[::-1][:K]
    show("matfree.tridiag_sym", time.perf_counter() - start, found.products, np.nan, values)
    try:
        from tests.benchmarks import peers
    except ModuleNotFoundError as missing:
        print(f"  (no {missing.name}: PyTorch's tools left out)")
        return
    network, torch_data = peers.simple_cnn(variables["params"]), peers.batches(data["x"], data["y"], BATCH)
    tools = {
        "SciPy eigsh on PyTorch": lambda: peers.scipy_on_torch(network, torch_data, K, TOL),
        "SciPy eigsh on curvlinops": lambda: peers.curvlinops_top(network, torch_data, K, TOL),
        "PyHessian, one eigenvalue": lambda: peers.pyhessian_top(network, torch_data, TOL),
    }
    for name, tool in tools.items():
        start = time.perf_counter()
        values, products, residual = tool()
        seconds = time.perf_counter() - start
        # The products that check the residuals are not the tool's.
        show(name, seconds * products / (products + len(values)), products, residual, values)


def shared_passes(model: Any, variables: Any, data: dict, functions: Any) -> None:
    """What several vectors in one pass, and linearisations that are kept, gain."""
    few = {name: array[: 2 * BATCH] for name, array in data.items()}
    times = {}
    for keep in (0, 2**33):
        bound = spectra.hessian(functions.loss).bind(
            variables, cut(few, examples_at_once(variables)), "params", keep_bytes=keep
        )
        for count in (1, 2, 4, 8):
            rows = jax.random.normal(jax.random.key(0), (count, bound.size))
            times[keep, count] = median_time(lambda bound=bound, rows=rows: bound.matmat(rows)) / count
    for (keep, count), seconds in times.items():
        kept = "kept" if keep else "not kept"
        ratio = seconds / times[0, 1]
        print(f"  {count} vectors a pass, linearisation {kept:<9} {seconds:6.2f} s a vector   ratio {ratio:.2f}")


def batch_sizes(model: Any, variables: Any, data: dict, functions: Any) -> None:
    """How many examples a product should see at once."""
    few = {name: array[: 2 * BATCH] for name, array in data.items()}
    times = {}
    for size in (8, 16, 32, 64, 128, 256):
        bound = spectra.hessian(functions.loss).bind(variables, cut(few, size), "params")
        times[size] = median_time(lambda bound=bound: bound.matvec(jnp.ones(bound.size)))
    for size, seconds in times.items():
        print(f"  {size:3d} examples at once           {seconds:7.2f} s a product   ratio {seconds / times[128]:.2f}")


def gradient_noise(model: Any, variables: Any, data: dict, functions: Any) -> None:
    """Top five of K and its exact trace over per-example gradients, none of which is kept."""
    batches = cut(data, examples_at_once(variables))
    bound = spectra.gradient_covariance(functions.example_loss).bind(variables, batches, "params")
    bound.matmat(jnp.ones((1, bound.size)))
    start = time.perf_counter()
    found = spectra.lanczos(bound, K, tol=TOL)
    show(
        "lrjax.lanczos of K",
        time.perf_counter() - start,
        found.products,
        np.max(found.residuals / found.values),
        found.values,
    )
    start = time.perf_counter()
    total = spectra.covariance_trace(functions.example_loss, variables, batches, where="params")
    print(f"  exact trace of K             {time.perf_counter() - start:7.1f} s  {total:.3f}")


PARTS = {"top5": top_pairs, "batches": batch_sizes, "vectors": shared_passes, "noise": gradient_noise}


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.spectra", description=__doc__)
    parser.add_argument("--data_dir", default=str(SHARED))
    parser.add_argument("--examples", type=int, default=1024)
    parser.add_argument("--train_steps", default="0")
    parser.add_argument("--parts", default=",".join(PARTS))
    flags = parser.parse_args()
    model, variables, data = problem(flags.examples, flags.data_dir)
    functions = losses(model, LOSSES["cross_entropy"])
    size = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    for steps in map(int, flags.train_steps.split(",")):
        at = trained(variables, functions.loss, cut(data, BATCH), steps)
        for part in flags.parts.split(","):
            print(f"{part}: SimpleCNN ({size:,} parameters) after {steps} steps, {flags.examples} images of CIFAR-10")
            PARTS[part](model, at, data, functions)


if __name__ == "__main__":
    main()
