"""Which learning rate? A short sweep over rates, seeds and horizons, each lane trained to the end of its schedule."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.errors import check, nearest
from lrjax.monitor.rate_fit import drift, fit
from lrjax.monitor.rate_lanes import SCHEDULES, Data, Problem, check_problem, evaluate, run, shuffled, stacked
from lrjax.monitor.suggestion import LaneResult, Suggestion
from lrjax.spectra.random_vectors import as_key
from lrjax.spectra.resampling import generator

RATES, LOW, HIGH = 12, 1e-5, 1.0
EVALUATED = 16  # batches of the default evaluation
DIVERGED = 4.0  # times the loss at the start; range tests stop there too


def suggest(
    loss_fn: Callable[[Any, Any], Any],
    init: Callable[[Any], Any],
    make_optimizer: Callable[[Any], Any],
    batches: Any,
    *,
    horizons: Sequence[int] = (200, 800),
    rates: Sequence[float] | None = None,
    seeds: int = 3,
    num_steps: int | None = None,
    key: Any = None,
    schedule: str | Callable[[Any, Any], Any] = "linear",
    eval_batches: Any = None,
    lanes: str = "auto",
    level: float = 0.95,
) -> Suggestion:
    r"""The learning rate with the smallest final loss, with its interval and its drift with the number of steps.

    Trains `seeds` networks at each rate for each horizon, all lanes in one compiled program, each with a schedule that ends
    with its horizon. For each horizon a parabola in log rate is fitted to the log of the final loss around its minimum:

    .. math::
        \log L(\eta) \approx a (\log \eta - \log \eta^*)^2 + c

    The default rates are 12 from 1e-5 to 1, a factor of 2.8 apart: best rates of Adam are mostly 1e-4 to 1e-2 and those of SGD
    1e-2 to 1, and the horizon moves them by a few times. A second call with `rates=(low, high)` around the first result
    narrows the interval. A minimum at the end of the grid, or beside a rate at which a seed diverges, is named as such:
    `learning_rate` is then the best rate tested, without an interval.

    The best rate depends on the horizon, so two are run and the slope of log best rate on log horizon is reported. Either
    sign occurs. A rate for `num_steps` is an extrapolation of that slope.

    Each step runs inside a compiled loop, where XLA's convolutions on a CPU are slow: there, give short horizons or a
    small network. Memory is that of all lanes of a horizon with "vmap", of one with "map".

    Args:
        loss_fn: (params, batch) -> scalar, the mean over the batch; the same value for the same arguments.
        init: key -> params, a tree of arrays.
        make_optimizer: learning rate -> optimizer of optax. It is given a schedule that holds traced numbers, and for
            schedule="constant" a traced number; `optax.adam` alone will do.
        batches: equally shaped trees of arrays [B, ...]: a list, or a function that returns an iterator. At most as many as
            the longest horizon has steps are taken; they are kept on the device and reused, in an order that each seed
            shuffles anew in each pass.
        horizons: steps of the trainings, growing.
        rates: 12 if None; two numbers are the ends of 12; three or more are the grid.
        seeds: networks at each rate; the same initial parameters and batches at all rates.
        num_steps: steps of the run that the rate is for; more than the longest horizon. None extrapolates nothing.
        key: a key of `jax.random`, or an integer; default 0.
        schedule: "linear" or "cosine" decay to 0, "constant", or a function (rate, num_steps) -> what make_optimizer takes.
        eval_batches: on which the final loss is measured, as `batches`; default the first 16 of `batches`, which measures how
            well the rate trains. Give held-out batches to measure how well it generalises.
        lanes: "vmap", "map", or "auto": compiles both, times five steps of each and takes the faster. The two round
            differently: name one where results must repeat to the bit.
        level: of the intervals.

    Returns:
        Suggestion. `print` shows the tables, `.figure()` the curves; `.learning_rate` and `.interval` are those of the longest
        horizon.

    Raises:
        LrjaxError: rates that are not positive or not different, horizons that do not grow, num_steps within them, batches
            of different shapes, a loss that is no scalar or not finite at the start, an optimizer that takes no traced rate or
            ignores it, or a horizon of which every lane diverged.

    References:
        Hägele et al. (2024), Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations: the best rate
        depends on the schedule and its length.

    Example:
        >>> import optax
        >>> x = jax.random.normal(jax.random.key(0), (8, 32, 5))
        >>> batches = [{"x": each, "y": each.sum(1) + 0.1 * each[:, 0] ** 3} for each in x]
        >>> loss = lambda w, batch: jnp.mean((batch["x"] @ w - batch["y"]) ** 2)
        >>> found = suggest(
        ...     loss, lambda key: jax.random.normal(key, (5,)), optax.sgd, batches, horizons=(20, 80), lanes="vmap"
        ... )
        >>> 0.05 < found.learning_rate < 0.5
        True
    """
    started = time.perf_counter()
    steps, grid = _horizons(horizons, num_steps), _rates(rates)
    _check_settings(seeds, schedule, lanes, level)
    key = as_key(key)
    problem = Problem(loss_fn, init, make_optimizer, SCHEDULES[schedule] if isinstance(schedule, str) else schedule)
    random = generator(key)
    data = _data(batches, eval_batches, seeds, steps, key, random)
    check_problem(problem, data)
    at_start = _at_start(problem, data)
    losses, diverged_at, way, times = run(problem, data, steps, grid, lanes)
    _check_sensitive(losses, grid)
    kept = (diverged_at < 0) & np.isfinite(losses) & (losses <= DIVERGED * np.abs(at_start))
    fits = [
        fit(horizon, grid, np.where(ok, of, np.nan), level=level, generator=random)
        for horizon, of, ok in zip(steps, losses, kept, strict=True)
    ]
    slope, beyond = drift(fits, num_steps, level)
    rows = tuple(
        LaneResult(
            steps[h], float(grid[r]), s, float(losses[h, r, s]), not kept[h, r, s],
            int(diverged_at[h, r, s]) if diverged_at[h, r, s] >= 0 else None,
        )
        for h, r, s in np.ndindex(losses.shape)
    )  # fmt: skip
    seconds = time.perf_counter() - started
    optima = tuple(each.optimum for each in fits)
    return Suggestion(optima, slope, beyond, num_steps, rows, float(at_start.mean()), level, way, times, seconds)


def _horizons(horizons: Sequence[int], num_steps: int | None) -> tuple[int, ...]:
    steps = tuple(int(horizon) for horizon in horizons)
    check(
        bool(steps) and steps[0] >= 2 and all(a < b for a, b in zip(steps, steps[1:], strict=False)),
        f"horizons must be numbers of steps that grow, such as (200, 800), not {tuple(horizons)}",
    )
    check(
        num_steps is None or num_steps > steps[-1],
        f"num_steps={num_steps} is no longer than the longest horizon, {steps[-1]}: put it among the horizons, where it "
        "is measured",
    )
    return steps


def _rates(rates: Sequence[float] | None) -> np.ndarray:
    given = np.asarray((LOW, HIGH) if rates is None else rates, np.float64).ravel()
    check(
        len(given) >= 2 and bool((np.isfinite(given) & (given > 0)).all()),
        f"rates must be two positive numbers, the ends of the grid, or a grid of three or more, not {rates}",
    )
    check(
        len(np.unique(given)) == len(given) and (len(given) > 2 or given[0] < given[1]),
        f"rates must be different numbers, of two the smaller one first, not {rates}",
    )
    return np.geomspace(given[0], given[1], RATES) if len(given) == 2 else np.sort(given)


def _check_settings(seeds: int, schedule: Any, lanes: str, level: float) -> None:
    check(seeds >= 1, f"seeds must be a number of networks, 1 or more, not {seeds}")
    if isinstance(schedule, str):
        check(schedule in SCHEDULES, f"unknown schedule {schedule!r}; {nearest(schedule, SCHEDULES)}")
    check(lanes in ("auto", "vmap", "map"), f"lanes must be 'auto', 'vmap' or 'map', not {lanes!r}")
    check(0 < level < 1, f"level must be between 0 and 1, such as 0.95, not {level}")


def _data(batches: Any, eval_batches: Any, seeds: int, steps: tuple[int, ...], key: Any, random: Any) -> Data:
    trained = stacked(batches, steps[-1])
    count = len(jax.tree.leaves(trained)[0])
    if eval_batches is None:
        evaluated = jax.tree.map(lambda leaf: leaf[:EVALUATED], trained)
    else:
        evaluated = stacked(eval_batches, steps[-1], "eval_batches")
    orders = shuffled(count, steps[-1], seeds, random)
    trained, orders, evaluated = jax.tree.map(jnp.asarray, (trained, orders, evaluated))
    return Data(trained, orders, evaluated, jax.random.split(key, seeds))


def _at_start(problem: Problem, data: Data) -> np.ndarray:
    """Loss of the initial parameters of each seed [S]."""

    def of_seed(key, data):
        return evaluate(problem.loss_fn, problem.init(key), data.evaluated)

    losses = np.asarray(jax.jit(lambda data: jax.lax.map(lambda key: of_seed(key, data), data.keys))(data), np.float64)
    worst = losses[~np.isfinite(losses)]
    check(
        not worst.size,
        f"the loss of the initial parameters is {worst[0] if worst.size else math.nan}: no rate mends that, so look at init, "
        "the batches and loss_fn",
    )
    return losses


def _check_sensitive(losses: np.ndarray, rates: np.ndarray) -> None:
    same = np.all(losses == losses[:, :1])
    check(
        not same or not np.isfinite(losses).all(),
        f"all {len(rates)} rates gave the same losses: make_optimizer ignores its argument; use it as the learning rate",
    )
