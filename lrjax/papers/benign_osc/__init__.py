"""Benign oscillation of SGD with large learning rates (Lu, Wu, Yang, Zou; ICLR 2024; arXiv 2310.17074)."""

from typing import Any

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.benign_osc.claims import CLAIMS
from lrjax.papers.benign_osc.observe import observations
from lrjax.papers.benign_osc.predictions import before

__all__ = ["CLAIMS", "NOTE", "SHOWN_IN", "before", "figures", "observations"]

NOTE = (
    "The paper's full text could not be read. Its theorems and numbers are quoted second hand, from public reviews; patch "
    "layout, two-class head, loss without a factor 1/2, the meaning of a small rate, the norms of the synthetic data and all "
    "CIFAR-10 settings are reconstructions. The paper proves that oscillation teaches the weak feature; that a large rate "
    "makes the run oscillate follows here from a map analysis of the orthogonal, strong-feature dominated case."
)

# Claim -> the figure that shows it, for the links of a page.
SHOWN_IN = {
    "switch": "accuracy_against_e",
    "window_edge": "accuracy_against_e",
    "time_matched": "accuracy_against_e",
    "theorem_5": "weak_feature",
    "theorem_5_deltas": "laws",
    "proposition_6": "laws",
    "accumulation": "inner_dynamics",
    "theorem_2": "weak_feature",
    "capacity_law": "weak_feature",
    "single_small_rate": "weak_feature",
    "assumption_4": "inner_dynamics",
    "edge_of_stability": "edge_of_stability",
    "noise_conditions": "phase_tables",
    "no_weak_examples": "phase_tables",
    "full_batch": "ablations",
    "batch_sizes": "ablations",
    "schedule": "ablations",
    "label_noise": "ablations",
    "robust": "ablations",
    "time_scale": "laws",
    "averaging": "ablations",
    "map_onset": "map_diagram",
    "map_two_cycle": "map_diagram",
    "map_sign_stability": "map_diagram",
    "natural_images": "training",
    "planted_patch": "planted_accuracy",
}


def figures(run: RunResult) -> list[Any]:
    """The figures of a run, see `lrjax.papers.benign_osc.report_figures`; matplotlib is loaded only to draw."""
    from lrjax.papers.benign_osc.report_figures import figures as draw

    return draw(run)
