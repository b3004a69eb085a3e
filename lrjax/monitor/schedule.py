"""When each instrument of a monitor is due, from what it costs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lrjax.monitor.cost import STEPS, Row, Wish, plan
from lrjax.monitor.ledger import Ledger
from lrjax.monitor.programs import Programs
from lrjax.spectra.frameworks import Tree

TIER_1 = 2.0  # training steps' worth of operations between two measurements of tier 1
PRODUCTS = 12  # of the Hessian, for its largest eigenvalue from a warm start
EXAMPLES = 128  # on which the loss is compared, at least
PROBES = 32  # batches of the probe set, at most
FORWARD = 10  # passes of the critical multiple
WINDOW = 0.05  # share of the run over which parameters are averaged
SAMPLES = 16  # parameters that a mean is taken of
CLOCK = 1.0  # training steps, at least: what it computes is little beside what it takes to start it
FIRST = ("step", "clock")  # at once
SECOND = ("noise", "rho")  # as soon as there is another batch


class Schedule:
    """The next step at which each instrument is due.

    Args:
        rows: instrument -> `Row`.
        num_steps: of the run, or None.
    """

    def __init__(self, rows: dict[str, Row], num_steps: int | None):
        self.rows = {name: row for name, row in rows.items() if row.interval}
        self.window = window_of(num_steps)
        self.due: dict[str, int] = {}
        self._began = 0

    def start(self, step: int) -> None:
        """Begins, or begins again, at a step: the virtual step at once, the others with one of the virtual steps after it, so
        that they need not make their own."""
        self.due, self._began = {}, step
        every = self.rows["step"].interval
        for name, row in self.rows.items():
            wait = {"gap": self.window} | dict.fromkeys(FIRST, 0) | dict.fromkeys(SECOND, every)
            self.due[name] = step + _up(wait.get(name, row.interval // 2), every)

    @property
    def stride(self) -> int:
        """Steps between two parameters of the mean."""
        return max(self._length // SAMPLES, 1)

    @property
    def _length(self) -> int:
        """Steps of the mean: the window, but no more than half of the steps so far, as the first ones are far away."""
        return max(min(self.window, (self.due["gap"] - self._began) // 2), 1) if "gap" in self.due else 1

    def at(self, step: int) -> list[str]:
        """Instruments that are due at a step."""
        return [name for name, due in self.due.items() if step >= due]

    def made(self, names: Iterable[str], step: int) -> None:
        """They were made: each is due again an interval later."""
        for name in names:
            self.due[name] = step + self.rows[name].interval

    def again(self, name: str, step: int) -> None:
        """It told nothing, or what it told has changed: due again with the next virtual step."""
        self.due[name] = min(self.due[name], step + self.rows["step"].interval)

    def averaging(self, step: int) -> bool:
        """Whether the parameters of this step belong to the mean of the next valley gap."""
        return "gap" in self.due and self.due["gap"] - self._length <= step < self.due["gap"]

    def next_after(self, step: int, averaged: int | None) -> int:
        """The next step at which anything is to be done.

        Args:
            step: this one.
            averaged: the last step that went into the mean, if one is being taken.
        """
        steps = list(self.due.values())
        if "gap" in self.due:
            begin = self.due["gap"] - self._length
            steps.append(begin if step < begin else (averaged if averaged is not None else step) + self.stride)
        return max(min(steps, default=step + 1), step + 1)


def _up(steps: int, every: int) -> int:
    return -(-steps // every) * every


def window_of(num_steps: int | None) -> int:
    """Steps over which parameters are averaged for the valley gap.

    Example:
        >>> window_of(4000), window_of(None)
        (200, 500)
    """
    return max(round(WINDOW * (num_steps or STEPS)), 1)


def costs_of(programs: Programs, params: Tree, opt_state: Tree, batch: Tree, diagonal: Tree | None) -> dict[str, float]:
    """Operations of the parts of measurements, in those of a training step: counted, nothing runs.

    Returns:
        "forward", "gradient", "step" (a virtual step with its gain), "line" (along), "noise" (the gradient of another
        batch), "decay", "curvature", "product" (of the Hessian and a vector); "training" in FLOPs.
    """
    raw = {
        "forward": programs.flops("loss", params, batch),
        "gradient": programs.flops("gradient", params, batch),
        "noise": programs.flops("noise", params, params, batch),
        "curvature": programs.flops("curvature", params, batch, diagonal),
        "line": programs.flops("line", params, params, batch),
    }
    # Forward over reverse: the tangent of a gradient costs about what the gradient does.
    raw["product"] = 2 * raw["gradient"]
    training = raw["gradient"]
    if programs.optimizer is not None:
        raw["step"] = programs.flops("step", params, opt_state, batch)
        update = programs.flops("virtual", params, opt_state, batch)
        raw["decay"] = 6 * max(update - raw["gradient"], 0.0)
        training = max(update, raw["gradient"])
    training = max(training, 1.0)
    return {name: value / training for name, value in raw.items()} | {"training": training}


def schedule_of(
    costs: dict[str, float],
    *,
    every: int,
    budget: float,
    num_steps: int | None,
    probes: int | None,
    batch_size: int | None = None,
) -> dict[str, Row]:
    """How often each instrument is used, and over how many batches.

    Tier 1 has two training steps' worth of operations in `every` steps; tier 2 the share `budget` of the training's.

    Args:
        costs: of `costs_of`.
        every: steps between two virtual steps, at least.
        budget: of tier 2.
        num_steps: of the run.
        probes: batches in the probe set, where the caller gave it.
        batch_size: examples of a batch, so that the loss is compared on at least `EXAMPLES` of them.

    Returns:
        Instrument -> `Row`; one that would be due only after the end of the run is left out by its interval.
    """
    most = probes or PROBES
    enough = min(max(-(-EXAMPLES // (batch_size or EXAMPLES)), 1), most)
    base = costs["step"]
    stretch = max(round(base / (0.75 * TIER_1) + 0.499), 1)
    rows: dict[str, Row] = {"step": Row(1, base, 1, every * stretch)}
    left = TIER_1 / every - rows["step"].share
    wishes = {
        "gap": Wish(0.0, 2 * costs["forward"], most, enough, 0.5),
        "rho": Wish(0.0, costs["line"], min(4, most), 1, 0.2),
        "noise": Wish(costs["noise"], 0.0, 1, 1, 0.2),
        "clock": Wish(max(costs["decay"], CLOCK), 0.0, 1, 1, 0.1),
    }
    rows |= plan(wishes, tier=1, budget=max(left, 0.0), every=every * stretch, num_steps=num_steps, measurements=12)
    # Means that do not overlap.
    apart = _up(window_of(num_steps), every * stretch)
    rows["gap"] = rows["gap"]._replace(interval=max(rows["gap"].interval, apart) if rows["gap"].interval else 0)
    second = {
        "batch_sharpness": Wish(0.0, costs["curvature"], min(8, most), min(2, most), 0.3),
        "sharpness": Wish(0.0, PRODUCTS * costs["product"], max(min(8, most), enough), enough, 0.3),
        "critical": Wish(0.0, FORWARD * costs["forward"], 1, 1, 0.15),
        "curvature": Wish(costs["curvature"], 0.0, 1, 1, 0.25),
    }
    return rows | plan(second, tier=2, budget=budget, every=every * stretch, num_steps=num_steps, measurements=5)


def probe_batches(rows: dict[str, Row]) -> int:
    """Batches that the probe set must hold for these rows."""
    named = ("gap", "rho", "batch_sharpness", "sharpness")
    return max([rows[name].batches for name in named if name in rows and rows[name].interval], default=1)


def table(rows: dict[str, Row], ledger: Ledger) -> list[dict[str, Any]]:
    """What each instrument costs, and what is spent beside them, so that it adds up: a dict a row for reports."""
    found, training = [], ledger.seconds(rows)[1]
    beside = {name: Row(1, 0.0, 0, 0) for name in ledger.spent if name not in rows}
    for name, row in (rows | beside).items():
        times, seconds = ledger.spent.get(name, (0, 0.0))
        found.append(
            {
                "instrument": name, "tier": row.tier, "steps": row.cost, "batches": row.batches, "interval": row.interval,
                "planned_share": row.share, "measured": times, "seconds": seconds, "measured_share": seconds / training,
            }
        )  # fmt: skip
    return found
