"""Predictions printed before a run: distance from the limit, time to equilibrium, growth of the rate."""

import math
from typing import Any

import numpy as np

from lrjax.experiment.step.representation import log10_rate
from lrjax.transforms.equilibrium import angular_update, limit_fraction, time_to_equilibrium


def before(groups: list[Any]) -> str:
    """A line an arm: eta lambda against (1 - sqrt(gamma))^2, steps to equilibrium, angle of a step, range of the rate."""
    lines = {}
    for group in groups:
        for lane in group.lanes:
            if lane.arm not in lines:
                lines[lane.arm] = f"  {lane.arm:<16}{_expected(lane)}"
    title = "arm: learning rate times weight decay as a share of the limit, steps to equilibrium, angle of a step there, rates"
    return "\n".join([title, *lines.values()])


def _expected(lane: Any) -> str:
    optimizer = lane.config.optimizer
    rate, l2, momentum = optimizer.learning_rate, optimizer.l2 or 0.0, optimizer.momentum or 0.0
    if not l2:
        return "no weight decay: the norm only grows"
    tables = lane.coefficients().tables
    with np.errstate(divide="ignore"):  # a rate of 0, as at the end of a cosine
        used = np.log10(lane.learning_rates()) if tables is None else np.asarray(log10_rate(tables))
    finite = used[np.isfinite(used)]
    limit = f"{limit_fraction(rate, l2, momentum):.3f} of the limit" if momentum else f"eta lambda = {rate * l2:.2g}"
    return (
        f"{limit}, {math.ceil(time_to_equilibrium(rate, l2, momentum))} steps, "
        f"{float(angular_update(rate, l2, momentum)):.4f} rad, 10^{finite.min():.1f} to 10^{finite.max():.1f}"
    )
