"""Checks behind the claims on the stages of PS10 (L3): run files -> finding."""

import numpy as np
from numpy.typing import NDArray

from lrjax.experiment.rundir.lanes import Lanes, end, lanes
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.claim import Finding
from lrjax.papers.lr_decay.observe import paired, stages
from lrjax.papers.statistics import mean_of, positive, within

SIMPLE, COMPLEX, ALL = "subsets/test_simple", "subsets/test_complex", "subsets/test_all"
CONSTANTS = ("constant_0", "constant_1", "constant_2")
LEARNED = 0.95  # of what it is at the end of training: an accuracy from which a subset counts as learned
ABOUT = 0.01  # "about the accuracy of": the paper's accuracies are curves, which are read to a point


def by_stage(found: Lanes, name: str) -> NDArray[np.float64]:
    """The last value of each stage: [lanes, stages]."""
    return np.array([[stage.end for stage in stages(arrays, name)] for _, arrays in found])


def simple_first(run: RunResult) -> Finding:
    """Share of its final accuracy that each subset has at the end of the first stage."""
    found = lanes(run, "decay")
    simple, hard = by_stage(found, SIMPLE), by_stage(found, COMPLEX)
    word = positive(simple[:, 0] - LEARNED * simple[:, -1], LEARNED * hard[:, -1] - hard[:, 0])
    text = f"at the end of stage 1 simple {mean_of(simple[:, 0])}, complex {mean_of(hard[:, 0])}"
    return Finding(word, f"{text}; at the end of training {simple[:, -1].mean():.3f} and {hard[:, -1].mean():.3f}")


def gain_is_complex(run: RunResult) -> Finding:
    """Rise of the complex subset over all decays against that of the simple one."""
    found = lanes(run, "decay")
    simple, hard = by_stage(found, SIMPLE), by_stage(found, COMPLEX)
    rise, other = hard[:, -1] - hard[:, 0], simple[:, -1] - simple[:, 0]
    text = f"from the end of stage 1 on, complex rises by {mean_of(rise)}, simple by {mean_of(other)}"
    return Finding(positive(rise - other), f"{text}; difference {mean_of(rise - other)}")


def smaller_rate_more_complex(run: RunResult) -> Finding:
    """Complex accuracy at the end of each constant rate against the next smaller one, by seed."""
    arms = paired(*(lanes(run, arm) for arm in CONSTANTS))
    values = [end(own, COMPLEX) for own in arms]
    rises = [second - first for first, second in zip(values, values[1:], strict=False)]
    text = ", ".join(f"{own[0][0]['learning_rate']:g}: {v.mean():.3f}" for own, v in zip(arms, values, strict=True))
    return Finding(positive(*rises), f"complex {text}; rises {', '.join(map(str, map(mean_of, rises)))}")


def smallest_against_decay(run: RunResult, arm: str = CONSTANTS[-1]) -> NDArray[np.float64]:
    """Total accuracy at the end of a constant rate minus that of decay, by seed."""
    constant, decay = paired(lanes(run, arm), lanes(run, "decay"))
    return end(constant, ALL) - end(decay, ALL)


def smallest_rate_reaches(run: RunResult) -> Finding:
    """Total accuracy of the smallest constant rate against that of decay, both at the end."""
    differences = smallest_against_decay(run)
    return Finding(within(differences, margin=ABOUT), f"total accuracy minus that of decay {mean_of(differences)}")


def largest_reaches(run: RunResult) -> bool:
    """Whether the largest constant rate passes the check of the smallest one: it must not."""
    return within(smallest_against_decay(run, CONSTANTS[0]), margin=ABOUT) == "supported"


def decay_is_best(run: RunResult) -> Finding:
    """Complex accuracy of decay against each constant rate, at the end, by seed."""
    decay, *constants = paired(lanes(run, "decay"), *(lanes(run, arm) for arm in CONSTANTS))
    apart = [end(decay, COMPLEX) - end(own, COMPLEX) for own in constants]
    text = ", ".join(f"{own[0][0]['learning_rate']:g} by {mean_of(v)}" for own, v in zip(constants, apart, strict=True))
    return Finding(positive(*apart), f"decay {end(decay, COMPLEX).mean():.3f}, above constant {text}")


def gap(decayed: Lanes, control: Lanes, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Best after the first decay - best before it, and the same of the undecayed run up to the same step, by seed.

    Args:
        decayed, control: lanes of the same seeds, in one order.
        name: of an array whose larger values are better.
    """
    after, undecayed = [], []
    for (_, own), (_, other) in zip(decayed, control, strict=True):
        first, second, *_ = stages(own, name)
        after.append(second.best - first.best)
        steps = np.asarray(other[f"{name.rsplit('/', 1)[0]}/step"])
        inside = (steps > first.last) & (steps <= second.last)
        undecayed.append(float(np.max(np.asarray(other[name])[inside])) - first.best)
    return np.array(after), np.array(undecayed)


def gaps(pairs: dict[str, tuple[Lanes, Lanes]], name: str) -> Finding:
    """`gap` of several decays: each above zero, and above that of the undecayed run.

    Args:
        pairs: words -> (decayed lanes, undecayed lanes), paired by seed.
        name: as in `gap`.
    """
    comparisons, text = [], []
    for words, (decayed, control) in pairs.items():
        found, undecayed = gap(decayed, control, name)
        comparisons += [found, found - undecayed]
        text.append(
            f"{words}: {mean_of(found)}, without decay {mean_of(undecayed)}, apart by {mean_of(found - undecayed)}"
        )
    return Finding(positive(*comparisons), "best after minus best before, " + "; ".join(text))


def gap_on_patterns(run: RunResult) -> Finding:
    """The gap at the first decay of PS10, against the run that was not decayed."""
    decayed, control = paired(lanes(run, "decay"), lanes(run, "constant_0"))
    return gaps({"complex accuracy": (decayed, control)}, COMPLEX)
