"""Checks behind the claims of the paper's first version (L11, L12): run files -> finding."""

import re

import numpy as np
from numpy.typing import NDArray

from lrjax.experiment.rundir.lanes import Lanes, end, lanes
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.claim import Finding, NotMeasured
from lrjax.papers.lr_decay.checks import ALL, COMPLEX, gaps
from lrjax.papers.lr_decay.image_checks import decayed_pairs
from lrjax.papers.lr_decay.observe import paired
from lrjax.papers.statistics import mean_of, positive

_PLATEAU = re.compile(r"k(\d+)_rate_(\d+)")


def stages_everywhere(run: RunResult) -> Finding:
    """The gap in test accuracy at each decay of each network, against the run of that network which was not decayed."""
    return gaps(decayed_pairs(run), ALL)


def plateau_arms(run: RunResult) -> dict[int, list[str]]:
    """Complexity -> the arms of that many complex patterns a class, by rising rate.

    Raises:
        NotMeasured: there are no two complexities with two rates each.
    """
    found: dict[int, list[tuple[int, str]]] = {}
    for arm in run.config["arms"]:  # one without lanes is missed, not overlooked
        match = _PLATEAU.fullmatch(arm)
        if match:
            found.setdefault(int(match[1]), []).append((int(match[2]), arm))
    if len(found) < 2 or min(map(len, found.values())) < 2:
        raise NotMeasured("plateaus of two complexities at two rates each are compared")
    return {count: [arm for _, arm in sorted(found[count])] for count in sorted(found)}


def every_plateau(run: RunResult) -> Lanes:
    """The `Selector` of all lanes at a constant rate."""
    return [pair for arms in plateau_arms(run).values() for arm in arms for pair in lanes(run, arm)]


def plateau_values(run: RunResult) -> NDArray[np.float64]:
    """Complex test accuracy at the end: [complexities, rates, seeds], of the seeds that all arms have."""
    arms = plateau_arms(run)
    own = iter(paired(*(lanes(run, arm) for row in arms.values() for arm in row)))
    return np.array([[end(next(own), COMPLEX) for _ in row] for row in arms.values()])


def _told(run: RunResult, values: NDArray[np.float64]) -> str:
    arms = plateau_arms(run)
    rates = ", ".join(f"{lanes(run, arm)[0][0]['learning_rate']:g}" for arm in next(iter(arms.values())))
    rows = zip(arms, values.mean(axis=2), strict=True)
    levels = "; ".join(f"{count} patterns a class: {', '.join(f'{v:.3f}' for v in row)}" for count, row in rows)
    return f"complex accuracy at the rates {rates}: {levels}"


def lower_at_larger_rates(run: RunResult) -> Finding:
    """Complex accuracy at the end of each rate minus that of the next larger one, for each complexity, by seed."""
    values = plateau_values(run)
    falls = [fall for row in values for fall in row[:-1] - row[1:]]
    least = min((mean_of(fall) for fall in falls), key=lambda found: found.low)
    return Finding(positive(*falls), f"{_told(run, values)}; the least clear fall {least}")


def lower_at_more_patterns(run: RunResult) -> Finding:
    """Complex accuracy at the end with some patterns minus that with the next larger number, for each rate, by seed."""
    values = plateau_values(run)
    falls = [fall for pair in values[:-1] - values[1:] for fall in pair]
    least = min((mean_of(fall) for fall in falls), key=lambda found: found.low)
    return Finding(positive(*falls), f"{_told(run, values)}; the least clear fall {least}")
