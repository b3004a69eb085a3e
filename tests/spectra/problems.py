"""Small models with their curvature matrices in closed form, written in numpy: autodiff against autodiff would hide a bug."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.spectra import operators as ops

N, FEATURES, OUTPUTS, HIDDEN = 27, 4, 3, 2
UNEVEN = (5, 1, 5, 5, 5, 1, 5)  # seven batches of two sizes, so that only two programs are compiled
NUM_SAMPLES = 3


class Problem(NamedTuple):
    """A model on data, and its derivatives in closed form; all float64, parameters flattened in the order of jax.

    Attributes:
        params, batch: numpy pytrees.
        predict: (params, batch) -> outputs.
        losses: (outputs, batch) -> [n].
        distribution: of the labels given the outputs.
        jacobian: [n, C, D] of the outputs.
        second: [n, C, D, D], the outputs' second derivatives; None where they are linear.
    """

    params: Any
    batch: Any
    predict: Callable
    losses: Callable
    distribution: str
    jacobian: np.ndarray
    second: np.ndarray | None = None


def softmax_losses(logits, batch):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), batch[1][:, None], axis=1)[:, 0]


def logistic_losses(logit, batch):
    return jnp.logaddexp(0.0, logit) - batch[1] * logit


def half_squared_losses(outputs, batch):
    return jnp.sum((outputs - batch[1]) ** 2, axis=1) / 2


def differentiated(operator, params, batch):
    """The quantity that an operator differentiates, at a batch."""
    return operator.rule.value(operator.functions, params, batch)


def affine(params, batch):
    return batch[0] @ params["w"] + params["b"][None]


def affine_scalar(params, batch):
    return batch[0] @ params["w"] + params["b"]


def two_linear_layers(params, batch):
    return batch[0] @ params["w"].T @ params["v"].T


def _affine_jacobian(x: np.ndarray, outputs: int) -> np.ndarray:
    """df_c/db_k = [c = k], df_c/dw_jk = x_j [c = k]; order b, w."""
    eye = np.eye(outputs)
    bias = np.broadcast_to(eye, (len(x), outputs, outputs))
    kernel = np.einsum("ij,ck->icjk", x, eye).reshape(len(x), outputs, -1)
    return np.concatenate([bias, kernel], axis=2)


def _draws(seed: int) -> tuple[np.random.Generator, np.ndarray]:
    random = np.random.default_rng(seed)
    return random, random.normal(size=(N, FEATURES)) * [1.0, 2.0, 0.5, 1.5]


def linear_regression() -> Problem:
    random, x = _draws(0)
    params = {"b": random.normal(size=OUTPUTS), "w": random.normal(size=(FEATURES, OUTPUTS))}
    batch = (x, random.normal(size=(N, OUTPUTS)))
    return Problem(params, batch, affine, half_squared_losses, "gaussian", _affine_jacobian(x, OUTPUTS))


def logistic_regression() -> Problem:
    random, x = _draws(1)
    params = {"b": random.normal(), "w": 0.5 * random.normal(size=FEATURES)}
    batch = (x, random.integers(0, 2, N).astype(float))
    jacobian = np.concatenate([np.ones((N, 1)), x], axis=1)[:, None]
    return Problem(params, batch, affine_scalar, logistic_losses, "bernoulli", jacobian)


def softmax_regression() -> Problem:
    random, x = _draws(2)
    params = {"b": random.normal(size=OUTPUTS), "w": 0.5 * random.normal(size=(FEATURES, OUTPUTS))}
    batch = (x, random.integers(0, OUTPUTS, N))
    return Problem(params, batch, affine, softmax_losses, "categorical", _affine_jacobian(x, OUTPUTS))


def two_layer_linear() -> Problem:
    """f = V W x: df_c/dV_cj = (W x)_j, df_c/dW_jk = V_cj x_k, d2f_c/dV_cj dW_jk = x_k; order v, w."""
    random, x = _draws(3)
    v, w = random.normal(size=(OUTPUTS, HIDDEN)), random.normal(size=(HIDDEN, FEATURES))
    v = np.round(8 * v) / 8  # exact in bfloat16
    batch = (x, random.normal(size=(N, OUTPUTS)))
    eye, middle = np.eye(OUTPUTS), x @ w.T
    by_v = np.einsum("ce,ij->icej", eye, middle).reshape(N, OUTPUTS, -1)
    by_w = np.einsum("cj,ik->icjk", v, x).reshape(N, OUTPUTS, -1)
    crossed = np.einsum("ce,jl,ik->icejlk", eye, np.eye(HIDDEN), x).reshape(N, OUTPUTS, v.size, w.size)
    second = np.zeros((N, OUTPUTS, v.size + w.size, v.size + w.size))
    second[:, :, : v.size, v.size :] = crossed
    second[:, :, v.size :, : v.size] = crossed.transpose(0, 1, 3, 2)
    jacobian = np.concatenate([by_v, by_w], axis=2)
    return Problem({"v": v, "w": w}, batch, two_linear_layers, half_squared_losses, "gaussian", jacobian, second)


PROBLEMS = {
    "linear": linear_regression,
    "logistic": logistic_regression,
    "softmax": softmax_regression,
    "two_layer": two_layer_linear,
}


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def output_derivatives(distribution: str, outputs: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First [n, C] and second [n, C, C] derivatives of minus the log-likelihood in the outputs [n, C]."""
    if distribution == "gaussian":
        return outputs - y, np.broadcast_to(np.eye(outputs.shape[1]), (len(outputs), *2 * outputs.shape[1:]))
    if distribution == "bernoulli":
        p = 1 / (1 + np.exp(-outputs))
        return p - y[:, None], (p * (1 - p))[:, :, None]
    p = softmax(outputs)
    return p - np.eye(outputs.shape[1])[y], np.einsum("ic,cd->icd", p, np.eye(p.shape[1])) - p[:, :, None] * p[:, None]


