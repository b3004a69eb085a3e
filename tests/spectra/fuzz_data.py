"""Parameters, batches and networks of the fuzz, written as people write them, and the same numbers for the oracle."""

import collections
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

FEATURES, HIDDEN, CLASSES, TOKENS = 3, 4, 3, 2
Pair = collections.namedtuple("Pair", "first second")


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Layers:
    first: object
    second: object


def _leaf(kind, random):
    numbers = 0.5 * random.normal(size=3)
    return {
        "vector": lambda: jnp.asarray(numbers, jnp.float32),
        "matrix": lambda: jnp.asarray(0.5 * random.normal(size=(2, 3)), jnp.float32),
        "bfloat16": lambda: jnp.asarray(numbers, jnp.bfloat16),
        "float16": lambda: jnp.asarray(numbers, jnp.float16),
        "float64": lambda: numbers,
        "scalar": lambda: jnp.asarray(numbers[0], jnp.float32),
        "python_float": lambda: float(np.float32(numbers[0])),
        "complex": lambda: jnp.asarray(numbers[:2] + 1j * numbers[1:], jnp.complex64),
        "integer": lambda: jnp.arange(2),
        "python_int": lambda: 3,
        "boolean": lambda: jnp.array([True, False]),
        "none": lambda: None,
        "empty": lambda: jnp.zeros((0, 3)),
        "key": lambda: jax.random.key(int(random.integers(9))),
    }[kind]()


def parameters(case):
    """The tree, and the leaves in its order: the kinds, whether each is chosen; a None is no leaf of jax."""
    random = np.random.default_rng(case.seed)
    leaves = [_leaf(kind, random) for kind in case.leaves]
    middle = (len(leaves) + 1) // 2
    parts = tuple(leaves[:middle]), tuple(leaves[middle:])
    tree = {
        "dict": lambda: {f"leaf{i}": leaf for i, leaf in enumerate(leaves)},
        "nested": lambda: {"first": {"block": list(parts[0])}, "second": parts[1]},
        "list": lambda: leaves,
        "tuple": lambda: tuple(leaves),
        "namedtuple": lambda: Pair(*parts),
        "dataclass": lambda: Layers(*parts),
        "single": lambda: leaves[0],
    }[case.tree]()
    there = [(kind, mine) for kind, mine in zip(case.leaves, case.chosen, strict=True) if kind != "none"]
    return tree, [mine for _, mine in there]


def where_of(case, tree, chosen):
    """`chosen`, in the form of the case."""
    paths = [jax.tree_util.keystr(p, simple=True, separator="/") for p, _ in jax.tree.leaves_with_path(tree)]
    wanted = [path for path, mine in zip(paths, chosen, strict=True) if mine]
    return {
        "all": lambda: None,
        "paths": lambda: tuple(wanted),
        "pattern": lambda: tuple(f"{path[:-1]}[{path[-1]}]" for path in wanted),
        "predicate": lambda: lambda path: path in wanted,
        "leaf_predicate": lambda: lambda path, leaf: path in wanted and jnp.ndim(leaf) < 9,
        "boolean": lambda: jax.tree.unflatten(jax.tree.structure(tree), chosen),
    }[case.where]()


def numbers_of(tree):
    """All numbers of a tree as one vector, integers and booleans among them; keys hold none."""
    parts = []
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            continue
        leaf = jnp.asarray(leaf)
        both = (leaf.real, leaf.imag) if jnp.issubdtype(leaf.dtype, jnp.complexfloating) else (leaf,)
        parts += [part.astype(float).ravel() for part in both]
    return jnp.concatenate(parts)


def mixing(count, seed):
    """Matrices that make the two layers of a network of any `count` numbers."""
    random = np.random.default_rng(1000 + seed)
    shapes = (count, FEATURES * HIDDEN), (count, HIDDEN * CLASSES)
    return [random.normal(size=shape) / np.sqrt(count) for shape in shapes]


def mixed(tree, mix):
    flat = numbers_of(tree)
    first, second = (flat @ jnp.asarray(matrix, flat.dtype) for matrix in mix)
    return first.reshape(FEATURES, HIDDEN), second.reshape(HIDDEN, CLASSES)


sine = jax.custom_vjp(jnp.sin)
sine.defvjp(lambda v: (jnp.sin(v), jnp.cos(v)), lambda cosine, g: (cosine * g,))
calling_sine = jax.custom_vjp(jnp.sin)
calling_sine.defvjp(lambda v: (calling_sine(v), jnp.cos(v)), lambda cosine, g: (cosine * g,))
ACTIVATIONS = {"tanh": jnp.tanh, "linear": lambda v: v, "custom_vjp": sine, "custom_calls": calling_sine}
EXACT_ACTIVATIONS = ACTIVATIONS | {"custom_vjp": jnp.sin, "custom_calls": jnp.sin}


