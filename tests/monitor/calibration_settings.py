"""The trainings on which the advice of the monitor is calibrated and tested: a problem, its optimizers and rates.

`SETTINGS` names them. The limits of the advice are set on "mlp" and "mlp_ce"; "cnn" and "lm" test them, with rates and a seed
that had not been run before the last change of a limit.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lrjax.models.simple_cnn import simple_cnn

SHARED = Path(__file__).resolve().parents[3] / "shared" / "tfds"
CLASSES, VOCABULARY, CONTEXT, WIDTH, HEADS = 10, 64, 64, 64, 4


class Problem(NamedTuple):
    """What is trained.

    Attributes:
        init: a key -> parameters.
        loss: `(params, batch) -> scalar`.
        train: arrays, an example a row.
        held: those on which the training loss is measured, at most `chunk` at a time.
        chunk: examples.
    """

    init: Callable[[jax.Array], Any]
    loss: Callable[[Any, Any], jax.Array]
    train: tuple[np.ndarray, ...]
    held: tuple[np.ndarray, ...]
    chunk: int


class Setting(NamedTuple):
    """A problem with the cells that are tried on it.

    Attributes:
        problem: from the folder of the data sets.
        rates: optimizer -> learning rates.
        batch_size: examples a step.
        num_steps: that the monitor is told.
        times: steps at which its advice is asked for.
        horizon: steps that then follow, a tenth of the run: the share that a decay at the end of a run commonly takes.
        every: of the monitor: less than its default, so that runs this short have two valley gaps by the first time.
        scanned: whether steps go into `jax.lax.scan`; convolutions inside one are slow on a CPU.
        tests: whether its cells test the limits; the others set them.
        seed: of the first parameters and of the order of the data.
    """

    problem: Callable[[Path], Problem]
    rates: Mapping[str, Sequence[float]]
    batch_size: int
    num_steps: int
    times: Sequence[int]
    horizon: int
    every: int
    scanned: bool
    tests: bool
    seed: int = 0


def _injected(optimizer: Callable, *static: str, **settings: Any) -> Callable[[float], Any]:
    """A rate -> the optimizer with its rate in its state: one program for all rates, also in the monitor."""
    return lambda rate: optax.inject_hyperparams(optimizer, static_args=static)(learning_rate=rate, **settings)


OPTIMIZERS: dict[str, Callable[[float], Any]] = {
    "sgd": _injected(optax.sgd),
    "momentum": _injected(optax.sgd, "momentum", momentum=0.9),
    "adam": _injected(optax.adam, "b1", "b2", "eps", "eps_root"),
    "adamw": _injected(optax.adamw, "b1", "b2", "eps", "eps_root", "weight_decay", weight_decay=0.1),
    "muon": lambda rate: optax.inject_hyperparams(_muon)(learning_rate=rate),
}


def _muon(learning_rate: Any) -> Any:
    return optax.contrib.muon(learning_rate, muon_weight_dimension_numbers=_matrices)


def _matrices(params: Any) -> Any:
    """Matrices, and convolutions as matrices of fan-in times channels; the rest goes to Adam."""
    dimensions = optax.contrib.MuonDimensionNumbers

    def one(leaf: jax.Array) -> Any:
        return dimensions(tuple(range(leaf.ndim - 1)), leaf.ndim - 1) if leaf.ndim >= 2 else None

    return jax.tree.map(one, params)


def cifar(folder: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first images of CIFAR-10, in [0, 1], with their labels."""
    import tensorflow_datasets as tfds

    source: Any = tfds.data_source("cifar10", data_dir=str(folder), download=False, split="train")
    records = source.__getitems__(list(range(count)))
    images = np.stack([record["image"] for record in records]).astype(np.float32) / 255
    return images, np.array([record["label"] for record in records], np.int32)


def dense(key: jax.Array, sizes: Sequence[int]) -> dict[str, Any]:
    """Weights N(0, 1 / fan-in) and zero biases."""
    keys = jax.random.split(key, len(sizes))
    return {
        f"layer{i}": {"w": jax.random.normal(keys[i], (a, b)) / np.sqrt(a), "b": jnp.zeros(b)}
        for i, (a, b) in enumerate(zip(sizes, sizes[1:], strict=False))
    }


def tanh_network(params: Any, x: jax.Array) -> jax.Array:
    for i in range(len(params)):
        x = x @ params[f"layer{i}"]["w"] + params[f"layer{i}"]["b"][None]
        x = jnp.tanh(x) if i < len(params) - 1 else x
    return x


def half_squared_error(params: Any, batch: Any) -> jax.Array:
    x, y = batch
    return jnp.mean(jnp.sum((tanh_network(params, x) - jax.nn.one_hot(y, CLASSES)) ** 2, -1)) / 2


def cross_entropy(params: Any, batch: Any) -> jax.Array:
    x, y = batch
    return optax.softmax_cross_entropy_with_integer_labels(tanh_network(params, x), y).mean()


def mlp(folder: Path, loss: Callable = half_squared_error) -> Problem:
    """MLP 3072-64-64-10 with tanh on 1000 images."""
    x, y = cifar(folder, 1000)
    x = x.reshape(len(x), -1)
    x = (x - x.mean(0)) / x.std(0)
    return Problem(lambda key: dense(key, (3072, 64, 64, CLASSES)), loss, (x, y), (x, y), 1000)


