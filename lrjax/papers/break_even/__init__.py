"""The Break-Even Point on Optimization Trajectories of Deep Neural Networks (Jastrzebski et al.; ICLR 2020; 2002.09572)."""

from typing import Any

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.break_even.claims import CLAIMS
from lrjax.papers.break_even.observe import observations
from lrjax.papers.break_even.predictions import before

__all__ = ["CLAIMS", "NOTE", "SHOWN_IN", "before", "figures", "observations"]

NOTE = (
    "The main text of the paper was read in the version first submitted; its appendix, and the numbers of the final version, "
    "were not. Momentum, augmentation, the mode of BatchNorm while measuring, sizes of SimpleCNN and the full grids are "
    "therefore ours. lambda_K is as measured from batches of M (raw): 128 as in the paper, 32 in most small runs; times about "
    "M it is that of single examples. The break-even point itself (D1) is computed here from per-example curvatures; the "
    "paper used proxies."
)

# Claim -> the figure that shows it, for the links of a page.
SHOWN_IN = {
    "conjecture_1_rate": "conditioning",
    "conjecture_2_rate": "conditioning",
    "conjecture_1_batch": "conditioning",
    "conjecture_1_batch_hessian": "sharpness",
    "conjecture_2_batch": "conditioning",
    "momentum": "conditioning",
    "estimator": "conditioning",
    "conjecture_1_rate_hessian": "sharpness",
    "stays_at_break_even": "sharpness",
    "peak_accuracy": "early_phase",
    "correlated_growth": "early_phase",
    "break_even_order": "detectors",
    "step_stretch": "detectors",
    "parting": "trajectory",
    "equal_accuracy": "early_phase",
    "stretch_against_noise": "early_phase",
    "same_direction": "alignment",
    "proportional": "alignment",
    "close_to_uncentred": "noise_scale",
    "early_rate_decides_lambda_k": "conditioning",
    "early_rate_decides_lambda_h": "sharpness",
    "early_rate_decides_conditioning": "conditioning",
    "norm_trains_at_one": "batch_norm",
    "norm_alone": "batch_norm",
    "norm_starts_high": "batch_norm",
    "gamma_falls": "batch_norm",
}


def figures(run: RunResult) -> list[Any]:
    """The figures of a run, see `lrjax.papers.break_even.report_figures`; matplotlib is loaded only to draw."""
    from lrjax.papers.break_even.report_figures import figures as draw

    return draw(run)
