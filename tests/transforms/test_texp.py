"""TEXP: the exponential schedule with its corrections equals step decay with weight decay, and what goes wrong without."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrjax.errors import LrjaxError
from lrjax.transforms import texp, texp_schedule, wd_free_plan
from lrjax.transforms.texp import texp_phases
from tests.transforms.problems import (
    DECAY,
    DIFFERENT,
    EQUAL,
    MOMENTUM,
    RATE,
    STEPS,
    deviation,
    fixed,
    problem,
    rows,
    step_decay,
    tables_of,
    trained,
    with_decay,
    without_decay,
)

T = np.arange(STEPS)
PHASES = ((100, 200), (RATE, RATE / 10, RATE / 100), DECAY, MOMENTUM)
PAPER = ((80 * 391, 120 * 391), (0.1, 0.01, 0.001), 5e-4, 0.9)


def log_rates(phases):
    """The closed form, at every step."""
    phase = np.searchsorted(phases.starts, T, side="right") - 1
    return phases.log_lr[phase] - 2 * (T - phases.starts[phase]) * phases.log_alpha[phase]


def corrections(phases):
    """What times the weights is taken from the buffer, at every step."""
    taken = np.zeros(STEPS)
    taken[phases.starts] = np.exp(2 * phases.log_scale) * np.diff(phases.kappa, prepend=0.0)
    return taken


def by_rows(shared, row):
    """SGD along given log rates and corrections: [log rate, momentum, correction]."""

    def init(params):
        return jax.tree.map(jnp.zeros_like, params)

    def update(gradients, buffer, params):
        buffer = jax.tree.map(lambda g, v, p: row[1] * (v - row[2] * p) + g, gradients, buffer, params)
        return jax.tree.map(lambda v: -jnp.exp(row[0]) * v, buffer), buffer

    return optax.GradientTransformation(init, update)


def along(log_rate, taken, momentum=MOMENTUM):
    return trained(by_rows, rows=np.stack([log_rate, np.full(STEPS, momentum), taken], 1))


def test_alpha_is_the_larger_root():
    phases = texp_phases(*PHASES)
    for eta, alpha in zip(PHASES[1], phases.alpha, strict=True):
        assert alpha == pytest.approx(np.roots([1, -(1 + MOMENTUM - DECAY * eta), MOMENTUM]).max(), abs=1e-14)


def test_the_recursive_definition_gives_the_closed_form():
    phases = texp_phases(*PHASES)
    log_rate, alpha, eta = np.log(RATE / phases.alpha[0]), phases.alpha, PHASES[1]
    for t in range(STEPS):
        assert log_rates(phases)[t] == pytest.approx(log_rate, abs=1e-12)
        now, after = t // 100, min((t + 1) // 100, 2)
        step = np.log(eta[after] / eta[now]) - np.log(alpha[now] * alpha[after])
        log_rate += step


@pytest.mark.x64
def test_without_momentum_the_schedule_alone_equals_weight_decay():
    rho = 1 - RATE * DECAY
    decayed = with_decay(rows(momentum=0.0))
    assert deviation(decayed, fixed(optax.sgd(texp_schedule((), (RATE,), DECAY)))) <= EQUAL
    first_half_step = np.log(RATE) - (2 * T + 1) * np.log(rho)
    assert deviation(decayed, without_decay(tables_of(first_half_step, 0.0))) <= EQUAL
    assert deviation(decayed, without_decay(tables_of(first_half_step + np.log(rho), 0.0))) > DIFFERENT
    scaled = jax.tree.map(lambda a: a * np.sqrt(rho), problem().params)
    without_half_step = tables_of(first_half_step + np.log(rho), 0.0)
    assert deviation(decayed, without_decay(without_half_step, start=scaled)) <= EQUAL


@pytest.mark.x64
def test_with_momentum_a_constant_rate_needs_the_correction_at_the_start():
    phases = texp_phases((), (RATE,), DECAY, MOMENTUM)
    decayed = with_decay(rows())
    assert deviation(decayed, along(log_rates(phases), corrections(phases))) <= EQUAL
    assert deviation(decayed, along(log_rates(phases), np.zeros(STEPS))) > DIFFERENT
    wrong_root = np.log(RATE) - (2 * T + 1) * np.log1p(-RATE * DECAY)
    assert deviation(decayed, along(wrong_root, corrections(phases))) > DIFFERENT


@pytest.mark.x64
def test_texp_equals_step_decay_with_weight_decay_in_function_space():
    decayed, phases = with_decay(rows(step_decay)), texp_phases(*PHASES)
    assert deviation(decayed, fixed(texp(*PHASES))) <= EQUAL
    assert deviation(decayed, along(log_rates(phases), corrections(phases))) <= EQUAL


@pytest.mark.x64
def test_what_is_left_out_of_texp_is_seen_near_the_limit():
    decayed, phases = with_decay(rows(step_decay)), texp_phases(*PHASES)
    exact = along(log_rates(phases), corrections(phases))
    assert deviation(exact, fixed(texp(*PHASES, correct_start=False))) > 1
    only_start = fixed(texp(*PHASES, correct_phases=False))
    assert deviation(decayed, only_start, steps=100) <= EQUAL
    assert deviation(decayed, only_start) > DIFFERENT


@pytest.mark.x64
@pytest.mark.parametrize(
    "wrong", ["alpha of the phase before, twice", "alpha of the new phase, twice", "drop only", "late"]
)
def test_wrong_factors_at_a_phase_start_are_caught(wrong):
    decayed, phases = with_decay(rows(step_decay)), texp_phases(*PHASES)
    log_rate = log_rates(phases)
    starts = np.searchsorted(phases.starts, T, side="right") - 1
    before = np.concatenate([[0.0], phases.log_alpha[1:] - phases.log_alpha[:-1]])
    shift = {
        "alpha of the phase before, twice": np.cumsum(before)[starts],
        "alpha of the new phase, twice": -np.cumsum(before)[starts],
        "drop only": np.cumsum([0, *(phases.log_alpha[1:] + phases.log_alpha[:-1])])[starts],
        "late": np.concatenate([log_rate[:1], log_rate[:-1]]) - log_rate,
    }[wrong]
    assert deviation(decayed, along(log_rate + shift, corrections(phases))) > DIFFERENT


@pytest.mark.x64
def test_texp_without_the_instant_drop_equals_a_constant_rate_with_decays_that_drop():
    decayed = with_decay(rows(RATE, lambda t: DECAY * step_decay(t) / RATE))
    assert deviation(decayed, fixed(texp(*PHASES, instant_drop=False))) <= EQUAL
    with_drop = texp_phases(*PHASES)
    assert deviation(decayed, along(log_rates(with_drop), corrections(with_drop))) > DIFFERENT


def test_texp_and_texp_plus_plus_grow_alike_after_the_transient():
    plan = wd_free_plan(0.1, 5e-4, 0.9, num_steps=1000)
    rates = np.log([float(texp_schedule((), (0.1,), 5e-4, 0.9)(t)) for t in (900, 999)])
    assert np.diff(rates) == pytest.approx(plan.log_lr[999] - plan.log_lr[900], abs=1e-6)
    assert rates[1] - plan.log_lr[999] == pytest.approx(-np.log(0.991), abs=1e-3)


def test_rates_at_the_check_points_are_those_of_the_published_figure():
    schedule = texp_schedule(*PAPER)
    points = {
        79 * 391: 12.48,
        80 * 391 - 1: 12.65,
        80 * 391: 11.65,
        120 * 391 - 1: 12.33,
        120 * 391: 11.33,
        300 * 391: 11.64,
    }
    for step, log10 in points.items():
        assert np.log10(schedule(step)) == pytest.approx(log10, abs=0.01), step
    growth = [float(schedule(e * 391) / schedule((e - 1) * 391)) for e in (40, 100, 200)]
    assert growth == pytest.approx([1.48123, 1.03989, 1.00392], abs=1e-5)


def test_a_compiled_schedule_is_the_schedule_of_the_host_to_float32():
    schedule = texp_schedule(*PAPER)
    steps = np.concatenate([np.arange(0, 300 * 391, 997), [31279, 31280, 46919, 46920]]).astype(np.int32)
    compiled = jax.jit(schedule)(jnp.asarray(steps))
    np.testing.assert_allclose(compiled, schedule(steps), rtol=4e-7)
    phases = texp_phases(*PAPER)
    phase = np.searchsorted(phases.starts, steps, side="right") - 1
    product = phases.log_lr[phase] - np.float32(2 * phases.log_alpha[phase]) * np.float32(steps - phases.starts[phase])
    naive = np.exp(product.astype(np.float32))
    assert np.max(np.abs(naive / schedule(steps) - 1)) > 1e-6


def test_float32_ends_with_an_error_that_names_the_step():
    schedule = texp_schedule((), (0.1,), 5e-4, 0.9)
    assert np.isfinite(schedule(90590))
    with pytest.raises(LrjaxError, match="leaves float32 at step 90591.*gauge_rescale"):
        schedule(90591)
    assert not np.isfinite(jax.jit(schedule)(90592))
    with pytest.raises(LrjaxError, match="at step 90591"):
        texp_schedule((), (0.1,), 5e-4, 0.9, num_steps=90592)
    with pytest.raises(LrjaxError, match="at step 90591"):
        texp_schedule((100000,), (0.1, 1e-30), 5e-4, 0.9)
    texp_schedule((90591,), (0.1, 0.01), 5e-4, 0.9, num_steps=90591)


def test_texp_with_a_gauge_goes_on_where_float32_ends():
    optimizer = texp((), (0.1,), 5e-4, 0.9, correct_start=False)
    state = optimizer.init(jnp.ones(()))._replace(count=jnp.int32(195_499), gauge=jnp.int32(-140))
    update, _ = optimizer.update(jnp.ones(()), state)
    phases = texp_phases((), (0.1,), 5e-4, 0.9)
    log_rate = phases.log_lr[0] - 2 * 195_499 * phases.log_alpha[0] - 280 * np.log(2)
    assert np.log(-float(update)) == pytest.approx(log_rate, abs=2e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((100,), (1.0, 6e-1), 5e-3, 0.9), "from step 0 on: learning_rate . weight_decay is 0.005 .* allows 0.00263"),
        (((100,), (0.1, 1.0), 5e-3, 0.9), "from step 100 on"),
        (((), (2.0,), 0.5, 0.0), "from step 0 on"),
        (((100,), (0.1,), 5e-4, 0.9), "1 boundaries need 2 learning rates"),
        (((100, 50), (0.1, 0.1, 0.1), 5e-4, 0.9), "boundaries must be positive and increase"),
        (((0,), (0.1, 0.1), 5e-4, 0.9), "boundaries must be positive and increase"),
        (((100,), (0.1, 0.0), 5e-4, 0.9), "learning rates of phases must be positive"),
        (((), (0.1,), 5e-4, 1.0), "momentum must be in"),
    ],
)
def test_bad_phases_are_one_clear_error(arguments, message):
    for build in (texp, texp_schedule):
        with pytest.raises(LrjaxError, match=message):
            build(*arguments)


def test_texp_refuses_traced_numbers_and_a_missing_argument():
    with pytest.raises(LrjaxError, match="traced"):
        jax.jit(lambda lr: texp_schedule((), (lr,), 5e-4, 0.9)(0))(0.1)
    optimizer = texp((), (0.1,), 5e-4, 0.9)
    with pytest.raises(LrjaxError, match="call update\\(gradients, state, params\\)"):
        optimizer.update(jnp.ones(2), optimizer.init(jnp.ones(2)))
