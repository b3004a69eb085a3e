"""The claims on the cause of the stages (L5), on rules (L6) and on averaging (L10)."""

from functools import partial

from lrjax.papers.claim import claim_of
from lrjax.papers.lr_decay import cause_checks
from lrjax.papers.lr_decay.checks import ABOUT, LEARNED
from lrjax.papers.lr_decay.conditions import flat_stages, gained
from lrjax.papers.lr_decay.sources import PAPER, learned_patterns
from lrjax.papers.premises import instrument, last_of, learned, of_arms, resolved, same_steps, seeds, unsaturated

_claim = partial(claim_of, PAPER)
_FULL = of_arms("full_batch", "full_batch_decay", "gradient_descent")
_PAIRS = of_arms("sgd", "sgd_decay", "full_batch", "full_batch_decay")
_DESCENT = of_arms("gradient_descent")
_RULES = of_arms("auto_decay", "step_decay")
_GROWING = of_arms("growing_batch_1", "growing_batch_3", "step_decay")
_AVERAGE = of_arms("constant", "decay")
TRAIN_SIMPLE, TRAIN = "subsets/train_simple", cause_checks.TRAIN_COMPLEX
ROOT = "abstract of version 1"

_ROOT_CAUSE = [
    _claim(
        "full_batch_needs_no_decay",
        ("L5",),
        cause_checks.full_batch_needs_none,
        "With the full batch there are no stages: everything is learned at the first rate, and decay brings nothing.",
        ROOT,
        f"complex training accuracy over {LEARNED} at a constant rate, with and without momentum, and decay within {ABOUT} of "
        "none (a point: curves are read no better)",
        premises=(
            seeds(3, _FULL),
            same_steps(of_arms("full_batch", "full_batch_decay", "sgd", "sgd_decay")),
            resolved(ABOUT, lambda run: cause_checks.gain_by_decay(run, "full_batch"), cause_checks.sgd_needs_none),
        ),
    ),
    _claim(
        "noise_is_the_cause",
        ("L5",),
        cause_checks.noise_is_the_cause,
        "The root cause of the stages is the stochasticity of SGD.",
        ROOT,
        "at the same rate and steps decay brings complex accuracy with mini-batches, and more than with the full batch",
        premises=(
            seeds(3, _PAIRS),
            same_steps(_PAIRS),
            learned(_PAIRS, 0.9, read=last_of(TRAIN_SIMPLE), chance=0.1, examples=1000, level=1.0),
        ),
    ),
    _claim(
        "quadratic_rule_fails",
        ("L5",),
        cause_checks.quadratic_rule_fails,
        "Gradient descent learns although lambda_max passes 2/eta, where it would diverge on a quadratic model.",
        "ours: the rule is that of section 3.1, as remembered; Cohen et al. 2021",
        "the largest eta lambda_max / 2 above 1 in a run that learns the patterns",
        premises=(
            seeds(3, _DESCENT),
            learned(_DESCENT, 0.9, read=last_of(TRAIN), chance=0.1, examples=1000, level=1.0),
            instrument("spectrum/hessian_residuals", 0.05, _DESCENT, of="spectrum/lambda_h1"),
        ),
        origin="ours",
    ),
]
_RULES_AND_AVERAGES = [
    _claim(
        "auto_decay_saves",
        ("L6",),
        cause_checks.auto_decay_saves,
        "AutoDecay shortens training without loss of accuracy (10 % on ImageNet).",
        ROOT,
        f"fewer steps than step decay, and complex accuracy no more than {ABOUT} under it (a point: curves are read no better)",
        premises=(seeds(3, _RULES), learned_patterns(of_arms("step_decay")), flat_stages("step_decay")),
    ),
    _claim(
        "growing_batch_is_decay",
        ("L6",),
        cause_checks.growing_batch_is_decay,
        "A batch that grows tenfold does what a rate that falls tenfold does.",
        f"implied by the {ROOT}: stages are levels of SGD's noise, eta / B; Smith et al. 2018",
        f"complex accuracy after as many epochs within {ABOUT} of step decay's (a point: curves are read no better)",
        premises=(
            seeds(3, _GROWING),
            learned_patterns(of_arms("step_decay")),
            resolved(ABOUT, cause_checks.growing_against_decay, cause_checks.undecayed_is_decay),
        ),
        origin="implied",
    ),
    _claim(
        "average_is_not_decay",
        ("L10",),
        cause_checks.average_is_not_decay,
        "What decay brings is new patterns, not oscillation that averages out.",
        "ours; the other view: Wen et al. 2024, Haegele et al. 2024",
        "the averaged weights of the undecayed run have under half of the gain in complex accuracy: decay has the larger part",
        premises=(
            seeds(3, _AVERAGE),
            same_steps(_AVERAGE),
            gained(
                "the complex accuracy that decay brings", lambda run: {"decay": cause_checks.gain_and_average(run)[0]}
            ),
            unsaturated(of_arms("constant"), read=last_of(cause_checks.AVERAGED)),
        ),
        origin="ours",
    ),
]
_VALLEY = [
    _claim(
        "average_is_in_the_valley",
        ("L10",),
        cause_checks.average_is_in_the_valley,
        "The average of the undecayed run and the weights after decay lie in one valley: no barrier is between them.",
        "ours; the river-valley view of Wen et al. 2024, the barrier of Entezari et al. 2022",
        f"the training loss on the straight line rises over that of its ends by under {cause_checks.SMALL:g} of what decay "
        "takes off (small against it)",
        premises=(
            seeds(3, of_arms("decay_after")),
            learned_patterns(of_arms("decay_after")),
            gained("what decay takes off the training loss", lambda run: {"decay": cause_checks.loss_by_decay(run)}),
        ),
        origin="ours",
    ),
]
CAUSE = [*_ROOT_CAUSE, *_RULES_AND_AVERAGES, *_VALLEY]
