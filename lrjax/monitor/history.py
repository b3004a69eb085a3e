"""What the rows of a monitor hold: the last values of an instrument, medians, and sums over steps."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from lrjax.errors import LrjaxError
from lrjax.spectra.noise_scale import NoiseScale, noise_scale_of_estimates
from lrjax.spectra.subset import SmallSubsetWarning

Rows = Sequence[dict[str, Any]]
SAME_RATE = 2.0  # measurements at rates within this factor of the present one are taken together with it


def series(rows: Rows, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of an instrument where it was measured, NaN included.

    Example:
        >>> steps, values = series([{"step": 0, "loss": 2.0}, {"step": 5}, {"step": 9, "loss": 1.0}], "loss")
        >>> steps.tolist(), values.tolist()
        ([0, 9], [2.0, 1.0])
    """
    pairs = [(row["step"], row[name]) for row in rows if name in row]
    return np.array([step for step, _ in pairs], np.int64), np.array([value for _, value in pairs], np.float64)


def recent(rows: Rows, name: str, count: int = 1) -> np.ndarray:
    """The last values of an instrument that are numbers, at most `count`.

    Example:
        >>> recent([{"step": 0, "r": 1.0}, {"step": 1, "r": float("nan")}, {"step": 2, "r": 3.0}], "r", 2).tolist()
        [1.0, 3.0]
    """
    values = series(rows, name)[1]
    return values[np.isfinite(values)][-count:]


def plain(value: Any) -> Any:
    """Plain Python that JSON can hold: None for what is not finite.

    Example:
        >>> plain({"a": np.array([1.0, np.nan]), "b": (2,)})
        {'a': [1.0, None], 'b': [2]}
    """
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, (np.generic, np.ndarray)):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def append_line(path: Any, row: dict[str, Any]) -> None:
    """Adds a row to a file as a line of JSON, which has no NaN: null there."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(plain(row)) + "\n")


def median(rows: Rows, name: str, count: int) -> float | None:
    """Median of the last values; None where there is none.

    Example:
        >>> median([{"step": 0, "r": 1.0}, {"step": 1, "r": 3.0}], "r", 5), median([], "r", 5)
        (2.0, None)
    """
    values = recent(rows, name, count)
    return float(np.median(values)) if values.size else None


def step_sizes(rows: Rows, groups: Sequence[str]) -> np.ndarray:
    """RMS of the updates of groups, over the learning rate where that is known at each, so that a warm-up is no jump.

    Returns:
        Of the rows that have them, `[rows, groups]`.

    Example:
        >>> rows = [{"step": s, "update_rms/a": 0.1 * s, "learning_rate": 0.1 * s} for s in (1, 2)]
        >>> step_sizes(rows, ("a",)).tolist()
        [[1.0], [1.0]]
    """
    names = [f"update_rms/{group}" for group in groups]
    measured = [row for row in rows if all(name in row for name in names)] if names else []
    sizes = np.array([[row[name] for name in names] for row in measured], np.float64).reshape(len(measured), len(names))
    if any("learning_rate" not in row for row in measured):
        return sizes
    return sizes / np.array([row["learning_rate"] or math.nan for row in measured]).reshape(-1, 1)


def elapsed(rows: Rows, name: str) -> float:
    """Sum over steps of a rate that was measured at some of them, each held until the next and the last to the last row.

    Example:
        >>> round(elapsed([{"step": 0, "decay/a": 0.1}, {"step": 10, "decay/a": 0.2}, {"step": 15}], "decay/a"), 9)
        2.0
    """
    steps, values = series(rows, name)
    if not values.size or not np.isfinite(values).all():
        return float("nan")
    ends = np.append(steps[1:], rows[-1]["step"])
    return float(np.sum(values * (ends - steps)))


def at_rate(rows: Rows) -> Rows:
    """The last rows that were measured at about the rates of the last one; all where no rate is known.

    Example:
        >>> rows = [{"step": s, "learning_rate": rate} for s, rate in ((0, 1.0), (1, 0.1), (2, 0.12))]
        >>> [row["step"] for row in at_rate(rows)]
        [1, 2]
    """
    if not rows:
        return rows
    now = {name: rate for name, rate in rates(rows[-1]).items() if rate}

    def near(row: dict[str, Any], by: float = SAME_RATE) -> bool:
        return all(1 / by <= row[name] / rate <= by for name, rate in now.items() if name in row)

    begin = next((index for index in range(len(rows), 0, -1) if not near(rows[index - 1])), 0)
    return rows[begin:]


def rates(row: dict[str, Any]) -> dict[str, float]:
    """The learning rate of a row, or those of its groups.

    Example:
        >>> rates({"step": 1, "learning_rate/muon": 0.02})
        {'learning_rate/muon': 0.02}
    """
    return {name: value for name, value in row.items() if name.split("/")[0] == "learning_rate"}


def rho(rows: Rows, count: int = 10) -> float | None:
    """u.Hu / (-g.u) of the loss: the ratio of means over the last measurements at about the present rate, since single batches
    scatter; None where there is none, or where their slopes do not tell downhill from uphill.

    Example:
        >>> rows = [{"step": s, "step_slope": -slope, "step_curvature": 1.0} for s, slope in enumerate((1.0, 3.0))]
        >>> rho(rows), rho(rows[:1]), rho([])
        (0.5, 1.0, None)
    """
    measured = [row for row in at_rate(rows) if math.isfinite(row.get("step_slope", math.nan))][-count:]
    slopes = np.array([row["step_slope"] for row in measured])
    error = slopes.std(ddof=1) / math.sqrt(slopes.size) if slopes.size > 1 else 0.0
    if not slopes.size or slopes.mean() + error >= 0:
        return None
    return float(np.mean([row["step_curvature"] for row in measured]) / -slopes.mean())


def noise_pairs(rows: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps, noise and signal of the rows where both are numbers.

    Example:
        >>> rows = [{"step": step, "noise": noise, "signal": 1.0} for step, noise in ((3, 2.0), (4, np.inf))]
        >>> [values.tolist() for values in noise_pairs(rows)]
        [[3], [2.0], [1.0]]
    """
    found = [(row["step"], row["noise"], row["signal"]) for row in rows if "noise" in row]
    steps, noise, signal = np.array(found, np.float64).reshape(-1, 3).T
    known = np.isfinite(noise) & np.isfinite(signal)
    return steps[known].astype(np.int64), noise[known], signal[known]


def noise_scale(rows: Rows, count: int = 20) -> NoiseScale | None:
    """Noise over signal of the last measurements, in batches; None below three, or where no noise is resolved.

    Example:
        >>> rows = [{"step": i, "noise": 4.0, "signal": 2.0 + 0.01 * i} for i in range(5)]
        >>> round(noise_scale(rows).value, 2), noise_scale(rows[:2])
        (1.98, None)
    """
    _, noise, signal = (values[-count:] for values in noise_pairs(rows))
    if noise.size < 3:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SmallSubsetWarning)  # the report says that the value is only bounded
        try:
            return noise_scale_of_estimates(noise, signal)
        except LrjaxError:
            return None
