"""What the monitor advises against what then happens: cells of optimizer, learning rate and time.

    python -m tests.monitor.calibration SETTING [--out FILE] [--data_dir DIR]   # trains; adds its cells to FILE
    python -m tests.monitor.calibration table [--out FILE]                      # the table from FILE, nothing is trained

SETTING is mlp, mlp_ce (these set the limits of the advice), cnn or lm (these test them).

A cell: train to time t with a `Monitor` and take its advice. From that state go on for H steps, a tenth of the run, with
three orders of the data: at the rate as it is, held; and with a linear decay to 0 from 1, 3, 10, 30 times and a third of the
rate. The training loss, on all examples or a fixed part of them, is measured at the end and averaged over the three orders.

When advice is right, stated before the cells that test it were run, with a margin of 10 % of the loss:

- "decay": the decay from the rate as it is ends more than the margin below the rate held: 1 - L(decayed) / L(held) > 10 %.
- "keep": it does not. Keeping costs at most the margin now, and the decay stays to be made later.
- "far too small": with the best of 3, 10 and 30 times the rate the loss falls at least twice as far as with the rate as it is,
  both followed by the same decay. Both decay, since the larger rate held would be judged by its oscillation, and the question
  is where H more steps can lead. It is a ratio of falls, since a share of the loss asks more of a loss that cannot come near
  0, as that of a language model.
- none of the three is "undecided", which is neither right nor wrong.

A run that diverged has an infinite loss. Two margins more, 5 % and 3 %, are given beside it.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lrjax.monitor import Monitor
from tests.monitor.calibration_cells import (
    MULTIPLES,
    RECORDS,
    Cell,
    kept,
    larger_rates,
    read,
    row_of,
    summary,
    table,
    write,
)
from tests.monitor.calibration_settings import OPTIMIZERS, SETTINGS, SHARED, Problem, Setting

ORDERS = 3


def _batch(arrays: Sequence[Any]) -> Any:
    return tuple(arrays) if len(arrays) > 1 else arrays[0]


class Runner:
    """Compiled programs of a setting and an optimizer."""

    def __init__(self, setting: Setting, problem: Problem, optimizer: Any):
        self.setting, self.problem, self.optimizer = setting, problem, optimizer
        self.data = tuple(jnp.asarray(array) for array in problem.train)
        self.step = jax.jit(self._step, donate_argnums=(0, 1))
        self.scan = jax.jit(self._scan)
        self.loss = jax.jit(problem.loss)

    def batch(self, index: Any) -> Any:
        return _batch([array[index] for array in self.data])

    def _step(self, params: Any, state: Any, index: jax.Array, rate: jax.Array) -> tuple[Any, Any]:
        gradient = jax.grad(self.problem.loss)(params, self.batch(index))
        state = state._replace(hyperparams={**state.hyperparams, "learning_rate": rate})
        update, state = self.optimizer.update(gradient, state, params)
        return optax.apply_updates(params, update), state

    def _scan(self, params: Any, state: Any, indices: jax.Array, rates: jax.Array) -> Any:
        return jax.lax.scan(lambda carry, row: (self._step(*carry, *row), None), (params, state), (indices, rates))[0]

    def advance(self, params: Any, state: Any, indices: np.ndarray, rates: np.ndarray) -> Any:
        """Parameters and state after a step for each row of `indices`; the given ones stay."""
        rates = rates.astype(np.float32)
        if self.setting.scanned:
            return self.scan(params, state, indices, rates)
        params, state = jax.tree.map(jnp.copy, (params, state))
        for index, rate in zip(indices, rates, strict=True):
            params, state = self.step(params, state, index, rate)
        return params, state

    def training_loss(self, params: Any) -> float:
        held, chunk = self.problem.held, self.problem.chunk
        parts = [_batch([array[i : i + chunk] for array in held]) for i in range(0, len(held[0]), chunk)]
        return float(np.mean([float(self.loss(params, part)) for part in parts]))

    def orders(self, seed: int, steps: int) -> np.ndarray:
        """Indices of batches `[steps, batch_size]`, drawn with replacement."""
        return np.random.default_rng(seed + 100 * self.setting.seed).integers(
            0, len(self.problem.train[0]), (steps, self.setting.batch_size)
        )


def cells(name: str, optimizer: str, rate: float, problem: Problem) -> Iterable[Cell]:
    """The cells of a training: one a time."""
    setting, there = SETTINGS[name], []
    runner = Runner(setting, problem, OPTIMIZERS[optimizer](rate))
    params = problem.init(jax.random.key(setting.seed))
    state = runner.optimizer.init(params)
    monitor = Monitor(problem.loss, runner.optimizer, num_steps=setting.num_steps, every=setting.every)
    value = np.float32(rate)
    for step, index in enumerate(runner.orders(0, max(setting.times) + 1)):
        if step in setting.times:
            there.append((step, kept(monitor.rows()), monitor.share(), jax.tree.map(jnp.copy, (params, state))))
        monitor.update(step, params, state, runner.batch(index))
        params, state = runner.step(params, state, index, value)
    for step, rows, shares, (params, state) in there:
        yield Cell(name, optimizer, rate, step, rows, *continued(runner, params, state, rate), shares)


def continued(
    runner: Runner, params: Any, state: Any, rate: float
) -> tuple[float, list[float], dict[str, list[float]]]:
    """The loss here; after H steps at the rate; and after H steps of decay from each multiple of it."""
    steps = runner.setting.horizon
    held: list[float] = []
    decayed: dict[str, list[float]] = {f"{multiple:g}": [] for multiple in MULTIPLES}
    fall = 1 - np.arange(steps) / steps
    for seed in range(1, ORDERS + 1):
        order = runner.orders(seed, steps)
        held.append(runner.training_loss(runner.advance(params, state, order, np.full(steps, rate))[0]))
        for multiple in MULTIPLES:
            end = runner.advance(params, state, order, multiple * rate * fall)[0]
            decayed[f"{multiple:g}"].append(runner.training_loss(end))
    return runner.training_loss(params), held, decayed


def run(name: str, folder: Path) -> Iterable[list[Cell]]:
    """The cells of a setting, a training at a time."""
    problem = SETTINGS[name].problem(folder)
    for optimizer, rates in SETTINGS[name].rates.items():
        for rate in rates:
            began = time.perf_counter()
            found = list(cells(name, optimizer, rate, problem))
            for cell in found:
                print(" | ".join(row_of(cell)), f"{time.perf_counter() - began:.0f} s", flush=True)
            yield found


def main(arguments: Sequence[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.monitor.calibration", description=str(__doc__).split("\n")[0]
    )
    parser.add_argument("setting", choices=[*SETTINGS, "table"])
    parser.add_argument("--out", type=Path, default=RECORDS)
    parser.add_argument("--data_dir", type=Path, default=SHARED)
    given = parser.parse_args(arguments)
    jax.config.update("jax_compilation_cache_dir", tempfile.mkdtemp())  # the programs of one rate serve the others
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    if given.setting != "table":
        made: list[Cell] = []
        for more in run(given.setting, given.data_dir):
            made += more
            others = [cell for cell in read(given.out) if cell.setting != given.setting]
            order = list(SETTINGS)
            write(given.out, sorted([*others, *made], key=lambda cell: order.index(cell.setting)))
    found = read(given.out)
    print(table(found), summary(found), larger_rates(found), sep="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
