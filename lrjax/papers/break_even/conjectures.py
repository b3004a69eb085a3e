"""The claims on both conjectures: maxima over trajectories by rate and batch size, and lambda_K at equal accuracy."""

from functools import partial

from lrjax.papers.break_even import checks
from lrjax.papers.break_even.conditions import PASSES, TOP_FIVE, maxima
from lrjax.papers.claim import claim_of
from lrjax.papers.premises import seeds

PAPER = "break_even"
RATES = ("E3", "E3_full", "E4", "E5", "E7_mlp", "E7_bert", "E7_densenet")  # E1 and E2 train E3's network again
DERIVED = "derived here from the stability condition"
SUBMISSION = "of the submission; those of the final version could not be read"
INTERVAL = "95 % intervals over seeds"
_claim = partial(claim_of, PAPER)
CONJECTURES = [
    _claim(
        "conjecture_1_rate",
        RATES,
        checks.rate_order("lambda_k1_raw", -1),
        "Variance reduction: the maximum of lambda_K over a trajectory is smaller for a larger learning rate.",
        "conjecture 1, section 4.2",
        f"smoothed max lambda_K (of batches of M, as measured) falls from each eta to the next larger one ({INTERVAL})",
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
        "conjecture_2_rate_hessian",
        RATES,
        checks.rate_order("trace_h_over_lambda", 1),
        "Pre-conditioning: H is better conditioned, by max Tr(H) / lambda_H, for a larger learning rate.",
        "conjecture 2, section 4.2",
        f"smoothed max of the sum of five eigenvalues over lambda_H rises from each eta to the next larger one ({INTERVAL})",
        "a weaker effect than in K (no number in the text)",
        premises=(TOP_FIVE, *maxima("trace_h_over_lambda", checks.by_rate)),
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
        "conjecture_1_batch_hessian",
        ("E3_full", "E5"),
        checks.batch_order("lambda_h1", 1),
        "Variance reduction: the maximum of lambda_H over a trajectory is smaller for a smaller batch.",
        "conjecture 1, section 4.2",
        f"smoothed max lambda_H rises from each S to the next larger one ({INTERVAL})",
        "lambda_H behaves as lambda_K (figure 4; no numbers in the text)",
        premises=maxima("lambda_h1", checks.by_batch),
    ),
    _claim(
        "conjecture_2_batch_smallest",
        ("E3_full", "E5"),
        checks.batch_order("lambda_star_over_lambda", -1),
        "Pre-conditioning: the ratio of the smallest non-zero to the largest eigenvalue of K is larger for a smaller batch.",
        "conjecture 2, section 3",
        f"smoothed max lambda*_K / lambda_K falls from each S to the next larger one ({INTERVAL})",
        premises=maxima("lambda_star_over_lambda", checks.by_batch),
    ),
    _claim(
        "conjecture_2_batch_trace",
        ("E3_full", "E5"),
        checks.batch_order("trace_k_raw", 1),
        "The maximum of Tr(K) over a trajectory is smaller for a smaller batch.",
        "conjecture 2, section 4.2",
        f"smoothed max Tr(K), from batches of one size M, rises from each S to the next larger one ({INTERVAL})",
        "Tr(K) depends on S as lambda_K does (no numbers in the text)",
        premises=maxima("trace_k_raw", checks.by_batch),
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