def cnn(folder: Path) -> Problem:
    """SimpleCNN of width 16 on 5000 images averaged to 16 x 16 pixels."""
    x, y = cifar(folder, 5000)
    x = x.reshape(-1, 16, 2, 16, 2, 3).mean((2, 4))
    x = (x - x.mean((0, 1, 2))) / x.std((0, 1, 2))
    model = simple_cnn({"width": 16}, CLASSES)

    def loss(params: Any, batch: Any) -> jax.Array:
        logits = model.apply(params, {}, batch[0], train=True)[0]
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()

    return Problem(lambda key: model.init(key, x[:2])[0], loss, (x, y), (x[:1000], y[:1000]), 500)


def characters(folder: Path, reviews: int = 500) -> np.ndarray:
    """Reviews as characters: the 63 most frequent ones, and the rest as one."""
    import tensorflow_datasets as tfds

    source: Any = tfds.data_source("imdb_reviews", data_dir=str(folder), download=False, split="train")
    text = b"\n".join(record["text"] for record in source.__getitems__(list(range(reviews)))).lower()
    raw = np.frombuffer(text, np.uint8)
    table = np.full(256, VOCABULARY - 1, np.int32)
    table[np.argsort(-np.bincount(raw, minlength=256), kind="stable")[: VOCABULARY - 1]] = np.arange(VOCABULARY - 1)
    return table[raw]


def _norm(x: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6)


def next_character(params: Any, batch: Any) -> jax.Array:
    """Mean -log p of the next character, of a causal transformer with one layer."""
    tokens = batch[:, :-1]
    x = params["embedding"]["tokens"][tokens] + params["embedding"]["positions"][None]
    size, steps, _ = x.shape
    q, k, v = jnp.split(_norm(x) @ params["attention"]["qkv"], 3, -1)
    q, k, v = (part.reshape(size, steps, HEADS, WIDTH // HEADS) for part in (q, k, v))
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(WIDTH // HEADS)
    scores = jnp.where(np.tril(np.ones((1, 1, steps, steps), bool)), scores, -1e9)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), v).reshape(size, steps, WIDTH)
    x = x + mixed @ params["attention"]["out"]
    x = x + jax.nn.gelu(_norm(x) @ params["mlp"]["in"]) @ params["mlp"]["out"]
    logits = _norm(x) @ params["head"]["w"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch[:, 1:]).mean()


def lm(folder: Path) -> Problem:
    """Causal transformer, one layer, width 64, context 64, on characters of IMDB reviews."""
    text = characters(folder)
    rows = text[: len(text) // (CONTEXT + 1) * (CONTEXT + 1)].reshape(-1, CONTEXT + 1)
    shapes = {
        "embedding": {"tokens": (VOCABULARY, WIDTH), "positions": (CONTEXT, WIDTH)},
        "attention": {"qkv": (WIDTH, 3 * WIDTH), "out": (WIDTH, WIDTH)},
        "mlp": {"in": (WIDTH, 4 * WIDTH), "out": (4 * WIDTH, WIDTH)},
        "head": {"w": (WIDTH, VOCABULARY)},
    }

    def init(key: jax.Array) -> Any:
        leaves, structure = jax.tree.flatten(shapes, is_leaf=lambda node: isinstance(node, tuple))
        keys = jax.random.split(key, len(leaves))
        made = [jax.random.normal(k, s) / np.sqrt(s[0]) for k, s in zip(keys, leaves, strict=True)]
        return jax.tree.unflatten(structure, made)

    return Problem(init, next_character, (rows,), (rows[:512],), 256)


SETTINGS: dict[str, Setting] = {
    "mlp": Setting(
        mlp,
        {
            "sgd": (3e-4, 2e-3, 1e-2, 5e-2),
            "momentum": (1e-3, 1e-2),
            "adam": (1e-5, 1e-4, 1e-3, 3e-3),
            "adamw": (1e-3,),
            "muon": (2e-3, 2e-2),
        },
        batch_size=16, num_steps=4000, times=(1500, 3600), horizon=400, every=25, scanned=True, tests=False,
    ),
    "mlp_ce": Setting(
        lambda folder: mlp(folder, cross_entropy),
        {"sgd": (3e-3, 0.1), "momentum": (3e-4, 1e-2), "adam": (1e-5, 1e-4, 1e-3), "muon": (1e-2,)},
        batch_size=16, num_steps=4000, times=(1500, 3600), horizon=400, every=25, scanned=True, tests=False,
    ),
    "cnn": Setting(
        cnn,
        {
            "sgd": (1e-3, 1e-2, 0.1),
            "momentum": (3e-4, 1e-3, 2e-2),
            "adam": (3e-5, 1e-4, 6e-4, 2e-3),
            "adamw": (3e-5, 3e-4, 2e-3),
            "muon": (3e-4, 5e-3, 2e-2),
        },
        batch_size=32, num_steps=2000, times=(850, 1800), horizon=200, every=12, scanned=False, tests=True, seed=2,
    ),
    "lm": Setting(
        lm,
        {
            "sgd": (1e-2, 0.1, 1.0),
            "momentum": (1e-3, 1e-2, 0.1),
            "adam": (2e-5, 3e-4, 2e-3, 6e-3),
            "adamw": (1e-4, 1e-3, 6e-3),
            "muon": (1e-3, 1e-2, 3e-2),
        },
        batch_size=8, num_steps=2000, times=(850, 1800), horizon=200, every=12, scanned=True, tests=True, seed=2,
    ),
}  # fmt: skip
