"""Benign oscillation: the predictions for the weak feature, the conditions of a run."""

from math import log, sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrjax.errors import LrjaxError
from lrjax.papers.benign_osc import theory
from lrjax.papers.benign_osc.conditions import conditions, scales
from tests.papers import benign_formulas

DATA_CLEAR: dict[str, Any] = {
    "n": 64,
    "n_weak": 8,
    "dim": 400,
    "u_norm": 1.0,
    "v_norm": 0.1,
    "sigma_p": 0.1 * sqrt(12 / 400),
}
DATA_SMALL: dict[str, Any] = {"n": 16, "n_weak": 2, "dim": 64, "u_norm": 1.0, "v_norm": 0.1, "sigma_p": 0.03}


@pytest.mark.parametrize(
    "call",
    [
        lambda: theory.logistic_weak(1.0, 1e-5, 0.9, 0.01),
        lambda: theory.half_capacity_time(0.15, 1.25, 0.01),
        lambda: scales(n=8, n_weak=1, dim=8, u_norm=1.0, v_norm=0.1),
        lambda: scales(n=8, n_weak=9, dim=8, u_norm=1.0, v_norm=0.1, kn=2.0),
    ],
)
def test_values_without_meaning_are_refused(call):
    with pytest.raises(LrjaxError):
        call()


@given(st.floats(0.05, 1.59), st.lists(st.floats(0.0, 0.999), min_size=1, max_size=30))
def test_accumulated_residual_exceeds_its_bound(e, fractions):
    residual = 1.0 - np.array(fractions) * (1.0 + 1.0 / e)
    log_growth = np.log1p(e * residual).sum()
    bound = benign_formulas.accumulation_bound(log_growth, np.square(residual).sum(), e)
    assert residual.sum() >= float(bound) - 1e-9


def test_accumulation_bound_is_tight_to_second_order_and_its_constant_not_e_over_2():
    e, residual = 1.25, 1e-3
    bound = float(benign_formulas.accumulation_bound(log(1.0 + e * residual), residual**2, e))
    slack = residual - bound
    assert 0.0 < slack < (e / 2.0) * residual**2
    assert log(1.0 + e) / e + e / 2.0 > 1.0, "at z = 0 the constant e / 2 would break the bound"


@given(st.floats(1.02, 1.3), st.floats(1e-6, 1e-3), st.floats(0.0, 3.0))
def test_logistic_curve_solves_its_equation(e, v0, times):
    eps, h = 0.01, 1.0
    half = theory.half_capacity_time(v0, e, eps)
    before, v, after = theory.logistic_weak(times * half + np.array([-h, 0.0, h]), v0, e, eps)
    rate = eps * (e - 1.0)
    assert (after - before) / (2.0 * h) == pytest.approx(rate * v * (1.0 - v / (1.0 - 1.0 / e)), rel=1e-4, abs=1e-12)
    at_start, at_half = theory.logistic_weak([0.0, half], v0, e, eps)
    assert at_start == pytest.approx(v0)
    assert at_half == pytest.approx(0.5 * (1.0 - 1.0 / e))


def _single_example(e, eps, steps, strong=0.3, weak=1e-5):
    """U and V of one strong noise-free example, visit by visit, from their multipliers."""
    path = np.empty((steps, 2))
    for t in range(steps):
        path[t] = strong, weak
        x = e * (1.0 - strong - weak)
        strong, weak = strong * (1.0 + x) ** 2, weak * (1.0 + eps * x) ** 2
    return path


@pytest.mark.parametrize("e", [1.1, 1.2, 1.25])
def test_single_example_follows_the_logistic_curve_to_its_end(e):
    eps = 0.01
    path = _single_example(e, eps, 20_000)
    end = float(theory.single_example_end(e, eps))
    assert end <= path[-1, 1] < 1.02 * end
    assert float(
        benign_formulas.stability_of_example(path[-1, 0], path[-1, 1], 0.0, e=e, eps=eps, eps_xi=0.0)
    ) == pytest.approx(1.0, abs=2e-3)
    measured = int(np.argmax(path[:, 1] > 0.5 * theory.capacity(e)))
    assert measured == pytest.approx(theory.half_capacity_time(1e-5, e, eps), rel=0.05)


