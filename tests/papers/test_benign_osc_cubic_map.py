"""Benign oscillation: the cubic map of the strong feature, its cycles, averages and phases."""

from math import log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrjax.errors import LrjaxError
from lrjax.papers.benign_osc import cubic_map as cm
from tests.papers.benign_formulas import BAND_MERGING, period_two_stable

TWO_CYCLE_E = st.floats(1.0 + 1e-6, cm.TWO_CYCLE_LIMIT)


@pytest.mark.parametrize("e", [1.1, 1.2])
def test_long_orbit_equals_closed_form_of_period_two(e):
    _, (z_plus, z_minus) = cm.period_two(e)
    zs = cm.orbit(e, 0.3, steps=1000, burn_in=5000)
    np.testing.assert_allclose(sorted(set(zs.round(11))), [z_minus, z_plus], atol=1e-10)
    assert np.mean(1.0 - zs) == pytest.approx((e - 1.0) / (2.0 * e), abs=1e-10)
    assert float(cm.mean_residual(e)) == pytest.approx(np.mean(1.0 - zs), abs=1e-10)


@given(TWO_CYCLE_E)
def test_map_swaps_the_two_points_and_their_multipliers_cancel(e):
    (q_plus, q_minus), (z_plus, z_minus) = cm.period_two(e)
    assert q_plus > 1.0 > q_minus > 0.0
    assert z_plus > 1.0 > z_minus
    assert q_plus * q_minus == pytest.approx(1.0, abs=1e-12)
    assert q_minus == pytest.approx(0.5 * (1.0 + e - sqrt((1.0 + e) ** 2 - 4.0)), abs=1e-8)
    assert float(cm.multiplier(z_plus, e)) == pytest.approx(q_minus, abs=1e-12)
    assert float(cm.cubic_map(z_plus, e)) == pytest.approx(z_minus, abs=1e-12)
    assert float(cm.cubic_map(z_minus, e)) == pytest.approx(z_plus, abs=1e-12)
    assert 1.0 - 0.5 * (z_plus + z_minus) == pytest.approx(float(cm.mean_residual(e)), abs=1e-12)


@given(st.floats(1.0 + 1e-6, 1.99))
def test_slope_around_the_two_cycle_is_nine_minus_two_times_one_plus_e_squared(e):
    _, (z_plus, z_minus) = cm.period_two(e)
    product = float(cm.cubic_map_slope(z_plus, e) * cm.cubic_map_slope(z_minus, e))
    assert product == pytest.approx(9.0 - 2.0 * (1.0 + e) ** 2, abs=1e-9)
    assert period_two_stable(e) == (abs(product) < 1.0)


def test_two_cycle_loses_stability_at_sqrt5_minus_1():
    assert period_two_stable(cm.TWO_CYCLE_LIMIT - 1e-9)
    assert not period_two_stable(cm.TWO_CYCLE_LIMIT + 1e-9)
    assert not period_two_stable(1.0)
    assert cm.orbit_period(cm.TWO_CYCLE_LIMIT - 1e-3) == 2
    assert cm.orbit_period(cm.TWO_CYCLE_LIMIT + 1e-3) == 4


@given(st.floats(0.0, 3.0), st.floats(0.01, 1.99))
def test_slope_is_the_derivative_of_the_map(z, e):
    h = 1e-5
    difference = float(cm.cubic_map(z + h, e) - cm.cubic_map(z - h, e)) / (2.0 * h)
    assert float(cm.cubic_map_slope(z, e)) == pytest.approx(difference, abs=1e-7)


def test_orbit_converges_below_one_monotonically_only_up_to_one_half():
    zs = cm.orbit([0.4, 0.9], 0.3, steps=300)
    np.testing.assert_allclose(zs[-1], 1.0, atol=1e-12)
    residual = 1.0 - zs[:20]
    assert np.all(residual[:, 0] > 0.0)
    assert np.any(residual[:, 1] < 0.0)


def test_lyapunov_is_negative_on_the_cycle_and_positive_in_chaos():
    exponent = cm.lyapunov([1.2, 1.29, 1.35, 1.46])
    assert (exponent > 0.0).tolist() == [False, False, True, False]
    assert exponent[0] == pytest.approx(0.5 * log(abs(9.0 - 2.0 * 2.2**2)), abs=1e-9)


def test_chaos_sets_in_at_its_constant():
    below, above = cm.lyapunov([cm.CHAOS_ONSET - 2e-3, cm.CHAOS_ONSET + 2e-3], burn_in=5000)
    assert below < 0.0 < above


