"""The claims on images and on transfer (L1, L2, L7, L7_ps10, L8, L9)."""

from functools import partial

from lrjax.papers.claim import claim_of
from lrjax.papers.lr_decay import image_checks, transfer_checks
from lrjax.papers.lr_decay.checks import ABOUT
from lrjax.papers.lr_decay.conditions import CIFAR10_TEST, gained, named, tested_on
from lrjax.papers.lr_decay.sources import PAPER, REMEMBERED
from lrjax.papers.premises import converged, last_of, learned, of_arms, resolved, same_steps, seeds

_claim = partial(claim_of, PAPER)
_TEST = last_of(image_checks.TEST)
WIDE_RESNET = 0.96  # of WRN-28-10 on CIFAR-10: Zagoruyko & Komodakis 2016, table 5 (4.00 % error)
RESNET50 = 0.76  # top-1 on ImageNet, of the recipe that the source has
_DECAYED = named(contains="decay_")
_SGD = (
    seeds(3, image_checks.every_pair),
    same_steps(image_checks.every_pair),
    learned(_DECAYED, 0.9, read=_TEST, chance=0.1, examples=1000, level=WIDE_RESNET),
)
_GAINED = gained("what stages 2 and 3 add on the source", transfer_checks.source_gains)
_SOURCE = of_arms("source")
_LESS = "for every target, frozen and fine-tuned, T_3 under T_2 by an interval over seeds"
_DESCENT = [
    _claim(
        "gradient_descent_gains_nothing",
        ("L1",),
        image_checks.full_batch,
        "Under gradient descent decay brings a negligible gain, wherever it happens: it is not there to stop oscillation.",
        f"section 4.1, {REMEMBERED}",
        f"each decayed run ends within {ABOUT} of the undecayed one in test accuracy (a point: curves are read no better) and "
        "within 10 % in training loss",
        premises=(
            seeds(3, image_checks.every_pair),
            same_steps(image_checks.every_pair),
            converged(image_checks.every_pair, 0.02, image_checks.LOSS),
            resolved(
                ABOUT,
                lambda run: image_checks.least_sure(image_checks.accuracy_gains(run).values()),
                image_checks.stopping_is_training,
            ),
        ),
    ),
    _claim(
        "gap_before_and_after",
        ("L2",),
        image_checks.accuracy_gap,
        "Under SGD there is a clear gap between the best before and after a decay; undecayed training does not close it.",
        f"section 4.2, {REMEMBERED}",
        "best test accuracy after each decay minus best before: above zero, and above the undecayed run's",
        premises=_SGD,
    ),
    _claim(
        "loss_gap_before_and_after",
        ("L2",),
        image_checks.loss_gap,
        "The gap is in the training loss too, and undecayed training does not close it.",
        f"section 4.2, {REMEMBERED}",
        "lowest smoothed training loss after each decay against the lowest before: under it, and under the undecayed run's",
        premises=_SGD,
    ),
]
_OTHERS = [
    _claim(
        "linear_first",
        ("L9",),
        image_checks.linear_first,
        "What the network learns early a linear classifier explains; the later stages add what it does not.",
        "ours: Kalimeris et al. 2019, by stages",
        "mu / I(F; Y) falls from the first measurement to the first stage's end to the last stage's",
        premises=(
            seeds(3, of_arms("decay")),
            learned(of_arms("decay"), 0.9, read=_TEST, chance=0.1, examples=1000),
            tested_on(CIFAR10_TEST),
            gained("I(F; Y) at the first measurement less ten times its bias", image_checks.informed),
        ),
        origin="ours",
    ),
    _claim(
        "small_rate_takes_patches",
        ("L8",),
        image_checks.patches,
        "A small rate memorises hard-to-fit patches at once; a large one ignores them until it is annealed, and ends better.",
        "ours: Li, Wei & Ma 2019, abstract",
        "patch-only accuracy half way lower for the large rate, higher at the end than half way; clean accuracy higher",
        premises=(
            seeds(3, of_arms("large", "small")),
            same_steps(of_arms("large", "small")),
            learned(
                of_arms("large", "small"), 0.5, read=last_of(image_checks.PATCH), chance=0.1, examples=1000, level=1.0
            ),
        ),
        origin="ours",
    ),
]
_TRANSFER = [
    _claim(
        "later_stages_transfer_less",
        ("L7",),
        transfer_checks.later_stages_transfer_less,
        "What later stages add transfers less: T_3 < T_2.",
        f"abstract; section 6, {REMEMBERED}",
        f"{_LESS}; three seeds decide T_2 = .6 against T_3 = 0 in 95 of 100 runs where they deviate by .003, in half at .004",
        premises=(
            seeds(3, transfer_checks.every_transfer),
            learned(_SOURCE, 0.9, read=_TEST, chance=0.01, examples=1000, level=RESNET50),
            _GAINED,
        ),
    ),
    _claim(
        "last_stage_hurts_sketches",
        ("L7",),
        transfer_checks.negative_on("sketch"),
        "On sketches, the farthest from the source, the last stage transfers negatively: T_3 < 0.",
        f"section 6, {REMEMBERED}",
        "accuracy after transfer of stage 3's snapshot under that of stage 2's, frozen and fine-tuned",
        premises=(
            seeds(3, of_arms(*(f"sketch_{mode}_{stage}" for mode in transfer_checks.MODES for stage in (1, 2, 3)))),
            learned(_SOURCE, 0.9, read=_TEST, chance=0.01, examples=1000, level=RESNET50),
            _GAINED,
        ),
    ),
    _claim(
        "later_patterns_transfer_less",
        ("L7_ps10",),
        transfer_checks.later_stages_transfer_less,
        "What later stages add of PS10 transfers less to new complex points: T_3 < T_2.",
        "ours: the statement of section 6 on patterns",
        _LESS,
        premises=(
            seeds(3, transfer_checks.every_transfer),
            learned(_SOURCE, 0.9, read=last_of(transfer_checks.PATTERNS), chance=0.1, examples=1000, level=1.0),
            _GAINED,
        ),
        origin="ours",
    ),
]
IMAGES = [*_DESCENT, *_OTHERS, *_TRANSFER]
