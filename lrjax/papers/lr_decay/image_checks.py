"""Checks behind the claims on images (L1, L2, L8, L9): run files -> finding."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrjax.experiment.rundir.lanes import Arrays, Lanes, end, lanes
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.experiment.rundir.reading import Recorded, derived
from lrjax.papers.claim import Finding, NotMeasured
from lrjax.papers.lr_decay.checks import ABOUT, gaps
from lrjax.papers.lr_decay.conditions import both
from lrjax.papers.lr_decay.observe import at_step, paired, stages
from lrjax.papers.statistics import mean_of, positive, within

TEST = "accuracy/test_accuracy"
PATCH = "accuracy/patch_accuracy"
LOSS = "step/loss"
FEWEST_DECAYS = 2  # "wherever it happens"
LAST_STEPS = 5  # over which a loss at the end is averaged
LOSS_MARGIN = float(np.log(1.1))  # a tenth: what two curves on an axis of decades are seen to differ by


def decayed_pairs(run: RunResult) -> dict[str, tuple[Lanes, Lanes]]:
    """In words -> each decayed arm with the undecayed one that it goes on with, by seed."""
    arms = sorted(arm for arm in run.config["arms"] if "decay_" in arm)  # one without lanes is missed, not overlooked
    if len(arms) < FEWEST_DECAYS:
        raise NotMeasured(f"this run has {len(arms)} decayed arms; decay at {FEWEST_DECAYS} steps or more is compared")
    found = {}
    for arm in arms:
        own = lanes(run, arm)
        setting = arm.split("decay_")[0]
        decayed, control = paired(own, lanes(run, f"{setting}constant"))
        words = f"{setting.replace('_', ' ')}decay at step {own[0][0]['start']['at']}"
        if words in found:  # two decays at one step, by different factors
            words += f" by {own[0][0]['config']['schedule.factor']:g}"
        found[words] = decayed, control
    return found


def every_pair(run: RunResult) -> Lanes:
    """The `Selector` of all decayed lanes and of the undecayed ones that they go on with."""
    pairs = decayed_pairs(run).values()
    found = {lane["lane"]: (lane, arrays) for both_of in pairs for own in both_of for lane, arrays in own}
    return list(found.values())


def final_log_loss(found: Lanes) -> NDArray[np.float64]:
    """Logarithm of the training loss, averaged over the last steps, by lane."""

    def late(own: Arrays) -> float:
        return float(np.mean(np.asarray(own[LOSS], np.float64)[-LAST_STEPS:]))

    return np.log([derived(arrays, f"mean of the last {LAST_STEPS} {LOSS}", late) for _, arrays in found])


def accuracy_gains(run: RunResult) -> dict[str, NDArray[np.float64]]:
    """Test accuracy at the end of each decayed arm minus that of the undecayed one, by seed."""
    return {words: end(own, TEST) - end(control, TEST) for words, (own, control) in decayed_pairs(run).items()}


def least_sure(gains: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The comparison with the longest interval.

    Example:
        >>> least_sure([np.array([0.1, 0.1]), np.array([0.0, 0.2])]).tolist()
        [0.0, 0.2]
    """
    return max(gains, key=lambda values: mean_of(values).half_width)


def stopping_is_training(run: RunResult) -> bool:
    """Whether the undecayed run, stopped where others decay, passes the check of test accuracy: it must not."""
    stopped = []
    for own, control in decayed_pairs(run).values():
        stopped.append(at_step(control, TEST, own[0][0]["start"]["at"]) - end(control, TEST))
    return within(*stopped, margin=ABOUT) == "supported"


def full_batch(run: RunResult) -> Finding:
    """Test accuracy and training loss at the end of full-batch runs, decayed at several steps, against never."""
    gains = accuracy_gains(run)
    losses = {
        words: final_log_loss(own) - final_log_loss(control) for words, (own, control) in decayed_pairs(run).items()
    }
    word = both(within(*gains.values(), margin=ABOUT), within(*losses.values(), margin=LOSS_MARGIN))
    text = (f"{words}: accuracy {mean_of(gains[words])}, log of the loss {mean_of(losses[words])}" for words in gains)
    return Finding(word, "decayed minus undecayed, " + "; ".join(text))


def accuracy_gap(run: RunResult) -> Finding:
    """The gap in test accuracy at each decay of SGD, against the run that was never decayed."""
    return gaps(decayed_pairs(run), TEST)


