"""The claims of the paper, and those derived here from its stability condition, with their sources and premises."""

from functools import partial

from lrjax.papers.break_even import assumption_checks, causal_checks, checks, norm_checks, phase_checks
from lrjax.papers.break_even.assumption_checks import RISES, SUBSET
from lrjax.papers.break_even.conditions import BREAKS_EVEN, PASSES, SAME, SAMPLED, accurate, maxima
from lrjax.papers.break_even.conjectures import CONJECTURES, DERIVED, INTERVAL, PAPER, SUBMISSION
from lrjax.papers.claim import claim_of
from lrjax.papers.premises import seeds

_claim = partial(claim_of, PAPER)
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
        "stretch_against_noise",
        ("E2",),
        assumption_checks.stretch_follows,
        "Early in training alpha* is anti-correlated with lambda_K.",
        "section 4.1 and figure 2 of the submission",
        f"rank correlation below zero up to the peak of lambda_H, at every rate ({INTERVAL})",
        "anti-correlated (no number in the text)",
        premises=(seeds(3, checks.by_rate), SAMPLED),
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
_ASSUMPTIONS = [
    _claim(
        "same_direction",
        ("E2", "E3", "E4"),
        assumption_checks.same_direction,
        "Early in training the top eigenvector of H is that of K, up to sign.",
        "assumption 2, section 3",
        f"mean |cos| of their angle up to the peak of lambda_H above {assumption_checks.ALIGNED:.2f}, that of 45 degrees, at "
        f"every rate ({INTERVAL}; the angle is ours; noise of the batches makes what is measured smaller)",
        premises=(seeds(3, checks.by_rate), SAMPLED, SUBSET, accurate(checks.by_rate)),
    ),
    _claim(
        "proportional",
        ("E2", "E3", "E4"),
        assumption_checks.proportional,
        "Early in training lambda_K is proportional to lambda_H.",
        "assumption 2, section 3",
        "lambda_K as a power of lambda_H, fitted up to the peak of lambda_H, within "
        f"{assumption_checks.POWER:g} of 1 at every rate ({INTERVAL}; the margin is ours)",
        premises=(seeds(3, checks.by_rate), SAMPLED, RISES, SUBSET, accurate(checks.by_rate)),
    ),
    _claim(
        "close_to_uncentred",
        ("E3",),
        assumption_checks.close_to_uncentred,
        "K and the uncentred covariance of gradients G are close, since noise dominates.",
        "section 2",
        f"|g|^2 / lambda_K of single examples, which bounds how far the spectral norms differ, below "
        f"{assumption_checks.CLOSE:g} at every rate, median of a trajectory ({INTERVAL}; the bound is ours)",
        "usually close (no number in the text)",
        premises=(seeds(3, checks.by_rate), SAME),
    ),
]
_CAUSE = [
    _claim(
        f"early_rate_decides_{short}",
        ("E10",),
        causal_checks.early_rate_decides(name),
        f"The learning rate of the early phase decides {words} for the rest of training, whatever the rate is later.",
        "abstract and section 3, as a statement on causes; the experiment is ours",
        "switched after break-even, either way, a run ends closer to the rate it began with than to the one it goes on "
        f"with, on a scale of logarithms ({INTERVAL})",
        premises=(seeds(3, lambda run: checks.trained(run)), causal_checks.PLACED, causal_checks.apart(name)),
        origin="implied",
    )
    for short, name, words in (
        ("lambda_k", "lambda_k1_raw", "lambda_K"),
        ("lambda_h", "lambda_h1", "lambda_H"),
        ("conditioning", "trace_over_lambda", "Tr(K) / lambda_K"),
    )
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
        "norm_starts_high",
        ("E6",),
        norm_checks.starts_high,
        "SimpleCNN-BN starts with a high lambda_K, which decays for every learning rate but the lowest.",
        "section 4.3",
        "lambda_K at the first measurement after the start, when the running statistics are those of training, above its mean "
        f"over the second half of the run, at eta 0.01, 0.1 and 1.0 ({INTERVAL})",
        "it decays (figure 5; no number in the text)",
        premises=(seeds(3), SAME),
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
CLAIMS = [*CONJECTURES, *_ASSUMPTIONS, *_PHASE, *_CAUSE, *_OTHERS]