def drawn_labels(distribution: str, key: jax.Array, outputs: jax.Array, num_samples: int) -> Any:
    """[n, num_samples, ...] labels of the model: example i draws with fold_in(key, i), whatever its batch."""
    draw = {
        "categorical": jax.random.categorical,
        "bernoulli": lambda k, logit: jax.random.bernoulli(k, jax.nn.sigmoid(logit)),
        "gaussian": lambda k, mean: mean + jax.random.normal(k, mean.shape, mean.dtype),
    }[distribution]
    keys = jax.vmap(lambda i: jax.random.split(jax.random.fold_in(key, i), num_samples))(jnp.arange(len(outputs)))
    return jax.vmap(jax.vmap(draw, (0, None)))(keys, outputs)


def _pulled_back(jacobian: np.ndarray, middle: np.ndarray) -> np.ndarray:
    return np.einsum("ica,icd,idb->ab", jacobian, middle, jacobian) / len(jacobian)


def _second_moment(jacobian: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    gradients = np.einsum("ica,ic->ia", jacobian, slopes)
    return gradients.T @ gradients / len(gradients)


def closed_forms(problem: Problem, drawn: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Name of the operator -> its dense matrix.

    Args:
        drawn: labels [n, num_samples, ...] of the model, for the Monte Carlo form of the Fisher information.
    """
    outputs = problem.predict(problem.params, problem.batch).reshape(N, -1)
    jacobian = problem.jacobian
    slopes, curvature = output_derivatives(problem.distribution, outputs, problem.batch[1])
    gauss_newton = _pulled_back(jacobian, curvature)
    residual = 0.0 if problem.second is None else np.einsum("ic,icab->ab", slopes, problem.second) / N
    mean = np.einsum("ica,ic->a", jacobian, slopes) / N
    empirical = _second_moment(jacobian, slopes)
    found = {
        "hessian": gauss_newton + residual,
        "ggn": gauss_newton,
        "fisher": gauss_newton,
        "empirical_fisher": empirical,
        "gradient_covariance": empirical - np.outer(mean, mean),
    }
    if drawn is not None:
        labels = np.moveaxis(np.asarray(drawn), 1, 0)
        scores = [output_derivatives(problem.distribution, outputs, y)[0] for y in labels]
        found["fisher_monte_carlo"] = np.mean([_second_moment(jacobian, s) for s in scores], axis=0)
    return found


def operator_table(predict: Callable, losses: Callable, distribution: str, key: jax.Array) -> dict[str, ops.Operator]:
    """Every operator of one model, by name."""

    def example_loss(params, batch):
        return losses(predict(params, batch), batch)

    made = [
        ops.hessian(lambda params, batch: jnp.mean(example_loss(params, batch))),
        ops.ggn(predict, lambda outputs, batch: jnp.mean(losses(outputs, batch))),
        ops.fisher(predict, distribution=distribution),
        ops.fisher(predict, key, distribution=distribution, num_samples=NUM_SAMPLES),
        ops.empirical_fisher(example_loss),
        ops.gradient_covariance(example_loss),
    ]
    return {operator.name: operator for operator in made}


def precondition(size: int) -> np.ndarray:
    """A positive diagonal, flat."""
    return np.random.default_rng(6).uniform(0.2, 3.0, size)


def preconditioned_table(table: dict[str, ops.Operator]) -> dict[str, ops.Operator]:
    """Hessian and gradient covariance of the two-layer linear network, preconditioned; the covariance in two steps."""
    flat = precondition(OUTPUTS * HIDDEN + HIDDEN * FEATURES)
    v, w = np.split(flat, [OUTPUTS * HIDDEN])
    diagonal = cast({"v": v.reshape(OUTPUTS, HIDDEN), "w": w.reshape(HIDDEN, FEATURES)}, np.float32)
    half = jax.tree.map(jnp.sqrt, diagonal)
    covariance = ops.preconditioned(table["gradient_covariance"], half)
    return {
        "preconditioned_hessian": ops.preconditioned(table["hessian"], diagonal),
        "preconditioned_gradient_covariance": ops.preconditioned(covariance, half),
    }


def preconditioned_forms(closed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What `preconditioned_table` must give."""
    root = np.sqrt(precondition(len(closed["hessian"])))
    return {
        f"preconditioned_{name}": closed[name] / np.outer(root, root) for name in ("hessian", "gradient_covariance")
    }


@contextlib.contextmanager
def quick_compilation() -> Iterator[None]:
    """For programs that run once or twice: optimising them would take most of their time."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def cast(tree: Any, dtype: Any) -> Any:
    """Floating-point leaves as jax arrays of a precision; integers as int32."""
    return jax.tree.map(
        lambda a: jnp.asarray(a, dtype if np.issubdtype(np.asarray(a).dtype, np.floating) else jnp.int32), tree
    )


def dense(bound: Any) -> np.ndarray:
    """The matrix of a bound operator."""
    return np.asarray(bound.matmat(jnp.eye(bound.size, dtype=bound.dtype)), np.float64)


def difference(a: Any, b: Any) -> float:
    """Largest difference of entries, relative to the largest entry of b."""
    return float(np.abs(np.asarray(a, float) - b).max() / np.abs(b).max())


def split(batch: Any, sizes: tuple[int, ...] = UNEVEN) -> list:
    """A batch as several."""
    stops = np.cumsum(sizes)
    return [jax.tree.map(lambda a, i=i, j=j: a[i - j : i], batch) for i, j in zip(stops, sizes, strict=True)]


def mlp_params(dtype: Any = np.float32) -> dict:
    """4 -> 5 tanh -> 3: 43 parameters in two named layers."""
    random = np.random.default_rng(4)
    shapes = {"dense1": (FEATURES, 5), "dense2": (5, OUTPUTS)}
    tree = {
        name: {"bias": 0.3 * random.normal(size=shape[1]), "kernel": random.normal(size=shape) / np.sqrt(shape[0])}
        for name, shape in shapes.items()
    }
    return cast(tree, dtype)


def mlp_predict(params, batch):
    first, second = params["dense1"], params["dense2"]
    hidden = jnp.tanh(batch[0] @ first["kernel"] + first["bias"][None])
    return hidden @ second["kernel"] + second["bias"][None]


def mlp_batch(dtype: Any = np.float32) -> tuple:
    random, x = _draws(5)
    return cast((x, random.integers(0, OUTPUTS, N)), dtype)
