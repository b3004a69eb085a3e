"""What the fuzz draws: a measurement as a record of plain choices, so that it prints, and repeats, as one line of JSON."""

import dataclasses
import json
from random import Random

from hypothesis import strategies as st

FLOATS = ("vector", "matrix", "bfloat16", "float16", "float64", "scalar", "python_float", "complex")
OTHERS = ("integer", "python_int", "boolean", "none", "empty", "key")
SCALAR_LOSS = ("hessian", "ggn", "preconditioned")
PER_EXAMPLE = ("empirical_fisher", "gradient_covariance")


@dataclasses.dataclass(frozen=True)
class Case:
    """One measurement; every field is a word, a number or a tuple of them."""

    framework: str = "plain"  # linen, nnx, equinox
    tree: str = "dict"
    leaves: tuple[str, ...] = ("vector", "matrix")
    chosen: tuple[bool, ...] = (True, True)
    where: str = "all"  # the form in which `chosen` is said
    operator: str = "hessian"
    distribution: str = "categorical"
    algorithm: str = "matmat"
    sizes: tuple[int, ...] = (4, 2)
    container: str = "dict"
    delivery: str = "list"
    stream: str = "same"
    host: bool = False  # numpy float64 batches
    extra: str = "none"  # a leaf of the batch that holds no examples
    extra_said: bool = True
    layout: str = "flat"  # tokens [B, T], or time_major [T, B]
    weights: str = "equal"
    weights_said: bool = True
    head: str = "cross_entropy"
    activation: str = "tanh"
    penalty: bool = False
    form: str = "plain"
    inside: str = "float32"
    exponent: int = 0  # of ten, before the loss
    differentiation: str = "auto"
    keep: bool = False
    seed: int = 0

    def to_json(self) -> str:
        """The fields that differ from their defaults."""
        plain = Case()
        return json.dumps({k: v for k, v in dataclasses.asdict(self).items() if v != getattr(plain, k)})

    @classmethod
    def from_json(cls, text: str) -> "Case":
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(text).items()})


def possible(case: Case) -> Case:
    """The case with choices that exclude each other settled."""
    change = {}
    if case.framework != "plain":
        change |= dict(tree="dict", leaves=("vector", "matrix"), chosen=(True, True))
        change |= dict(where="all" if case.where == "all" else "hidden", activation="tanh", inside="float32")
    if case.operator == "preconditioned" and case.framework != "plain":
        change |= dict(operator="hessian")
    scalar = case.operator in SCALAR_LOSS
    if case.weights == "tokens":
        change |= dict(weights="tokens" if scalar else "random", layout="tokens" if scalar else "flat")
    elif case.layout == "tokens":
        change |= dict(layout="flat")
    if case.weights == "summed" and not scalar:
        change |= dict(weights="equal")
    if not scalar:
        change |= dict(weights_said=True)
    if case.stream != "same":
        change |= dict(delivery="function" if case.delivery == "list" else case.delivery, extra="none")
        change |= dict(weights="equal", layout="flat", sizes=(4, 4))
    if case.extra == "batch_long" and case.operator in ("ggn", "fisher"):
        change |= dict(extra="none")  # the loss of outputs sees it, the prediction does not
    # The matrix goes with the loss, that of gradients with its square.
    if case.operator == "preconditioned":
        change |= dict(exponent=max(-12, min(12, case.exponent)))
    elif case.operator in PER_EXAMPLE or (case.operator == "fisher" and case.distribution == "gaussian"):
        change |= dict(exponent=max(-15, min(15, case.exponent)))
    elif case.operator == "fisher":
        change |= dict(exponent=0)
    if case.operator == "fisher":
        change |= dict(head="cross_entropy", penalty=False)
    if case.activation == "linear":
        change |= dict(inside="float32")
    return dataclasses.replace(case, **change)


def must_work(case: Case) -> bool:
    """Whether a refusal is wrong: people write this, and everything that is needed is said."""
    said = (case.weights_said or case.weights == "equal") and (
        case.extra_said or case.extra in ("none", "scalar", "typed_key")
    )
    right_stream = case.stream in ("same", "shuffles")
    real = not any(kind == "complex" and mine for kind, mine in zip(case.leaves, case.chosen, strict=True))
    # Forward over reverse has no rule for a custom vjp; a zero matrix has no rank and may be refused by its products.
    differentiable = case.activation in ("tanh", "linear") or case.differentiation != "forward_over_reverse"
    zero = case.head == "dot" and (case.operator == "ggn" or case.activation == "linear")
    zero = zero and case.operator in SCALAR_LOSS and not case.penalty
    return said and right_stream and real and differentiable and not zero


def drawn(seed: int) -> Case:
    """The case of a seed: neighbouring seeds have nothing in common, so that few cases are spent on near repetitions."""
    random = Random(seed)

    def mostly(usual, *others):
        """The usual choice half of the time."""
        return usual if random.random() < 0.5 else random.choice(others)

    kinds = random.choices(FLOATS[:-1] * 2 + FLOATS[-1:] + OTHERS, k=random.randrange(4))
    leaves = (random.choice(("vector", "matrix", "float64")), *kinds)
    tree = random.choice(("dict", "nested", "list", "tuple", "namedtuple", "dataclass", "single"))
    leaves = leaves[:1] if tree == "single" else leaves
    floating = tuple(kind in FLOATS for kind in leaves)
    where = random.choice(("all", "paths", "pattern", "predicate", "leaf_predicate", "boolean"))
    where = "all" if tree == "single" else where
    chosen = floating if where == "all" else tuple(real and random.random() < 0.5 for real in floating)
    operators = ("hessian", "ggn", "fisher", "empirical_fisher", "gradient_covariance", "preconditioned")
    algorithms = ("lanczos", "extreme_values", "trace", "diagonal", "density", "frobenius", "quadratic_form")
    return possible(
        Case(
            framework=mostly("plain", "linen", "nnx", "equinox"),
            tree=tree,
            leaves=leaves,
            chosen=chosen if any(chosen) else floating,
            where=where,
            operator=random.choice(operators),
            distribution=random.choice(("categorical", "bernoulli", "gaussian")),
            algorithm=random.choice(("matvec", *algorithms)),
            sizes=random.choice(((4, 2), (4, 4), (5,), (3, 3, 2))),
            container=random.choice(("dict", "tuple", "nested")),
            delivery=random.choice(("list", "function", "loader")),
            stream=mostly("same", *["same"] * 6, "shuffles", "shuffles", "shuffles_unsaid", "augments"),
            host=random.random() < 0.5,
            extra=mostly("none", "scalar", "typed_key", "raw_key", "class_constants", "batch_long"),
            extra_said=mostly(True, False),
            layout=mostly("flat", "time_major"),
            weights=mostly("equal", "padded", "random", "tokens", "summed"),
            weights_said=mostly(True, True, False),
            head=random.choice(("cross_entropy", "squares", "dot")),
            activation=mostly("tanh", "linear", "custom_vjp", "custom_calls"),
            penalty=random.random() < 0.5,
            form=mostly("plain", "jit", "partial", "method", "aux"),
            inside=mostly("float32", "float32", "bfloat16"),
            exponent=mostly(0, -25, -12, 12, 25),
            differentiation=mostly("auto", "forward_over_reverse", "reverse_over_reverse"),
            keep=random.random() < 0.5,
            seed=random.randrange(4),
        )
    )


def cases() -> st.SearchStrategy[Case]:
    """Any case."""
    return st.integers(0, 2**63).map(drawn)
