"""Learning rates as tables: every schedule against its formula, written out."""

import math

import numpy as np
import pytest

from lrjax.errors import LrjaxError
from lrjax.experiment.step.schedules import SCHEDULES, table

T, PEAK = 200, 0.3


def step_decay(t):
    return PEAK * 0.1 ** sum(t >= milestone for milestone in (50, 120))


def cosine(t):
    return PEAK * (1 + math.cos(math.pi * t / T)) / 2


def warm_cosine(t):
    return PEAK * t / 20 if t < 20 else PEAK * (1 + math.cos(math.pi * (t - 20) / (T - 20))) / 2


def large_step(t):
    grown = PEAK * 1.05 ** (100 * min(t, T // 2) / T)
    return grown * (1 if t < T // 2 else 0.1 if t < 180 else 0.01)


def wsd(t):
    return PEAK * min(1, (t + 1) / 11) * (0.01 ** ((t - 160) / 40) if t >= 160 else 1)


def cooldown(t):
    return PEAK * (1 - math.sqrt((t - 160) / 40) if t >= 160 else 1)


# name, settings, rate at step t; a new schedule is a row here
TABLE = [
    ("constant", {}, lambda t: PEAK),
    ("step_decay", {"milestones": (50, 120), "factor": 0.1}, step_decay),
    ("step_decay", {"milestones": (), "factor": 0.1}, lambda t: PEAK),
    ("cosine", {"warmup": 0}, cosine),
    ("cosine", {"warmup": 20}, warm_cosine),
    ("large_step", {"growth": 1.05}, large_step),
    ("wsd", {"warmup": 10, "cooldown": 40, "factor": 0.01}, wsd),
    ("cooldown", {"warmup": 0, "cooldown": 40}, cooldown),
    ("wsd", {"warmup": 0, "cooldown": 0, "factor": 0.01}, lambda t: PEAK),
]


@pytest.mark.parametrize(("name", "settings", "rate"), TABLE)
def test_a_table_holds_the_formula_at_every_step(name, settings, rate):
    rates = table({"name": name, **settings}, PEAK, T)
    assert rates.dtype == np.float32
    np.testing.assert_allclose(rates, [rate(t) for t in range(T)], rtol=2e-5, atol=1e-7)


def test_every_schedule_has_a_row():
    # Those that a test of another file has added stand in a module of its own.
    own = {name for name, make in SCHEDULES.items() if make.__module__.startswith("lrjax.")}
    assert {name for name, _, _ in TABLE} == own


def test_the_step_at_a_milestone_uses_the_lower_rate():
    rates = table({"name": "step_decay", "milestones": (2,), "factor": 0.5}, 1.0, 4)
    assert rates.tolist() == [1.0, 1.0, 0.5, 0.5]


def test_a_schedule_that_leaves_float32_is_refused():
    with pytest.raises(LrjaxError, match="large_step"):
        table({"name": "large_step", "growth": 1e9}, PEAK, T)
