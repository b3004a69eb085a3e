"""Curves and lanes of a page: what is thinned, what is averaged, where a lane ended and what it is called."""

from types import SimpleNamespace

import numpy as np

from lrjax.report.curves import Line, packed, thinned
from lrjax.report.lane_table import lane_table, lines_of


def run_of(*lanes):
    every = {"arm": "main", "seed": 0, "values": {}, "steps": 1000}
    records = [every | {"lane": number} | lane for number, lane in enumerate(lanes)]
    arrays = [{"step/loss": np.ones(9)} for _ in lanes]
    return SimpleNamespace(lanes=records, arrays=arrays, config={"optimizer": {"learning_rate": 0.1}})


def test_a_curve_that_is_thinned_ends_at_its_last_value():
    """Not at the least or the greatest of its last stretch, which would stand under "last values"."""
    y = np.random.default_rng(0).normal(size=1001)
    x, shown = thinned(y, 100)
    assert len(x) == len(shown) <= 100
    assert (x[-1], shown[-1]) == (1000, y[-1])
    assert np.all(np.diff(x) > 0)
    assert {shown.min(), shown.max()} == {y.min(), y.max()}


def charted(*losses):
    (chart,) = packed([Line(str(n), str(n), {"step/loss": loss}) for n, loss in enumerate(losses)])["charts"]
    return chart["title"], [curve["y"] for curve in chart["curves"]]


def test_a_loss_of_single_examples_is_shown_by_means_and_not_as_a_block_of_colour():
    single = (np.arange(4000) % 10 == 0).astype(float)
    title, (curve,) = charted(single)
    assert title == "Loss (means)"
    assert max(curve) < 0.2
    # A smooth one keeps its spikes, as where a run is about to diverge.
    smooth = np.exp(-np.arange(4000) / 1000)
    smooth[2000] = 5
    title, (curve,) = charted(smooth)
    assert title == "Loss"
    assert max(curve) == 5
    # A rate that goes up and down is no noise.
    (chart,) = packed([Line("a", "a", {"step/learning_rate": single})])["charts"]
    assert chart["title"] == "Learning rate"


def test_the_end_value_of_a_lane_is_the_mean_over_its_last_steps_and_a_diverged_lane_has_none():
    noisy = np.tile([0.0, 1.0], 500)
    run = run_of({}, {"diverged_at": 42})
    run.arrays[:] = {"step/loss": noisy}, {"step/loss": np.append(noisy, np.inf)}
    table = lane_table(run)
    column = table.headings.index("Loss, mean of last 5\xa0%")
    assert [row[column] for row in table.rows] == [0.5, None]
    assert [row[-1] for row in table.rows] == [None, 42]


def test_arms_of_different_rates_have_the_rate_in_their_names():
    run = run_of(*({"arm": f"constant_{n}", "config": {"optimizer.learning_rate": 0.1**n}} for n in (1, 2)))
    assert [line.name for line in lines_of(run)] == ["constant_1, learning_rate=0.1", "constant_2, learning_rate=0.01"]
