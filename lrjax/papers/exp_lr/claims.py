"""The claims of the paper, with their sources."""

from functools import partial

from lrjax.papers.claim import claim_of
from lrjax.papers.exp_lr import checks, toy_checks

PAPER = "exp_lr"
BLOG = "read off a plot in the authors' blog"
MEMORY = "number from memory"
_claim = partial(claim_of, PAPER)
CLAIMS = [
    _claim(
        "constant_rate",
        ("E1",),
        checks.same_accuracy("weight_decay", "texp"),
        "At a constant rate, weight decay can be replaced by an exponentially growing rate.",
        f"theorem 2.9, figure 1 ({MEMORY})",
        "mean final test accuracies within 1 point",
        f"test accuracy 88 to 90 % with the exponential rate ({BLOG})",
    ),
    _claim(
        "norm_follows_rate",
        ("E1",),
        checks.norm_follows_rate,
        "In the exponential run |w|^2 grows exactly as the rate does, as weight decay would hold |w| constant.",
        f"figure 1 ({MEMORY})",
        "slopes of log |w|^2 and of log rate equal within 1 % over the second half; if not, it counts once |w|^2 of the run "
        "with weight decay drifts by less",
        f"|w|^2 / rate constant at about 400, |w|^2 from 40 to 5e28 ({BLOG})",
    ),
    _claim(
        "early_logits",
        ("twins", "E1", "E2"),
        checks.early_logits,
        "The two runs compute the same functions.",
        f"theorems 2.9 and 2.12 ({MEMORY}); float32 and this threshold are ours",
        f"logits on fixed test images agree to {checks.CLOSE:g} after {checks.EARLY} steps in float32, every seed",
    ),
    _claim(
        "correction_matters",
        ("twins",),
        checks.correction_matters,
        "With momentum, the exponential run needs a correction of its buffer at the start to be the same run.",
        "derived here from theorem 2.12; the paper reports that skipping it hardly changes results on CIFAR-10 "
        f"({MEMORY})",
        "logits at least 10 times further apart without it after 20 steps, every seed",
    ),
    _claim(
        "step_decay",
        ("E2",),
        checks.same_accuracy("weight_decay", "texp", "wd_free"),
        "Step decay with weight decay, TEXP and TEXP++ reach the same test accuracy.",
        f"theorems 2.12 and 2.13, figure 2 ({MEMORY})",
        "mean final test accuracies within 1 point",
        f"94.9 % and 94.7 % (TEXP) after 300 epochs of the full setting ({BLOG})",
    ),
    _claim(
        "angles",
        ("E2",),
        checks.angles_agree,
        "The angle between weights an epoch apart is the same in both runs.",
        f"figure 2 ({MEMORY})",
        "means over each phase and over seeds within 10 %; beyond, it counts past two standard errors",
        f"0.34 to 0.38 in phase 1, 0.04 to 0.13 in phase 2, about 0.005 in phase 3, the curves coincide ({BLOG})",
    ),
    _claim(
        "equilibrium_angle",
        ("E1", "E2", "E6"),
        checks.equilibrium_angle,
        "At equilibrium a step turns the weights by sqrt(2 eta lambda / (1 + gamma)).",
        "lemma on the norm of scale-invariant weights; Wan et al. 2021, theorem 3",
        "root mean square over the second half of the first phase within 10 %",
        "assumed there, not tabulated",
    ),
    _claim(
        "drop_needed",
        ("E3",),
        checks.drop_needed,
        "The instant drop of the rate is needed: TEXP beats TEXP--.",
        f"figure 3 ({MEMORY})",
        "higher final test accuracy in every seed, by more than two standard errors on average",
    ),
    _claim(
        "drop_passes",
        ("E4",),
        checks.drop_passes,
        "Under a constant exponent a drop helps for about an epoch, then the run returns to its old level.",
        f"figure 4 ({MEMORY})",
        "gain in train accuracy above 1 point in the first quarter of a phase and less than half of it in the last",
    ),
    _claim(
        "cosine_twin",
        ("E5",),
        checks.same_accuracy("cosine", "cosine_wd_free"),
        "Cosine with weight decay has an exponential twin too.",
        f"theorem 2.13, figure 5 ({MEMORY})",
        "mean final test accuracies within 1 point",
    ),
    _claim(
        "cosine_wins",
        ("E5",),
        checks.cosine_wins,
        "Cosine ends better than step decay on CIFAR-10.",
        f"figure 5 ({MEMORY})",
        "higher final test accuracy in every seed, by more than two standard errors on average",
    ),
    _claim(
        "l2_decay",
        ("E6",),
        checks.l2_decay_suffices,
        "Dropping weight decay instead of the rate can reach a similar accuracy.",
        f"appendix ({MEMORY})",
        "mean final test accuracy at most 1 point below step decay",
    ),
    _claim(
        "no_drop_twin",
        ("E6",),
        checks.same_accuracy("l2_decay", "texp_no_drop"),
        "TEXP-- equals a constant rate with a weight decay that drops.",
        "derived here from theorem 2.12",
        "mean final test accuracies within 1 point",
    ),
    _claim(
        "toy_exact",
        ("E7",),
        toy_checks.exact,
        "Normalisation alone finds the minimum; weight decay and normalisation together leave it again and again.",
        "section 3 and abstract; the loss is that of the authors' later blog",
        f"last loss below {toy_checks.CONVERGED:g} alone; more than {toy_checks.RETURNS} returns above {toy_checks.HIGH:g} in "
        "20,000 steps together, every seed",
    ),
    _claim(
        "toy_noisy",
        ("E7",),
        toy_checks.noisy,
        "Weight decay or normalisation alone find the halfspace under batch noise; both together do not.",
        "section 3; constants ours",
        "median angle in the second half larger with both than with either, every seed, and falling less than with "
        "normalisation alone",
    ),
]
