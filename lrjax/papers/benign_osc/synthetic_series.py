"""Synthetic runs of the claims on oscillation, the weak component and curvature: visits, V, <w, v>, eta lambda / 2."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.benign_osc import checks
from lrjax.papers.benign_osc import variation_checks as varied
from lrjax.papers.benign_osc.compared import cell
from lrjax.papers.benign_osc.observe import EARLY, delta_of
from lrjax.papers.benign_osc.synthetic_accuracy import other_steps, placed, setting, some
from lrjax.papers.premises import Selector
from lrjax.papers.synthetic import Synthetic, blank, one_seed

N, WEAK_EXAMPLES = 64, 8
SWING = 0.4  # |yf - 1| on the cycle
Arrays = dict[str, Any]


def data() -> Arrays:
    """Labels, kinds and norms of CLEAR."""
    index = np.arange(N)
    return {
        "data/y": np.where(index % 2 == 0, 1.0, -1.0),
        "data/strong": index >= WEAK_EXAMPLES,
        "data/u_norm": np.float64(1.0),
        "data/v_norm": np.float64(0.1),
    }


def visited(steps: int, share: float, generator: np.random.Generator) -> Arrays:
    """Cyclic visits, labels in turn, whose outputs alternate about 1 by 0.4, in all but `share` of them by less than 0.2."""
    example = np.arange(steps) % N
    side = np.where((np.arange(steps) // 2) % 2 == 0, 1.0, -1.0)  # consecutive visits of a label
    swing = np.where(generator.random(steps) < share, SWING, 0.1)
    return data() | {"step/example": example, "step/margin": 1.0 + side * swing, "step/loss": swing**2}


def weak_course(lane: Mapping[str, Any], end: float, start: float = 1e-6) -> Arrays:
    """V of both labels on a logistic curve from `start` to `end`."""
    when = np.linspace(0.0, 1.0, 41)
    odds = np.exp(np.log(start / end) + 2.0 * np.log(end / start) * when)
    weak = end * odds / (1.0 + odds)
    return {"features/step": np.round(when * lane["steps"]), "features/weak": np.stack([weak, 1.1 * weak], axis=1)}


def _theorem(experiment: str, *cells: Selector) -> Synthetic:
    def draw(effect: float, generator: np.random.Generator, share: float = 0.99, start: float = 1e-6) -> RunResult:
        def arrays(lane: dict[str, Any]) -> Arrays:
            end = SWING / 4 * np.exp(effect * np.log(2.0) + generator.normal(0.0, 0.1))
            return visited(EARLY, share, generator) | weak_course(lane, end, start)

        return placed(blank("benign_osc", experiment), dict.fromkeys(cells, arrays))

    broken = {
        "seeds(3)": lambda generator: one_seed(draw(1.0, generator)),
        "oscillates": lambda generator: draw(1.0, generator, share=0.8),
        "long enough": lambda generator: draw(1.0, generator, start=1e-30),
    }
    return Synthetic(draw, "V at twice delta/4, seeds 0.1 apart in its logarithm (0.05 was seen)", broken)


def _assumption() -> Synthetic:
    def draw(effect: float, generator: np.random.Generator) -> RunResult:
        def arrays(lane: dict[str, Any]) -> Arrays:
            share = 1.0 if effect > 0 else checks.MET + 0.04 * effect + generator.normal(0.0, 0.008)
            return visited(EARLY, share, generator) | weak_course(lane, 0.2)

        return placed(blank("benign_osc", "CLEAR"), dict.fromkeys((cell("main", e) for e in checks.WINDOW), arrays))

    broken = {"seeds(3)": lambda generator: one_seed(draw(1.0, generator))}
    return Synthetic(draw, "all visits; none: 95 % of them, seeds 0.8 points apart", broken)


def _accumulated(lane: dict[str, Any], power: float, share: float, generator: np.random.Generator) -> Arrays:
    """Visits whose sum of 1 - z grows as their number to a power, in steps of 0.1 a visit at first."""
    large = lane["e"] > 1
    found = visited(EARLY if large else lane["steps"], share if large else 0.0, generator)
    strong = np.flatnonzero(found["data/strong"][found["step/example"]])
    count = np.arange(1, strong.size // 2 + 1, dtype=float)
    total = 0.1 * count**power if large else 30.0 * (1.0 - np.exp(-count / 10.0)) * (count / count[-1]) ** power
    each = np.repeat(np.diff(total, prepend=0.0), 2)  # labels alternate
    found["step/margin"][strong[: each.size]] -= each
    return found


def _accumulation() -> Synthetic:
    def draw(effect: float, generator: np.random.Generator, share: float = 1.0) -> RunResult:
        off = checks.LINEAR * {1.0: 0.0, 0.0: 1.0}.get(effect, 3.0)

        def arrays(lane: dict[str, Any]) -> Arrays:
            power = (1.0 - off if lane["e"] > 1 else 0.0) + generator.normal(0.0, 0.04)
            return _accumulated(lane, power, share, generator) | weak_course(lane, 0.2)

        return placed(blank("benign_osc", "CLEAR"), {checks.LARGE: arrays, checks.SMALL: arrays})

    broken = {
        "seeds(3)": lambda generator: one_seed(draw(1.0, generator)),
        "oscillates": lambda generator: draw(1.0, generator, share=0.5),
    }
    return Synthetic(draw, "powers 1 and 0, lanes 0.04 apart (0.02 was seen)", broken)


def _edge() -> Synthetic:
    def draw(effect: float, generator: np.random.Generator) -> RunResult:
        off = checks.EDGE * {1.0: 0.0, 0.0: 1.0}.get(effect, 3.0)

        def arrays(lane: dict[str, Any]) -> Arrays:
            strong = (1.0 - off + generator.normal(0.0, 0.04)) / lane["e"] - 0.01 * 0.2
            ones = np.ones((1, 8))
            curvature = {"curvature/formula": ones, "curvature/power": 1.004 * ones, "curvature/output": ones}
            inner = {"features/inner_u": np.ones((1, 2, 16)), "features/weak": np.full((1, 2), 0.2)}
            return data() | inner | curvature | {"features/strong": np.full((1, 2), strong)}

        return placed(blank("benign_osc", "CLEAR"), {cell("main"): arrays})

    broken = {
        "seeds(3)": lambda generator: one_seed(draw(1.0, generator)),
        "instrument(0.01)": lambda generator: some(draw(1.0, generator), checks.ENDS, setting("curvature/power", 1.1)),
    }
    return Synthetic(draw, "1, seeds 0.04 apart, as was seen at e = 1.4", broken)


def two_seeds(run: RunResult) -> RunResult:
    """The run with two seeds only, of equal numbers, so that nothing but their number is wrong."""
    first = sorted({lane["seed"] for lane in run.lanes})[:2]
    kept = [index for index, lane in enumerate(run.lanes) if lane["seed"] in first]
    lanes = [dict(run.lanes[index], lane=place) for place, index in enumerate(kept)]
    return run._replace(lanes=lanes, arrays=[run.arrays[index] for index in kept])


def _paper_accuracy() -> Synthetic:
    wrong = cell("main", 0.9)

    def draw(effect: float, generator: np.random.Generator, noise: float = 1.0, control: float = 0.948) -> RunResult:
        off = checks.OFF[1] * {1.0: 0.0, 0.0: 1.0}.get(effect, 3.0)
        levels = {checks.E2_LARGE: (0.9938, 0.005), checks.E2_SMALL: (0.9375 + off, 0.005), wrong: (control, 0.004)}

        def arrays_of(level: float, deviation: float) -> Any:
            return lambda lane: {
                "features/train_accuracy": np.ones(1),
                "test_accuracy/mixture_accuracy": level + noise * generator.normal(0.0, deviation, 1),
            }

        return placed(blank("benign_osc", "E2"), {select: arrays_of(*level) for select, level in levels.items()})

    untrained = setting("features/train_accuracy", 0.9)
    broken = {
        "seeds(3)": lambda generator: two_seeds(draw(1.0, generator, noise=0.0)),
        "learned(0.95)": lambda generator: some(draw(1.0, generator), checks.E2_LARGE, untrained),
        "resolved(1)": lambda generator: draw(1.0, generator, noise=0.1, control=0.9938),
    }
    return Synthetic(draw, "the paper's numbers, seeds half a point apart (0.66 and 0.39 were seen)", broken)


def _proposition_6() -> Synthetic:
    def draw(effect: float, generator: np.random.Generator, noise: float = 0.05, control: float = 0.03) -> RunResult:
        power = 1.0 - varied.ONE_LOG * {1.0: 0.0, 0.0: 1.0}.get(effect, 3.0)

        def arrays(lane: dict[str, Any]) -> Arrays:
            own = power if lane["arm"] == "start" else control
            inner = lane["values"]["model.init_scale"] ** own * np.exp(noise * generator.normal())
            return data() | {
                "features/train_accuracy": np.ones(1),
                "features/inner_v": np.full((1, 2, 16), 0.1 * inner),
            }

        cells = [
            cell(arm, model__init_scale=start) for arm in ("start", "start_oscillating") for start in varied.STARTS
        ]
        return placed(blank("benign_osc", "ablate"), dict.fromkeys(cells, arrays))

    untrained, first = setting("features/train_accuracy", 0.9), cell("start", model__init_scale=varied.STARTS[0])
    broken = {
        "seeds(3)": lambda generator: two_seeds(draw(1.0, generator, noise=0.0)),
        "learned(0.95)": lambda generator: some(draw(1.0, generator), first, untrained),
        "matched(steps)": lambda generator: other_steps(draw(1.0, generator), first),
        varied.RESOLVED.name: lambda generator: draw(1.0, generator, control=1.0),
    }
    return Synthetic(draw, "a power of 1, lanes 0.05 apart in the logarithm (0.02 was seen)", broken)


def _time_scale() -> Synthetic:
    def draw(effect: float, generator: np.random.Generator, first: float = 3000.0) -> RunResult:
        power = {1.0: 1.0, 0.0: 1.0 + varied.POWER}.get(effect, 2.0)

        def arrays(lane: dict[str, Any]) -> Arrays:
            v_norm = lane["values"].get("data.v_norm", 0.1)
            passes = first * (0.1 / v_norm) ** (2 * power) * np.exp(generator.normal(0.0, 0.06))
            steps = np.arange(0.0, lane["steps"] + 1, 250)
            weak = delta_of(lane["e"]) / 4 * np.exp(11.0 * np.minimum(steps / passes - 1.0, 0.1))
            return {
                "features/step": steps,
                "features/weak": np.stack([weak, weak], axis=1),
                "features/train_accuracy": np.ones(1),
            }

        return placed(blank("benign_osc", "ablate"), {varied.TIMES: arrays})

    untrained = setting("features/train_accuracy", 0.9)
    broken = {
        "seeds(3)": lambda generator: one_seed(draw(1.0, generator)),
        "learned(0.95)": lambda generator: some(draw(1.0, generator), cell("reference"), untrained),
        "reached": lambda generator: draw(1.0, generator, first=20_000.0),
    }
    return Synthetic(draw, "a power of 1, times 6 % apart, as was seen", broken)


SYNTHETIC = {
    "theorem_5": _theorem("CLEAR", checks.LARGE),
    "theorem_5_deltas": _theorem("ablate", *checks.LONG),
    "assumption_4": _assumption(),
    "accumulation": _accumulation(),
    "edge_of_stability": _edge(),
    "paper_accuracy": _paper_accuracy(),
    "proposition_6": _proposition_6(),
    "time_scale": _time_scale(),
}
