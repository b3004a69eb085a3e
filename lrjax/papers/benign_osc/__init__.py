"""Benign oscillation of SGD with large learning rates (Lu, Wu, Yang, Zou; ICLR 2024; arXiv 2310.17074)."""

from typing import Any

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.benign_osc.claims import CLAIMS
from lrjax.papers.benign_osc.observe import observations
from lrjax.papers.benign_osc.predictions import before

__all__ = ["CLAIMS", "NOTE", "before", "figures", "observations"]

NOTE = (
    "The paper's full text could not be read. Its theorems and numbers are quoted second hand, from public reviews; patch "
    "layout, two-class head, loss without a factor 1/2, the meaning of a small rate, the norms of the synthetic data and all "
    "CIFAR-10 settings are reconstructions. The paper proves that oscillation teaches the weak feature; that a large rate "
    "makes the run oscillate follows here from a map analysis of the orthogonal, strong-feature dominated case."
)


def figures(run: RunResult) -> list[Any]:
    """The figures of a run, see `lrjax.papers.benign_osc.report_figures`; matplotlib is loaded only to draw."""
    from lrjax.papers.benign_osc.report_figures import figures as draw

    return draw(run)
