"""The learning-rate range test: one training whose rate grows step by step. Kept for comparison; `suggest` measures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lrjax.errors import check, refuse
from lrjax.monitor.rate_lanes import stacked, updated
from lrjax.spectra.results import to_dict

FEWEST = 20  # steps: the slope of fewer losses is that of the batches
SMOOTHING = 0.95  # the customary weight of the past
SKIPPED = 10  # steps whose average holds too few losses to have a slope; customary too
BLOWN_UP = 4.0  # times the smallest smoothed loss: the customary end


class RangeTest(NamedTuple):
    """Losses of one training under a growing learning rate: the legacy method.

    Attributes:
        rates: [N] of the steps that were made.
        losses: [N] of the batches, before the step.
        smoothed: [N] their exponential average, corrected for its start.
        steepest: rate at which the smoothed loss falls fastest by log rate, from the eleventh step; the customary choice.
        at_minimum: rate of the smallest smoothed loss.
        num_steps: that were planned; fewer were made where the loss blew up.

    Example:
        >>> ones = np.ones(2)
        >>> print(RangeTest(np.array([0.1, 1.0]), ones, ones, 0.1, 1.0, 20))
        Range test (legacy method, one seed, blind to the horizon: use lrjax.suggest): steepest at 0.1, minimum at 1,
        2 of 20 steps made.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    steepest: float
    at_minimum: float
    num_steps: int

    to_dict = to_dict

    def __repr__(self) -> str:
        return (
            "Range test (legacy method, one seed, blind to the horizon: use lrjax.suggest): "
            f"steepest at {self.steepest:.3g}, minimum at {self.at_minimum:.3g},\n"
            f"{len(self.rates)} of {self.num_steps} steps made."
        )


def range_test(
    loss_fn: Callable[[Any, Any], Any],
    params: Any,
    make_optimizer: Callable[[Any], Any],
    batches: Any,
    *,
    low: float = 1e-6,
    high: float = 1.0,
    num_steps: int = 100,
) -> RangeTest:
    """Legacy: losses while the rate grows exponentially from low to high. `lrjax.suggest` is what to use.

    Two faults are in the method, not in this form of it. It scatters: another order of the batches moves the steepest point
    by a factor. And it cannot see the horizon: the best rate of a short and of a long run differ, and a range test gives one
    number for both.

    Args:
        loss_fn: (params, batch) -> scalar.
        params: where to start, a tree of arrays; left as they are.
        make_optimizer: schedule -> optimizer of optax.
        batches: equally shaped trees of arrays: a list, or a function that returns an iterator; reused in their order.
        low: rate of the first step.
        high: rate of the last step.
        num_steps: 20 or more. It stops where the smoothed loss is four times its smallest value, or not finite.

    Returns:
        RangeTest.

    Raises:
        LrjaxError: a range that is not 0 < low < high, too few steps, batches of different shapes, a loss that is not finite
            at the start.

    References:
        Smith (2017), Cyclical Learning Rates for Training Neural Networks, section 3.3.

    Example:
        >>> import optax
        >>> loss = lambda w, x: jnp.mean((x @ w - x.sum(1)) ** 2)
        >>> found = range_test(loss, jnp.zeros(4), optax.sgd, jax.random.normal(jax.random.key(0), (1, 64, 4)), high=100.0)
        >>> 0.01 < found.steepest < found.at_minimum < 10
        True
    """
    check(0 < low < high, f"a range test goes from a small rate to a large one, 0 < low < high, not {low} to {high}")
    check(
        num_steps >= FEWEST, f"num_steps must be {FEWEST} or more, not {num_steps}: the slope of fewer losses is noise"
    )
    data = jax.tree.map(jnp.asarray, stacked(batches, num_steps))
    count = len(jax.tree.leaves(data)[0])
    losses = np.asarray(_losses(loss_fn, params, make_optimizer, data, count, low, high, num_steps), np.float64)
    if not np.isfinite(losses[0]):
        refuse(f"the loss of the initial parameters is {losses[0]}: no rate mends that, so look at params and loss_fn")
    rates = low * (high / low) ** (np.arange(num_steps) / (num_steps - 1))
    smoothed = _smoothed(losses)
    made = _made(smoothed)
    check(
        made > SKIPPED + 2,
        f"the loss blew up after {made} steps: start from a smaller rate than low={low:g}, or take more steps",
    )
    rates, losses, smoothed = rates[:made], losses[:made], smoothed[:made]
    steepest = rates[SKIPPED + int(np.argmin(np.gradient(smoothed, np.log(rates))[SKIPPED:]))]
    return RangeTest(rates, losses, smoothed, float(steepest), float(rates[np.argmin(smoothed)]), num_steps)


def _losses(
    loss_fn: Callable, params: Any, make_optimizer: Callable, data: Any, count: int, low: float, high: float, steps: int
) -> Any:
    """Loss of each step [steps], before it."""
    optimizer = optax.with_extra_args_support(make_optimizer(lambda step: low * (high / low) ** (step / (steps - 1))))

    def one(carry, step):
        params, state = carry
        batch = jax.tree.map(lambda leaf: leaf[step % count], data)
        loss, grads = jax.value_and_grad(loss_fn)(params, batch)
        return updated(optimizer, grads, state, params, loss, lambda params: loss_fn(params, batch)), loss

    return jax.jit(lambda params: jax.lax.scan(one, (params, optimizer.init(params)), jnp.arange(steps))[1])(params)


def _made(smoothed: np.ndarray) -> int:
    """Steps before the loss blows up."""
    settled = np.where((np.arange(len(smoothed)) >= SKIPPED) & np.isfinite(smoothed), smoothed, np.inf)
    smallest = np.minimum.accumulate(settled)
    line = smallest + (BLOWN_UP - 1) * np.abs(smallest)  # abs: a loss may be negative
    ended = ~np.isfinite(smoothed) | (smoothed > line)
    return int(np.argmax(ended)) if ended.any() else len(smoothed)


def _smoothed(losses: np.ndarray) -> np.ndarray:
    averages, average = np.empty_like(losses), 0.0
    for step, loss in enumerate(losses):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        averages[step] = average / (1 - SMOOTHING ** (step + 1))
    return averages
