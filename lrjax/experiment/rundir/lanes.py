"""Lanes of a finished run: which have what, and how they ended."""

from typing import Any

from numpy.typing import NDArray

from lrjax.experiment.rundir.metrics import RunResult

Arrays = dict[str, NDArray[Any]]


def recorded(run: RunResult, *names: str) -> list[tuple[dict[str, Any], Arrays]]:
    """Lanes, with their arrays, that have at least one entry of each of these arrays."""
    pairs = zip(run.lanes, run.arrays, strict=True)
    return [(lane, arrays) for lane, arrays in pairs if all(len(arrays.get(name, ())) for name in names)]


def diverged(lane: dict[str, Any]) -> bool:
    """Whether the lane ended by a loss that is too large or not finite."""
    return lane.get("diverged_at") is not None
