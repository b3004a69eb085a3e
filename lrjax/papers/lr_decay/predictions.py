"""Predictions printed before a run: the complexity of the patterns, and when each arm decays."""

import math
from typing import Any


def before(groups: list[Any]) -> str:
    """A line on the data and one for each arm: its rates, and when they change.

    Args:
        groups: from `lrjax.experiment.loop.sweep.expand`.
    """
    lanes = sorted((lane for group in groups for lane in group.lanes), key=lambda lane: lane.index)
    lines = []
    data = lanes[0].config.data
    if data.name == "ps10":
        bits = f"{math.log2(data.k_simple):.4f} and {math.log2(data.k_complex):.4f}"
        lines.append(f"PS10: complexity of simple and complex patterns {bits} bits, noise: {data.noise}")
    seen = set()
    for lane in lanes:
        if lane.arm not in seen:
            seen.add(lane.arm)
            config = lane.config
            text = f"{config.schedule.name} from {config.optimizer.learning_rate:g}, {config.steps} steps"
            rule = f", rule {config.rule.name}" if config.rule.name != "none" else ""
            begins = f", from step {lane.origin.at} of {config.start.arm} ({config.start.what})" if lane.origin else ""
            lines.append(f"  {lane.arm}: {text}{rule}{begins}")
    return "\n".join(lines)
