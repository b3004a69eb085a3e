"""Durations of a config ("3 epochs") in steps."""

import math
import re
from collections.abc import Iterable

from lrjax.errors import LrjaxError, check

# Keys that hold a number of steps, or a duration such as "3 epochs".
DURATIONS = (
    *("steps", "log_every", "checkpoint_every", "averaging_start"),
    *("schedule.warmup", "schedule.cooldown", "l2_schedule.warmup", "rule.every"),
)
DURATION_LISTS = ("schedule.milestones", "l2_schedule.milestones")


def to_steps(duration: int | str, steps_per_epoch: int, key: str) -> int:
    """A duration in steps.

    Example:
        >>> to_steps("3 epochs", 100, "steps"), to_steps(250, 100, "steps"), to_steps("250 steps", 100, "steps")
        (300, 250, 250)
    """
    if isinstance(duration, int) and not isinstance(duration, bool):
        return duration
    number, _, unit = str(duration).strip().partition(" ")
    scale = {"": 1, "step": 1, "steps": 1, "epoch": steps_per_epoch, "epochs": steps_per_epoch}.get(unit.strip())
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if scale is None or not math.isfinite(value):
        raise LrjaxError(f"{key}={duration!r} is no duration; write a number of steps or, say, '3 epochs'")
    return round(value * scale)


def to_seconds(text: str, key: str) -> float:
    """A time such as "8m", "1h30m", "45s" or "90" in seconds.

    Raises:
        LrjaxError: it cannot be read, or is not positive.

    Example:
        >>> to_seconds("8m", "--time_limit"), to_seconds("1h30m", "--time_limit"), to_seconds("90", "--time_limit")
        (480.0, 5400.0, 90.0)
    """
    number = r"(\d+(?:\.\d+)?)"
    match = re.fullmatch(rf"(?:{number}d)?(?:{number}h)?(?:{number}m(?:in)?)?(?:{number}s?)?", text.strip())
    parts = match.groups("0") if match else ()
    seconds = sum(float(part) * unit for part, unit in zip(parts, (86400, 3600, 60, 1), strict=False))
    check(seconds > 0, f"{key}={text} is no time; write, say, 45s, 8m or 1h30m")
    return seconds


def phases(when: int | str, steps_per_epoch: int, key: str) -> tuple[tuple[int, int | None], ...]:
    """How often a probe measures, as (every, until) pairs: every so many steps up to and with step `until`.

    Args:
        when: "EVERY until STEP, ..., EVERY", each a duration; "end" in place of the last for no more; one EVERY alone.
        steps_per_epoch: of the lane.
        key: for messages.

    Raises:
        LrjaxError: it cannot be read, or the steps do not ascend.

    Example:
        >>> phases("10 until 200, 100 until 1 epochs, 1 epochs", 500, "probes.spectrum")
        ((10, 200), (100, 500), (500, None))
        >>> phases("10 until 200, end", 500, "probes.spectrum"), phases("end", 500, "probes.spectrum")
        (((10, 200),), ())
    """
    *early, last = (piece.strip() for piece in str(when).split(","))
    found: list[tuple[int, int | None]] = []
    for piece in early:
        every, until, stop = piece.partition(" until ")
        check(bool(until), f"{key}={when!r}: {piece!r} has no end; write, say, '10 until 200, 1 epochs'")
        found.append((to_steps(every, steps_per_epoch, key), to_steps(stop, steps_per_epoch, key)))
    check(
        " until " not in last,
        f"{key}={when!r} does not say what comes after; end it with ', end' or, say, ', 1 epochs'",
    )
    stops = [0, *(stop for _, stop in found)]
    ascending = all(a < b for a, b in zip(stops, stops[1:], strict=False))
    check(ascending, f"{key}={when!r}: the steps after 'until' must be positive and ascend; here they are {stops[1:]}")
    return tuple(found) if last == "end" else (*found, (to_steps(last, steps_per_epoch, key), None))


def due(when: Iterable[tuple[int, int | None]], at: int) -> bool:
    """Whether (every, until) pairs ask for a measurement at a step.

    Example:
        >>> [at for at in range(0, 60, 5) if due(((5, 10), (20, None)), at)]
        [0, 5, 10, 20, 40]
    """
    every = next((every for every, until in when if until is None or at <= until), None)
    return every is not None and at % every == 0
