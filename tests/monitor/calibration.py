"""What the monitor advises against what then happens: cells of optimizer, learning rate and time.

    python -m tests.monitor.calibration SETTING [--out FILE] [--data_dir DIR]   # trains; adds its cells to FILE
    python -m tests.monitor.calibration table [--out FILE]                      # the table from FILE, nothing is trained

SETTING is mlp, mlp_ce (these set the limits of the advice), cnn, lm, cnn_later or lm_later (these test them).

A cell: train to time t with a `Monitor` and take its advice. From that state go on for H steps, a tenth of the run, with
three orders of the data: at the rate as it is, held; and with a linear decay to 0 from 1, 3, 10, 30 times and a third of the
rate. The training loss, on all examples or a fixed part of them, is measured at the end and averaged over the three orders.

When advice is right, stated before any run, with a margin of 10 % of the loss:

- "decay": the decay from the rate as it is ends more than the margin below the rate held: 1 - L(decayed) / L(held) > 10 %.
- "keep": it does not. Keeping costs at most the margin now, and the decay stays to be made later.
- "far too small": the best of 3, 10 and 30 times the rate ends more than the margin below the rate as it is, both followed by
  the same decay. Both decay, since the larger rate held would be judged by its oscillation, and the question is where H more
  steps can lead.
- none of the three is "undecided", which is neither right nor wrong.

A run that diverged has an infinite loss. Two margins more, 5 % and 3 %, are given beside it, since 10 % is much for a loss
that cannot come near 0, as that of a language model.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lrjax.monitor import Facts, Monitor
from lrjax.monitor.advice import Case, advise
from tests.monitor.calibration_settings import OPTIMIZERS, SETTINGS, SHARED, Problem, Setting

MARGIN = 0.1
MARGINS = (0.1, 0.05, 0.03)
MULTIPLES = (1.0, 3.0, 10.0, 30.0, 1 / 3)
ORDERS = 3
JUDGED = ("far_too_small", "decay", "keep")
KEPT = ("step", "loss", "gradient_norm", "gain_ratio", "full_rho", "valley_gap", "probe_loss", "learning_rate")
RECORDS = Path(__file__).with_name("calibration.json")


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
    def larger_is_lower(self) -> bool:
        """Whether one of 3, 10 and 30 times the rate ends lower than the rate as it is in each order of the data."""
        ours = [self.decayed[f"{k:g}"] for k in MULTIPLES if k > 1]
        return any(all(a < b for a, b in zip(one, self.decayed["1"], strict=True)) for one in ours)

    @property
    def smaller(self) -> float:
        """The gain of a third of the rate over the rate as it is; both decay."""
        return _better(self.decayed[f"{1 / 3:g}"], self.decayed["1"])


def _better(ours: Sequence[float], theirs: Sequence[float]) -> float:
    a, b = (float(np.mean([x if math.isfinite(x) else math.inf for x in losses])) for losses in (ours, theirs))
    if math.isinf(a):
        return -math.inf
    return 1.0 if math.isinf(b) else 1 - a / b


def advice_of(cell: Cell) -> str:
    """The code of what is said of the rate: one of `JUDGED`, or "undecided"."""
    codes = {one.code for one in advise(Case(cell.rows, Facts("other"), (), None, False, False))}
    return next((code for code in JUDGED if code in codes), "undecided")


def right(cell: Cell, code: str, margin: float = MARGIN, any_gain: bool = False) -> bool | None:
    """Whether advice is right; None for "undecided".

    Args:
        cell: what happened.
        code: the advice.
        margin: share of the loss.
        any_gain: whether "far too small" is right by a larger rate that ends lower in each order of the data, by whatever
            margin.
    """
    if code == "decay":
        return cell.gain > margin
    if code == "keep":
        return cell.gain <= margin
    if code == "far_too_small":
        return cell.larger_is_lower if any_gain else cell.larger[1] > margin
    return None


class Runner:
    """Compiled programs of a setting and an optimizer."""

    def __init__(self, setting: Setting, problem: Problem, optimizer: Any):
        self.setting, self.problem, self.optimizer = setting, problem, optimizer
        self.data = tuple(jnp.asarray(array) for array in problem.train)
        self.step = jax.jit(self._step, donate_argnums=(0, 1))
        self.scan = jax.jit(self._scan)
        self.loss = jax.jit(problem.loss)

    def batch(self, index: Any) -> Any:
        taken = tuple(array[index] for array in self.data)
        return taken if len(taken) > 1 else taken[0]

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
        parts = [tuple(array[i : i + chunk] for array in held) for i in range(0, len(held[0]), chunk)]
        return float(np.mean([float(self.loss(params, part if len(part) > 1 else part[0])) for part in parts]))

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
            rows = [{key: row[key] for key in KEPT if key in row} for row in monitor.rows()]
            there.append((step, rows, monitor.share(), jax.tree.map(jnp.copy, (params, state))))
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


def read(path: Path) -> list[Cell]:
    """Recorded cells."""
    return [Cell(**record) for record in json.loads(path.read_text())] if path.exists() else []


def write(path: Path, found: Iterable[Cell]) -> None:
    """Cells as JSON, a line each, numbers to six digits."""
    lines = [json.dumps(_rounded(cell._asdict())) for cell in found]
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(one) for one in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


COLUMNS = ("setting", "optimizer", "rate", "step", "gap", "advice", "decay gains", "x3, x10, x30", "/3 gains", "right")


def _percent(gain: float) -> str:
    return "diverged" if math.isinf(gain) else f"{100 * gain:+.0f} %"


def row_of(cell: Cell) -> tuple[str, ...]:
    """A row of the table."""
    code = advice_of(cell)
    gaps = [row["valley_gap"] for row in cell.rows if "valley_gap" in row][-3:]
    best, gain = cell.larger
    verdict = {True: "yes", False: "no", None: "-"}[right(cell, code)]
    shown = ", ".join(f"{100 * gap:.0f} %" for gap in gaps) or "none"
    return (
        cell.setting, cell.optimizer, f"{cell.rate:g}", str(cell.step), shown, code.replace("_", " "),
        _percent(cell.gain), f"{_percent(gain)} (x{best:g})", _percent(cell.smaller), verdict,
    )  # fmt: skip


def totals(found: Sequence[Cell], margin: float = MARGIN, any_gain: bool = False) -> dict[str, tuple[int, int]]:
    """Advice -> (how often it was right, how often it was given); "undecided" with 0 right, "decided" for all others."""
    count = {code: [0, 0] for code in (*JUDGED, "undecided", "decided")}
    for cell in found:
        code = advice_of(cell)
        for name in {code, "undecided" if code == "undecided" else "decided"}:
            count[name][0] += right(cell, code, margin, any_gain) is True
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
    rules = [(f"{margin:.0%}", margin, False) for margin in MARGINS]
    rules.insert(1, (f"{MARGIN:.0%}; far too small: any gain", MARGIN, True))
    for name, part in groups.items():
        for words, margin, any_gain in rules if part else ():
            count = totals(part, margin, any_gain)
            parts = [f"{a} of {b}" for a, b in (count[code] for code in (*JUDGED, "decided"))]
            lines.append("| " + " | ".join((name, words, *parts, f"{count['undecided'][1]} of {len(part)}")) + " |")
    return "\n".join(lines)


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
    print(table(found), summary(found), sep="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
