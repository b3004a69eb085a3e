"""Predictions printed before a run: the break-even point of each rate, and the cost of measuring."""

from typing import Any

from lrjax.papers.break_even.cost import measuring
from lrjax.spectra.training_edge import training_edge

MOST_ROWS = 12


def before(groups: list[Any]) -> str:
    """One line a distinct setting: rate, batch size, the edge that lambda_H meets, and the cost of the probes.

    Args:
        groups: from `lrjax.experiment.loop.sweep.expand`.
    """
    rows: dict[tuple, str] = {}
    training = probing = 0.0
    for group in groups:
        for lane in group.lanes:
            config = lane.config
            key = (lane.arm, config.optimizer.learning_rate, config.batch_size, config.optimizer.get("momentum"))
            edge = training_edge(config.optimizer, config.optimizer.learning_rate)
            words = "-" if edge is None else f"{float(edge.values):.4g}"
            rows.setdefault(key, f"{lane.arm:<14} {key[1]:>8.4g} {key[2]:>6} {config.steps:>8} {words:>10}")
            cost = measuring(group.static, config)
            training += cost.training
            probing += cost.probing
    lines = ["expected: lambda_H rises to about its edge (2 / eta without momentum), at most, and stays there"]
    lines += [f"{'arm':<14} {'eta':>8} {'S':>6} {'steps':>8} {'edge':>10}", *list(rows.values())[:MOST_ROWS]]
    lines += [f"... and {len(rows) - MOST_ROWS} more settings"] if len(rows) > MOST_ROWS else []
    return "\n".join([*lines, f"measuring takes at most {_share(probing, training)} of training"])


def _share(probing: float, training: float) -> str:
    """A share of the FLOPs in words that a reader can take in.

    Example:
        >>> _share(0.3, 1.0), _share(57.78, 1.0), _share(1.0, 0.0)
        ('30% of the FLOPs', '58 times the FLOPs', 'more than the FLOPs')
    """
    if training <= 0.0:
        return "more than the FLOPs"
    share = probing / training
    return f"{share:.0%} of the FLOPs" if share < 2 else f"{share:.2g} times the FLOPs"
