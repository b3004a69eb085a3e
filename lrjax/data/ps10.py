"""Pattern Separation 10 (PS10): simple and complex patterns side by side, on request with noise.

Ten classes. A simple pattern is one of 10 points of a class in R^3, a complex one of 100; either kind alone determines the
label. Simple patterns lie in channels 0-2 and complex ones in channels 3-5 of the input; half of the data carry only the
one kind, half only the other, and the unused channels are zero. How the points are placed and labelled, sample counts and
noise are not known from the paper; here they are our choice.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from lrjax.data.dataset import Dataset
from lrjax.errors import check
from lrjax.keys import key

KINDS = ("simple", "complex", "noise")
SIMPLE, COMPLEX, NOISE = range(3)
NOISES = ("none", "label", "point", "joint")
LAYOUTS = ("grid", "random")
NO_LABEL = -1  # the true label of a random point
CHANNELS = 6
ARRAYS = ("data.jitter",)
PATTERNS, SAMPLES = "data", "test"  # purposes of the keys of patterns with training samples, and of test samples


def pattern_complexity(pattern: ArrayLike, y: ArrayLike) -> float:
    """The expected class-conditional entropy of the patterns, in bits.

        C(D) = E_y [ H( P(pattern | y) ) ]

    Args:
        pattern: int `[n]`, which pattern each example is. With continuous jitter the entropy is that of the identity.
        y: int `[n]`, labels.

    Returns:
        Bits; log2 k for k equally frequent patterns a class.

    Raises:
        LrjaxError: there is no example.

    References:
        How Does Learning Rate Decay Help Modern Neural Networks?, section 5.1.

    Example:
        >>> pattern_complexity([0, 1, 2, 3], [0, 0, 1, 1])
        1.0
    """
    pattern, y = np.asarray(pattern), np.asarray(y)
    check(pattern.size > 0, "pattern_complexity needs one example or more")
    total = 0.0
    for label in np.unique(y):
        share = np.unique(pattern[y == label], return_counts=True)[1] / np.sum(y == label)
        total += np.mean(y == label) * -np.sum(share * np.log2(share))
    return float(total)


def grid_edge(count: int) -> int:
    """Nodes along an edge of the smallest cubic grid with `count` nodes or more, and two at least.

    Example:
        >>> grid_edge(100), grid_edge(1000), grid_edge(1)
        (5, 10, 2)
    """
    edge = 2
    while edge**3 < count:
        edge += 1
    return edge


def points(points_key: jax.Array, count: int, layout: str) -> jax.Array:
    """`count` different points of [-1, 1]^3 in random order: nodes of a cubic grid, or uniform ones.

    Args:
        points_key: typed key.
        count: number of points.
        layout: "grid" or "random".

    Returns:
        float32 `[count, 3]`.

    Example:
        >>> points(jax.random.key(0), 8, "grid").shape
        (8, 3)
    """
    if layout == "random":
        return jax.random.uniform(points_key, (count, 3), minval=-1.0, maxval=1.0)
    edge = grid_edge(count)
    node = jax.random.permutation(points_key, edge**3)[:count]
    place = jnp.stack([node // edge**2, node // edge % edge, node % edge], axis=1)
    return 2.0 * place.astype(jnp.float32) / (edge - 1) - 1.0


def _samples(sample_key: jax.Array, n: int, patterns: tuple, data: Any, jitter: Any) -> dict[str, jax.Array]:
    """n examples without noise, half of each kind, every pattern of a kind equally often, in random order."""
    order_key, *jitter_keys = jax.random.split(sample_key, 3)
    halves, first = [], 0
    for kind, (place, size) in enumerate(zip(patterns, (n // 2, n - n // 2), strict=True)):
        count = place.shape[0]
        number = jnp.arange(size) % count
        spacing = 2.0 / (grid_edge(count) - 1)
        x = place[number] + jitter * spacing * jax.random.normal(jitter_keys[kind], (size, 3))
        zero = jnp.zeros_like(x)
        halves.append(
            {
                "x": jnp.concatenate([x, zero] if kind == SIMPLE else [zero, x], axis=1).astype(jnp.float32),
                "y": (number // (count // data.classes)).astype(jnp.int32),
                "kind": jnp.full((size,), kind, jnp.int32),
                "pattern": (first + number).astype(jnp.int32),
            }
        )
        first += count
    order = jax.random.permutation(order_key, n)
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b])[order], *halves)


def _with_noise(noise_key: jax.Array, train: dict[str, jax.Array], data: Any) -> dict[str, jax.Array]:
    """A training set in which a fraction is noise; "true_y" keeps the label that the pattern has."""
    n = train["y"].shape[0]
    true_y = train["y"]
    if data.noise == "none":
        return train | {"true_y": true_y}
    place_key, label_key, point_key = jax.random.split(noise_key, 3)
    noisy = jax.random.permutation(place_key, n) < round(data.noise_fraction * n)
    kind = jnp.where(noisy, NOISE, train["kind"])
    if data.noise == "label":
        other = (true_y + jax.random.randint(label_key, (n,), 1, data.classes)) % data.classes
        return train | {"y": jnp.where(noisy, other, true_y), "kind": kind, "true_y": true_y}
    point = jax.random.uniform(point_key, (n, CHANNELS), minval=-1.0, maxval=1.0)
    if data.noise == "point":
        point = point.at[:, : CHANNELS // 2].set(0.0)
    return {
        "x": jnp.where(noisy[:, None], point, train["x"]),
        "y": jnp.where(noisy, jax.random.randint(label_key, (n,), 0, data.classes), true_y),
        "kind": kind,
        "pattern": jnp.where(noisy, -1, train["pattern"]),
        "true_y": jnp.where(noisy, NO_LABEL, true_y),
    }


def _images(split: dict[str, jax.Array], edge: int) -> dict[str, jax.Array]:
    if edge == 0:
        return split
    x = jnp.broadcast_to(split["x"][:, None, None, :], (split["x"].shape[0], edge, edge, CHANNELS))
    return split | {"x": x}


def generate(static: Any, hparams: Any) -> dict[str, Any]:
    """One lane's PS10: patterns, training samples and test samples are functions of its seed.

    Args:
        static: the resolved config; `static.data` has `n` and `num_test` (examples), `classes`, `k_simple` and
            `k_complex` (patterns a class), `layout` ("grid": 100 random nodes of a 5x5x5 grid and all nodes of a 10x10x10
            grid at the usual sizes; "random": uniform points), `noise` ("none"; "label": the label becomes another one;
            "point": a random point in the complex channels with a random label; "joint": one in all six channels),
            `noise_fraction` (of the training set), `image_size` (0: vectors of six; else the vector at every position of
            a square image) and `complex_draw` (another number, other complex points of the same seed).
        hparams: "seed" and "data.jitter", the deviation of a sample from its pattern in units of the grid's spacing.

    Returns:
        `train` with "x" `[n, 6]` or `[n, s, s, 6]`, "y" (the label that is trained on), "true_y" (that of the pattern, -1
        for a random point), "kind" (an index into `KINDS`) and "pattern" (-1 for a random point), each int32 `[n]`;
        `tests["test"]` without noise: the same patterns, fresh samples.

    References:
        How Does Learning Rate Decay Help Modern Neural Networks?, sections 5.1 to 5.3.
    """
    data, seed = static.data, hparams["seed"]
    simple_key, complex_key, sample_key, noise_key = jax.random.split(key(seed, PATTERNS), 4)
    simple = points(simple_key, data.classes * data.k_simple, data.layout)
    complex_ = points(jax.random.fold_in(complex_key, data.complex_draw), data.classes * data.k_complex, data.layout)
    patterns, jitter = (simple, complex_), hparams["data.jitter"]
    train = _with_noise(noise_key, _samples(sample_key, data.n, patterns, data, jitter), data)
    test = _samples(key(seed, SAMPLES), data.num_test, patterns, data, jitter)
    return {"train": _images(train, data.image_size), "tests": {"test": _images(test, data.image_size)}}


def complete(config: Any) -> None:
    """Checks the keys of `config.data`.

    Raises:
        LrjaxError: the first that is wrong.
    """
    data = config.data
    check(data.layout in LAYOUTS, f"data.layout={data.layout!r} must be one of {', '.join(LAYOUTS)}")
    check(data.noise in NOISES, f"data.noise={data.noise!r} must be one of {', '.join(NOISES)}")
    for name, least in (
        ("n", 2),
        ("num_test", 2),
        ("classes", 2),
        ("k_simple", 1),
        ("k_complex", 1),
        ("image_size", 0),
    ):
        check(data[name] >= least, f"data.{name}={data[name]} must be {least} or more")
    check(data.jitter >= 0, f"data.jitter={data.jitter} must be zero or more")
    check(0 <= data.noise_fraction < 1, f"data.noise_fraction={data.noise_fraction} must lie in [0, 1)")


def spec(config: Any) -> Dataset:
    """The shapes of `generate`, without computing it.

    Example:
        >>> from types import SimpleNamespace
        >>> data = SimpleNamespace(n=20, num_test=8, classes=10, image_size=32)
        >>> spec(SimpleNamespace(data=data)).train["x"].shape
        (20, 32, 32, 6)
    """
    data = config.data
    edges = (data.image_size,) * 2 if data.image_size else ()

    def split(n: int, names: tuple[str, ...]) -> dict[str, Any]:
        whole = {name: jax.ShapeDtypeStruct((n,), np.int32) for name in names}
        return {"x": jax.ShapeDtypeStruct((n, *edges, CHANNELS), np.float32)} | whole

    test = split(data.num_test, ("y", "kind", "pattern"))
    return Dataset(split(data.n, ("y", "kind", "pattern", "true_y")), {"test": test}, data.classes)
