"""The claims of the paper, with their sources and premises."""

from collections.abc import Sequence
from functools import partial

from lrjax.papers.claim import claim_of
from lrjax.papers.exp_lr import checks, norm_checks, toy_checks, twin_checks
from lrjax.papers.exp_lr.conditions import above_chance, as_published, in_equilibrium
from lrjax.papers.exp_lr.observe import compared, plateau_accuracy, present
from lrjax.papers.premises import Premise, converged, same_steps, seeds

PAPER = "exp_lr"
BLOG = "read off a plot in the authors' blog"
MEMORY = "number from memory"
SAME = "95 % interval of each mean difference of paired seeds within 1 point (margin ours: the published curves end 0.2 apart)"
HIGHER = "higher final test accuracy by a paired t test, 2.5 % on each side"
LOGITS = (
    f"logits on fixed test images agree at each step and in every seed: to {twin_checks.CLOSE:g} in float32, to "
    f"{twin_checks.CLOSE_64:g} in float64, and to a tenth of what a wrong variant makes (thresholds ours: no decision but a "
    "tie depends on them); contradicted from half of what the wrong variant makes on"
)
NORMS = ("group_", "layer_", "instance_")
_claim = partial(claim_of, PAPER)


def _learned(*arms: str) -> tuple[Premise, ...]:
    return seeds(3, compared(*arms)), above_chance(*arms)


def _still(arms: Sequence[str], name: str = "step/log10_norm") -> Premise:
    return converged(present(*arms), 0.05, name)


