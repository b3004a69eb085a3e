"""How Does Learning Rate Decay Help Modern Neural Networks? (You, Long, Wang, Jordan; 2019; arXiv 1908.01878)."""

from typing import Any

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.lr_decay.claims import CLAIMS
from lrjax.papers.lr_decay.predictions import before

__all__ = ["CLAIMS", "NOTE", "before", "figures"]

NOTE = (
    "Of the paper only the two abstracts could be read; sections and findings beyond them are as remembered, and none of its "
    "numbers is known, since its curves are plots. Placement, labels, sample counts and noise of PS10, rates, lengths and "
    "sizes of all runs are our choice. At small scale a residual MLP sees the six-vector of PS10, not a wide ResNet an image "
    "of it. On PS10 simple patterns come first at every rate; in the setting of Li, Wei and Ma (experiment L8) it is a small "
    "rate that learns the easy-to-generalise pattern first and suffers for it."
)


def figures(run: RunResult) -> list[Any]:
    """The figures of a run, see `lrjax.papers.lr_decay.report_figures`; matplotlib is loaded only to draw."""
    from lrjax.papers.lr_decay.report_figures import figures as draw

    return draw(run)
