"""The learning rate in use: from the state, or from the schedule that the caller passes; never guessed."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp  # noqa: F401 -- of the example
import numpy as np
import optax

from lrjax.errors import check, refuse
from lrjax.spectra.frameworks import Tree
from lrjax.spectra.second_moments import plain, walk

NAME = "learning_rate"


class Rate(NamedTuple):
    """A learning rate and where it is from.

    Attributes:
        value: eta; None where it is unknown.
        source: "state", "schedule", or "unknown" with the reason.
    """

    value: float | None
    source: str


def learning_rate_of(opt_state: Tree, *, group: Hashable | None = None) -> float:
    """The learning rate that `optax.inject_hyperparams` holds in a state of any optimizer.

    Args:
        opt_state: with `optax.inject_hyperparams` anywhere inside (chain, partition, masked, MultiSteps, apply_if_finite), or
            a train state that holds one.
        group: a label of `optax.partition`, where several groups have rates.

    Returns:
        eta.

    Raises:
        LrjaxError: none in the state, or several that differ and no group.

    Example:
        >>> tx = optax.inject_hyperparams(optax.adamw)(learning_rate=3e-4)
        >>> round(learning_rate_of(tx.init(jnp.ones(2))), 7)
        0.0003
    """
    found = rates_in(opt_state)
    if group is not None:
        check(
            group in found,
            f"the state holds no learning rate of group {group!r}; groups with one: {sorted(map(str, found))}",
        )
        return found[group]
    if not found:
        refuse(
            "the optimizer state holds no learning rate; build the optimizer by "
            "optax.inject_hyperparams(optax.adamw)(learning_rate=...), or pass the schedule where the rate is asked for"
        )
    values = set(found.values())
    check(
        len(values) == 1,
        f"the groups have different learning rates; choose by group=: {', '.join(f'{k!r} ({v:g})' for k, v in found.items())}",
    )
    return values.pop()


def rates_in(opt_state: Tree) -> dict[Hashable, float]:
    """Label of `optax.partition` (or the path of the state) -> learning rate, of each `optax.inject_hyperparams`.

    Where the rate is a schedule, the state holds that of the update before.

    Example:
        >>> rates_in(optax.inject_hyperparams(optax.sgd)(learning_rate=0.5).init(jnp.ones(2)))
        {'': 0.5}
    """
    return {key: float(np.asarray(value)) for key, value in held(opt_state).items()}


def held(opt_state: Tree) -> dict[Hashable, Any]:
    """As `rates_in`, the values as they are in the state."""
    found: dict[Hashable, Any] = {}
    for node in walk(opt_state):
        numbers = getattr(node.state, "hyperparams", None)
        if isinstance(numbers, dict) and NAME in numbers:
            key = node.labels[-1] if node.labels and node.labels[-1] not in found else node.path
            found[key] = plain(numbers[NAME])
    return found


def scheduled(opt_state: Tree) -> bool:
    """Whether a rate that `optax.inject_hyperparams` holds follows a schedule, so that the state lags by an update.

    Example:
        >>> schedule = optax.linear_schedule(1.0, 0.0, 10)
        >>> [scheduled(optax.inject_hyperparams(optax.sgd)(rate).init(jnp.ones(2))) for rate in (0.1, schedule)]
        [False, True]
    """
    return any(NAME in (getattr(node.state, "hyperparams_states", None) or {}) for node in walk(opt_state))


def count_of(opt_state: Tree) -> int | None:
    """Updates that a schedule or `optax.inject_hyperparams` has counted; None where none does, or several counts differ.

    Example:
        >>> tx = optax.adam(optax.linear_schedule(1.0, 0.0, 10))
        >>> count_of(tx.init(jnp.ones(2))), count_of(optax.sgd(0.1).init(jnp.ones(2)))
        (0, None)
    """

    def is_count(node: Any) -> bool:
        return isinstance(node, optax.ScaleByScheduleState) or (hasattr(node, "hyperparams") and hasattr(node, "count"))

    nodes = [node for node in jax.tree.leaves(plain(opt_state), is_leaf=is_count) if is_count(node)]
    counts = {int(np.asarray(node.count)) for node in nodes}
    return counts.pop() if len(counts) == 1 else None


def rate_in_use(
    opt_state: Tree,
    step: int,
    learning_rate: float | Callable[[Any], Any] | None,
    following: dict[Hashable, float] | None = None,
) -> Rate:
    """The learning rate of the next update.

    Args:
        opt_state: of the optimizer.
        step: of the training, for a schedule whose count the state does not hold.
        learning_rate: a number or an optax schedule, where the caller knows it.
        following: rates that the state holds after the next update: those which that update uses, where they are `scheduled`.

    Returns:
        That of the state if it holds exactly one; else of the schedule at the state's count, or at `step`; else unknown.

    Example:
        >>> state = optax.sgd(0.1).init(jnp.ones(2))
        >>> rate_in_use(state, 3, lambda count: 0.1 / (1 + count)).value
        0.025
        >>> rate_in_use(state, 3, None).source.split(":")[0]
        'unknown'
    """
    rates = following or rates_in(opt_state)
    if rates and len(set(rates.values())) == 1:
        return Rate(next(iter(rates.values())), "state")
    if learning_rate is None:
        why = "its groups have different rates" if rates else "pass learning_rate="
        return Rate(None, f"unknown: {why}")
    if not callable(learning_rate):
        return Rate(float(learning_rate), "schedule")
    count = count_of(opt_state)
    return Rate(float(np.asarray(learning_rate(step if count is None else count))), "schedule")


def named_rates(rate: Rate, held: dict[Hashable, float]) -> dict[str, float]:
    """The rate as entries of a row: one, or one a group where these differ.

    Example:
        >>> named_rates(Rate(None, "unknown: ..."), {"muon": 0.02, "adam": 0.001})
        {'learning_rate/muon': 0.02, 'learning_rate/adam': 0.001}
    """
    if rate.value is not None:
        return {"learning_rate": rate.value}
    return {f"learning_rate/{name}": value for name, value in held.items()}