class _Beside(Recorded):
    """A lane's arrays, and some that were made of them."""

    def __init__(self, arrays: Arrays, made: Arrays):
        super().__init__(arrays)
        self._made = made

    def __getitem__(self, name: str) -> Any:
        return self._made[name] if name in self._made else super().__getitem__(name)


def _smoothed(found: Lanes) -> Lanes:
    """Lanes with "smooth/gain": minus the logarithm of the loss, averaged between measurements of accuracy."""

    def between(own: Arrays) -> NDArray[np.float64]:
        edges = np.unique([0, *own["accuracy/step"]]).astype(int)
        loss = np.asarray(own[LOSS], np.float64)
        means = [np.mean(loss[first:last]) for first, last in zip(edges, edges[1:], strict=False)]
        return np.array([edges[1:], -np.log(means)])

    smooth = []
    for lane, arrays in found:
        steps, gain = derived(arrays, f"minus log of the mean {LOSS} between measurements of accuracy", between)
        smooth.append((lane, _Beside(arrays, {"smooth/step": steps, "smooth/gain": gain})))
    return smooth


def loss_gap(run: RunResult) -> Finding:
    """The gap in the smoothed training loss at each decay of SGD, against the run that was never decayed."""
    pairs = {words: (_smoothed(own), _smoothed(control)) for words, (own, control) in decayed_pairs(run).items()}
    found = gaps(pairs, "smooth/gain")
    return Finding(found.verdict, f"minus log of the smoothed training loss, {found.measured}")


def _explained(arrays: Arrays) -> tuple[list[float], list[float]]:
    """mu and I(F; Y) at the first measurement after the start and at the end of each stage."""
    first = int(np.flatnonzero(np.asarray(arrays["explained/step"]) > 0)[0])
    pairs = [(float(arrays["explained/mu"][first]), float(arrays["explained/information"][first]))]
    stage_mu, stage_all = stages(arrays, "explained/mu"), stages(arrays, "explained/information")
    pairs += [(mu.end, whole.end) for mu, whole in zip(stage_mu, stage_all, strict=True)]
    return [mu for mu, _ in pairs], [whole for _, whole in pairs]


def informed(run: RunResult) -> dict[str, NDArray[np.float64]]:
    """I(F; Y) at the first measurement beyond 0.15 bit, ten times the estimator's bias, by seed."""
    return {"I(F; Y)": np.array([_explained(arrays)[1][0] for _, arrays in lanes(run, "decay")]) - 0.15}


def linear_first(run: RunResult) -> Finding:
    """The share of I(F; Y) that a linear classifier explains: first measurement, ends of the first and last stages.

    Shares a/b > c/d are compared as a d - c b > 0: a ratio of estimates has no mean.
    """
    early, late, text = [], [], []
    for _, arrays in lanes(run, "decay"):
        mu, whole = _explained(arrays)
        early.append(mu[0] * whole[1] - mu[1] * whole[0])
        late.append(mu[1] * whole[-1] - mu[-1] * whole[1])
        text.append("/".join(f"{own / total:.2f}" for own, total in zip(mu, whole, strict=True)))
    falls = f"falls (cross products, bit^2) {mean_of(early)} in stage 1, {mean_of(late)} after it"
    return Finding(positive(early, late), f"mu / I(F; Y) by seed {', '.join(text)}; {falls}")


def _half_way(found: Lanes, name: str) -> NDArray[np.float64]:
    values = []
    for lane, arrays in found:
        before = np.flatnonzero(np.asarray(arrays["accuracy/step"]) <= lane["steps"] // 2)
        values.append(arrays[name][before[-1]])
    return np.array(values, np.float64)


def patches(run: RunResult) -> Finding:
    """Patch-only accuracy half way and at the end, large rate then annealed against small rate; clean accuracy."""
    large, small = paired(lanes(run, "large"), lanes(run, "small"))
    sooner = _half_way(small, PATCH) - _half_way(large, PATCH)
    annealed = end(large, PATCH) - _half_way(large, PATCH)
    better = end(large, TEST) - end(small, TEST)
    text = (
        f"patch alone half way, small rate above large {mean_of(sooner)}; large rate by annealing {mean_of(annealed)}"
    )
    return Finding(positive(sooner, annealed, better), f"{text}; clean, large above small {mean_of(better)}")
