"""Speed of lrjax on this machine as ratios to PyTorch, measured side by side; lower is better.

Run:  python -m tests.benchmarks.speed [--models=mlp,simple_cnn,resnet32,wrn_16_4] [--parts=step,hvp,...] [--repeats=7]
      ... --parts=step,top5,clear,lanes32     on a card: steps in each precision, of WRN-28-10 too; on a CPU with --smoke
(needs the extra `peers`, and CIFAR-10 under --data_dir)
"""

import argparse
import importlib.util
import multiprocessing
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import lrjax
import lrjax.probes  # registers the probes that configs name
from lrjax import models, spectra
from lrjax.devices import parallel
from lrjax.experiment.config.overrides import apply_overrides
from lrjax.experiment.loop import process
from lrjax.experiment.loop.block import Block
from lrjax.experiment.loop.sweep import expand
from lrjax.experiment.loop.train import _shared_data
from lrjax.experiment.step import micro_batches
from lrjax.experiment.step.curvature_losses import losses
from lrjax.experiment.step.losses import LOSSES
from tests.benchmarks import cards
from tests.benchmarks.spectra import SHARED, cut
from tests.benchmarks.timing import BATCH, RUNS, medians, seconds

MODELS = {
    "mlp": {"name": "mlp"},
    "simple_cnn": {"name": "simple_cnn"},
    "resnet32": {"name": "resnet32"},
    "wrn_16_4": {"name": "wide_resnet"},
}
ON_CARDS = {"wrn_28_10": {"name": "wide_resnet", "depth": 28, "widen": 10}}  # minutes a step on two cores
EVALUATED = 512
PYTORCH = importlib.util.find_spec("torch") is not None
MISSING = "PyTorch is missing, so lrjax is timed alone: pip install -e '.[peers]' puts it beside"
STEPS = {"mlp": 50}  # steps of one measurement; others: 2, and 50 where a step takes less than a millisecond
if cards.on_card():
    MODELS |= ON_CARDS
    STEPS = dict.fromkeys(MODELS, 50)


def config(model: dict[str, Any], data_dir: str, steps: int, overrides: dict[str, Any] | None = None) -> Any:
    """The config of a training run on 2048 images of CIFAR-10, with SGD and momentum."""
    found = lrjax.load_config("configs/benign_osc.py:E0", {"data_dir": data_dir})
    with found.unlocked(), found.ignore_type():
        found.model, found.arms, found.probes, found.sweep = ConfigDict(model), ConfigDict(), ConfigDict(), ConfigDict()
        found.update(steps=steps, log_every=steps, checkpoint_every=steps, batch_size=BATCH)
        found.step_loop = "scan" if model["name"] == "mlp" or jax.default_backend() != "cpu" else "host"
        found.schedule.update(name="constant", milestones=(), warmup=0)
        found.optimizer.update(name="sgd", learning_rate=0.01, momentum=0.9)
    return apply_overrides(found, overrides or {})


def advance(found: Any) -> Callable[[], Any]:
    """A function that runs one chunk of the loop: gather, gradient, update, metrics."""
    group = expand(found)[0]
    mesh = parallel.make_mesh(1, len(group.lanes), BATCH)
    block = Block(0, group, group.lanes, mesh, _shared_data(group, mesh))
    start = block.start().state

    def run() -> None:
        state, _ = block.advance(parallel.put_lanes(start, mesh), 0)
        jax.block_until_ready(state)

    return run


def training_step(name: str, data_dir: str, precision: str) -> Callable[[], Any]:
    """Training steps of one run, as the loop makes them."""
    return advance(config(MODELS[name], data_dir, STEPS.get(name, 2), cards.overrides(precision)))


def problem(name: str, x: np.ndarray, y: np.ndarray) -> tuple[Any, Any, list, Any]:
    """(losses, variables, batches of a curvature product, the model) over one batch."""
    model = models.build_model(MODELS[name], 10)
    params, model_state = model.init(jax.random.key(0), jnp.asarray(x[:1]))
    statistics_of_batch = "batch_stats" in model_state
    size = min(BATCH, parallel.examples_at_once(params, statistics_of_batch))
    functions = losses(model, LOSSES["cross_entropy"], batch_statistics=statistics_of_batch)
    return functions, {"params": params, "model_state": model_state}, cut({"x": x, "y": y}, size), model


