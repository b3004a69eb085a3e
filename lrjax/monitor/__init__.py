"""What is my learning rate doing? Instruments beside anybody's training loop, and what may be said of their readings.

`Monitor` watches a loop, `diagnose` measures once, for example at a checkpoint, `suggest` finds a rate by a short sweep. Each
instrument is a function of its own, too: see `lrjax.monitor.instruments`. Parameters are any pytrees, the optimizer any of
optax, and the training is the same to the bit with and without the monitor.

>>> import jax, jax.numpy as jnp, optax
>>> loss = lambda w, batch: jnp.mean((batch @ w - 1) ** 2) / 2
>>> optimizer, batch = optax.sgd(0.5), jnp.array([[1.0, 0.0], [0.0, 2.0]])
>>> w = jnp.zeros(2)
>>> report = diagnose(loss, w, [batch], optimizer, optimizer.init(w), learning_rate=0.5)
>>> print(report.table[0]["instrument"], report.table[0]["value"])
gain ratio r, same batch 0.575
"""

from lrjax.monitor.advice import Advice, advise
from lrjax.monitor.clock import Clock, decay_clock, decay_per_step
from lrjax.monitor.coordinate_check import CoordinateCheck, coordinate_check
from lrjax.monitor.groups import GROUPS, groups_of
from lrjax.monitor.instruments import (
    Gain,
    Line,
    Sizes,
    along,
    critical_multiple,
    gain,
    gradient_curvature,
    noise_of_pair,
    update_sizes,
    valley_gap,
)
from lrjax.monitor.learning_rate import Rate, learning_rate_of, rate_in_use
from lrjax.monitor.lines import EdgeLine, edge_lines
from lrjax.monitor.once import diagnose
from lrjax.monitor.optimizer_facts import Facts, optimizer_facts
from lrjax.monitor.range_test import RangeTest, range_test
from lrjax.monitor.report import Report
from lrjax.monitor.suggest import suggest
from lrjax.monitor.suggestion import Suggestion
from lrjax.monitor.virtual_step import VirtualStep, virtual_step
from lrjax.monitor.watch import Monitor, MonitorWarning

__all__ = [
    "GROUPS",
    "Advice",
    "Clock",
    "CoordinateCheck",
    "EdgeLine",
    "Facts",
    "Gain",
    "Line",
    "Monitor",
    "MonitorWarning",
    "RangeTest",
    "Rate",
    "Report",
    "Sizes",
    "Suggestion",
    "VirtualStep",
    "advise",
    "along",
    "coordinate_check",
    "critical_multiple",
    "decay_clock",
    "decay_per_step",
    "diagnose",
    "edge_lines",
    "gain",
    "gradient_curvature",
    "groups_of",
    "learning_rate_of",
    "noise_of_pair",
    "optimizer_facts",
    "range_test",
    "rate_in_use",
    "suggest",
    "update_sizes",
    "valley_gap",
    "virtual_step",
]
