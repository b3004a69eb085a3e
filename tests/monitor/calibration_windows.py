"""Valley gaps of means over 1, 2, 5 and 10 % of the run, against what a decay then gained in the recorded cells.

    python -m tests.monitor.calibration_windows SETTING [--data_dir DIR]

Both losses of a gap are on the examples on which the calibration measures the training loss; a mean is of 16 parameters.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.monitor.calibration import Runner
from tests.monitor.calibration_cells import RECORDS, read
from tests.monitor.calibration_settings import OPTIMIZERS, SETTINGS, SHARED, Problem

SHARES = (0.01, 0.02, 0.05, 0.1)
SAMPLES = 16


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


def main(arguments: Sequence[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.monitor.calibration_windows")
    parser.add_argument("setting", choices=SETTINGS)
    parser.add_argument("--data_dir", type=Path, default=SHARED)
    given = parser.parse_args(arguments)
    gains = {cell[:4]: cell.gain for cell in read(RECORDS)}
    problem = SETTINGS[given.setting].problem(given.data_dir)
    for optimizer, rates in SETTINGS[given.setting].rates.items():
        for rate in rates:
            for step, found in gaps(given.setting, optimizer, rate, problem):
                shown = " ".join(f"{100 * gap:6.1f}" for gap in found)
                gain = 100 * gains[given.setting, optimizer, rate, step]
                print(
                    f"{given.setting:10}{optimizer:9}{rate:<8g}{step:5} decay gains {gain:6.1f} % gaps {shown} %",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