@pytest.mark.parametrize("e", [1.1, 1.2])
def test_capacity_of_a_less_weak_feature_is_larger_by_one_over_one_minus_eps(e):
    end = _single_example(e, 0.05, 20_000)[-1, 1]
    assert end == pytest.approx(float(theory.single_example_end(e, 0.05)), rel=0.02)


def test_single_example_keeps_its_weak_feature_below_one():
    assert float(theory.capacity(0.9)) == 0.0
    assert float(theory.single_example_end(0.9, 0.01)) == 0.0
    assert _single_example(0.9, 0.01, 20_000)[-1, 1] < 2e-5


@pytest.mark.parametrize(("n_wy", "kn"), [(4, 12.0), (1, 5.6)])
def test_small_learning_rate_leaves_the_weak_feature_at_its_predicted_end(n_wy, kn):
    e, eps, sigma_0, v_norm = 0.2, 1e-3, 0.01, 0.01
    weak, noise = 0.5 * (sigma_0 * v_norm) ** 2, 0.5 * (sigma_0 * v_norm) ** 2 * kn
    predicted = theory.small_lr_weak_end(weak, sigma_0, v_norm * sqrt(kn), n_wy, kn)
    noises = np.full(n_wy, noise)
    while noises.min() < 0.999:
        for i in range(n_wy):
            x = e * eps * (1.0 - weak - noises[i])
            weak *= (1.0 + x) ** 2
            noises[i] *= (1.0 + kn * x) ** 2
    assert weak == pytest.approx(predicted, rel=0.02)


def test_small_learning_rate_ends_of_the_two_parameter_sets():
    clear = theory.small_lr_weak_end(5e-7, 0.01, 0.1 * sqrt(12.0), 4, 12.0)
    small = theory.small_lr_weak_end(5e-5, 0.1, 0.03 * sqrt(62.0), 1, 0.0558 / 0.01)
    assert clear == pytest.approx(2.7e-5, rel=0.05)
    assert small == pytest.approx(2e-4, rel=0.15)


def test_window_of_the_paper_is_e_from_1_to_1_6():
    m, u_norm = 8, 3.0
    assert benign_formulas.e_of_learning_rate(m / (4 * u_norm**2), u_norm, m) == pytest.approx(1.0)
    assert benign_formulas.e_of_learning_rate(2 * m / (5 * u_norm**2), u_norm, m) == pytest.approx(1.6)
    assert benign_formulas.e_of_learning_rate(2 * m / (5 * u_norm**2), u_norm, m, kappa=2.0) == pytest.approx(0.8)
    assert benign_formulas.learning_rate_of_e(1.25, 1.0, 8) == pytest.approx(2.5)


@given(st.floats(0.01, 3.0), st.floats(0.1, 10.0), st.integers(1, 512), st.sampled_from([2.0, 4.0]))
def test_learning_rate_and_e_are_inverse(e, u_norm, width, kappa):
    eta = benign_formulas.learning_rate_of_e(e, u_norm, width, kappa)
    assert benign_formulas.e_of_learning_rate(eta, u_norm, width, kappa) == pytest.approx(e)
    assert benign_formulas.e_full_batch(eta, u_norm, width, 28, 64, kappa) == pytest.approx(e * 28 / 64)


def _example(rng, width, u_norm, v_norm, xi_norm):
    """Weights [2, m, d] and patches [3, d] of a fitted example, y = f = 1; the other class is inactive on it."""
    q, _ = np.linalg.qr(rng.standard_normal((5, 3)))
    patches = q.T * np.array([[u_norm], [v_norm], [xi_norm]])
    weights = rng.standard_normal((2, width, 5))
    weights[1] -= weights[1] @ q @ q.T + abs(weights[1] @ q) @ q.T
    parts = np.square(np.maximum(weights[0] @ patches.T, 0.0)).mean(0)
    return weights / sqrt(parts.sum()), patches, parts / parts.sum()


def _loss(flat, patches, width, kappa):
    active = np.maximum(flat.reshape(2, width, 5) @ patches.T, 0.0)
    outputs = np.square(active).sum((1, 2)) / width
    return kappa / 4.0 * (outputs[0] - outputs[1] - 1.0) ** 2


