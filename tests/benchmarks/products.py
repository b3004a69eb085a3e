"""What binding costs: a product of a bound operator beside the bare derivatives of JAX that it is made of, in one run.

Run:  python -m tests.benchmarks.products [--models=mlp,simple_cnn] [--batch=128] [--repeats=N]

Hessian: beside the jitted `jax.jvp(jax.grad(loss), (params,), (v,))[1]`. K: beside one jitted `jax.jvp` and `jax.vjp` of the
same losses an example. Images are random: no product takes another time for them.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import jax

from lrjax import models, spectra
from lrjax.experiment.loop import process
from lrjax.experiment.step.curvature_losses import losses
from lrjax.experiment.step.losses import LOSSES
from tests.benchmarks.timing import BATCH, medians, seconds

Task = Callable[[], jax.Array | Any]
REPEATS = {"mlp": 301}  # others: 31, a product takes a hundred times as long


def problem(name: str, size: int) -> tuple[Any, Any, dict[str, jax.Array], Any]:
    """(mean loss, losses an example, batch, parameters), the first two of parameters and a batch."""
    model = models.build_model({"name": name}, 10)
    images, labels = jax.random.split(jax.random.key(1))
    batch = {"x": jax.random.normal(images, (size, 32, 32, 3)), "y": jax.random.randint(labels, (size,), 0, 10)}
    params, model_state = model.init(jax.random.key(0), batch["x"][:1])
    functions = losses(model, LOSSES["cross_entropy"])

    def of(function: Callable) -> Callable:
        return lambda params, batch: function({"params": params, "model_state": model_state}, batch)

    return of(functions.loss), of(functions.example_loss), batch, params


def hessian(loss: Callable, batch: Any, params: Any) -> dict[str, Task]:
    """Hessian products: bare, of a flat vector, of one row, and of the vector in reverse mode alone."""

    @jax.jit
    def bare(params: Any, v: Any, batch: Any) -> Any:
        return jax.jvp(jax.grad(lambda p: loss(p, batch)), (params,), (v,))[1]

    return _products(spectra.hessian(loss), params, bare, batch)


def covariance(example_loss: Callable, batch: Any, params: Any) -> dict[str, Task]:
    """Products with K: bare and uncentred, of a flat vector, of one row, and of the vector in reverse mode alone."""

    @jax.jit
    def bare(params: Any, v: Any, batch: Any) -> Any:
        def of(p: Any) -> jax.Array:
            return example_loss(p, batch)

        along = jax.jvp(of, (params,), (v,))[1]
        return jax.vjp(of, params)[1](along)[0]

    return _products(spectra.gradient_covariance(example_loss), params, bare, batch)


def _products(operator: spectra.Operator, params: Any, bare: Callable, batch: Any) -> dict[str, Task]:
    bound = operator.bind(params, [batch])
    backward = operator.bind(params, [batch], differentiation="reverse_over_reverse")
    flat = jax.random.normal(jax.random.key(2), (bound.size,))
    row, tree = flat[None], bound.unravel(flat)
    return {
        "bare": lambda: bare(bound.params, tree, batch),
        "matvec": lambda: bound.matvec(flat),
        "matmat": lambda: bound.matmat(row),
        "reverse": lambda: backward.matvec(flat),
    }


def measure(name: str, size: int, repeats: int) -> None:
    """Two lines for one model: milliseconds of the bare derivatives and of the product, and their ratio."""
    loss, example_loss, batch, params = problem(name, size)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    for what, runners in (("Hessian", hessian(loss, batch, params)), ("K", covariance(example_loss, batch, params))):
        times = medians(
            {label: seconds(lambda run=run: jax.block_until_ready(run())) for label, run in runners.items()}, repeats
        )
        bare = times.pop("bare")
        ours = "   ".join(f"{label} {1e3 * own:8.2f} ms ratio {own / bare:.2f}" for label, own in times.items())
        print(f"  {what:<8} {name:<11} {count:>9,} parameters   bare {1e3 * bare:8.2f} ms   {ours}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.products", description=__doc__)
    parser.add_argument("--models", default="mlp,simple_cnn")
    parser.add_argument("--repeats", type=int, default=0, help="0: 301 for the MLP, 31 for others")
    parser.add_argument("--batch", type=int, default=BATCH)
    flags = parser.parse_args(arguments)
    for name in flags.models.split(","):
        measure(name, flags.batch, flags.repeats or REPEATS.get(name, 31))


if __name__ == "__main__":
    process.restart_with_huge_pages()  # as the program itself
    main()
