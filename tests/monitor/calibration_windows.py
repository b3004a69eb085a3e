"""Valley gaps of means over 1, 2, 5 and 10 % of the run, against what a decay then gained in the recorded cells.

    python -m tests.monitor.calibration_windows [SETTING ...] [--data_dir DIR]    # trains; replaces the record
    python -m tests.monitor.calibration_windows table                             # the table from the record

Both losses of a gap are on the examples on which the calibration measures the training loss; a mean is of 16 parameters.
Without a name those settings are taken that set the limits of the advice.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.monitor.calibration import Runner
from tests.monitor.calibration_cells import MARGIN, RECORDS, read
from tests.monitor.calibration_settings import OPTIMIZERS, SETTINGS, SHARED, Problem

SHARES = (0.01, 0.02, 0.05, 0.1)
SAMPLES = 16
WINDOWS = RECORDS.with_name("calibration_windows.json")


@jax.jit
def _added(mean: Any, params: Any, count: jax.Array) -> Any:
    return jax.tree.map(lambda m, p: m + (p - m) / count, mean, params)


def gaps(name: str, optimizer: str, rate: float, problem: Problem) -> Iterable[tuple[int, list[float]]]:
    """Time and the gaps of `SHARES` at each time of a training."""
    setting = SETTINGS[name]
    runner = Runner(setting, problem, OPTIMIZERS[optimizer](rate))
    params = problem.init(jax.random.key(setting.seed))
    state, step = runner.optimizer.init(params), 0
    order = runner.orders(0, max(setting.times))
    windows = [round(share * setting.num_steps) for share in SHARES]
    for end in setting.times:
        begin = end - max(windows)
        params, state = runner.advance(params, state, order[step:begin], np.full(begin - step, rate))
        means, counts = [jax.tree.map(jnp.zeros_like, params) for _ in windows], [0 for _ in windows]
        for step in range(begin, end):
            for i, window in enumerate(windows):
                if step >= end - window and (step - end + window) % max(window // SAMPLES, 1) == 0:
                    counts[i] += 1
                    means[i] = _added(means[i], params, jnp.float32(counts[i]))
            params, state = runner.step(params, state, order[step], np.float32(rate))
        step, here = end, runner.training_loss(params)
        yield end, [1 - runner.training_loss(mean) / here for mean in means]


def table(rows: Sequence[Sequence]) -> str:
    """How well one limit of each gap tells gains of a decay from none, in Markdown.

    Args:
        rows: setting, optimizer, rate, step, and the gaps of `SHARES`.
    """
    gains = {cell[:4]: cell.gain for cell in read(RECORDS)}
    gained = np.array([gains[tuple(row[:4])] > MARGIN for row in rows])
    found = np.array([row[4] for row in rows])
    lines = [
        f"| mean over | told apart, of {len(rows)} | largest gaps without a gain | smallest with one |",
        "|---|---|---|---|",
    ]
    for share, gaps in zip(SHARES, found.T, strict=True):
        right = max(int(np.sum((gaps > limit) == gained)) for limit in [*gaps, -np.inf])
        without, with_one = np.sort(gaps[~gained])[-2:][::-1], np.sort(gaps[gained])[:2]
        shown = [", ".join(f"{100 * gap:.1f} %" for gap in part) for part in (without, with_one)]
        lines.append(f"| {share:.0%} of the run | {right} | {shown[0]} | {shown[1]} |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.monitor.calibration_windows")
    parser.add_argument("settings", nargs="*", choices=[*SETTINGS, "table", []])
    parser.add_argument("--data_dir", type=Path, default=SHARED)
    given = parser.parse_args(arguments)
    if given.settings != ["table"]:
        rows = []
        for name in given.settings or [name for name, one in SETTINGS.items() if not one.tests]:
            problem = SETTINGS[name].problem(given.data_dir)
            for optimizer, rates in SETTINGS[name].rates.items():
                for rate in rates:
                    for step, found in gaps(name, optimizer, rate, problem):
                        rows.append((name, optimizer, rate, step, [round(gap, 4) for gap in found]))
                        print(*rows[-1], flush=True)
        WINDOWS.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
    print(table(json.loads(WINDOWS.read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
