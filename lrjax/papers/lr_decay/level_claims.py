"""The claims of the paper's first version on stages across networks and on levels of noise (L11, L12)."""

from functools import partial

from lrjax.papers.claim import claim_of
from lrjax.papers.lr_decay import level_checks
from lrjax.papers.lr_decay.checks import ALL, COMPLEX
from lrjax.papers.lr_decay.conditions import named
from lrjax.papers.lr_decay.image_checks import every_pair
from lrjax.papers.lr_decay.sources import PAPER, PATTERN_TEST
from lrjax.papers.premises import converged, last_of, learned, same_steps, seeds, unsaturated

_claim = partial(claim_of, PAPER)
ROOT = "abstract of version 1"
_PLATEAUS = (
    seeds(3, level_checks.every_plateau),
    same_steps(level_checks.every_plateau),
    converged(level_checks.every_plateau, 0.1, COMPLEX),
    unsaturated(level_checks.every_plateau, read=last_of(COMPLEX)),
)

LEVELS = [
    _claim(
        "stages_across_networks",
        ("L11",),
        level_checks.stages_everywhere,
        "Under step decay a transition divides training into stages: a common phenomenon across networks and schedules.",
        ROOT,
        "in every network and schedule the best test accuracy after the decay minus the best before: above zero, and above the "
        "undecayed run's to the same step",
        premises=(
            seeds(3, every_pair),
            same_steps(every_pair),
            learned(named(contains="decay_"), 0.75, read=last_of(ALL), chance=0.1, examples=2 * PATTERN_TEST),
        ),
    ),
    _claim(
        "plateau_falls_with_rate",
        ("L12",),
        level_checks.lower_at_larger_rates,
        "A rate magnifies the noise of SGD to a level at which only certain patterns are learnable: the larger, the fewer.",
        f"implied by the {ROOT}",
        "for each complexity, complex accuracy at the end of a constant rate falls from each rate to the next larger one",
        premises=_PLATEAUS,
        origin="implied",
    ),
    _claim(
        "plateau_falls_with_complexity",
        ("L12",),
        level_checks.lower_at_more_patterns,
        "At one level of noise more complex patterns are learned less.",
        f"implied by the {ROOT}, with the complexity of version 2",
        "at each rate, complex accuracy at the end falls from each number of patterns a class to the next larger one",
        premises=_PLATEAUS,
        origin="implied",
    ),
]
