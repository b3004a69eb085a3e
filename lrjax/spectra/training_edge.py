"""The edge of stability of a lane of a run: which formula its optimizer config means, at the learning rates it used."""

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import optax

from lrjax.spectra.stability import edge


class Edge(NamedTuple):
    """A threshold for lambda_1 through training.

    Attributes:
        name: a key of `lrjax.spectra.stability.EDGES`.
        formula: as text for a figure, in TeX.
        values: of the shape of the learning rates.
    """

    name: str
    formula: str
    values: np.ndarray


FORMULAS = {
    "gradient_descent": r"$2/\eta$",
    "heavy_ball": r"$2(1+\beta)/\eta$",
    "nesterov": r"$2(1+\beta)/(\eta(1+2\beta))$",
    "adam": r"$2(1+\beta_1)/((1-\beta_1)\eta)$",
    "adamw": r"$(2-\eta w)(1+\beta_1)/((1-\beta_1)\eta)$",
}
# the matrix whose lambda_1 an optimizer holds at its edge
MATRICES = {"sgd": "hessian", "adam": "preconditioned_hessian", "adamw": "preconditioned_hessian"}


def training_edge(optimizer: Mapping[str, Any], learning_rate: Any, matrix: str = "hessian") -> Edge | None:
    """The edge of full-batch training beside lambda_1 of a matrix, from the `optimizer` of a config.

    A penalty (l2 / 2) |theta|^2 adds l2 to every eigenvalue, but the matrices here are those of the loss without it: it is
    taken off the edge instead.

    Args:
        optimizer: `name`, and arguments of that optax optimizer; None or absent stands for optax's default.
        learning_rate: number or array; where it is zero there is no edge (infinity).
        matrix: whose lambda_1: "hessian" for SGD, "preconditioned_hessian" for Adam and AdamW.

    Returns:
        None where no edge is known for this optimizer and matrix.

    Source: see `lrjax.spectra.stability.edge`.

    Example:
        >>> found = training_edge({"name": "sgd", "momentum": 0.9}, np.array([0.1, 0.01]))
        >>> found.name, found.values.round(6).tolist()
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
