"""The Break-Even Point on Optimization Trajectories of Deep Neural Networks (Jastrzebski et al.; ICLR 2020; 2002.09572)."""

from typing import Any

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.break_even.claims import CLAIMS
from lrjax.papers.break_even.observe import observations
from lrjax.papers.break_even.predictions import before

__all__ = ["CLAIMS", "NOTE", "before", "figures", "observations"]

NOTE = (
    "The main text of the paper was read in the version first submitted; its appendix, and the numbers of the final version, "
    "were not. Momentum, augmentation, the mode of BatchNorm while measuring, sizes of SimpleCNN and the full grids are "
    "therefore ours. lambda_K is as measured from batches of 128 (raw); times about 128 it is that of single examples. The "
    "break-even point itself (D1) is computed here from per-example curvatures; the paper used proxies."
)


def figures(run: RunResult) -> list[Any]:
    """The figures of a run, see `lrjax.papers.break_even.report_figures`; matplotlib is loaded only to draw."""
    from lrjax.papers.break_even.report_figures import figures as draw

    return draw(run)
