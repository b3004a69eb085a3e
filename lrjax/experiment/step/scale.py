"""Weights as length and direction, and networks that depend on the direction alone."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.errors import check
from lrjax.transforms.invariance import scale_invariance

Tree = Any


TOLERANCE = 1e-3  # relative change of the outputs, in float32, of a network that is told to be scale invariant


FACTORS = (0.125, 2.9)  # an eps in a normalisation shows where weights are small


class Scale(NamedTuple):
    """Weights as length and direction."""

    norm: jax.Array  # of the stored weights
    unit: Tree


def scale_of(params: Tree) -> Scale:
    """The Euclidean norm of all weights, and the weights divided by it.

    Example:
        >>> scale = scale_of({"w": jnp.array([3.0, 4.0])})
        >>> float(scale.norm), scale.unit["w"].round(1).tolist()
        (5.0, [0.60..., 0.80...])
    """
    squares = [jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(params)]
    norm = jnp.sqrt(jnp.sum(jnp.stack(squares)))
    return Scale(norm, jax.tree.map(lambda leaf: leaf / jnp.maximum(norm, 1e-30).astype(leaf.dtype), params))


def angle(before: Tree, after: Tree) -> jax.Array:
    """Angle in radians between two unit vectors, accurate where it is small: 2 arcsin(|u - u'| / 2).

    Example:
        >>> round(float(angle({"w": jnp.array([1.0, 0.0])}, {"w": jnp.array([0.0, 1.0])})), 4)
        1.5708
    """
    squares = jax.tree.map(lambda a, b: jnp.sum(jnp.square((a - b).astype(jnp.float32))), before, after)
    chord = jnp.sqrt(jnp.sum(jnp.stack(jax.tree.leaves(squares))))
    return 2 * jnp.arcsin(jnp.minimum(chord / 2, 1.0))


def require_invariance(model: Any, params: Tree, model_state: Tree, x: jax.Array, name: str) -> None:
    """Refuses a network whose outputs depend on the scale of its weights, with the name of a layer.

    All weights times 1/8 or 2.9 must leave the outputs of a batch, in training mode, as they are.

    Raises:
        LrjaxError: naming the arrays whose scale matters (`scale_invariance`).
    """

    with jax.default_matmul_precision("highest"):  # TF32 and bfloat16 alone change outputs by more than TOLERANCE
        _require_invariance(model, params, model_state, x, name)


def _require_invariance(model: Any, params: Tree, model_state: Tree, x: jax.Array, name: str) -> None:
    # Away from the start: a bias of zero does not show that it has a scale.
    noise = np.random.default_rng(0)
    moved = jax.tree.map(lambda w: w + 0.05 * noise.standard_normal(w.shape).astype(w.dtype) * (1e-3 + w.std()), params)

    @jax.jit
    def outputs(factors: Tree) -> jax.Array:
        scaled = jax.tree.map(lambda leaf, by: leaf * by.astype(leaf.dtype), moved, factors)
        return model.apply(scaled, model_state, x, train=True, key=None)[0]

    ones = jax.tree.map(lambda leaf: jnp.ones((), jnp.float32), params)
    before = outputs(ones)
    size = jnp.maximum(jnp.linalg.norm(before), 1e-30)

    def change(factors: Tree) -> float:
        return float(jnp.linalg.norm(outputs(factors) - before) / size)

    total = max(change(jax.tree.map(lambda one, by=by: by * one, ones)) for by in FACTORS)
    if total <= TOLERANCE:
        return
    weights = jnp.asarray(noise.standard_normal(before.shape), before.dtype)
    report = scale_invariance(
        lambda params: jnp.mean(weights * model.apply(params, model_state, x, train=True, key=None)[0]), moved
    )
    found = [f"{obstacle.path} ({obstacle.reason})" for obstacle in report.obstacles]
    check(
        False,
        f"representation={name!r} needs a network whose outputs do not depend on the scale of its weights; a common factor "
        f"changes them by {total:.2g}{', because of ' + ', '.join(found[:3]) if found else ''}: normalise without eps and "
        "affine and freeze the last layer (as model.name='preresnet'), or take representation='weight_decay'",
    )