CLAIMS = [
    _claim(
        "constant_rate",
        ("E1",),
        checks.same_accuracy("weight_decay", "texp", level=plateau_accuracy),
        "At a constant rate, weight decay can be replaced by an exponentially growing rate.",
        f"theorem 2.9, figure 1 ({MEMORY})",
        f"{SAME}, of means over the second half of training",
        f"test accuracy 88 to 90 % with the exponential rate ({BLOG})",
        premises=(
            *_learned("weight_decay", "texp"),
            _still(("weight_decay", "texp", "no_decay"), "accuracy/test_accuracy"),
            checks.resolves_point("weight_decay", "texp", wrong="no_decay", level=plateau_accuracy),
        ),
    ),
    _claim(
        "norm_follows_rate",
        ("E1",),
        norm_checks.norm_follows_rate,
        "In the exponential run |w|^2 grows exactly as the rate does, as weight decay would hold |w| constant.",
        f"figure 1 ({MEMORY})",
        "95 % interval of the slope of log |w|^2 over that of log rate, over the second half, within 1 % of 1 (margin ours: "
        "less than the published curves are wide)",
        f"|w|^2 / rate constant at about 400, |w|^2 from 40 to 5e28 ({BLOG})",
        premises=(
            seeds(3, compared("weight_decay", "texp")),
            in_equilibrium(compared("weight_decay"), 0.5),
            _still(("weight_decay",)),
            norm_checks.resolves_growth(),
        ),
    ),
    _claim(
        "equilibrium_angle",
        ("E1",),
        norm_checks.equilibrium_angle,
        "At equilibrium a step turns the weights by sqrt(2 eta lambda / (1 + gamma)).",
        "follows from the lemma on |w_{t+1} - w_t|^2 and |w_t|^2 of scale-invariant weights; Wan et al. 2021, theorem 3",
        "95 % interval of the root mean square over the second half within 10 % (margin ours: a quarter of the distance to the "
        "formula without momentum)",
        "assumed there, not tabulated",
        premises=(
            seeds(3, compared("weight_decay")),
            in_equilibrium(compared("weight_decay"), 0.5),
            _still(("weight_decay",)),
            norm_checks.resolves_turning(),
        ),
        origin="implied",
    ),
    _claim(
        "early_logits",
        ("twins",),
        twin_checks.same_functions("texp", "wd_free", wrong="texp_uncorrected"),
        "Weight decay, TEXP and TEXP++ compute the same functions at a constant rate.",
        f"theorems 2.9 and 2.13 ({MEMORY})",
        LOGITS,
        premises=twin_checks.premises("texp", "wd_free", wrong="texp_uncorrected"),
    ),
    _claim(
        "correction_matters",
        ("twins",),
        twin_checks.correction_matters,
        "With momentum, the exponential run needs a correction of its buffer at the start to be the same run.",
        "follows from theorem 2.9, whose first weights differ from the weights before them; the paper reports that skipping it "
        f"hardly changes results on CIFAR-10 ({MEMORY})",
        "log10 of the distance without it over that with it above 1 by a t test (margin ours: an order of magnitude)",
        premises=(
            seeds(3, compared("weight_decay", "texp", "texp_uncorrected")),
            twin_checks.premises(wrong="texp_uncorrected")[1],
        ),
        origin="implied",
    ),
    _claim(
        "across_drop",
        ("twins_drop", "twins_drop_float32"),
        twin_checks.same_functions("texp", "wd_free", wrong="texp_no_drop"),
        "Where the rate drops, TEXP drops as much and tapers its exponent, and computes the same functions on.",
        f"theorem 2.12 ({MEMORY})",
        f"{LOGITS}; the rate drops by 8 at step 10",
        premises=twin_checks.premises("texp", "wd_free", wrong="texp_no_drop"),
    ),
    _claim(
        "no_momentum",
        ("twins_plain",),
        twin_checks.same_functions("texp", wrong="texp_half_step"),
        "Without momentum weight decay equals a rate that grows by (1 - eta lambda)^-2 a step, from half such a step on.",
        f"theorem 2.1 ({MEMORY})",
        LOGITS,
        premises=twin_checks.premises("texp", wrong="texp_half_step"),
    ),
    _claim(
        "norm_layers",
        ("twins_norms",),
        twin_checks.same_functions("texp", wrong="texp_uncorrected", prefixes=NORMS),
        "Group, layer and instance norm allow an exponential rate as BatchNorm does.",
        f"abstract and appendix C ({MEMORY})",
        LOGITS,
        premises=twin_checks.premises("texp", wrong="texp_uncorrected", prefixes=NORMS),
    ),
    _claim(
        "step_decay",
        ("E2",),
        checks.same_accuracy("weight_decay", "texp", "wd_free"),
        "Step decay with weight decay, TEXP and TEXP++ reach the same test accuracy.",
        f"theorems 2.12 and 2.13, figure 2 ({MEMORY})",
        SAME,
        f"94.9 % and 94.7 % (TEXP) after 300 epochs of the full setting ({BLOG})",
        premises=(
            *_learned("weight_decay", "texp", "wd_free"),
            checks.resolves_point("weight_decay", "texp", "wd_free", wrong="texp_no_drop"),
        ),
    ),
    _claim(
        "angles",
        ("E2",),
        norm_checks.angles_agree,
        "The angle between weights an epoch apart is the same in both runs.",
        f"figure 2 ({MEMORY})",
        "95 % interval of the log of the ratio of means over each phase within 0.1 (margin ours: TEXP-- turns several times as "
        "fast after the first drop)",
        f"0.34 to 0.38 in phase 1, 0.04 to 0.13 in phase 2, about 0.005 in phase 3, the curves coincide ({BLOG})",
        premises=(seeds(3, compared("weight_decay", "texp")), norm_checks.resolves_angles()),
    ),
    _claim(
        "re_equilibration",
        ("E2",),
        norm_checks.re_equilibration,
        "After a drop of the rate the weights approach their new length at the pace of decay, slower by that factor.",
        "follows from |w|^2 under decay, e-folding (1 - gamma) / (2 eta lambda), and from the balance with gradients before "
        "the drop; it is why TEXP-- needs about 70 epochs",
        "95 % interval of the slope of log |w|^2 over a quarter of that time, or to the end of the phase, over the "
        "predicted, within 15 % of 1 (margin "
        "ours: what gradients of twice the size, or none, would change)",
        premises=(
            seeds(3, compared("weight_decay")),
            in_equilibrium(compared("weight_decay"), 1.0),
            norm_checks.resolves_pace(),
        ),
        origin="implied",
    ),
    _claim(
        "drop_needed",
        ("E3",),
        checks.higher("texp", "texp_no_drop"),
        "The instant drop of the rate is needed: TEXP beats TEXP--.",
        f"figure 3 ({MEMORY})",
        HIGHER,
        premises=(
            seeds(3, compared("texp", "texp_no_drop")),
            as_published("texp"),
            same_steps(compared("texp", "texp_no_drop")),
            checks.resolves_gain("texp", "texp_no_drop", same=("texp", "wd_free")),
        ),
    ),
    _claim(
        "drop_passes",
        ("E4",),
        checks.drop_passes,
        "Under a constant exponent a drop helps for about an epoch, then the run returns to its old level.",
        f"figure 4 ({MEMORY})",
        "gain in train accuracy above 0 until the rate has grown tenfold again and below 2 points in the second half of the "
        "phase, by t tests over seeds (margin ours: a lasting drop gains 5 in the published curves)",
        premises=(seeds(3, compared("drops", "no_drops")), checks.resolves_drops()),
    ),
    _claim(
        "cosine_twin",
        ("E5",),
        checks.same_accuracy("cosine", "cosine_wd_free"),
        "Cosine with weight decay has an exponential twin too.",
        f"theorem 2.13, figure 5 ({MEMORY})",
        SAME,
        premises=(
            *_learned("cosine", "cosine_wd_free"),
            checks.resolves_point("cosine", "cosine_wd_free", wrong="no_decay"),
        ),
    ),
    _claim(
        "cosine_wins",
        ("E5",),
        checks.higher("cosine", "step_decay"),
        "Cosine ends better than step decay on CIFAR-10.",
        f"figure 5 ({MEMORY})",
        HIGHER,
        premises=(
            seeds(3, compared("cosine", "step_decay")),
            as_published("step_decay"),
            same_steps(compared("cosine", "step_decay")),
            checks.resolves_gain("cosine", "step_decay", same=("cosine", "cosine_wd_free")),
        ),
    ),
    _claim(
        "l2_decay",
        ("E6",),
        checks.l2_decay_suffices,
        "Dropping weight decay instead of the rate can reach a similar accuracy.",
        f"appendix ({MEMORY})",
        "final test accuracy above that of step decay less 1 point, by a paired t test (margin ours, as for equal accuracies)",
        premises=(
            seeds(3, compared("l2_decay", "step_decay")),
            as_published("step_decay"),
            same_steps(compared("l2_decay", "step_decay")),
            checks.resolves_loss(),
        ),
    ),
    _claim(
        "no_drop_twin",
        ("E6",),
        checks.same_accuracy("l2_decay", "texp_no_drop"),
        "TEXP-- equals a constant rate with a weight decay that drops.",
        "follows from theorem 2.12: its exponents without its drops are those of this run",
        SAME,
        premises=(
            *_learned("l2_decay", "texp_no_drop"),
            checks.resolves_point("l2_decay", "texp_no_drop", wrong="constant"),
        ),
        origin="implied",
    ),
    _claim(
        "toy_exact",
        ("E7",),
        toy_checks.exact,
        "Normalisation alone finds the minimum; weight decay and normalisation together leave it again and again.",
        "section 3 and abstract for the statement; the loss is that of the authors' later blog: stable while |w|^2 is above "
        "eta / (1 - eta lambda), below which decay brings it",
        f"last loss below {toy_checks.CONVERGED:g} alone; returns above {toy_checks.HIGH:g} in every tenth of 20,000 steps "
        "together, every seed",
        premises=(seeds(3, compared("exact_norm", "exact_both")),),
        origin="implied",
    ),
    _claim(
        "toy_noisy",
        ("E7",),
        toy_checks.noisy,
        "Weight decay or normalisation alone find the halfspace under batch noise; both together do not.",
        "section 3; constants ours",
        "median angle of the last quarter larger with both than with either, and falling less from the first quarter on than "
        "with normalisation alone, by t tests over paired seeds",
        premises=(seeds(3, compared("noisy_decay", "noisy_norm", "noisy_both")),),
    ),
    _claim(
        "equilibrium_norm",
        ("E8",),
        norm_checks.equilibrium_norm,
        "At equilibrium the length of the weights is as (eta / lambda)^(1/4).",
        "follows from lemma 2.4: (c theta, c^2 eta, lambda / c^2) is the same run; Wan et al. 2021, theorem 1",
        "95 % interval of the power within a tenth of 1/4 (margin ours), eta times lambda being the same",
        premises=(
            seeds(3, compared("low", "high")),
            in_equilibrium(compared("low", "high"), 0.5),
            _still(("low", "high")),
            norm_checks.resolves_power(),
        ),
        origin="implied",
    ),
]
