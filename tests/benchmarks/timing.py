"""What the benchmarks time, and how: interleaved, medians."""

import statistics
import time
from collections.abc import Callable
from typing import Any

BATCH = 128  # examples
RUNS = 32  # of a sweep


def seconds(run: Callable[[], Any]) -> Callable[[], float]:
    """A function that runs something and says how long it took."""

    def timed() -> float:
        begin = time.perf_counter()
        run()
        return time.perf_counter() - begin

    return timed


def medians(runners: dict[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """Median seconds of each, interleaved, after one call to compile."""
    for run in runners.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(repeats):
        for name, run in runners.items():
            times[name].append(run())
    return {name: statistics.median(values) for name, values in times.items()}
