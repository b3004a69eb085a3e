"""Finds a tree, such as the parameters of a model, among the leaves of a checkpoint: by its structure and its shapes."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.errors import by_path, check, refuse

FEW = 3  # names in a sentence
NAMES = {"params": ("params", "parameters"), "opt_state": ("opt_state", "optimizer_state", "opt")}
# Where a tree of the shapes of the parameters is something else: momenta and averages.
OF_OPTIMIZERS = {*NAMES["opt_state"], "optimizer", "mu", "nu", "trace", "momentum"}
GENERATORS = {"key<fry>": "threefry2x32", "key<rbg>": "rbg", "key<urbg>": "unsafe_rbg"}  # by dtype


class Spec(NamedTuple):
    """What a leaf must be; `key` is the generator of a typed random key, whose data a checkpoint has."""

    shape: tuple[int, ...]
    dtype: Any
    key: str | None = None


def found_in(leaves: Mapping[str, Any], template: Any, kind: str, *, place: str, at: str | None = None) -> Any:
    """The tree of a template, out of a checkpoint's leaves.

    Args:
        leaves: path -> array, see `lrjax.posthoc.foreign.load`. In paths "." is as "/", and a last `value`, the box of NNX,
            as nothing.
        template: arrays, or their `jax.ShapeDtypeStruct`.
        kind: "params" or "opt_state": a tree of that name is preferred where several fit.
        place: the checkpoint, for messages.
        at: the path of the tree in the checkpoint; found for None.

    Returns:
        The template's containers with the leaves of the checkpoint, to the bit, as JAX arrays. None where the checkpoint has
        no state of an optimizer at all.

    Raises:
        LrjaxError: leaves are missing, or there are others, or shapes or dtypes differ; or several trees fit.

    Example:
        >>> leaves = {"params/w": np.ones(2, np.float32), "opt_state/0/mu/w": np.zeros(2, np.float32)}
        >>> found_in(leaves, {"w": jax.ShapeDtypeStruct((2,), jnp.float32)}, "params", place="a checkpoint")
        {'w': Array([1., 1.], dtype=float32)}
    """
    specs = [_spec(path, leaf, kind) for path, leaf in by_path(template).items()]
    if not specs:
        return template
    wanted = dict(zip(map(_plain, by_path(template)), specs, strict=True))
    check(len(wanted) == len(specs), f"two leaves of {kind} have the same path; rename one of them")
    stored = {_plain(path): leaf for path, leaf in leaves.items()}
    if at is None:
        fits = _best(_fitting(stored, wanted), kind)
        check(len(fits) < 2, f"{kind} fits {place} at {_listed(fits)}; name one of them as {kind}_at beside loss_fn")
        if not fits and kind == "opt_state" and not any(set(path.split("/")) & OF_OPTIMIZERS for path in stored):
            return None
        at = fits[0] if fits else _nearest(stored, wanted, kind)
        check(
            _rank(at, kind) < 2,
            f"{place} has no params, but a tree like them at {at!r}, in the state of an optimizer; where that is meant, give "
            "params_at beside loss_fn",
        )
    tree, where = _under(stored, _plain(at)), f" (at {at!r})" if at else ""
    differences = _differences(tree, wanted)
    source = "model" if kind == "params" else "optimizer"
    check(not differences, f"{kind} of {place}{where}: {differences}; make the {source} as the training did")
    arrays = [_array(tree[path], spec, path) for path, spec in wanted.items()]
    return jax.tree.unflatten(jax.tree.structure(template), arrays)


def _plain(path: str) -> str:
    parts = path.replace(".", "/").split("/")
    return "/".join(parts[:-1] if parts[-1] == "value" else parts)


def _spec(path: str, leaf: Any, kind: str) -> Spec:
    if hasattr(leaf, "shape") and hasattr(leaf, "dtype"):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = jax.eval_shape(jax.random.key_data, leaf)
            return Spec(data.shape, data.dtype, GENERATORS[str(leaf.dtype)])
        return Spec(tuple(leaf.shape), np.dtype(leaf.dtype))
    if not isinstance(leaf, (bool, int, float, complex)):
        what = f"{path!r}, which is no array but a {type(leaf).__name__}"
        refuse(f"{kind} has {what}; give the arrays alone, as equinox.partition and flax.nnx.split do")
    return Spec((), jnp.asarray(leaf).dtype)


def _under(stored: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The tree at a path; the path itself, where it is a leaf, by the name ""."""
    if not prefix:
        return dict(stored)
    below = {path[len(prefix) + 1 :]: leaf for path, leaf in stored.items() if path.startswith(f"{prefix}/")}
    return {"": stored[prefix], **below} if prefix in stored else below


