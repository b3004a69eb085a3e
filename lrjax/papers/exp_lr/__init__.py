"""An Exponential Learning Rate Schedule for Deep Learning (Li, Arora; ICLR 2020; arXiv 1910.07454)."""

from typing import Any

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.exp_lr.claims import CLAIMS
from lrjax.papers.exp_lr.observe import observations
from lrjax.papers.exp_lr.predictions import before

__all__ = ["CLAIMS", "NOTE", "SHOWN_IN", "before", "figures", "observations"]

NOTE = (
    "The paper's full text could not be read, and no code was released. Batch size 128 and weight decay 5e-4 follow from the "
    "published growth of 1.481 an epoch; its accuracies and rates are read off plots in the authors' blog. Closed forms of the "
    "momentum corrections, augmentation, seeds and the architecture's details are reconstructions; theorem and figure numbers "
    "are from memory. At paper scale an epoch has 390 whole batches; the paper's has 391, the last in part. At small scale "
    "learning rate times weight decay is 10 times the paper's and the run about 70 times as short: the first phase reaches "
    "equilibrium, but the rate grows by 4.4 decades in it instead of 13.7, and by 0.1 in the second instead of 0.7; "
    "test accuracies are not comparable, and claims on them are judged only where their premises hold, which they rarely do."
)

# Claim -> the figure that shows it, for the links of a page.
SHOWN_IN = {
    "constant_rate": "accuracy",
    "step_decay": "accuracy",
    "drop_needed": "accuracy",
    "drop_passes": "accuracy",
    "cosine_twin": "accuracy",
    "cosine_wins": "accuracy",
    "l2_decay": "accuracy",
    "no_drop_twin": "accuracy",
    "norm_follows_rate": "norm",
    "early_logits": "function_distance",
    "across_drop": "function_distance",
    "no_momentum": "function_distance",
    "norm_layers": "function_distance",
    "re_equilibration": "norm",
    "equilibrium_norm": "power",
    "correction_matters": "function_distance",
    "angles": "angle",
    "equilibrium_angle": "angle",
    "toy_exact": "toy",
    "toy_noisy": "toy",
}


def figures(run: RunResult) -> list[Any]:
    """The figures of a run, see `lrjax.papers.exp_lr.report_figures`; matplotlib is loaded only to draw."""
    from lrjax.papers.exp_lr.report_figures import figures as draw

    return draw(run)
