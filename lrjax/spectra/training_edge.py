"""Edge of stability through a training run, from its optimizer config and the learning rates it used."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import optax
from jax.typing import ArrayLike

from lrjax.spectra.stability import edge

if TYPE_CHECKING:
    from jaxtyping import Float64


class Edge(NamedTuple):
    """A threshold for lambda_1 through training.

    Attributes:
        name: a key of `lrjax.spectra.stability.EDGES`.
        formula: as text for a figure, in TeX.
        values: of the shape of the learning rates.
    """

    name: str
    formula: str
    values: Float64[np.ndarray, "..."]


FORMULAS = {
    "gradient_descent": r"$2/\eta$",
    "heavy_ball": r"$2(1+\beta)/\eta$",
    "nesterov": r"$2(1+\beta)/(\eta(1+2\beta))$",
    "adam": r"$2(1+\beta_1)/((1-\beta_1)\eta)$",
    "adamw": r"$(2-\eta w)(1+\beta_1)/((1-\beta_1)\eta)$",
}
# The matrix whose lambda_1 an optimizer holds at its edge.
MATRICES = {"sgd": "hessian", "adam": "preconditioned_hessian", "adamw": "preconditioned_hessian"}


def training_edge(optimizer: Mapping[str, Any], learning_rate: ArrayLike, matrix: str = "hessian") -> Edge | None:
    """The edge of full-batch training beside lambda_1 of a matrix, from the `optimizer` of a config.

    A penalty (l2 / 2) |theta|^2 adds l2 to every eigenvalue, but the matrices here are those of the loss without it: it is
    subtracted from the edge instead.

    Args:
        optimizer: `name`, and arguments of that optax optimizer; None or absent means optax's default.
        learning_rate: number or array; where it is zero there is no edge (infinity).
        matrix: whose lambda_1: "hessian" for SGD, "preconditioned_hessian" for Adam and AdamW.

    Returns:
        The edge, or None where no edge is known for this optimizer and matrix.

    Raises:
        TypeError: an argument of the optimizer that is not a number.

    References:
        Those of `lrjax.spectra.stability.edge`.

    Example:
        >>> threshold = training_edge({"name": "sgd", "momentum": 0.9}, np.array([0.1, 0.01]))
        >>> threshold.name, threshold.values.round(6).tolist()
        ('heavy_ball', [38.0, 380.0])
    """
    given = {key: value for key, value in optimizer.items() if value is not None}
    name = given.get("name", "")
    if MATRICES.get(name) != matrix:
        return None
    known = inspect.signature(getattr(optax, name)).parameters
    settings = {key: given.get(key, parameter.default) for key, parameter in known.items()}
    penalty = given.get("l2", 0.0)
    if name == "sgd":
        momentum = settings["momentum"] or 0.0
        kind = "nesterov" if settings["nesterov"] and momentum else "heavy_ball" if momentum else "gradient_descent"
        numbers = {"momentum": momentum} if momentum else {}
    elif settings["nesterov"] or penalty:
        return None
    else:
        kind = name
        numbers = {key: settings[key] for key in ("b1", "weight_decay") if key in settings}
    rate = np.asarray(learning_rate, np.float64)
    with np.errstate(divide="ignore"):
        values = np.asarray(edge(kind, rate, **numbers)) - penalty
    return Edge(kind, FORMULAS[kind] + (r"$-w$" if penalty else ""), values)