def forward(first, second, x, activation, dtype=None):
    """Outputs [..., C]; in the linear network the second layer is constant, so that it is linear in the parameters."""
    if activation is ACTIVATIONS["linear"]:
        return x @ first @ jnp.asarray(np.eye(HIDDEN, CLASSES), x.dtype)
    if dtype is not None:
        first, second, x = (jnp.asarray(a, dtype) for a in (first, second, x))
        return (activation(x @ first) @ second).astype(jnp.float32)
    return activation(x @ first) @ second


class Data:
    """All examples as float64 arrays [n, T, ...], with a number of their batch; and the batches made of them."""

    def __init__(self, case):
        random = np.random.default_rng(100 + case.seed)
        n, self.case = sum(case.sizes), case
        steps = 1 if case.layout == "flat" else TOKENS
        single = lambda a: np.float64(np.float32(a))  # noqa: E731 -- what float32 holds
        self.x, self.y = single(random.normal(size=(n, steps, FEATURES))), random.integers(0, CLASSES, (n, steps))
        self.w = np.ones(n) if case.weights in ("equal", "padded", "summed") else random.integers(1, 6, n) / 2.0
        self.mask = random.random((n, steps)) < 0.6
        self.mask[:, 0] = True
        self.batch_of = np.repeat(np.arange(len(case.sizes)), case.sizes)
        self.constants = [self._constant(number) for number in range(len(case.sizes))]

    def _constant(self, number):
        kind = self.case.extra
        return {
            "none": lambda: None,
            "scalar": lambda: jnp.asarray(0.5 + number, jnp.float32),
            "typed_key": lambda: jax.random.key(number),
            "raw_key": lambda: jax.random.PRNGKey(number),
            "class_constants": lambda: jnp.array([0.5, 1.0, 2.0]),
            "batch_long": lambda: jnp.arange(1.0, 1.0 + max(CLASSES, self._length(0))) / 2,
        }[kind]()

    def _length(self, number):
        """Rows of a batch, those of padding among them."""
        return max(self.case.sizes) + 2 if self.case.weights == "padded" else self.case.sizes[number]

    def factor(self, constant, y):
        """What a constant leaf does to the loss of each token with label y."""
        if self.case.extra == "none":
            return jnp.ones(y.shape)
        if self.case.extra in ("class_constants", "batch_long"):
            return jnp.asarray(constant)[y]
        if self.case.extra == "scalar":
            return jnp.broadcast_to(jnp.asarray(constant, jnp.float32), y.shape)
        # float32 in both precisions: with float64 on, the same key gives other numbers.
        return jnp.broadcast_to(1 + jax.random.uniform(constant, (), jnp.float32), y.shape)

    def batch(self, number, x=None, rows=None):
        """A batch in the containers of the case."""
        case, rows = self.case, self.batch_of == number if rows is None else rows
        x, y, w, mask = (a[rows] for a in (self.x if x is None else x, self.y, self.w, self.mask))
        if case.weights == "padded":
            more = self._length(number) - len(x)
            x, y, w, mask = (np.concatenate([a, np.zeros((more, *a.shape[1:]), a.dtype)]) for a in (x, y, w, mask))
        if case.layout == "flat":
            x, y = x[:, 0], y[:, 0]
        if case.layout == "time_major":
            x, y = np.moveaxis(x, 1, 0), np.moveaxis(y, 1, 0)
        if not case.host:
            x, y, w, mask = (jnp.asarray(a) for a in (x, y, w, mask))
        weights = mask if case.weights == "tokens" else w
        return pack(case, x, y, weights, self.constants[number])

    def source(self):
        """The batches as the case delivers them."""
        case, numbers = self.case, range(len(self.case.sizes))
        passes = iter(range(10**6))

        def once():
            random = np.random.default_rng(next(passes)) if case.stream != "same" else None
            x, order = self.x, np.arange(len(self.x))
            if case.stream == "augments":
                x = x + 0.3 * random.normal(size=x.shape)
            elif case.stream != "same":
                order = random.permutation(order)
            return (self.batch(i, x, order[self.batch_of == i]) for i in numbers)

        if case.delivery == "list":
            return list(once())
        return once if case.delivery == "function" else Loader(once)


class Loader:
    """A data loader: iterated afresh at every pass."""

    def __init__(self, once):
        self.once = once

    def __iter__(self):
        return iter(self.once())


def pack(case, x, y, weights, constant):
    """A batch; the constant leaf first in the order of leaves, where there is one."""
    there = case.extra != "none"
    if case.container == "tuple":
        return (constant, x, y, weights) if there else (x, y, weights)
    if case.container == "nested":
        return {"inputs": (x, {"weights": weights}), "labels": [y]} | ({"extra": constant} if there else {})
    return {"x": x, "y": y, "weights": weights} | ({"a_constant": constant} if there else {})


def unpack(case, batch):
    """(x, y, weights, constant) of a batch."""
    if case.container == "tuple":
        *constant, x, y, weights = batch
        return x, y, weights, constant[0] if constant else None
    if case.container == "nested":
        return batch["inputs"][0], batch["labels"][0], batch["inputs"][1]["weights"], batch.get("extra")
    return batch["x"], batch["y"], batch["weights"], batch.get("a_constant")
