"""Synthetic runs of L11 and L12: stages across networks, and plateaus by rate and complexity."""

from functools import partial

from lrjax.papers.lr_decay.checks import ALL, COMPLEX
from lrjax.papers.lr_decay.synthetic_series import (
    Levels,
    Noise,
    at_level,
    change_of,
    drifting,
    longer,
    maker,
    of,
    synthetic,
)
from lrjax.papers.synthetic import Synthetic, blank

GAIN = 0.05  # of a decay
FALL = 0.1  # from a rate, or number of patterns, to the next


def _arms(experiment: str) -> list[str]:
    return list(dict.fromkeys(lane["arm"] for lane in blank("lr_decay", experiment).lanes))


def _networks(effect: int) -> Levels:
    decayed, plain = {1: (GAIN, 0.0), 0: (GAIN, GAIN), -1: (0.0, GAIN)}[effect]
    gains = {arm: plain if arm.endswith("constant") else decayed for arm in _arms("L11")}
    return {arm: {ALL: (0.8, 0.8 + gain)} for arm, gain in gains.items()}


def _plateaus(effect: int, axis: int) -> Levels:
    """Levels that fall along one axis (0: complexity, 1: rate) with the effect, and along the other in any case."""
    found = {}
    counts = sorted({int(arm.split("_")[0][1:]) for arm in _arms("L12")})
    for arm in _arms("L12"):
        places = (counts.index(int(arm.split("_")[0][1:])) - 1, int(arm.rsplit("_", 1)[1]) - 1)
        found[arm] = {COMPLEX: (0.5 - FALL * (effect * places[axis] + places[1 - axis]),)}
    return found


def _of_plateaus(axis: int) -> Synthetic:
    first = _arms("L12")[0]
    return synthetic(
        maker("L12", partial(_plateaus, axis=axis), Noise({"": 0.01})),
        f"falls of {FALL:g} from each to the next; none: no fall; seeds .01",
        {
            "matched(steps)": lambda run: longer(run, first),
            "converged(0.1)": change_of(of(first, drifting(COMPLEX))),
            "unsaturated": change_of(of(first, at_level(COMPLEX, 0.99))),
        },
    )


LEVELS: dict[str, Synthetic] = {
    "stages_across_networks": synthetic(
        maker("L11", _networks, Noise({"": 0.004})),
        f"a decay brings {GAIN:g} that the undecayed run does not; none: as much without decay; seeds .004",
        {
            "matched(steps)": lambda run: longer(run, "usual_constant"),
            "learned(0.75)": change_of(of("usual_decay_1", at_level(ALL, 0.2))),
        },
    ),
    "plateau_falls_with_rate": _of_plateaus(1),
    "plateau_falls_with_complexity": _of_plateaus(0),
}
