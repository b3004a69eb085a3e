"""Curvature, transforms, convolutions and gradients of a device, against float64 on the CPU."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from lrjax import models, spectra, transforms
from lrjax.models.conv.convolution import conv
from tests.runs import equal_trees

Found = Iterator[tuple[str, float | str, float]]  # name, error or why there is none, allowed
FLOAT32 = 2e-5  # sums of some hundred products
TOP = 1e-3  # of eigenvalues: the residual asked of Lanczos
NETWORK = 2e-3  # of a gradient through normalisations, relative to its largest entry
TF32 = 1e-2  # ten bits of each factor
TWINS = 1e-3  # in logits, after 60 steps


def in_float64(compute: Callable, *trees: Any) -> Any:
    """What a function gives in float64 on the CPU, on the host."""
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        wide = jax.tree.map(
            lambda a: jnp.asarray(np.asarray(a), jnp.float64 if np.asarray(a).dtype.kind == "f" else None), trees
        )
        return jax.device_get(compute(*wide))


def error(found: Any, right: Any) -> float:
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
    away = rows - rows.mean(0, keepdims=True)
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
    "resnet20": {"name": "resnet32", "depth": 20},
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
