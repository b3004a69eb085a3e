"""Two small data sets for a linear unit: labels of a halfspace, and one input with target 0."""

from typing import Any

import jax
import jax.numpy as jnp

from lrjax.data.dataset import Dataset
from lrjax.keys import key


def generate(static: Any, hparams: Any) -> dict[str, Any]:
    """Gaussian inputs with the labels of a halfspace: x ~ N(0, I), y = sign(x_1).

    Args:
        static: the resolved config; `static.data` has `n` and `dim`.
        hparams: "seed".

    Returns:
        "train" with "x" [n, dim] and "y" [n] in {-1, 1}; "truth" [dim], the normal of the halfspace.
    """
    settings = static.data
    x = jax.random.normal(key(hparams["seed"], "data"), (settings.n, settings.dim))
    return {"train": {"x": x, "y": jnp.where(x[:, 0] >= 0, 1.0, -1.0)}, "truth": jnp.eye(settings.dim)[0]}


def generate_single(static: Any, hparams: Any) -> dict[str, Any]:
    """One input, a unit vector a in the plane, with target 0.

    The square loss of <w, a> / |w| is x^2 / (x^2 + y^2) in coordinates along a and across. Along an axis x could underflow to
    an exact zero, from which nothing leads away; here rounding keeps it at about 1e-8.

    Returns:
        "train" with "x" [1, 2] and "y" [1]; "truth" [2], the direction orthogonal to a.

    References:
        Li, Lyu & Arora 2020, Reconciling Modern Deep Learning with Traditional Optimization Analyses: its example.
    """
    turn = 1.0
    a, across = jnp.array([jnp.cos(turn), jnp.sin(turn)]), jnp.array([-jnp.sin(turn), jnp.cos(turn)])
    return {"train": {"x": a[None], "y": jnp.zeros(1)}, "truth": across}


def spec(config: Any) -> Dataset:
    """Shapes of one lane's training data."""
    n, dim = (1 if config.data.name == "single_input" else config.data.n), config.data.dim
    train = {"x": jax.ShapeDtypeStruct((n, dim), jnp.float32), "y": jax.ShapeDtypeStruct((n,), jnp.float32)}
    return Dataset(train=train, tests={}, num_classes=1)
