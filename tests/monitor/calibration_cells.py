"""Cells of the calibration: what was advised, whether it was right, and the tables.

`tests.monitor.calibration` states when advice is right.
"""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lrjax.monitor import Facts
from lrjax.monitor.advice import Case, advise
from tests.monitor.calibration_settings import SETTINGS

MARGIN = 0.1
MARGINS = (0.1, 0.05, 0.03)
FASTER = 2.0
JUDGED = ("far_too_small", "decay", "keep")
KEPT = ("gain_ratio", "step_slope", "step_curvature", "valley_gap")
RECORDS = Path(__file__).with_name("calibration.json")
MULTIPLES = (1.0, 3.0, 10.0, 30.0, 1 / 3)


class Cell(NamedTuple):
    """What was measured by a time, and what then happened.

    Attributes:
        setting, optimizer, rate, step: which cell.
        rows: of the monitor by then, those names that the rules on the rate read.
        before: the training loss at that time.
        held: losses after H steps at the rate, one an order of the data.
        decayed: multiple of the rate -> losses after H steps of linear decay from it.
        shares: of wall time, tiers 1 and 2, by then.
    """

    setting: str
    optimizer: str
    rate: float
    step: int
    rows: list[dict[str, float]]
    before: float
    held: list[float]
    decayed: dict[str, list[float]]
    shares: tuple[float, float]

    @property
    def gain(self) -> float:
        """Of a decay over the rate held, a share of the loss."""
        return _better(self.decayed["1"], self.held)

    @property
    def larger(self) -> tuple[float, float]:
        """The best of 3, 10 and 30 times the rate, and its gain over the rate as it is; both decay."""
        gains = {k: _better(self.decayed[f"{k:g}"], self.decayed["1"]) for k in MULTIPLES if k > 1}
        best = max(gains, key=lambda k: gains[k])
        return best, gains[best]

    @property
    def faster(self) -> float:
        """How many times as far the loss falls with the best of 3, 10 and 30 times the rate as with the rate as it is; both
        decay."""
        falls = {k: self.before - _mean(self.decayed[f"{k:g}"]) for k in MULTIPLES if k >= 1}
        best = max(fall for k, fall in falls.items() if k > 1)
        if best <= 0:
            return 0.0
        return best / falls[1.0] if falls[1.0] > 0 else math.inf

    @property
    def larger_is_lower(self) -> bool:
        """Whether one of 3, 10 and 30 times the rate ends lower than the rate as it is in each order of the data."""
        ours = [self.decayed[f"{k:g}"] for k in MULTIPLES if k > 1]
        return any(all(a < b for a, b in zip(one, self.decayed["1"], strict=True)) for one in ours)

    @property
    def smaller(self) -> float:
        """The gain of a third of the rate over the rate as it is; both decay."""
        return _better(self.decayed[f"{1 / 3:g}"], self.decayed["1"])


def _mean(losses: Sequence[float]) -> float:
    return float(np.mean([x if math.isfinite(x) else math.inf for x in losses]))


def _better(ours: Sequence[float], theirs: Sequence[float]) -> float:
    a, b = _mean(ours), _mean(theirs)
    if math.isinf(a):
        return -math.inf
    return 1.0 if math.isinf(b) else 1 - a / b


def advice_of(cell: Cell) -> str:
    """The code of what is said of the rate: one of `JUDGED`, or "undecided"."""
    codes = {one.code for one in advise(Case(cell.rows, Facts("other"), (), None, False, False))}
    return next((code for code in JUDGED if code in codes), "undecided")


def right(cell: Cell, code: str, margin: float = MARGIN) -> bool | None:
    """Whether advice is right; None for "undecided".

    Args:
        cell: what happened.
        code: the advice.
        margin: share of the loss, of "decay" and "keep".
    """
    if code == "decay":
        return cell.gain > margin
    if code == "keep":
        return cell.gain <= margin
    if code == "far_too_small":
        return cell.faster >= FASTER
    return None


