"""Checks behind the claims on the cause of the stages (L5), on rules (L6) and on averaging (L10): run files -> finding."""

import numpy as np
from numpy.typing import NDArray

from lrjax.experiment.rundir.lanes import Lanes, end, lanes
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.claim import Finding, NotMeasured
from lrjax.papers.lr_decay.checks import ABOUT, COMPLEX, LEARNED
from lrjax.papers.lr_decay.conditions import both
from lrjax.papers.lr_decay.observe import at_step, decays, paired
from lrjax.papers.statistics import logs_apart, mean_of, positive, within

TRAIN_COMPLEX = "subsets/train_complex"
AVERAGED = "subsets/averaged_test_complex"
BARRIER, LINE = "path_to_average/barrier", "path_to_average/losses"
SMALL = 0.1  # of what decay takes off the loss: a barrier that is small against it
HALF = 0.5  # of the gain: what accounts for more of it than all else together
OTHERS = ("plateau", "sasa", "cosine", "wsd", "cooldown", "growing_batch_3")


def gain_by_decay(run: RunResult, arm: str) -> NDArray[np.float64]:
    """Complex training accuracy at the end with decay minus without, by seed."""
    decayed, plain = paired(lanes(run, f"{arm}_decay"), lanes(run, arm))
    return end(decayed, TRAIN_COMPLEX) - end(plain, TRAIN_COMPLEX)


def sgd_needs_none(run: RunResult) -> bool:
    """Whether mini-batches pass the check that decay brings nothing: they must not."""
    return within(gain_by_decay(run, "sgd"), margin=ABOUT) == "supported"


def full_batch_needs_none(run: RunResult) -> Finding:
    """Complex training accuracy of full-batch runs, with and without momentum, and what decay adds."""
    gain = gain_by_decay(run, "full_batch")
    plain, descent = (end(lanes(run, arm), TRAIN_COMPLEX) for arm in ("full_batch", "gradient_descent"))
    word = both(within(gain, margin=ABOUT), positive(plain - LEARNED, descent - LEARNED))
    text = f"full batch {mean_of(plain)}, without momentum {mean_of(descent)}, decay brings {mean_of(gain)}"
    return Finding(word, f"complex, {text}")


def noise_is_the_cause(run: RunResult) -> Finding:
    """Gain by decay with mini-batches minus that with the full batch, at the same rate and number of steps."""
    noisy, full = gain_by_decay(run, "sgd"), gain_by_decay(run, "full_batch")
    count = min(noisy.size, full.size)
    apart = noisy[:count] - full[:count]
    text = f"decay brings {mean_of(noisy)} with mini-batches and {mean_of(full)} with the full batch"
    return Finding(positive(noisy, apart), f"{text}; apart by {mean_of(apart)}")


def quadratic_rule_fails(run: RunResult) -> Finding:
    """The largest eta lambda_max / 2 of gradient descent: above 1 a quadratic model diverges."""
    found = lanes(run, "gradient_descent")
    ratios = np.array([np.nanmax(arrays["spectrum/lambda_h1"]) * lane["learning_rate"] / 2 for lane, arrays in found])
    logs = logs_apart(ratios, np.ones_like(ratios))
    lows, highs = np.exp(mean_of(logs).low), np.exp(mean_of(logs).high)
    text = f"largest eta lambda_max / 2 {np.exp(logs.mean()):.2f} [{lows:.2f}, {highs:.2f}]"
    return Finding(
        positive(logs), f"{text}, complex training accuracy {end(found, TRAIN_COMPLEX).mean():.3f} at the end"
    )


def _steps(found: Lanes) -> NDArray[np.float64]:
    return np.array([lane.get("stopped_at", lane["steps"]) for lane, _ in found], np.float64)


def auto_decay_saves(run: RunResult) -> Finding:
    """Steps and final complex accuracy of AutoDecay against step decay; the other rules beside."""
    auto, reference = paired(lanes(run, "auto_decay"), lanes(run, "step_decay"))
    shorter = logs_apart(_steps(reference), _steps(auto))
    better = end(auto, COMPLEX) - end(reference, COMPLEX)
    parts = [
        f"{np.mean(_steps(auto)):.0f} steps with {np.mean([len(decays(own)) for _, own in auto]):.1f} decays against "
        f"{np.mean(_steps(reference)):.0f}, log ratio {mean_of(shorter)}",
        f"complex {end(auto, COMPLEX).mean():.3f}, {mean_of(better)} from step decay",
    ]
    for arm in OTHERS:
        try:
            found = lanes(run, arm)
            parts.append(f"{arm} {end(found, COMPLEX).mean():.3f} in {np.mean(_steps(found)):.0f} steps")
        except NotMeasured:
            continue
    return Finding(positive(shorter, better + ABOUT), "; ".join(parts))


def growing_against_decay(run: RunResult, phase: int = 3) -> NDArray[np.float64]:
    """Complex accuracy of a phase of the growing batch at its end, minus that of step decay at the end, by seed."""
    growing, reference = paired(lanes(run, f"growing_batch_{phase}"), lanes(run, "step_decay"))
    return end(growing, COMPLEX) - end(reference, COMPLEX)


def undecayed_is_decay(run: RunResult) -> bool:
    """Whether the batch that has not grown passes the check of the grown one: it must not."""
    return within(growing_against_decay(run, 1), margin=ABOUT) == "supported"


def growing_batch_is_decay(run: RunResult) -> Finding:
    """Complex accuracy when the batch grows tenfold where the rate falls tenfold, after as many epochs."""
    apart = growing_against_decay(run)
    text = f"complex minus that of step decay {mean_of(apart)}"
    return Finding(
        within(apart, margin=ABOUT), f"{text}; before the batch grows {mean_of(growing_against_decay(run, 1))}"
    )


def gain_and_average(run: RunResult) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """From the branching on, by seed: the gain of decay, and that of the averaged weights of the undecayed run."""
    decayed, control = paired(lanes(run, "decay"), lanes(run, "constant"))
    before = at_step(control, COMPLEX, decays(decayed[0][1])[0])
    return end(decayed, COMPLEX) - before, end(control, AVERAGED) - before


def average_is_not_decay(run: RunResult) -> Finding:
    """Whether averaging the weights of the undecayed run brings less than half of decay's gain."""
    gain, averaged = gain_and_average(run)
    undecayed = end(lanes(run, "constant"), COMPLEX).mean()
    text = f"decay brings {mean_of(gain)} of complex accuracy, averaging alone {mean_of(averaged)}"
    share = f"{100 * averaged.mean() / gain.mean():.0f} % of it; the undecayed run ends at {undecayed:.3f}"
    return Finding(positive(HALF * gain - averaged), f"{text}, {share}")


def loss_by_decay(run: RunResult) -> NDArray[np.float64]:
    """Training loss that decay takes off the weights at which the average ends, by seed."""
    return np.array([own[LINE][0][-1] - own[LINE][-1][-1] for _, own in lanes(run, "decay_after")], np.float64)


def average_is_in_the_valley(run: RunResult) -> Finding:
    """The barrier of the training loss on the line from the average to the weights after decay, against decay's gain."""
    found, gain = lanes(run, "decay_after"), loss_by_decay(run)
    barrier = end(found, BARRIER)
    ends = np.array([own[LINE][-1] for _, own in found], np.float64)
    text = f"barrier {mean_of(barrier)} where decay takes {mean_of(gain)} off the loss"
    losses = f"loss of the average {ends[:, 0].mean():.3f}, of the decayed weights {ends[:, -1].mean():.3f}"
    return Finding(positive(SMALL * gain - barrier), f"{text}; {losses}")
