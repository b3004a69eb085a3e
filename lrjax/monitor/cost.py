"""What a measurement costs, counted before it runs, and how often each is made within a budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from lrjax.errors import check

STEPS = 10_000  # of a run whose length is not told
NOTHING = 1e-12  # a share of the training's operations that no run is long enough for


def flops(function: Callable, *arguments: Any) -> float:
    """Floating-point operations of a function, counted by XLA on its program before it is compiled.

    Args:
        function: of JAX; not run.
        *arguments: arrays, or their shapes.

    Returns:
        The count; the body of a loop counts once, in a training step as in an instrument.

    Example:
        >>> import jax.numpy as jnp
        >>> flops(lambda a, b: a @ b, jnp.ones((4, 8)), jnp.ones((8, 2)))
        128.0
    """
    analysis = jax.jit(function).lower(*arguments).cost_analysis() or {}
    return float(analysis.get("flops", math.nan))


class Row(NamedTuple):
    """How often an instrument is used.

    Attributes:
        tier: 1 or 2.
        cost: of one measurement, in training steps.
        batches: over how many batches of the probe set it goes.
        interval: steps between two measurements; 0 where it is not made.
    """

    tier: int
    cost: float
    batches: int
    interval: int

    @property
    def share(self) -> float:
        """Of the training's operations."""
        return self.cost / self.interval if self.interval else 0.0


class Wish(NamedTuple):
    """What an instrument asks for: its cost in training steps (fixed, and for each batch), the batches it would like and
    those it needs, and its part of the tier's budget."""

    fixed: float
    each: float
    most: int
    least: int
    part: float


def plan(
    wishes: Mapping[str, Wish], *, tier: int, budget: float, every: int, num_steps: int | None, measurements: int = 10
) -> dict[str, Row]:
    """Intervals of instruments, so that their operations stay within a share of the training's.

    An instrument goes over as many batches as let it be made `measurements` times in the run, and over fewer, down to what
    it needs, where these would cost more.

    Args:
        wishes: instrument -> `Wish`; the parts add up to at most 1.
        tier: 1 or 2.
        budget: share of the training's operations; 0 for none of these instruments, above 1 where they come every step.
        every: no interval is shorter.
        num_steps: of the run, or None where it is not known.
        measurements: wished for in a run.

    Returns:
        Instrument -> `Row`.

    Raises:
        LrjaxError: a negative budget.

    Example:
        >>> rows = plan({"gap": Wish(0.0, 0.5, 16, 2, 1.0)}, tier=1, budget=0.02, every=100, num_steps=4000)
        >>> rows["gap"].batches, rows["gap"].interval, rows["gap"].share <= 0.02
        (16, 400, True)
    """
    check(budget >= 0, f"budget is a share of the training's operations, 0 or more, not {budget}")
    wanted = max((num_steps or STEPS) // measurements, every)
    rows = {}
    for name, wish in wishes.items():
        share = budget * wish.part
        if share < NOTHING:
            rows[name] = Row(tier, wish.fixed + wish.each * wish.least, wish.least, 0)
            continue
        affordable = (share * wanted - wish.fixed) / wish.each if wish.each > 0 else wish.most
        batches = int(min(max(affordable, wish.least), wish.most))
        cost = wish.fixed + wish.each * batches
        interval = max(every, math.ceil(cost / share / every) * every)
        rows[name] = Row(tier, cost, batches, interval)
    return rows
