"""Right on this device? Curvature, transforms, convolutions, gradients, resumed runs and lanes against float64 on the CPU.

Run:  python -m tests.gpu [--checks=spectra,convolutions,...]        (at most 3 minutes on a card; on a CPU it passes too)

A line a check: the largest error, relative to the largest number, and what is allowed. Exit status 1 where one is larger.
Operations are deterministic here; which of cuDNN's algorithms is taken is stored beside the compiled programs (JAX does so in
its compilation cache), so that a run that is resumed takes the same.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

if "xla_gpu_deterministic_ops" not in os.environ.get("XLA_FLAGS", ""):  # read as JAX starts
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_gpu_deterministic_ops=true"

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

import lrjax
import lrjax.probes  # registers the probes that configs name
from lrjax import models, spectra, transforms
from lrjax.experiment.loop.stopping import Preempted
from lrjax.models.conv.convolution import conv
from tests.runs import equal_trees, final_states, tiny

Found = Iterator[tuple[str, float, float]]  # name, error, allowed
FLOAT32 = 2e-5  # sums of some hundred products
TOP = 1e-3  # of eigenvalues: the residual asked of Lanczos
NETWORK = 2e-3  # of a gradient through normalisations, relative to its largest entry
TF32 = 1e-2  # ten bits of each factor
TWINS = 1e-3  # in logits, after 60 steps


def in_float64(compute: Callable, *trees: object) -> object:
    """What a function gives in float64 on the CPU, on the host."""
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        wide = jax.tree.map(
            lambda a: jnp.asarray(np.asarray(a), jnp.float64 if np.asarray(a).dtype.kind == "f" else None), trees
        )
        return jax.device_get(compute(*wide))


def error(found: object, right: object) -> float:
    """Largest difference of two trees, relative to the largest number of the second."""
    pairs = list(zip(jax.tree.leaves(found), jax.tree.leaves(right), strict=True))
    largest = max(float(np.max(np.abs(b))) for _, b in pairs)
    return max(float(np.max(np.abs(np.asarray(a, np.float64) - b))) for a, b in pairs) / largest


def _classifier() -> tuple[Callable, Callable, dict, dict]:
    rng = np.random.default_rng(0)
    params = {"a": rng.normal(size=(12, 9)) / 3, "b": rng.normal(size=(9, 5))}
    params = {name: jnp.asarray(value, jnp.float32) for name, value in params.items()}
    x, y = rng.normal(size=(40, 12)), rng.integers(0, 5, 40)
    batch = {"x": jnp.asarray(x, jnp.float32), "y": jnp.asarray(y)}

    def logits(params: dict, batch: dict) -> jax.Array:
        return jnp.tanh(batch["x"] @ params["a"]) @ params["b"]

    def losses(params: dict, batch: dict) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(logits(params, batch), batch["y"])

    return logits, losses, params, batch


def _dense(params: dict, batch: dict) -> dict[str, jax.Array]:
    """Hessian, Gauss-Newton (the Fisher information too) and covariance of gradients, from derivatives alone."""
    logits, losses, _, _ = _classifier()
    flat, unravel = ravel_pytree(params)
    out = logits(params, batch)
    p = jax.nn.softmax(out)
    middle = jnp.einsum("nc,cd->ncd", p, jnp.eye(p.shape[1])) - jnp.einsum("nc,nd->ncd", p, p)
    jacobian = jax.jacobian(lambda w: logits(unravel(w), batch))(flat)
    rows = jax.jacobian(lambda w: losses(unravel(w), batch))(flat)
    away = rows - rows.mean(0)
    return {
        "hessian": jax.hessian(lambda w: jnp.mean(losses(unravel(w), batch)))(flat),
        "ggn": jnp.einsum("nci,ncd,ndj->ij", jacobian, middle, jacobian) / len(out),
        "covariance": away.T @ away / len(out),
        "norms": jnp.sum(rows**2, axis=1),
    }


def curvature() -> Found:
    """Products and top pairs of each matrix, norms of per-example gradients."""
    logits, losses, params, batch = _classifier()
    right = in_float64(_dense, params, batch)

    def mean(outputs: jax.Array, batch: dict) -> jax.Array:
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(outputs, batch["y"]))

    operators = {
        "hessian": (spectra.hessian(lambda p, b: jnp.mean(losses(p, b))), "hessian"),
        "ggn": (spectra.ggn(logits, mean), "ggn"),
        "fisher": (spectra.fisher(logits), "ggn"),
        "covariance": (spectra.gradient_covariance(losses), "covariance"),
    }
    for name, (operator, wanted) in operators.items():
        bound = operator.bind(params, [batch])
        yield f"{name}, products", error(bound.matmat(jnp.eye(bound.size)), right[wanted]), FLOAT32
        top = np.sort(np.linalg.eigvalsh(right[wanted]))[::-1][:5]
        yield f"{name}, top five", error(spectra.lanczos(bound, 5, tol=1e-3).values, top), TOP
    yield "norms of examples", error(spectra.gradient_norms(losses, params, [batch]), right["norms"]), FLOAT32


def twins() -> Found:
    """SGD with weight decay and its twins without it compute the same functions; steps in float32."""
    rng = np.random.default_rng(1)
    x, y = (jnp.asarray(rng.normal(size=size), jnp.float32) for size in ((60, 8, 24), (60, 8)))
    start = jnp.asarray(rng.normal(size=24), jnp.float32)

    def predict(w: jax.Array, x: jax.Array) -> jax.Array:
        return x @ (w / jnp.linalg.norm(w))

    def trained(optimizer: optax.GradientTransformation) -> np.ndarray:
        @jax.jit
        def run(w: jax.Array) -> jax.Array:
            def step(carry: tuple, batch: tuple) -> tuple:
                w, state = carry
                slope = jax.grad(lambda w: jnp.mean((predict(w, batch[0]) - batch[1]) ** 2))(w)
                updates, state = optimizer.update(slope, state, w)
                return (optax.apply_updates(w, updates), state), None

            return jax.lax.scan(step, (w, optimizer.init(w)), (x, y))[0][0]

        with jax.default_matmul_precision("float32"):
            return np.asarray(predict(run(start), x[0]))

    drops = optax.piecewise_constant_schedule(0.2, {30: 0.1})
    decayed = trained(optax.chain(optax.add_decayed_weights(0.01), optax.sgd(drops, momentum=0.9)))
    free = transforms.wd_free_sgd(drops, 0.01, momentum=0.9, num_steps=60)
    yield "TEXP++ under weight decay", error(trained(free), decayed), TWINS
    yield (
        "TEXP under weight decay",
        error(trained(transforms.texp((30,), (0.2, 0.02), 0.01, momentum=0.9)), decayed),
        TWINS,
    )
    log_rates = transforms.wd_free_plan(drops, 0.01, 0.9, 60).log_lr
    yield "the plan is finite, float64", float(not (np.isfinite(log_rates).all() and log_rates.dtype == np.float64)), 0


def _by_hand(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    h, w = kernel.shape[:2]
    rows, columns = ((size - k) // stride + 1 for size, k in zip(x.shape[1:3], (h, w), strict=True))
    out = np.zeros((len(x), rows, columns, kernel.shape[3]))
    for i in range(rows):
        for j in range(columns):
            seen = x[:, i * stride : i * stride + h, j * stride : j * stride + w]
            out[:, i, j] = np.einsum("nhwc,hwco->no", seen, kernel)
    return out


def convolutions() -> Found:
    """The convolution of the models and its two gradients, against loops of NumPy and differences of those."""
    rng = np.random.default_rng(2)
    for size, channels, features, stride in ((3, 3, 40, 1), (3, 40, 36, 1), (3, 8, 24, 2), (1, 8, 20, 2)):
        x, kernel = rng.normal(size=(4, 9, 9, channels)), rng.normal(size=(size, size, channels, features))
        right = _by_hand(x, kernel, stride)
        weights, name = rng.normal(size=right.shape), f"{size}x{size} {channels}-{features} / {stride}"

        def total(x: jax.Array, kernel: jax.Array, weights=weights, stride=stride) -> jax.Array:
            return jnp.sum(jnp.asarray(weights, x.dtype) * conv(x, kernel, strides=stride, padding="VALID"))

        slopes = in_float64(jax.grad(total, (0, 1)), x, kernel)
        # A gradient is right where it predicts the loops' own answer to a change: they are linear in each argument.
        change = rng.normal(size=kernel.shape)
        loops = np.sum(weights * _by_hand(x, change, stride))
        yield f"kernel gradient {name}, float64", abs(np.sum(slopes[1] * change) - loops) / abs(loops), 1e-10
        small = [jnp.asarray(a, jnp.float32) for a in (x, kernel)]
        for word, allowed in (("float32", FLOAT32), ("tensorfloat32", TF32)):
            with jax.default_matmul_precision(word):
                made = jax.jit(lambda x, k, stride=stride: conv(x, k, strides=stride, padding="VALID"))(*small)
                gradients = jax.jit(jax.grad(total, (0, 1)))(*small)
            yield f"{name}, {word}", error(made, right), allowed
            yield f"gradients {name}, {word}", error(gradients, slopes), allowed


NETWORKS = {
    "mlp": {"name": "mlp", "widths": (32, 16)},
    "simple_cnn": {"name": "simple_cnn"},
    "resnet20": {"name": "resnet20"},
}


def steps(names: Sequence[str] = tuple(NETWORKS)) -> Found:
    """The gradient of a training step of each network, and whether it comes out the same, bit for bit, three times."""
    rng = np.random.default_rng(3)
    x, y = jnp.asarray(rng.normal(size=(8, 32, 32, 3)), jnp.float32), jnp.asarray(rng.integers(0, 10, 8))
    for name in names:
        model = models.build_model(NETWORKS[name], 10)
        params, state = model.init(jax.random.key(0), x[:1])

        def loss(params: dict, state: dict, x: jax.Array, y: jax.Array, model=model) -> jax.Array:
            outputs = model.apply(params, state, x, train=True, key=jax.random.key(0))[0]
            return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(outputs, y))

        right = in_float64(jax.jit(jax.grad(loss)), params, state, x, y)
        with jax.default_matmul_precision("float32"):
            gradient = jax.jit(jax.grad(loss))
            made = [jax.device_get(gradient(params, state, x, y)) for _ in range(3)]
        yield f"gradient of {name}", error(made[0], right), NETWORK
        yield f"the same bits again, {name}", float(not all(equal_trees(made[0], other) for other in made[1:])), 0


def resumed() -> Found:
    """A run that is cut off after each chunk ends with the bits of one that is not."""
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


def lanes() -> Found:
    """A lane's losses do not depend on how many lanes a device holds."""
    runs = []
    for count in (1, 2, 4):
        with tempfile.TemporaryDirectory() as folder:
            short = {"steps": 100, "arms.small_rate.steps": 100, "arms.time_matched.steps": 100}
            runs.append(
                [
                    np.asarray(a["step/loss"])
                    for a in lrjax.run(tiny({**short, "lanes_per_device": count}), folder).arrays
                ]
            )
    for count, other in zip((2, 4), runs[1:], strict=True):
        yield f"{count} lanes on a device under 1", error(other, runs[0]), 1e-4


CHECKS = {
    "spectra": curvature,
    "transforms": twins,
    "convolutions": convolutions,
    "steps": steps,
    "resume": resumed,
    "lanes": lanes,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; 1 where an error is larger than allowed."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__)
    parser.add_argument("--checks", default=",".join(CHECKS))
    flags = parser.parse_args(arguments)
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}, XLA_FLAGS={os.environ['XLA_FLAGS'].strip()}")
    wrong = 0
    for part in flags.checks.split(","):
        begin = time.perf_counter()
        for name, found, allowed in CHECKS[part]():
            right = bool(found <= allowed)  # NaN is not
            wrong += not right
            print(f"  {part:<13} {name:<44} {found:8.1e} of {allowed:7.1e}  {'ok' if right else 'WRONG'}", flush=True)
        print(f"  {part:<13} {time.perf_counter() - begin:.0f} s", flush=True)
    print("right" if not wrong else f"{wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    from lrjax.experiment.loop import process

    process.keep_compiled_programs()
    sys.exit(main())
