"""Rules that read the loss: AutoDecay's arithmetic, optax's plateau, SASA's condition, and that a resumed run decides alike."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lrjax
from lrjax import LrjaxError
from lrjax.experiment.step import rules
from lrjax.experiment.step.rules import PARTS, advance, auto_decay, auto_decay_init, init, sasa, sasa_init
from tests.papers.patterns import config
from tests.runs import assert_same_run
from tests.test_resume import Killed, kill_at

SETTINGS = SimpleNamespace(
    every=4, factor=0.1, beta=0.9, window=5, eta=0.05, zeta=0.9, patience=3, rtol=1e-4, cooldown=0, min_scale=0.0, delta=0.02
)  # fmt: skip


def settings(**overrides):
    return SimpleNamespace(**(vars(SETTINGS) | overrides))


def decide(losses, **overrides):
    """(scale, stopped) after each loss, by AutoDecay."""
    own, scale = settings(**overrides), jnp.float32(1)
    state, found = auto_decay_init(own), []
    observe = jax.jit(lambda state, scale, loss: auto_decay(own, state, scale, loss, {}))
    for loss in losses:
        state, scale, stop = observe(state, scale, jnp.float32(loss))
        found.append((float(scale), bool(stop)))
    return found


def by_definition(losses, beta=0.9, window=5, eta=0.05, zeta=0.9):
    """Epochs (from 1) of decays and of the stop, written as in the text, with lists and float64."""
    decays, start, stage = [], losses[0], []
    for epoch, loss in enumerate(losses, start=1):
        stage.append(loss)
        f, smoothed = 0.0, []
        for t, own in enumerate(stage, start=1):
            f = beta * f + (1 - beta) * own
            smoothed.append(f / (1 - beta**t))
        last = smoothed[-window:]
        if len(smoothed) >= window and (max(last) - min(last)) / min(last) < eta:
            if smoothed[-1] / start >= zeta:
                return decays, epoch
            decays.append(epoch)
            start, stage = smoothed[-1], []
    return decays, None


def test_auto_decay_decides_as_its_definition_does():
    random = np.random.default_rng(0)
    t = np.arange(120)
    losses = np.where(t < 50, 1 + 2 * np.exp(-t / 4), 0.3 + 0.7 * np.exp(-(t - 50) / 5)) * random.uniform(
        0.97, 1.03, 120
    )
    wanted, stop = by_definition(losses.tolist())
    found = decide(losses)
    scales = np.array([scale for scale, _ in found])
    assert len(wanted) >= 1
    assert stop is not None
    assert (np.flatnonzero(np.diff(scales, prepend=1.0)) + 1).tolist()[: len(wanted)] == wanted
    assert [i + 1 for i, (_, stopped) in enumerate(found) if stopped][0] == stop


def test_auto_decay_takes_the_end_of_the_stage_before_as_the_start_of_the_next():
    losses = [4.0] + [1.0] * 60 + [0.5] * 30  # the drop happens in the first stretch after the decay
    wanted, stop = by_definition(losses)
    first = wanted[0]
    again = [4.0] + [1.0] * (first - 1) + [0.5] * 6
    assert decide(again)[-1] == (pytest.approx(0.01), False)


def test_auto_decay_stops_where_the_loss_is_flat_and_has_not_dropped():
    assert decide([1.0] * 5) == [(1.0, False)] * 4 + [(1.0, True)]


@pytest.mark.parametrize("overrides", [{}, {"cooldown": 2, "patience": 2}, {"rtol": 0.05, "min_scale": 0.05}])
def test_plateau_decides_as_that_of_optax_does(overrides):
    own, scale = settings(**overrides), jnp.float32(1)
    oracle = optax.contrib.reduce_on_plateau(
        own.factor, own.patience, own.rtol, cooldown=own.cooldown, min_scale=own.min_scale
    )
    state, theirs = rules.plateau_init(own), oracle.init({})
    ours = jax.jit(lambda state, scale, loss: rules.plateau(own, state, scale, loss, {}))
    update = jax.jit(lambda state, loss: oracle.update({}, state, value=loss)[1])
    random, found, wanted = np.random.default_rng(0), [], []
    for t in range(60):
        loss = jnp.float32(1 / (1 + 0.1 * min(t, 25)) * random.uniform(0.95, 1.05))
        state, scale, _ = ours(state, scale, loss)
        theirs = update(theirs, loss)
        found.append(float(scale))
        wanted.append(float(theirs.scale))
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert len(set(found)) > 1


def stationary(steps, momentum=0.9, rate=0.05, l2=0.1, scale=1.0):
    """What SASA observes on a noisy quadratic, from the start or (scale=1) near its stationary state."""
    random = np.random.default_rng(0)
    chain = optax.chain(optax.add_decayed_weights(l2), optax.trace(momentum))
    hparams = {"optimizer.l2": l2, "optimizer.momentum": momentum}

    @jax.jit
    def step(theta, state, noise):
        gradient = {"w": 2.0 * theta["w"] + noise}
        updates, state = chain.update(gradient, state, theta)
        seen = rules.sasa_observe(hparams, jnp.float32(rate), theta, gradient, state)
        return {"w": theta["w"] - rate * updates["w"]}, state, seen

    theta = {"w": jnp.full(20, scale)}
    state, seen = chain.init(theta), []
    for _ in range(steps):
        theta, state, one = step(theta, state, jnp.asarray(random.normal(size=20), jnp.float32))
        seen.append([float(one["inner"]), float(one["square"])])
    return np.array(seen)


def test_both_sides_of_sasas_condition_agree_in_the_stationary_state_and_not_before():
    seen = stationary(3000, scale=30.0)
    late, first = seen[1000:].mean(axis=0), seen[0]
    assert late[0] == pytest.approx(late[1], rel=0.1)
    assert first[0] > 3 * first[1]


def test_sasa_waits_for_its_window_decays_where_the_condition_holds_and_waits_again():
    own, scale, state = settings(delta=0.1), jnp.float32(1), sasa_init(SETTINGS)
    random, found = np.random.default_rng(0), []
    for _ in range(4):
        square = jnp.full(PARTS, 1.0)
        inner = square + jnp.asarray(0.01 * random.normal(size=PARTS), jnp.float32)
        state, scale, _ = sasa(own, state, scale, jnp.float32(1), {"inner": inner, "square": square})
        found.append(float(scale))
    assert found == pytest.approx([1.0, 0.1, 0.1, 0.01])
    biased = {"inner": jnp.full(PARTS, 1.5), "square": jnp.full(PARTS, 1.0)}
    for _ in range(4):
        state, scale, _ = sasa(own, state, scale, jnp.float32(1), biased)
    assert float(scale) == pytest.approx(0.01)


def test_a_rule_sees_the_mean_loss_of_each_stretch_and_its_answer_holds_from_the_next_step_on():
    own = settings(name="auto_decay", every=2, window=1, eta=10.0)
    state, scales = init(own), []
    for step, loss in enumerate([4.0, 2.0, 1.0, 1.0]):
        scales.append(float(state.scale))
        state = advance(own, state, jnp.int32(step), jnp.float32(loss), {})
    assert scales == [1.0, 1.0, 1.0, 1.0]
    assert int(state.stopped_at) == 2  # g = g_0 = 3 after the first stretch: flat in a window of one, and not dropped


@pytest.fixture(scope="module")
def ruled(tmp_path_factory):
    overrides = {"arms.auto_decay.rule.eta": 1.0, "arms.auto_decay.rule.zeta": 0.999, "arms.auto_decay.rule.window": 1}
    settings = config("L6", overrides | {"sweep.seed": (0, 1), "lanes_per_device": 2, "arms.auto_decay.rule.every": 4})
    with settings.unlocked():
        for arm in list(settings.arms):
            if arm != "auto_decay":
                del settings.arms[arm]
        del settings.probes.subsets
    workdir = tmp_path_factory.mktemp("ruled")
    return settings, lrjax.run(settings, workdir)


def test_the_rate_that_a_rule_chose_is_logged_and_a_stopped_lane_ends_there(ruled):
    _, run = ruled
    for lane, arrays in zip(run.lanes, run.arrays, strict=True):
        rates = arrays["step/learning_rate"]
        wanted, stop = by_definition(
            arrays["step/loss"].reshape(-1, 4).mean(axis=1).tolist(), window=1, eta=1.0, zeta=0.999
        )
        assert rates[0] == pytest.approx(0.1)
        assert (np.flatnonzero(np.diff(rates) < 0) + 1).tolist() == [4 * e for e in wanted if 4 * e < len(rates)]
        if stop is None:
            assert "stopped_at" not in lane
        else:
            assert lane["stopped_at"] == len(rates) == 4 * stop
    assert any("stopped_at" in lane for lane in run.lanes)


def test_a_killed_run_with_a_rule_ends_with_the_same_bits(ruled, tmp_path):
    settings, reference = ruled
    with pytest.MonkeyPatch.context() as monkeypatch:
        kill_at(monkeypatch, 6)
        with pytest.raises(Killed):
            lrjax.run(settings, tmp_path)
    lrjax.run(settings, tmp_path)
    assert_same_run(tmp_path, reference.workdir)


def test_sasa_refuses_nesterov():
    with pytest.raises(LrjaxError, match="nesterov"):
        lrjax.experiment.loop.sweep.expand(config("L6", {"arms.sasa.optimizer.nesterov": True}))
