"""The lines that curvature is compared with: where a step stops being stable, with their sources."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lrjax.monitor.optimizer_facts import Facts
from lrjax.spectra import edge


class EdgeLine(NamedTuple):
    """A threshold of a curvature at a learning rate.

    Attributes:
        value: of the curvature; None where no line holds.
        formula: in words.
        source: where it is from.
    """

    value: float | None
    formula: str
    source: str


NONE = "no line"
COHEN = "Cohen et al. 2021, arXiv 2103.00065"
ADAM = "Cohen et al. 2022, arXiv 2207.14484"
SMALL = "Andreyev & Beneventano 2024, arXiv 2412.20553"
HEAVY = "arXiv 2604.14108, read as an abstract"
# With a fixed P and b1 = .9 a quadratic diverges at 38 / eta only, so that this line alone is no edge of Adam.
SPIKES = "arXiv 2506.04805, read as an abstract"


def edge_lines(facts: Facts, rate: float | None, full_batch: bool) -> dict[str, EdgeLine]:
    """The lines of batch sharpness, of the largest eigenvalue and of the curvature along the gradient.

    2 / lambda_1 is no largest rate where batches are small, under momentum, or for Adam: such lines are not stated.

    Args:
        facts: of the optimizer.
        rate: eta; None where unknown.
        full_batch: whether training is on the full batch.

    Returns:
        Instrument ("batch_sharpness", "sharpness", "gradient_curvature") -> `EdgeLine`.

    Example:
        >>> lines = edge_lines(Facts("heavy_ball", momentum=0.9), 0.01, full_batch=False)
        >>> round(lines["batch_sharpness"].value, 6), lines["sharpness"].value
        (20.0, None)
        >>> round(edge_lines(Facts("adam", b1=0.9), 0.1, full_batch=True)["sharpness"].value, 6)
        380.0
    """
    if rate is None or not rate > 0:
        unknown = EdgeLine(None, "the learning rate is unknown" if rate is None else "the learning rate is 0", "")
        return dict.fromkeys(("batch_sharpness", "sharpness", "gradient_curvature"), unknown)
    none = EdgeLine(None, NONE, "")
    batch, top, along = none, EdgeLine(None, "no line for mini-batches", ""), none
    b = facts.momentum or 0.0
    if facts.accumulation > 1:  # what is measured is a micro-batch's, the step is that of several
        micro = EdgeLine(None, "no line for micro-batches", "")
        return dict.fromkeys(("batch_sharpness", "sharpness", "gradient_curvature"), micro)

    def of(name: str, **settings: float) -> float:
        return float(np.asarray(edge(name, rate, **settings)))

    if facts.kind == "sgd":
        batch = EdgeLine(2 / rate, "2 / eta", SMALL)
        along = EdgeLine(2 / rate, "2 / eta", SMALL)
        top = EdgeLine(of("gradient_descent"), "2 / eta", COHEN) if full_batch else top
    elif facts.kind == "heavy_ball":
        if full_batch:
            name, text = (
                ("nesterov", "2 (1 + b) / (eta (1 + 2 b))") if facts.nesterov else ("heavy_ball", "2 (1 + b) / eta")
            )
            top = EdgeLine(of(name, momentum=b), text, COHEN)
        elif not facts.nesterov:
            batch = EdgeLine(2 * (1 - b) / rate, "2 (1 - b) / eta", HEAVY)
    elif facts.kind == "adam":
        along = EdgeLine(2 / rate, "2 / eta", SPIKES)
        if full_batch and facts.b1 is not None:
            name = "nadam" if facts.nesterov else "adam"
            text = "2 (1 + b1) / ((1 - b1)(1 + 2 b1) eta)" if facts.nesterov else "2 (1 + b1) / ((1 - b1) eta)"
            top = EdgeLine(of(name, b1=facts.b1), text, ADAM)
    else:
        top = EdgeLine(None, "no line is known for this optimizer", "")
    return {"batch_sharpness": batch, "sharpness": top, "gradient_curvature": along}
