"""What is said, and what is not, on either side of each limit."""

import math

import numpy as np
import pytest

from lrjax.monitor import Facts, advise, decay_clock, edge_lines
from lrjax.monitor.advice import Case, jumps

SGD, ADAM = Facts("sgd"), Facts("adam", b1=0.9, b2=0.999)


def said(rows, facts=SGD, groups=("w",), num_steps=1000, full_batch=False, coupled=False):
    return {one.code: one for one in advise(Case(rows, facts, groups, num_steps, full_batch, coupled))}


def row(step, **more):
    return {"step": step, "loss": 1.0, "gradient_norm": 1.0, "learning_rate": 0.1} | more


def sizes(*values):
    return [row(step, **{"update_rms/w": value}) for step, value in enumerate(values)]


@pytest.mark.parametrize(("last", "warned"), [(2.1, True), (1.9, False)])
def test_a_spike_is_warned_of_above_twice_the_median(last, warned):
    assert ("spike" in said(sizes(*[1.0] * 12, last), ADAM)) == warned


def test_a_jump_after_few_steps_or_of_a_rate_that_decayed_is_none():
    assert not jumps(Case(sizes(1.0, 1.0, 5.0), ADAM, ("w",), None, False, False))
    late = [*sizes(*[1.0] * 12), row(12, learning_rate=0.01, **{"update_rms/w": 0.5})]
    assert not jumps(Case(late, ADAM, ("w",), None, False, False))


def test_a_spike_is_confirmed_by_the_curvature_of_its_own_step_and_has_the_remedy_of_its_optimizer():
    early = sizes(*[1.0] * 12, 3.0)
    early[2]["gradient_curvature"] = 100.0
    assert "not measured at this step" in said(early, ADAM)["spike"].evidence
    early[-1]["gradient_curvature"] = 30.0
    assert "1.50 of 2 / eta, above it" in said(early, ADAM)["spike"].evidence
    assert "b2" in said(early, ADAM)["spike"].sentence
    assert "b2" not in said(early, SGD)["spike"].sentence


@pytest.mark.parametrize(("tau", "ratio", "named"), [(4, 3.0, True), (2, 3.0, False), (4, 1.5, False), (4, 0.4, True)])
def test_a_group_is_out_of_equilibrium_after_three_tau_by_its_angle(tau, ratio, named):
    decay = 0.01
    clock = decay_clock(decay, ADAM, coupled=False)
    end = int(tau * clock.steps)
    rows = [row(step, **{"decay/w": decay, "angle/w": ratio * clock.angle}) for step in (0, end // 2, end)]
    assert ("not_in_equilibrium" in said(rows, ADAM, num_steps=10**6)) == named


@pytest.mark.parametrize(("steps", "named"), [(90, True), (110, False)])
def test_weight_decay_is_called_inactive_where_tau_is_beyond_the_run(steps, named):
    rows = [row(step, **{"decay/w": 0.01}) for step in (0, 50)]  # tau = 100
    assert ("decay_inactive" in said(rows, ADAM, num_steps=steps)) == named


def test_a_frozen_and_a_masked_group_are_named_each_in_a_sentence():
    base = {"update_rms/w": 0.0, "gradient_sizes/w": 0.0, "update_rms/v": 0.0, "gradient_sizes/v": 1.0}
    found = [
        one for one in advise(Case([row(0, **base)], SGD, ("w", "v"), None, False, False)) if one.code == "zero_update"
    ]
    assert [one.sentence.split()[0] for one in found] == ["w", "v"]
    assert "no gradient" in found[0].sentence
    assert "no update" in found[1].sentence
    assert "zero_update" not in said([row(0, **{"update_rms/w": 0.1})])
    assert "zero_rate" in said([row(0, learning_rate=0.0)])


@pytest.mark.parametrize(
    ("share", "words"), [(0.81, "settles there"), (0.79, None), (1.4, "settles there"), (2.0, "beyond")]
)
def test_the_edge_is_named_from_four_fifths_of_its_line_on_and_never_settled_far_above(share, words):
    rows = [row(step, batch_sharpness=share * 20) for step in range(3)]
    found = said(rows).get("edge")
    assert (found is None) == (words is None)
    assert found is None or words in found.sentence


def test_curvature_measured_at_another_rate_is_not_compared_with_the_line_of_this_one():
    rows = [row(step, batch_sharpness=20.0) for step in range(9)]
    assert "edge" not in said([*rows, row(9, learning_rate=1.0, batch_sharpness=0.2)])


def test_lines_that_do_not_hold_are_not_drawn():
    nesterov = Facts("heavy_ball", momentum=0.9, nesterov=True)
    assert edge_lines(nesterov, 0.1, False)["batch_sharpness"].value is None
    several = edge_lines(Facts("sgd", accumulation=4), 0.1, False)
    assert {line.value for line in several.values()} == {None}


@pytest.mark.parametrize(
    ("facts", "steps"),
    [
        (Facts("heavy_ball", momentum=0.9), 1000),
        (Facts("heavy_ball", momentum=0.9, nesterov=True), 1900),
        (Facts("sgd"), 10_000),
        (Facts("sgd", accumulation=8), 10_000),
    ],
)
def test_tau_counts_calls_of_the_optimizer_through_its_momentum(facts, steps):
    assert decay_clock(1e-4, facts, coupled=True).steps == pytest.approx(steps)


def test_the_angle_under_accumulation_is_that_of_a_whole_step():
    alone, several = Facts("sgd"), Facts("sgd", accumulation=4)
    angle = decay_clock(1e-4, several, coupled=True).angle
    assert angle == pytest.approx(decay_clock(4e-4, alone, coupled=True).angle)
    assert decay_clock(1e-4, Facts("adam", b1=0.9, nesterov=True), coupled=False).angle is None


def gaps(*values, rate=lambda step: 0.1):
    return [row(step, valley_gap=value, learning_rate=rate(step)) for step, value in enumerate(values)]


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ((0.2, 0.2), "decay"),
        ((0.2,), "undecided"),
        ((0.22, 0.01, 0.01), "keep"),
        ((0.25, 0.07), "undecided"),
        ((0.0, 0.01), "keep"),
        ((0.0,), "undecided"),
        ((-0.3, -0.3), "keep"),
        ((0.0, 0.09), "undecided"),
        ((0.09, 0.09), "undecided"),
        ((0.101, 0.101), "decay"),
        ((0.079, 0.079), "keep"),
    ],
)
def test_advice_on_a_decay_follows_the_gaps(values, code):
    assert {"decay", "keep", "undecided"} & set(said(gaps(*values))) == {code}


