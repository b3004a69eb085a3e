"""The claims of the paper, and those derived here, with their sources.

Only the two abstracts could be read. What is marked "as remembered" was not checked against the paper's text, and no number
of it is known: its curves are plots.
"""

from functools import partial

from lrjax.papers.claim import claim_of
from lrjax.papers.lr_decay import checks, image_checks, noise_checks

PAPER = "lr_decay"
REMEMBERED = "as remembered"
OURS = "ours"
_claim = partial(claim_of, PAPER)
_STAGES = [
    _claim(
        "simple_first",
        ("L3",),
        checks.simple_first,
        "With lrDecay the simple patterns are learned in the first stage, the complex ones are not.",
        f"section 5.2, {REMEMBERED}",
        f"at the end of stage 1 simple >= {checks.LEARNED} and complex <= {checks.UNLEARNED} (means of seeds)",
    ),
    _claim(
        "gain_is_complex",
        ("L3",),
        checks.gain_is_complex,
        "The rise of total accuracy at a decay comes mostly from the complex patterns.",
        f"abstract; section 5.2, {REMEMBERED}",
        "over all decays the complex subset brings more than half of the rise, in every seed",
    ),
    _claim(
        "smaller_rate_more_complex",
        ("L3",),
        checks.smaller_rate_more_complex,
        "Among constant rates the smaller one learns more of the complex patterns.",
        f"section 5.2, {REMEMBERED}",
        "complex accuracy at the end rises from each rate to the next smaller one by over two standard errors",
    ),
    _claim(
        "smallest_rate_reaches",
        ("L3",),
        checks.smallest_rate_reaches,
        "Without noise the smallest constant rate reaches about the accuracy of lrDecay.",
        f"section 5.2, {REMEMBERED}",
        f"total accuracy at the end within {checks.ABOUT} of that of decay, or above",
    ),
    _claim(
        "decay_is_best",
        ("L3",),
        checks.decay_is_best,
        "lrDecay learns more of the complex patterns than any of the constant rates of its stages.",
        f"abstract, in words; {OURS} as a comparison",
        "complex accuracy at the end above each constant rate by over two standard errors",
    ),
    _claim(
        "gap_on_patterns",
        ("L3",),
        checks.before_and_after,
        "There is a clear gap between the best accuracy before and after the decay, which an undecayed run does not close.",
        f"section 4.2 ({REMEMBERED}), there on CIFAR-10",
        f"complex accuracy: best after minus best before >= {checks.GAIN}, and at least {checks.GAIN / 2:g} more than the "
        "undecayed run has to the same step",
    ),
]
_KINDS = {
    "label": "wrong labels",
    "point": "random points among the complex patterns",
    "joint": "random points in all channels",
}
_NOISE = [
    claim
    for kind, words in _KINDS.items()
    for claim in (
        _claim(
            f"noise_{kind}_simple",
            ("L4",),
            noise_checks.simple(kind),
            f"With {words}, decay and small constant rates do not differ on simple patterns.",
            f"section 5.3, {REMEMBERED}",
            f"simple accuracy at the end within {noise_checks.NO_DIFFERENCE} of each other",
        ),
        _claim(
            f"noise_{kind}_complex",
            ("L4",),
            noise_checks.complex_(kind),
            f"With {words}, decay ends higher on complex patterns than small constant rates.",
            f"section 5.3, {REMEMBERED}",
            "complex test accuracy above both constant rates by over two standard errors",
        ),
        _claim(
            f"noise_{kind}_memorised",
            ("L4",),
            noise_checks.memorised(kind),
            f"With {words}, a large initial rate keeps the network from memorising them.",
            f"abstract; section 5.3, {REMEMBERED}",
            "accuracy on noise, against its given labels, at the end under both constant rates by over two standard errors",
        ),
        _claim(
            f"noise_{kind}_matched",
            ("L4",),
            noise_checks.memorised_at_matched(kind),
            f"With {words}, decay has memorised less when it knows as much of the complex patterns.",
            OURS,
            "accuracy on noise when complex accuracy is what each constant rate ends with, lower by over two standard errors",
        ),
    )
]
_CAUSE = [
    _claim(
        "full_batch_needs_no_decay",
        ("L5",),
        checks.full_batch_needs_none,
        "With the full batch there are no stages: everything is learned at the first rate, and decay brings nothing.",
        "abstract of version 1",
        f"complex training accuracy >= 0.99 at a constant rate, with and without momentum, and decay within {checks.ABOUT}",
    ),
    _claim(
        "noise_is_the_cause",
        ("L5",),
        checks.noise_is_the_cause,
        "The root cause of the stages is the stochasticity of SGD.",
        "abstract of version 1",
        f"at the same rate and steps decay brings >= {checks.GAIN} of complex accuracy with mini-batches, <= {checks.ABOUT} "
        "with the full batch",
    ),
    _claim(
        "auto_decay_saves",
        ("L6",),
        checks.auto_decay_saves,
        "AutoDecay shortens training without loss of accuracy (10 % on ImageNet).",
        "abstract of version 1",
        f"fewer steps than step decay and complex accuracy no more than {checks.ABOUT} under it; as many steps or more, "
        "without loss, is inconclusive",
    ),
    _claim(
        "average_is_not_decay",
        ("L10",),
        checks.average_is_not_decay,
        "What decay brings is new patterns, not oscillation that averages out.",
        f"{OURS}; the other view: Wen et al. 2024, Haegele et al. 2024",
        "the averaged weights of the undecayed run have under half of the gain in complex accuracy (over 0.9: contradicted)",
    ),
]
_IMAGES = [
    _claim(
        "gradient_descent_gains_nothing",
        ("L1",),
        image_checks.full_batch,
        "Under gradient descent decay brings a negligible gain, wherever it happens: it is not there to stop oscillation.",
        f"section 4.1, {REMEMBERED}",
        "no decayed run ends two standard errors above the undecayed one in test accuracy, or 10 % under it in training loss",
    ),
    _claim(
        "gap_before_and_after",
        ("L2",),
        image_checks.before_and_after,
        "Under SGD there is a clear gap between the best before and after a decay; undecayed training does not close it.",
        f"section 4.2, {REMEMBERED}",
        "best test accuracy after each decay minus best before: above two standard errors, and above the undecayed run's",
    ),
    _claim(
        "linear_first",
        ("L9",),
        image_checks.linear_first,
        "What the network learns early a linear classifier explains; the later stages add what it does not.",
        "Kalimeris et al. 2019, by stages: ours",
        "mu / I(F; Y) falls from the first measurement to the first stage's end to the last stage's",
    ),
    _claim(
        "small_rate_takes_patches",
        ("L8",),
        image_checks.patches,
        "A small rate memorises hard-to-fit patches at once; a large one ignores them until it is annealed, and ends better.",
        "Li, Wei & Ma 2019, abstract",
        "patch-only accuracy half way lower for the large rate, higher at the end than half way; clean accuracy no lower",
    ),
    _claim(
        "later_stages_transfer_less",
        ("L7", "L7_ps10"),
        image_checks.later_stages_transfer_less,
        "What later stages add transfers less: T_3 < T_2.",
        f"abstract; section 6, {REMEMBERED}",
        "for every target, frozen and fine-tuned, the 95 % intervals of T_3 and T_2 are apart with T_3 lower",
    ),
]
CLAIMS = [*_STAGES, *_NOISE, *_CAUSE, *_IMAGES]