def test_bands_merge_where_the_maximum_maps_onto_the_fixed_point():
    def third_image(e):
        return float(cm.orbit(e, (1.0 + e) / (3.0 * e), steps=4)[-1])

    assert abs(third_image(BAND_MERGING) - 1.0) < 1e-6
    below, above = cm.residual_floor([BAND_MERGING - 1e-2, BAND_MERGING + 1e-2])
    assert below > 0.02
    assert above < 0.002


def _least_multiplier(e):
    z0 = np.linspace(0.0, 1.0 + 1.0 / e, 2002)[1:-1]
    return min(cm.multiplier(z, e).min() for z in cm.orbit(e, z0, steps=100))


def test_no_neuron_flips_up_to_1_59_and_one_flips_at_1_65():
    assert all(_least_multiplier(e) > 0.0 for e in (0.5, 1.1, 1.3, 1.5, 1.59))
    assert _least_multiplier(1.65) < 0.0


def test_sign_stable_limit_is_where_the_maximum_of_the_map_reaches_a_zero_multiplier():
    e = cm.SIGN_STABLE_LIMIT
    assert e == pytest.approx(1.59808, abs=1e-5)
    peak = float(cm.cubic_map((1.0 + e) / (3.0 * e), e))
    assert float(cm.multiplier(peak, e)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("e", "floor"), [(1.06, 0.2045), (1.1, 0.2456), (1.2, 0.2985), (1.236, 0.3090), (1.25, 0.2623), (1.29, 0.2020)]
)
def test_residual_floor_over_the_cycles(e, floor):
    assert float(cm.residual_floor(e)) == pytest.approx(floor, abs=6e-5)


def test_residual_floor_in_chaos():
    assert cm.residual_floor([1.35, 1.4, 1.55]) == pytest.approx([0.0392, 0.0, 0.4204], abs=1e-3)


@pytest.mark.parametrize("e", [1.03, 1.1, 1.2])
def test_residual_floor_equals_the_least_residual_on_the_orbit(e):
    zs = cm.orbit(e, 0.3, steps=100, burn_in=20_000)
    assert float(cm.residual_floor(e)) == pytest.approx(abs(zs - 1.0).min(), abs=1e-9)


def test_assumption_4_holds_literally_only_from_1_06_to_1_29():
    assert (cm.residual_floor([1.05, 1.06, 1.29, 1.30]) >= 0.2).tolist() == [False, True, True, False]


@pytest.mark.parametrize(
    ("e", "mean"),
    [(1.05, 0.0238), (1.1, 0.0455), (1.2, 0.0833), (1.25, 0.0972), (1.4, 0.1157), (1.5, 0.211), (1.59, 0.345)],
)
def test_mean_residual(e, mean):
    assert float(cm.mean_residual(e)) == pytest.approx(mean, abs=6e-5 if e < 1.3 else 5e-3)


def test_long_run_averages_meet_the_closed_forms_at_the_end_of_the_two_cycle():
    for average in (cm.mean_residual, cm.residual_floor):
        below, above = average([cm.TWO_CYCLE_LIMIT - 1e-12, cm.TWO_CYCLE_LIMIT + 2e-3])
        assert above == pytest.approx(below, rel=0.15)
        assert above != below


def test_phase_names_every_regime():
    expected = {
        0.5: "monotone",
        0.51: "damped",
        1.0: "damped",
        1.01: "2-cycle",
        1.236: "2-cycle",
        1.24: "4-cycle",
        1.29: "8-cycle",
        1.3: "16-cycle",
        1.35: "chaotic",
        1.46: "periodic window",
        1.59: "chaotic",
        1.599: "sign-flip",
        2.5: "sign-flip",
    }
    assert {e: cm.phase(e) for e in expected} == expected


def test_phase_does_not_guess_a_period_next_to_a_bifurcation():
    assert cm.phase(cm.TWO_CYCLE_LIMIT + 1e-6) == "2^k-cycle"


@pytest.mark.parametrize(
    "call",
    [
        lambda: cm.period_two(1.0),
        lambda: cm.orbit(2.1),
        lambda: cm.orbit(1.2, z0=-0.1),
        lambda: cm.mean_residual(1.7),
        lambda: cm.residual_floor([1.1, 1.6]),
        lambda: cm.phase(0.0),
    ],
)
def test_values_outside_the_range_of_the_map_are_refused(call):
    with pytest.raises(LrjaxError):
        call()
