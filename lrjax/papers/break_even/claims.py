"""The claims of the paper, and those derived here from its stability condition, with their sources."""

from collections.abc import Callable

from lrjax.papers.break_even import checks, norm_checks
from lrjax.papers.claim import Claim

PAPER = "break_even"
RATES = ("E3", "E3_full", "E1", "E2", "E4", "E5", "E7_mlp", "E7_bert", "E7_densenet")
DERIVED = "derived here from the stability condition"
SUBMISSION = "of the submission; those of the final version could not be read"


def _claim(
    id: str,
    experiments: tuple[str, ...],
    check: Callable,
    statement: str,
    source: str,
    expected: str,
    reports: str | None = None,
) -> Claim:
    return Claim(id, PAPER, experiments, statement, source, expected, check, reports)


CLAIMS = [
    _claim(
        "conjecture_1_rate",
        RATES,
        checks.rate_order("lambda_k1_raw", -1),
        "Variance reduction: the maximum of lambda_K over a trajectory is smaller for a larger learning rate.",
        "conjecture 1, section 4.2",
        "max lambda_K (of batches of 128, as measured) falls with eta in every seed; on SimpleCNN a ratio of about 3 to 4",
        f"SimpleCNN, CIFAR-10: 3.01 at eta 0.01 against 0.87 at 0.1, ratio 3.46 (numbers {SUBMISSION})",
    ),
    _claim(
        "conjecture_1_rate_hessian",
        RATES,
        checks.rate_order("lambda_h1", -1),
        "Variance reduction: the maximum of lambda_H over a trajectory is smaller for a larger learning rate.",
        "conjecture 1, section 4.2",
        "max lambda_H falls with eta in every seed",
        "lambda_H behaves as lambda_K (figure 4; no numbers in the text)",
    ),
    _claim(
        "conjecture_2_rate",
        RATES,
        checks.rate_order("trace_over_lambda", 1),
        "Pre-conditioning: K is better conditioned, by max Tr(K) / lambda_K, for a larger learning rate.",
        "conjecture 2, section 4.2",
        "max Tr(K) / lambda_K rises with eta in every seed, at equal L and M",
        f"SimpleCNN, CIFAR-10: 14.29 at eta 0.1 against 10.69 at 0.01 (numbers {SUBMISSION})",
    ),
    _claim(
        "conjecture_2_rate_smallest",
        RATES,
        checks.rate_order("lambda_star_over_lambda", 1),
        "Pre-conditioning: the ratio of the smallest non-zero to the largest eigenvalue of K is larger for a larger rate.",
        "conjecture 2, section 3",
        "max lambda*_K / lambda_K rises with eta in every seed (it is mostly a function of L: equal L only)",
    ),
    _claim(
        "conjecture_2_rate_trace",
        RATES,
        checks.rate_order("trace_k_raw", -1),
        "The maximum of Tr(K) over a trajectory is smaller for a larger learning rate.",
        "conjecture 2, section 4.2",
        "max Tr(K) falls with eta in every seed",
        "Tr(K) depends on the rate as lambda_K does (no numbers in the text)",
    ),
    _claim(
        "conjecture_1_batch",
        ("E3_full", "E5"),
        checks.batch_order("lambda_k1_raw", 1),
        "Variance reduction: the maximum of lambda_K over a trajectory is smaller for a smaller batch.",
        "conjecture 1, section 4.2",
        "max lambda_K, from batches of one size M, rises with S over all sizes, in every seed",
        "a larger S gives a larger maximum (no numbers in the text)",
    ),
    _claim(
        "conjecture_2_batch",
        ("E3_full", "E5"),
        checks.batch_order("trace_over_lambda", -1),
        "Pre-conditioning: K is better conditioned for a smaller batch.",
        "conjecture 2, section 4.2",
        "max Tr(K) / lambda_K falls with S over all sizes, in every seed",
        "a larger S gives a smaller maximum (no numbers in the text)",
    ),
    _claim(
        "peak_accuracy",
        ("E3", "E3_full", "E4", "E5"),
        checks.peak_accuracy,
        "lambda_K peaks close to the epoch at which 60 % (IMDB: 75 %) of the training set is first right.",
        "section 4.2, figures 3 and 4",
        f"smoothed peak within {checks.PEAK_EPOCHS} epochs of it in every lane",
        "close to 60 % on CIFAR-10 and to 75 % on IMDB",
    ),
    _claim(
        "correlated_growth",
        ("E2", "E3", "E4"),
        checks.correlation,
        "Before break-even lambda_K and lambda_H grow together.",
        "section 4.1, figure 2",
        f"Spearman correlation above {checks.CORRELATED} up to the peak of lambda_H, in every lane",
        "correlated (figure 2; no number in the text)",
    ),
    _claim(
        "break_even_order",
        ("E2", "E3", "E4"),
        checks.break_even_order,
        "A larger learning rate breaks even earlier, and at a smaller lambda_H.",
        "section 3, the theorem; by the condition itself (equation 1), which the paper did not compute",
        "D1 fires earlier, and at a smaller lambda_H, for the larger rate, in every seed",
    ),
    _claim(
        "stays_at_break_even",
        ("E2", "E3", "E4"),
        checks.hovers,
        "After the break-even point lambda_H stays near the value of it, 2 / eta where the noise of curvatures is small.",
        DERIVED + "; section 3",
        f"median of eta lambda_H / 2 after D1 between {checks.HOVERS[0]} and {checks.HOVERS[1]} in every lane",
    ),
    _claim(
        "step_stretch",
        ("E2",),
        checks.step_stretch,
        "alpha*, the steps it takes to raise the loss by a fifth, falls to about 2 at the break-even point for both rates.",
        "section 4.1 and figure 2 of the submission",
        "alpha* between 1 and 4 where D1 fires, for both rates",
        "about 2 for eta = 0.02 and 0.2 (submission)",
    ),
    _claim(
        "parting",
        ("E1", "E3"),
        checks.parting,
        "A trajectory of a small rate parts from that of a larger one once its lambda_K exceeds the other's maximum.",
        "section 4.1, figure 1 of the submission",
        "mean distance of predictions to the other trajectory larger above that maximum than below it",
        "the distance grows there (figure 1; no number in the text)",
    ),
    _claim(
        "norm_trains_at_one",
        ("E6",),
        norm_checks.trains_with_norm_only,
        "SimpleCNN-BN trains with eta = 1.0, SimpleCNN diverges.",
        "section 4.3",
        f"with BN training accuracy above {2 * norm_checks.CHANCE:g} at the end, without it a recorded divergence",
        "SimpleCNN diverges at eta = 1.0",
    ),
    _claim(
        "norm_alone",
        ("E6",),
        norm_checks.norm_alone,
        "BatchNorm alone does not improve the conditioning of K: a large learning rate is needed.",
        "section 4.3",
        "max Tr(K)/lambda_K: the gap of BN at 0.001 to no BN at 0.01 is smaller than what eta = 1.0 adds with BN",
        "12.14 (BN, 0.001) against 11.55 (no BN, 0.01); |g|/|g5| 1.90 (1.37) against 1.88 (1.12), max (min), "
        + SUBMISSION,
    ),
    _claim(
        "gamma_falls",
        ("E6",),
        norm_checks.gamma_falls,
        "The scales of the last BatchNorm layer shrink early in training at eta = 1.0 and 0.1.",
        "section 4.3, figure 5",
        "their length in the first half of the run falls below its initial value, at both rates",
        "an initial fall (figure 5; no number in the text)",
    ),
    _claim(
        "momentum",
        ("E8",),
        checks.momentum_order,
        "Momentum acts as a larger learning rate does: the maximum of lambda_K falls with it.",
        DERIVED + " (heavy ball at an effective rate eta / (1 - beta)); the paper's appendix could not be read",
        "max lambda_K falls with momentum over 0, 0.5, 0.9",
    ),
    _claim(
        "estimator",
        ("E9",),
        norm_checks.estimator,
        "lambda_K from batches of 128 follows that from single examples.",
        "section 4 (comparison with M = 1 in an appendix that could not be read)",
        f"rank correlation over states above {norm_checks.CORRELATED}",
    ),
]