@pytest.mark.parametrize("kappa", [4.0, 2.0])
def test_sharpness_is_the_top_eigenvalue_of_a_finite_difference_hessian(kappa):
    width, u_norm, v_norm, xi_norm, h = 4, 1.3, 0.4, 0.7, 1e-4
    weights, patches, (U, V, N) = _example(np.random.default_rng(1), width, u_norm, v_norm, xi_norm)
    assert min(U, V, N) > 0.01, "each part must count"
    flat, basis = weights.ravel(), np.eye(weights.size) * h
    hessian = np.empty((flat.size, flat.size))
    for i, di in enumerate(basis):
        for j, dj in enumerate(basis):
            corners = [_loss(flat + a * di + b * dj, patches, width, kappa) * a * b for a in (1, -1) for b in (1, -1)]
            hessian[i, j] = sum(corners) / (4.0 * h**2)
    sharpness = benign_formulas.sharpness_of_example(
        U, V, N, width=width, u_norm=u_norm, v_norm=v_norm, xi_norm=xi_norm, kappa=kappa
    )
    assert float(sharpness) == pytest.approx(np.linalg.eigvalsh(hessian)[-1], rel=1e-4)

    eta = benign_formulas.learning_rate_of_e(1.2, u_norm, width, kappa)
    eps, eps_xi = v_norm**2 / u_norm**2, xi_norm**2 / u_norm**2
    stability = benign_formulas.stability_of_example(U, V, N, e=1.2, eps=eps, eps_xi=eps_xi)
    assert float(stability) == pytest.approx(0.5 * eta * float(sharpness))


def test_conditions_of_clear():
    r1, r2, r3, r4 = conditions(**DATA_CLEAR, width=16, e=1.25)
    assert (round(r1.left), r1.right, r1.holds) == (12, 28, True)
    assert (round(r2.left), r2.right, r2.holds) == (12, 4, True)
    assert r2.margin == pytest.approx(3.0, abs=0.02)
    assert r3.left == pytest.approx(1.25 * 1.13, rel=1e-3)
    assert r3.right == pytest.approx(1.598, abs=1e-3)
    assert r3.holds
    assert (r4.left, r4.margin, r4.holds) == (16, 2.0, True)


def test_conditions_of_small():
    found = scales(**DATA_SMALL)
    assert (round(found.kn, 1), found.n_sy, found.n_wy) == (5.6, 7, 1)
    r1, r2, _, r4 = conditions(**DATA_SMALL, width=8, e=1.25)
    assert 1.0 < r1.margin < 1.3, "R1 is tight at the sizes of the paper"
    assert r2.holds
    assert r2.margin > 5.0
    assert r4.holds
    assert r4.margin == 1.0


@pytest.mark.parametrize(
    ("change", "fails"),
    [({"kn": 4.0}, "R2"), ({"kn": 28.0}, "R1"), ({"n_weak": 32}, "R2"), ({"e": 1.5}, "R3"), ({"width": 4}, "R4")],
)
def test_each_condition_fails_alone_where_the_phase_tables_have_their_edge(change, fails):
    base: dict[str, Any] = {
        "n": 64,
        "n_weak": 8,
        "dim": 400,
        "width": 16,
        "u_norm": 1.0,
        "v_norm": 0.1,
        "kn": 12.0,
        "e": 1.1,
    }
    assert [row.name for row in conditions(**(base | change)) if not row.holds] == [fails]
    assert all(row.holds for row in conditions(**base))


@given(st.integers(2, 40), st.floats(0.1, 80.0), st.integers(0, 40), st.integers(1, 32), st.floats(0.1, 2.5))
def test_margin_exceeds_one_exactly_where_a_condition_holds(half, kn, n_weak, width, e):
    rows = conditions(
        n=2 * half, n_weak=min(n_weak, 2 * half), dim=400, width=width, u_norm=1.0, v_norm=0.1, kn=kn, e=e
    )
    for row in rows:
        assert row.holds == (row.margin >= 1.0 if row.name == "R4" else row.margin > 1.0)


def test_odd_counts_take_the_harder_half():
    labels, weak = np.arange(7) % 2, np.arange(7) < 3
    found = scales(n=7, n_weak=3, dim=8, u_norm=1.0, v_norm=0.1, kn=1.0)
    assert found.n_sy == min(np.sum(~weak & (labels == y)) for y in (0, 1))
    assert found.n_wy == max(np.sum(weak & (labels == y)) for y in (0, 1))
