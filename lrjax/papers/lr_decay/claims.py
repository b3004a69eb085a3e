"""The claims of the paper, and those derived here, with their sources.

Only the two abstracts could be read. What is marked "as remembered" was not checked against the paper's text, and no number
of it is known: its curves are plots.
"""

from functools import partial

from lrjax.papers.claim import claim_of
from lrjax.papers.lr_decay import checks
from lrjax.papers.lr_decay.cause_claims import CAUSE
from lrjax.papers.lr_decay.image_claims import IMAGES
from lrjax.papers.lr_decay.level_claims import LEVELS
from lrjax.papers.lr_decay.noise_claims import NOISE
from lrjax.papers.lr_decay.sources import PAPER, REMEMBERED, learned_patterns
from lrjax.papers.premises import converged, last_of, of_arms, resolved, same_steps, seeds, unsaturated

_claim = partial(claim_of, PAPER)
_DECAY = of_arms("decay")
_CONSTANTS = of_arms(*checks.CONSTANTS)
_ALL = of_arms("decay", *checks.CONSTANTS)
_LEARNED = learned_patterns(_DECAY)
_SMALL = converged(of_arms("constant_1", "constant_2"), 0.02, checks.COMPLEX)
_LARGE = converged(of_arms("constant_0"), 0.1, checks.COMPLEX)  # its accuracy swings from measurement to measurement
_STAGES = [
    _claim(
        "simple_first",
        ("L3",),
        checks.simple_first,
        "With lrDecay the simple patterns are learned in the first stage, the complex ones are not.",
        f"section 5.2, {REMEMBERED}",
        f"at the end of stage 1 simple has over {checks.LEARNED:.0%} of its final accuracy, complex less",
        premises=(seeds(3, _DECAY), _LEARNED),
    ),
    _claim(
        "gain_is_complex",
        ("L3",),
        checks.gain_is_complex,
        "The rise of total accuracy at a decay comes mostly from the complex patterns.",
        f"abstract; section 5.2, {REMEMBERED}",
        "over all decays the complex subset, half of the data, rises by more than the simple one",
        premises=(seeds(3, _DECAY), _LEARNED),
    ),
    _claim(
        "smaller_rate_more_complex",
        ("L3",),
        checks.smaller_rate_more_complex,
        "Among constant rates the smaller one learns more of the complex patterns.",
        f"section 5.2, {REMEMBERED}",
        "complex accuracy at the end rises from each rate to the next smaller one",
        premises=(
            seeds(3, _CONSTANTS),
            same_steps(_CONSTANTS),
            _SMALL,
            _LARGE,
            unsaturated(of_arms("constant_0", "constant_1"), read=last_of(checks.COMPLEX)),
        ),
    ),
    _claim(
        "smallest_rate_reaches",
        ("L3",),
        checks.smallest_rate_reaches,
        "Without noise the smallest constant rate reaches about the accuracy of lrDecay.",
        f"section 5.2, {REMEMBERED}",
        f"total accuracy at the end within {checks.ABOUT} of that of decay (a point: the paper's curves are read no better)",
        premises=(
            seeds(3, of_arms("decay", "constant_2")),
            same_steps(_ALL),
            converged(of_arms("constant_2"), 0.02, checks.COMPLEX),
            resolved(checks.ABOUT, checks.smallest_against_decay, checks.largest_reaches),
        ),
    ),
    _claim(
        "decay_is_best",
        ("L3",),
        checks.decay_is_best,
        "lrDecay learns more of the complex patterns than any of the constant rates of its stages.",
        "ours; the abstract says so in words, where data have noise",
        "complex accuracy at the end above each constant rate",
        premises=(
            seeds(3, _ALL),
            same_steps(_ALL),
            _SMALL,
            _LARGE,
            unsaturated(_CONSTANTS, read=last_of(checks.COMPLEX)),
        ),
        origin="ours",
    ),
    _claim(
        "gap_on_patterns",
        ("L3",),
        checks.gap_on_patterns,
        "There is a clear gap between the best accuracy before and after the decay, which an undecayed run does not close.",
        f"ours: section 4.2 ({REMEMBERED}) for CIFAR-10, here on PS10",
        "best complex accuracy after the first decay minus best before: above zero, and above the undecayed run's to the same "
        "step",
        premises=(seeds(3, of_arms("decay", "constant_0")), same_steps(of_arms("decay", "constant_0")), _LEARNED),
        origin="ours",
    ),
]
CLAIMS = [*_STAGES, *NOISE, *CAUSE, *LEVELS, *IMAGES]
