"""The claims of the paper, and those derived here from its stability condition, with their sources and premises."""

from functools import partial

from lrjax.papers.break_even import causal_checks, checks, norm_checks, phase_checks
from lrjax.papers.break_even.conditions import BREAKS_EVEN, PASSES, SAME, SAMPLED, maxima
from lrjax.papers.claim import claim_of
from lrjax.papers.premises import seeds

PAPER = "break_even"
RATES = ("E3", "E3_full", "E4", "E5", "E7_mlp", "E7_bert", "E7_densenet")  # E1 and E2 train E3's network again
DERIVED = "derived here from the stability condition"
SUBMISSION = "of the submission; those of the final version could not be read"
INTERVAL = "95 % intervals over seeds"
_claim = partial(claim_of, PAPER)
_CONJECTURES = [
    _claim(
        "conjecture_1_rate",
        RATES,
        checks.rate_order("lambda_k1_raw", -1),
        "Variance reduction: the maximum of lambda_K over a trajectory is smaller for a larger learning rate.",
        "conjecture 1, section 4.2",
        f"smoothed max lambda_K (of batches of 128, as measured) falls from each eta to the next larger one ({INTERVAL})",
        f"SimpleCNN, CIFAR-10: 3.01 at eta 0.01 against 0.87 at 0.1, ratio 3.46 (numbers {SUBMISSION})",
        premises=maxima("lambda_k1_raw", checks.by_rate),
    ),
    _claim(
        "conjecture_1_rate_hessian",
        RATES,
        checks.rate_order("lambda_h1", -1),
        "Variance reduction: the maximum of lambda_H over a trajectory is smaller for a larger learning rate.",
        "conjecture 1, section 4.2",
        f"smoothed max lambda_H falls from each eta to the next larger one ({INTERVAL})",
        "lambda_H behaves as lambda_K (figure 4; no numbers in the text)",
        premises=maxima("lambda_h1", checks.by_rate),
    ),
    _claim(
        "conjecture_2_rate",
        RATES,
        checks.rate_order("trace_over_lambda", 1),
        "Pre-conditioning: K is better conditioned, by max Tr(K) / lambda_K, for a larger learning rate.",
        "conjecture 2, section 4.2",
        f"smoothed max Tr(K) / lambda_K rises from each eta to the next larger one, at equal L and M ({INTERVAL})",
        f"SimpleCNN, CIFAR-10: 14.29 at eta 0.1 against 10.69 at 0.01 (numbers {SUBMISSION})",
        premises=maxima("trace_over_lambda", checks.by_rate),
    ),
    _claim(
        "conjecture_2_rate_smallest",
        RATES,
        checks.rate_order("lambda_star_over_lambda", 1),
        "Pre-conditioning: the ratio of the smallest non-zero to the largest eigenvalue of K is larger for a larger rate.",
        "conjecture 2, section 3",
        f"smoothed max lambda*_K / lambda_K rises with eta ({INTERVAL}; it is mostly a function of L: equal L only)",
        premises=maxima("lambda_star_over_lambda", checks.by_rate),
    ),
    _claim(
        "conjecture_2_rate_trace",
        RATES,
        checks.rate_order("trace_k_raw", -1),
        "The maximum of Tr(K) over a trajectory is smaller for a larger learning rate.",
        "conjecture 2, section 4.2",
        f"smoothed max Tr(K) falls from each eta to the next larger one ({INTERVAL})",
        "Tr(K) depends on the rate as lambda_K does (no numbers in the text)",
        premises=maxima("trace_k_raw", checks.by_rate),
    ),
    _claim(
        "conjecture_1_batch",
        ("E3_full", "E5"),
        checks.batch_order("lambda_k1_raw", 1),
        "Variance reduction: the maximum of lambda_K over a trajectory is smaller for a smaller batch.",
        "conjecture 1, section 4.2",
        f"smoothed max lambda_K, from batches of one size M, rises from each S to the next larger one ({INTERVAL})",
        "a larger S gives a larger maximum (no numbers in the text)",
        premises=maxima("lambda_k1_raw", checks.by_batch),
    ),
    _claim(
        "conjecture_2_batch",
        ("E3_full", "E5"),
        checks.batch_order("trace_over_lambda", -1),
        "Pre-conditioning: K is better conditioned for a smaller batch.",
        "conjecture 2, section 4.2",
        f"smoothed max Tr(K) / lambda_K falls from each S to the next larger one ({INTERVAL})",
        "a larger S gives a smaller maximum (no numbers in the text)",
        premises=maxima("trace_over_lambda", checks.by_batch),
    ),
    _claim(
        "equal_accuracy",
        ("E1", "E3", "E3_full"),
        checks.at_equal_accuracy,
        "At equal training accuracy lambda_K is larger on the trajectory of the smaller learning rate.",
        "section 4.1, figure 1",
        f"lambda_K over that of the next larger rate, mean of training accuracies from {checks.SHARE[0]:g} to "
        f"{checks.SHARE[1]:g}: above 1 ({INTERVAL})",
        "a ratio of 4 or more at eta 0.001 against 0.01 (read off figure 1 of the final version)",
        premises=(seeds(3, checks.by_rate), PASSES),
    ),
]
_PHASE = [
    _claim(
        "peak_accuracy",
        ("E3", "E3_full", "E4", "E5"),
        phase_checks.peak_accuracy,
        "lambda_K peaks close to the epoch at which 60 % (IMDB: 75 %) of the training set is first right.",
        "section 4.2, figures 3 and 4",
        f"smoothed peak within {phase_checks.PEAK_EPOCHS:g} epochs of it at every rate ({INTERVAL}; the margin is ours)",
        "close to 60 % on CIFAR-10 and to 75 % on IMDB",
        premises=(*maxima("lambda_k1_raw", checks.by_rate), PASSES),
    ),
    _claim(
        "correlated_growth",
        ("E2", "E3", "E4"),
        phase_checks.correlation,
        "Before break-even lambda_K and lambda_H grow together.",
        "section 4.1, figure 2",
        f"rank correlation above zero up to the peak of lambda_H, at every rate ({INTERVAL})",
        "correlated (figure 2; no number in the text)",
        premises=(seeds(3, checks.by_rate), SAMPLED),
    ),
    _claim(
        "break_even_order",
        ("E2", "E3", "E4"),
        phase_checks.break_even_order,
        "A larger learning rate breaks even earlier, and at a smaller lambda_H.",
        "section 3, the theorem; by the condition itself (equation 1), which the paper did not compute",
        f"D1 fires earlier, and at a smaller lambda_H, for each larger rate ({INTERVAL})",
        premises=(seeds(3, checks.by_rate), BREAKS_EVEN),
        origin="implied",
    ),
    _claim(
        "stays_at_break_even",
        ("E2", "E3", "E4"),
        phase_checks.hovers,
        "After the break-even point lambda_H stays near the value of it, 2 / eta where the noise of curvatures is small.",
        DERIVED + "; section 3",
        f"median of eta lambda_H / 2 after D1 within {phase_checks.HOVERS:g} of 1 at every rate ({INTERVAL}; the margin is "
        "ours)",
        premises=(seeds(3, checks.by_rate), BREAKS_EVEN),
        origin="implied",
    ),
    _claim(
        "step_stretch",
        ("E2",),
        phase_checks.step_stretch,
        "alpha*, the steps it takes to raise the loss by a fifth, falls to about 2 at the break-even point for both rates.",
        "section 4.1 and figure 2 of the submission",
        f"alpha* where D1 fires within a factor of {phase_checks.FACTOR:g} of 2 at every rate ({INTERVAL}; the factor is ours)",
        "about 2 for eta = 0.02 and 0.2 (submission)",
        premises=(seeds(3, checks.by_rate), BREAKS_EVEN),
    ),
    _claim(
        "parting",
        ("E1",),
        phase_checks.parting,
        "A trajectory of a small rate parts from that of a larger one once its lambda_K exceeds the other's maximum.",
        "section 4.1, figure 1 of the submission",
        "the distance of predictions to the other trajectory grows there by more than that to a trajectory of the same rate "
        f"and another order of batches ({INTERVAL})",
        "the distance grows there (figure 1; no number in the text)",
        premises=(seeds(3, lambda run: checks.trained(run)), SAME),
    ),
]
_CAUSE = [
    _claim(
        f"early_{first}_rate_decides_{short}",
        ("E10",),
        causal_checks.early_rate_decides(name, arm),
        f"A {first} learning rate in the early phase decides {words} for the rest of training, whatever the rate is later.",
        "abstract and section 3, as a statement on causes; the experiment is ours",
        f"switched after break-even from the {first} to the {then} rate, a run ends closer to the first than to the second, "
        f"on a scale of logarithms ({INTERVAL})",
        premises=(seeds(3, lambda run: checks.trained(run)), causal_checks.PLACED, causal_checks.apart(name)),
        origin="implied",
    )
    for short, name, words in (
        ("lambda_k", "lambda_k1_raw", "lambda_K"),
        ("lambda_h", "lambda_h1", "lambda_H"),
        ("conditioning", "trace_over_lambda", "Tr(K) / lambda_K"),
    )
    for arm, (first, then) in causal_checks.SWITCHED.items()
]
_OTHERS = [
    _claim(
        "norm_trains_at_one",
        ("E6",),
        norm_checks.trains_with_norm_only,
        "SimpleCNN-BN trains with eta = 1.0, SimpleCNN diverges.",
        "section 4.3",
        f"training accuracy with BN more than {norm_checks.APART:g} above that without, which diverges and counts as "
        f"chance ({INTERVAL}; the margin is ours)",
        "SimpleCNN diverges at eta = 1.0",
        premises=(seeds(3, norm_checks.at_one), norm_checks.LEARNS),
    ),
    _claim(
        "norm_alone",
        ("E6",),
        norm_checks.norm_alone,
        "BatchNorm alone does not improve the conditioning of K: a large learning rate is needed.",
        "section 4.3",
        "max Tr(K)/lambda_K: BN at 0.001 and no BN at 0.01 are closer, as a ratio, than BN at 0.001 and at 1.0 "
        f"({INTERVAL})",
        "12.14 (BN, 0.001) against 11.55 (no BN, 0.01); |g|/|g5| 1.90 (1.37) against 1.88 (1.12), max (min), "
        + SUBMISSION,
        premises=maxima("trace_over_lambda"),
    ),
    _claim(
        "gamma_falls",
        ("E6",),
        norm_checks.gamma_falls,
        "The scales of the last BatchNorm layer shrink early in training at eta = 1.0 and 0.1.",
        "section 4.3, figure 5",
        f"their mean length in the first half of the run is below the initial one, at both rates ({INTERVAL})",
        "an initial fall (figure 5; no number in the text)",
        premises=(seeds(3), SAME),
    ),
    _claim(
        "momentum",
        ("E8",),
        checks.momentum_order,
        "Momentum acts as a larger learning rate does: the maximum of lambda_K falls with it.",
        DERIVED + " (heavy ball at an effective rate eta / (1 - beta)); the paper's appendix could not be read",
        f"smoothed max lambda_K falls with momentum over 0, 0.5, 0.9 ({INTERVAL})",
        premises=maxima("lambda_k1_raw"),
        origin="implied",
    ),
    _claim(
        "estimator",
        ("E9",),
        norm_checks.estimator,
        "lambda_K from batches of 128 follows that from single examples.",
        "section 4 (comparison with M = 1 in an appendix that could not be read)",
        f"rank correlation over states above {norm_checks.FOLLOWS:g} ({INTERVAL}; the threshold is ours)",
        premises=(seeds(3), norm_checks.STATES),
    ),
]
CLAIMS = [*_CONJECTURES, *_PHASE, *_CAUSE, *_OTHERS]
