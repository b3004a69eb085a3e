"""How Does Learning Rate Decay Help Modern Neural Networks? (You, Long, Wang, Jordan; 2019; arXiv 1908.01878)."""

from typing import Any

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.lr_decay.claims import CLAIMS
from lrjax.papers.lr_decay.predictions import before

__all__ = ["CLAIMS", "NOTE", "SHOWN_IN", "before", "figures"]

NOTE = (
    "Of the paper only the two abstracts could be read; sections and findings beyond them are as remembered, and none of "
    "its numbers is known, since its curves are plots. Placement, labels, sample counts and noise of PS10, rates, lengths "
    "and sizes of all runs are our choice. At small scale a residual MLP sees the six-vector of PS10, not a wide ResNet "
    "an image of it; at medium scale its images are 8 x 8 where the paper has 32 x 32: they are constant, so that padding "
    "alone tells the sizes apart, but that is enough for a small network to learn complex patterns sooner on 8 x 8. On "
    "PS10 simple patterns come first at every rate; in the setting of Li, Wei and Ma (experiment L8) it is a small rate "
    "that learns the easy-to-generalise pattern first and suffers for it."
)

# Claim -> the figure that shows it, for the links of a page.
SHOWN_IN = {
    "simple_first": "accuracy_by_subset",
    "smaller_rate_more_complex": "accuracy_by_subset",
    "smallest_rate_reaches": "accuracy_by_subset",
    "decay_is_best": "accuracy_by_subset",
    "gap_on_patterns": "accuracy_by_subset",
    "gain_is_complex": "gain_by_stage",
    "full_batch_needs_no_decay": "root_cause",
    "noise_is_the_cause": "root_cause",
    "quadratic_rule_fails": "curvature",
    "auto_decay_saves": "rules",
    "growing_batch_is_decay": "rules",
    "average_is_not_decay": "average",
    "average_is_in_the_valley": "valley",
    "stages_across_networks": "networks",
    "plateau_falls_with_rate": "plateaus",
    "plateau_falls_with_complexity": "plateaus",
    "gradient_descent_gains_nothing": "training",
    "gap_before_and_after": "training",
    "loss_gap_before_and_after": "training",
    "linear_first": "explained",
    "small_rate_takes_patches": "patches",
    "later_stages_transfer_less": "transfer",
    "last_stage_hurts_sketches": "transfer",
    "later_patterns_transfer_less": "transfer",
    "noise_label_simple": "noisy_accuracy_label",
    "noise_label_complex": "noisy_accuracy_label",
    "noise_point_simple": "noisy_accuracy_point",
    "noise_point_complex": "noisy_accuracy_point",
    "noise_joint_simple": "noisy_accuracy_joint",
    "noise_joint_complex": "noisy_accuracy_joint",
    "noise_label_memorised": "memorised_noise",
    "noise_label_matched": "memorised_noise",
    "noise_label_stage_1": "noisy_accuracy_label",
    "noise_point_memorised": "memorised_noise",
    "noise_point_matched": "memorised_noise",
    "noise_point_stage_1": "noisy_accuracy_point",
    "noise_joint_memorised": "memorised_noise",
    "noise_joint_matched": "memorised_noise",
    "noise_joint_stage_1": "noisy_accuracy_joint",
}


def figures(run: RunResult) -> list[Any]:
    """The figures of a run, see `lrjax.papers.lr_decay.report_figures`; matplotlib is loaded only to draw."""
    from lrjax.papers.lr_decay.report_figures import figures as draw

    return draw(run)
