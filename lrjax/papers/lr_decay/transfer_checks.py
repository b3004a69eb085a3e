"""Checks behind the claims on transfer (L7, L7_ps10): run files -> finding."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lrjax.experiment.rundir.lanes import Lanes, end, lanes
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.claim import Finding, NotMeasured
from lrjax.papers.lr_decay.image_checks import TEST
from lrjax.papers.lr_decay.observe import Ratio, paired, stages, transferability
from lrjax.papers.statistics import mean_of, positive

MODES = ("fix", "finetune")
PATTERNS = "subsets/test_all"


def targets(run: RunResult) -> list[str]:
    """The targets of a run, by the names of its arms.

    Raises:
        NotMeasured: there is none.
    """
    arms = {lane["arm"].rsplit("_", 2)[0] for lane in run.lanes if lane["arm"].rsplit("_", 1)[-1].isdigit()}
    if not arms:
        raise NotMeasured("this run has no target")
    return sorted(arms)


def _of_source(run: RunResult) -> dict[int, NDArray[np.float64]]:
    """Accuracy on the source at the end of each stage, by seed: [stages]."""
    name = _name(run)
    return {
        lane["seed"]: np.array([stage.end for stage in stages(arrays, name)]) for lane, arrays in lanes(run, "source")
    }


Accuracies = dict[tuple[str, str], tuple[NDArray[np.float64], NDArray[np.float64]]]


def accuracies(run: RunResult, *wanted: str) -> Accuracies:
    """(target, mode) -> accuracy on the source, and after transfer, at the end of each stage: both [seeds, stages].

    Args:
        run: with its targets.
        *wanted: targets; all unless given.
    """
    of_source, found = _of_source(run), {}
    count = len(next(iter(of_source.values())))
    for target in wanted or targets(run):
        for mode in MODES:
            after = [lanes(run, f"{target}_{mode}_{i + 1}") for i in range(count)]
            source, *after = paired(lanes(run, "source"), *after)
            own = np.array([of_source[lane["seed"]] for lane, _ in source])
            found[target, mode] = own, np.array([end(pairs, _name(run)) for pairs in after]).T
    return found


def every_transfer(run: RunResult) -> Lanes:
    """The `Selector` of the source and of each snapshot's transfer to each target, all of which the run must have."""
    count = len(next(iter(_of_source(run).values())))
    arms = [f"{target}_{mode}_{i + 1}" for target in targets(run) for mode in MODES for i in range(count)]
    return [pair for arm in ("source", *arms) for pair in lanes(run, arm)]


def _name(run: RunResult) -> str:
    return PATTERNS if len(lanes(run, "source")[0][1].get(PATTERNS, ())) else TEST


def source_gains(run: RunResult) -> dict[str, NDArray[np.float64]]:
    """What each stage after the first adds on the source, by seed: the denominators of T_2 and T_3."""
    own = np.array(list(_of_source(run).values()))
    return {f"stage {number}": gain for number, gain in enumerate(np.diff(own, axis=1).T, start=2)}


def ratios(run: RunResult) -> dict[tuple[str, str], tuple[list[Ratio], NDArray[np.float64]]]:
    """(target, mode) -> T_2, T_3 with Fieller's intervals and the mean accuracies after transfer of each snapshot."""
    return {key: (transferability(own, after), after.mean(axis=0)) for key, (own, after) in accuracies(run).items()}


def later_stages_transfer_less(run: RunResult) -> Finding:
    """T_3 < T_2 for every target and mode, as T_2 - T_3 times both gains of the source, which are positive."""
    comparisons, text = [], []
    for (target, mode), (own, after) in accuracies(run).items():
        shown, accuracy = transferability(own, after), after.mean(axis=0)
        gains, gains_target = np.diff(own, axis=1), np.diff(after, axis=1)
        less = gains_target[:, 0] * gains[:, 1] - gains_target[:, 1] * gains[:, 0]
        comparisons.append(less)
        told = ", ".join(f"T_{i} {r.value:.2f} [{r.low:.2f}, {r.high:.2f}]" for i, r in enumerate(shown, start=2))
        text.append(
            f"{target} {mode}: {told}, (T_2 - T_3) x gains {mean_of(less)}, accuracy "
            f"{'/'.join(f'{a:.3f}' for a in accuracy)}"
        )
    return Finding(positive(*comparisons), "; ".join(text))


def negative_on(target: str) -> Callable[[RunResult], Finding]:
    """T_3 < 0 on a target: the last stage, which gains on the source, loses there."""

    def check(run: RunResult) -> Finding:
        losses = {mode: after[:, -2] - after[:, -1] for (_, mode), (_, after) in accuracies(run, target).items()}
        told = ", ".join(f"{mode} {mean_of(values)}" for mode, values in losses.items())
        return Finding(positive(*losses.values()), f"accuracy on {target} lost by the last stage: {told}")

    return check