def _splits(path: str) -> Iterable[tuple[str, str]]:
    parts = path.split("/")
    return [("/".join(parts[:cut]), "/".join(parts[cut:])) for cut in range(len(parts) + 1)]


def _fitting(stored: Mapping[str, Any], wanted: Mapping[str, Spec]) -> list[str]:
    """The paths at which there is a tree of the wanted structure and shapes."""
    first = max(wanted, key=len)
    places = [prefix for path in stored for prefix, rest in _splits(path) if rest == first]
    trees = {prefix: _under(stored, prefix) for prefix in places}
    return [
        prefix
        for prefix, tree in trees.items()
        if tree.keys() == wanted.keys() and all(np.shape(tree[path]) == spec.shape for path, spec in wanted.items())
    ]


def _rank(prefix: str, kind: str) -> int:
    """0 for the name that a tree of that kind has, 2 for what belongs to an optimizer where parameters are looked for."""
    parts = prefix.split("/")
    if kind == "params" and set(parts) & OF_OPTIMIZERS:
        return 2
    return 0 if parts[-1] in NAMES[kind] else 1


def _best(prefixes: Sequence[str], kind: str) -> list[str]:
    ranks = {prefix: _rank(prefix, kind) for prefix in prefixes}
    least = min(ranks.values(), default=2)
    return [prefix for prefix, rank in ranks.items() if rank == least < 2]


def _nearest(stored: Mapping[str, Any], wanted: Mapping[str, Spec], kind: str) -> str:
    """The path at which the most leaves have the wanted names: what a message compares with."""
    splits = [(prefix, rest) for path in stored for prefix, rest in _splits(path)]
    same = Counter(prefix for prefix, rest in splits if rest in wanted)
    named = {prefix: 0 for prefix, _ in splits if prefix.rpartition("/")[2] in NAMES[kind]}
    counts = {**named, **same} or {"": 0}
    return max(
        counts, key=lambda prefix: (-(_rank(prefix, kind) == 2), counts[prefix], -_rank(prefix, kind), -len(prefix))
    )


def _differences(tree: Mapping[str, Any], wanted: Mapping[str, Spec]) -> str:
    shared = [path for path in wanted if path in tree]
    shapes = [path for path in shared if np.shape(tree[path]) != wanted[path].shape]
    dtypes = [path for path in shared if path not in shapes and not _same_dtype(tree[path], wanted[path])]
    missing, others = [path for path in wanted if path not in tree], [path for path in tree if path not in wanted]
    told = [f"it lacks {_listed(missing)}"] if missing else []
    told += [f"it also has {_listed(others)}"] if others else []
    told += _compared(shapes, {path: f"{np.shape(tree[path])}, not {wanted[path].shape}" for path in shapes})
    told += _compared(dtypes, {path: f"{np.asarray(tree[path]).dtype}, not {wanted[path].dtype}" for path in dtypes})
    return ", ".join(told)


def _same_dtype(leaf: Any, spec: Spec) -> bool:
    """Whether the dtypes are equal; of a Python number, which has none, whether its kind is."""
    if isinstance(leaf, (bool, int, float)):
        return isinstance(leaf, bool) == (spec.dtype.kind == "b") and (isinstance(leaf, int) or spec.dtype.kind in "fV")
    return np.asarray(leaf).dtype == spec.dtype


def _compared(paths: Sequence[str], words: Mapping[str, str]) -> list[str]:
    told = [f"{path!r} is {words[path]}" for path in paths[:FEW]]
    return [*told, f"{len(paths) - FEW} more differ so"] if len(paths) > FEW else told


def _listed(paths: Sequence[str]) -> str:
    return ", ".join(map(repr, paths[:FEW])) + (f" and {len(paths) - FEW} more" if len(paths) > FEW else "")


def _array(leaf: Any, spec: Spec, path: str) -> jax.Array:
    if spec.key:
        return jax.random.wrap_key_data(jnp.asarray(leaf), impl=spec.key)
    array = jnp.asarray(leaf, None if isinstance(leaf, np.ndarray) else spec.dtype)
    check(array.dtype == spec.dtype, f"{path!r} is {spec.dtype}; set JAX_ENABLE_X64=1 in the environment")
    return array