def small(rate, **more):
    rows = gaps(*[0.001] * 8, rate=rate)
    return [one | {"gain_ratio": 0.999, "step_slope": -1.0, "step_curvature": 0.01} | more for one in rows]


def test_a_rate_far_too_small_is_not_named_while_it_rises_and_silences_keep():
    found = said(small(lambda step: 0.1))
    assert "far_too_small" in found
    assert "keep" not in found
    assert "far_too_small" not in said(small(lambda step: 0.01 * (step + 1)))


@pytest.mark.parametrize(("curvature", "named"), [(0.49, True), (0.51, False)])
def test_a_rate_far_too_small_has_a_rho_of_the_loss_below_a_half_as_a_ratio_of_means(curvature, named):
    rows = small(lambda step: 0.1, step_curvature=curvature)
    rows[-2] |= {"step_slope": -1.5}  # single batches scatter
    rows[-1] |= {"step_slope": -0.5}
    assert ("far_too_small" in said(rows)) == named


def test_a_rate_far_too_small_is_named_after_two_gaps_of_a_run_or_one_at_a_checkpoint():
    rows = small(lambda step: 0.1)
    one_gap = [{key: value for key, value in row.items() if key != "valley_gap"} for row in rows[:-1]] + rows[-1:]
    assert "far_too_small" in said(rows)
    assert "far_too_small" not in said(one_gap)
    assert "far_too_small" in said([row | {"step": 7} for row in one_gap])


def test_a_spike_that_may_come_silences_keep():
    rows = [one | {"valley_gap": 0.0} for one in sizes(*[1.0] * 12, 3.0)]
    assert "spike" in said(rows, ADAM)
    assert "keep" not in said(rows, ADAM)
    assert "keep" in said(rows[:-1], ADAM)


def test_rates_by_group_that_a_schedule_brought_down_are_not_called_too_small():
    falling = [
        {key: value for key, value in one.items() if key != "learning_rate"}
        | {"learning_rate/muon": 0.02 * (1 - step / 8), "learning_rate/adam": 0.001 * (1 - step / 8)}
        for step, one in enumerate(small(lambda step: 0.1))
    ]  # fmt: skip
    assert "far_too_small" not in said(falling)
    assert "far_too_small" in said([one | {"learning_rate/muon": 0.02, "learning_rate/adam": 0.001} for one in falling])


def test_what_is_not_finite_silences_advice_on_the_rate():
    rows = [*gaps(0.2, 0.2), row(2, loss=math.nan)]
    assert "not_finite" in said(rows)
    assert "decay" not in said(rows)


def test_headroom_is_never_a_reason_in_any_advice():
    rows = [one | {"critical_multiple": 30.0} for one in gaps(0.09, 0.09)]
    assert set(said(rows)) == set(said(gaps(0.09, 0.09)))


def test_noise_that_is_not_finite_leaves_the_rows_beside_it():
    from lrjax.monitor.history import noise_scale

    rows = [{"step": step, "noise": 4.0, "signal": 2.0} for step in range(8)]
    rows[3]["noise"] = np.inf
    assert noise_scale(rows).value == pytest.approx(2)