def product(operator: Callable, attribute: str, name: str, x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    """One product of a curvature operator over one batch."""
    functions, variables, batches, _ = problem(name, x, y)
    bound = operator(getattr(functions, attribute)).bind(variables, batches, "params")
    vector = jnp.ones(bound.size)
    return lambda: jax.block_until_ready(bound.matvec(vector))


def per_example(name: str, x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    """Squared norms of the gradients of each example."""
    functions, variables, batches, _ = problem(name, x, y)
    return lambda: spectra.gradient_norms(functions.example_loss, variables, batches, where="params")


def evaluation(name: str, x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    """Correct predictions in evaluation mode."""
    _, variables, _, model = problem(name, x[:BATCH], y[:BATCH])

    @jax.jit
    def correct(variables: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        output = micro_batches.outputs(model, variables["params"], variables["model_state"], x)
        return jnp.sum(jnp.argmax(output, axis=1) == y)

    images, labels = jnp.asarray(x), jnp.asarray(y)

    def run() -> None:
        with jax.default_matmul_precision("float32"):
            jax.block_until_ready(correct(variables, images, labels))

    return run


def peers(
    torch: ProcessPoolExecutor,
    part: str,
    name: str,
    x: np.ndarray,
    y: np.ndarray,
    count: int,
    precision: str = "float32",
) -> dict[str, Callable[[], float]]:
    """PyTorch's ways to a measurement, in its process; it waits while lrjax is measured, and lrjax while it is.

    Returns:
        Label -> a function that returns seconds; none where PyTorch is missing.
    """
    if not PYTORCH:
        return {}
    from tests.benchmarks import networks  # needs torch

    labels = torch.submit(networks.prepare, part, name, x, y, count, precision).result()
    return {label: lambda label=label: torch.submit(networks.run, label).result() for label in labels}


def measure(
    torch: ProcessPoolExecutor,
    part: str,
    name: str,
    x: np.ndarray,
    y: np.ndarray,
    data_dir: str,
    repeats: int,
    precision: str = "float32",
) -> None:
    """A line of one part for one model: ours, the best of PyTorch's, the ratio."""
    if part in ("per_example", "covariance") and name in ("resnet32", "wrn_16_4", "wrn_28_10"):
        return print(f"  {part:<12} {name:<11} one example has no gradient of its own under BatchNorm")
    few, count = (x[:BATCH], y[:BATCH]), STEPS.get(name, 2) if part == "step" else 1
    ours = {
        "step": lambda: training_step(name, data_dir, precision),
        "hvp": lambda: product(spectra.hessian, "loss", name, *few),
        "evaluation": lambda: evaluation(name, x, y),
        "per_example": lambda: per_example(name, *few),
        "covariance": lambda: product(spectra.gradient_covariance, "example_loss", name, *few),
    }[part]()
    found = medians({"lrjax": seconds(ours)} | peers(torch, part, name, x, y, count, precision), repeats)
    own = found.pop("lrjax")
    milli, ratio, done = f"{1e3 * own / count:9.2f} ms", "", ""
    if found:
        peer = min(found, key=lambda key: found[key])
        milli, ratio = f"{milli}   {peer} {1e3 * found[peer] / count:9.2f} ms", f"ratio {own / found[peer]:.2f}"
    if part == "step" and cards.on_card():
        made = config(MODELS[name], data_dir, count, cards.overrides(precision))
        done = f"{precision:<14} {cards.throughput(made, own / count, precision)}   "
    print(f"  {part:<12} {name:<11} {milli}   {done}{ratio}".rstrip(), flush=True)


def sweep(torch: ProcessPoolExecutor, x: np.ndarray, y: np.ndarray, data_dir: str, repeats: int) -> None:
    """8 learning rates x 4 seeds of an MLP, a run, against one run of PyTorch and against torch.func over all."""
    count = 20
    grid = {"sweep.optimizer.learning_rate": tuple(np.logspace(-3, -1, 8).tolist()), "sweep.seed": (0, 1, 2, 3)}
    runners = peers(torch, "sweep", "mlp", x, y, count)
    for loop in ("vmap", "map"):
        found = config(MODELS["mlp"], data_dir, count, {**grid, "lane_loop": loop, "lanes_per_device": RUNS})
        runners[f"lrjax {loop}"] = seconds(advance(found))
    times = medians(runners, repeats)
    for name, total in times.items():
        each = total / (1 if name == "one run" else RUNS)
        ratio = f"   ratio {each / times['one run']:.2f}" if PYTORCH else ""
        print(f"  sweep        {name:<24} {1e3 * each / count:7.3f} ms a step and run{ratio}")


def lanes(data_dir: str, repeats: int) -> None:
    """Lanes one after the other against all at once: what `lrjax.devices.parallel.best_lane_loop` goes by."""
    networks = [({"name": "mlp", "widths": widths}, 8) for widths in ((16,), (32,), (64,), (300, 100))]
    for model, count in [*networks, ({"name": "simple_cnn"}, 4)]:
        for batch in (1, 16, 128):
            runners = {}
            for loop in ("vmap", "map"):
                own = {"sweep.seed": tuple(range(count)), "lanes_per_device": count, "lane_loop": loop}
                found = config(model, data_dir, STEPS.get(model["name"], 2), {**own, "batch_size": batch})
                runners[loop] = seconds(advance(found))
            times = medians(runners, repeats)
            name = "-".join(map(str, model.get("widths", [model["name"]])))
            each = f"{1e3 * times['map'] / STEPS.get(model['name'], 2) / count:9.3f} ms a step and run"
            print(
                f"  lanes        {name:<11} batch {batch:<4} map {each}   ratio to vmap {times['map'] / times['vmap']:.2f}"
            )


def micro_batch(x: np.ndarray, y: np.ndarray) -> None:
    """How many examples a gradient should see at once."""
    _, variables, _, model = problem("simple_cnn", x[:BATCH], y[:BATCH])
    batch = {"x": jnp.asarray(x[:BATCH]), "y": jnp.asarray(y[:BATCH])}

    def objective(params: Any, batch: Any, key: jax.Array) -> Any:
        output, model_state = model.apply(params, {}, batch["x"], train=True, key=key)
        return jnp.mean(LOSSES["cross_entropy"](output, batch["y"])), (model_state, output)

    run = jax.jit(micro_batches.value_and_grad, static_argnums=(0, 4))
    runners = {
        str(part): seconds(
            lambda part=part: jax.block_until_ready(run(objective, variables["params"], batch, jax.random.key(0), part))
        )
        for part in (4, 8, 16, 32, 64, 128)
    }
    times = medians(runners, 5)
    for name, own in times.items():
        print(f"  micro_batch  simple_cnn  {name:>4} of 128 {1e3 * own:9.2f} ms   ratio {own / times['128']:.2f}")


def for_cards(torch: ProcessPoolExecutor, part: str, subset: tuple, flags: argparse.Namespace) -> None:
    """The parts that two cores do not do in minutes, in full on a card or with --smoke."""
    if not (cards.on_card() or flags.smoke):
        print(f"  {part:<12} for a card: --smoke shows that it runs")
    elif part == "clear":
        cards.clear("smoke" if flags.smoke else "small")
    elif part == "top5":
        name = "mlp" if flags.smoke else "simple_cnn"
        x, y = (array[: BATCH if flags.smoke else None] for array in subset)
        cards.top_pairs(sys.modules[__name__], peers(torch, part, name, x, y, 1), name, x, y, flags.repeats)
    else:
        size = (2, 2) if flags.smoke else (RUNS, cards.WORKERS)
        for name in ("mlp",) if flags.smoke else ("mlp", "simple_cnn"):
            cards.lanes_three_ways(sys.modules[__name__], name, flags.data_dir, *size, flags.repeats)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.speed", description=__doc__)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument(
        "--parts", default="step,hvp,per_example,covariance,evaluation,sweep,lanes,micro_batch,two_layer"
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--data_dir", default=str(SHARED))
    parser.add_argument(
        "--smoke", action="store_true", help="the parts for cards in sizes that two cores do in seconds"
    )
    flags = parser.parse_args(arguments)
    if not PYTORCH:
        print(f"note: {MISSING}", file=sys.stderr)
    found = expand(config(MODELS["mlp"], flags.data_dir, 1))[0]
    train = jax.tree.map(np.asarray, _shared_data(found, parallel.make_mesh(1, 1, BATCH)))["train"]
    subset = train["x"][: cards.SUBSET], train["y"][: cards.SUBSET]
    x, y = (array[:EVALUATED] for array in subset)
    torch = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    for part in flags.parts.split(","):
        if part == "sweep":
            sweep(torch, x, y, flags.data_dir, flags.repeats)
        elif part == "lanes":
            lanes(flags.data_dir, flags.repeats)
        elif part == "micro_batch":
            micro_batch(x, y)
        elif part == "two_layer":
            from tests.benchmarks import two_layer

            two_layer.main()
        elif part in ("top5", "clear", "lanes32"):
            for_cards(torch, part, subset, flags)
        else:
            for name in flags.models.split(","):
                for precision in cards.PRECISIONS if part == "step" and cards.on_card() else ("float32",):
                    measure(torch, part, name, x, y, flags.data_dir, flags.repeats, precision)
    torch.shutdown()


if __name__ == "__main__":
    process.restart_with_huge_pages()  # as the program itself
    main()