def kept(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the rules on the rate read of a monitor's rows: gaps, rho, and the last ten gain ratios."""
    last = [row["step"] for row in rows if "gain_ratio" in row][-10:]
    names = [[name for name in KEPT if name in row and (name != "gain_ratio" or row["step"] in last)] for row in rows]
    return [{key: row[key] for key in ("step", *some)} for row, some in zip(rows, names, strict=True) if some]


def read(path: Path) -> list[Cell]:
    """Recorded cells."""
    return [Cell(**record) for record in json.loads(path.read_text())] if path.exists() else []


def write(path: Path, found: Iterable[Cell]) -> None:
    """Cells as JSON, a line each, numbers to six digits."""
    lines = [json.dumps(_rounded(cell._replace(rows=kept(cell.rows))._asdict())) for cell in found]
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(one) for one in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


COLUMNS = (
    "setting", "optimizer", "rate", "step", "gap", "advice", "decay gains", "x3, x10, x30", "falls", "/3 gains", "right",
)  # fmt: skip


def _percent(gain: float) -> str:
    return "diverged" if math.isinf(gain) else f"{100 * gain:+.0f} %"


def row_of(cell: Cell) -> tuple[str, ...]:
    """A row of the table."""
    code = advice_of(cell)
    gaps = [row["valley_gap"] for row in cell.rows if "valley_gap" in row][-2:]
    best, gain = cell.larger
    verdict = {True: "yes", False: "no", None: "-"}[right(cell, code)]
    shown = ", ".join(f"{100 * gap:.0f} %" for gap in gaps) or "none"
    return (
        cell.setting, cell.optimizer, f"{cell.rate:g}", str(cell.step), shown, code.replace("_", " "),
        _percent(cell.gain), f"{_percent(gain)} (x{best:g})", f"{cell.faster:.3g} times", _percent(cell.smaller), verdict,
    )  # fmt: skip


def totals(found: Sequence[Cell], margin: float = MARGIN) -> dict[str, tuple[int, int]]:
    """Advice -> (how often it was right, how often it was given); "undecided" with 0 right, "decided" for all others."""
    count = {code: [0, 0] for code in (*JUDGED, "undecided", "decided")}
    for cell in found:
        code = advice_of(cell)
        for name in {code, "undecided" if code == "undecided" else "decided"}:
            count[name][0] += right(cell, code, margin) is True
            count[name][1] += 1
    return {code: (a, b) for code, (a, b) in count.items()}


def table(found: Sequence[Cell]) -> str:
    """The cells and their totals, in Markdown."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(row_of(cell)) + " |" for cell in found]
    return "\n".join(lines)


def summary(found: Sequence[Cell]) -> str:
    """Right and given by advice, for each setting and for those that test, in Markdown."""
    names = [name for name in SETTINGS if any(cell.setting == name for cell in found)]
    groups = {name: [cell for cell in found if cell.setting == name] for name in names}
    groups["all that test"] = [cell for cell in found if SETTINGS[cell.setting].tests]
    head = ("cells of", "margin", *(code.replace("_", " ") for code in JUDGED), "all decided", "undecided")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, part in groups.items():
        for margin in MARGINS if part else ():
            count = totals(part, margin)
            parts = [f"{a} of {b}" for a, b in (count[code] for code in (*JUDGED, "decided"))]
            words = (name, f"{margin:.0%}", *parts, f"{count['undecided'][1]} of {len(part)}")
            lines.append("| " + " | ".join(words) + " |")
    return "\n".join(lines)


def larger_rates(found: Sequence[Cell]) -> str:
    """How larger rates did in the test cells whose rate was called far too small, and in the others."""
    lines = []
    for named in (True, False):
        part = [one for one in found if SETTINGS[one.setting].tests and (advice_of(one) == "far_too_small") is named]
        lower, much = sum(cell.larger_is_lower for cell in part), sum(cell.larger[1] > MARGIN for cell in part)
        twice = sum(cell.faster >= FASTER for cell in part)
        lines.append(
            f"Of the {len(part)} test cells whose rate was {'' if named else 'not '}called far too small, the loss fell at "
            f"least\ntwice as far with a larger one in {twice}; it ended lower in each order in {lower}, by more than "
            f"{MARGIN:.0%} in {much}."
        )
    return "\n".join(lines)
