"""What is known of an optimizer is read off its own updates, and what is not known is called "other"."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

from lrjax.errors import LrjaxError
from lrjax.monitor import learning_rate_of, optimizer_facts, rate_in_use
from lrjax.monitor.clock import DECAY_FORM, by_group, decay_per_step
from lrjax.monitor.programs import Programs
from tests.monitor import optimizers

WARM = optax.warmup_cosine_decay_schedule(0.0, 1e-3, 10, 100)  # the rate of the first step is 0
SETTINGS = {
    "sgd": (lambda rate: optax.sgd(rate), {"kind": "sgd"}),
    "heavy ball": (lambda rate: optax.sgd(rate, 0.8), {"kind": "heavy_ball", "momentum": 0.8, "nesterov": False}),
    "nesterov": (
        lambda rate: optax.sgd(rate, 0.9, nesterov=True),
        {"kind": "heavy_ball", "momentum": 0.9, "nesterov": True},
    ),
    "adam": (
        lambda rate: optax.adam(rate, 0.8, 0.99, 1e-6),
        {"kind": "adam", "b1": 0.8, "b2": 0.99, "eps": 1e-6, "nesterov": False},
    ),
    "adamw": (lambda rate: optax.adamw(rate, 0.9, 0.95), {"kind": "adam", "b1": 0.9, "b2": 0.95, "eps": 1e-8}),
    "nadam": (lambda rate: optax.nadam(rate), {"kind": "adam", "b1": 0.9, "b2": 0.999, "nesterov": True}),
}
WRAPPERS = {
    "alone": lambda tx: (tx(1e-3), 1),
    "warm-up in a chain with clipping": lambda tx: (optax.chain(optax.clip_by_global_norm(1.0), tx(WARM)), 1),
    "accumulated": lambda tx: (optax.MultiSteps(tx(WARM), 4), 4),
    "injected and finite": lambda tx: (optax.apply_if_finite(optax.inject_hyperparams(tx)(rate=WARM), 3), 1),
    "partly frozen, accumulated sum": lambda tx: (optax.MultiSteps(frozen(tx(1e-2)), 3, False), 3),
    "partition of two rates": lambda tx: (optax.partition({"x": tx(1e-3), "y": tx(WARM)}, optimizers.LABELS), 1),
}


CASES = [(name, "alone") for name in SETTINGS] + [(name, one) for name in ("nesterov", "adamw") for one in WRAPPERS]


def frozen(tx):
    """With a part of the parameters that is not trained."""
    others = jax.tree.map(lambda train: not train, optimizers.MASK)
    return optax.chain(optax.masked(tx, optimizers.MASK), optax.masked(optax.set_to_zero(), others))


def trained(tx, steps=2):
    """Parameters and the state after some steps."""
    params = optimizers.params()
    state = tx.init(params)
    update = jax.jit(tx.update)
    for batch in optimizers.batches(steps):
        updates, state = update(jax.grad(optimizers.loss)(params, batch), state, params)
        params = optax.apply_updates(params, updates)
    return params, state


@pytest.mark.parametrize(("name", "wrapper"), dict.fromkeys(CASES))
def test_the_settings_are_recovered_under_every_wrapper(name, wrapper):
    make, wanted = SETTINGS[name]
    tx, accumulation = WRAPPERS[wrapper](make)
    params, state = optimizers.params(), tx.init(optimizers.params())
    facts = optimizer_facts(tx, state, params)._asdict()
    for key, value in wanted.items():
        assert facts[key] == (pytest.approx(value, rel=1e-3) if isinstance(value, float) else value)
    assert facts["accumulation"] == accumulation


def test_the_settings_in_the_middle_of_a_run_are_those_of_its_start():
    tx = optax.MultiSteps(optax.adamw(WARM, 0.9, 0.95), 2)
    params, state = trained(tx, 5)
    facts = optimizer_facts(tx, state, params)
    assert (facts.kind, facts.count, facts.accumulation) == ("adam", 2, 2)
    assert facts.eps == pytest.approx(1e-8, rel=1e-3)


# A step of these is one of SGD, of the heavy ball or of Adam, up to clipping.
NAMED = {
    "sgd", "adam", "adamw", "nadam", "nadamw", "add_decayed_weights", "adaptive_grad_clip", "clip", "clip_by_block_rms",
    "clip_by_global_norm", "identity", "masked", "apply_if_finite", "scale_by_adam", "scale", "scale_by_learning_rate",
    "scale_by_schedule", "trace", "with_extra_args_support", "zero_nans", "stateless", "stateless_with_tree_map",
    "set_to_zero", "keep_params_nonnegative", "freeze", "selective_transform", "flatten", "scale_by_rms",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(optimizers.constructors()) - NAMED - set(optimizers.EXCEPTIONS)))
def test_every_other_optimizer_is_called_other(name):
    """No line of stability of SGD or Adam may be stated for it."""
    tx = optimizers.made(name)
    if tx is None:
        pytest.skip("tests/monitor/test_virtual_step.py fails for it")
    params = optimizers.params()
    extra = optimizers.EXTRA[name](optimizers.loss) if name in optimizers.EXTRA else {}
    programs = Programs(optimizers.loss, tx, ("a",), **extra)
    assert programs.facts(params, tx.init(params), optimizers.batches(1)[0]).kind == "other"


MIXED = {
    "muon and adam": {"x": optax.contrib.muon(0.1), "y": optax.adam(0.1)},
    "sgd and adam": {"x": optax.sgd(0.1), "y": optax.adam(0.1)},
    "sgd and heavy ball": {"x": optax.sgd(0.1), "y": optax.sgd(0.1, 0.9)},
    "heavy ball and adam": {"x": optax.sgd(0.1, 0.9), "y": optax.adam(0.1)},
    "two momenta": {"x": optax.sgd(0.1, 0.8), "y": optax.sgd(0.1, 0.9)},
    "adam and adamax": {"x": optax.adam(0.1), "y": optax.adamax(0.1)},
    "sgd and signs": {"x": optax.sgd(0.1), "y": optax.sign_sgd(0.1)},
}


@pytest.mark.parametrize("name", MIXED)
def test_groups_of_different_optimizers_are_other(name):
    tx = optax.partition(MIXED[name], optimizers.LABELS)
    assert optimizer_facts(tx, tx.init(optimizers.params()), optimizers.params()).kind == "other"


def test_an_optimizer_of_ones_own_without_a_state_is_looked_at():
    """A state says nothing of signs that are taken without one."""
    signs = optax.stateless(lambda updates, params: jax.tree.map(lambda u: -0.1 * jnp.sign(u), updates))
    plain = optax.stateless(lambda updates, params: jax.tree.map(lambda u: -0.1 * u, updates))
    kinds = [optimizer_facts(tx, tx.init(optimizers.params()), optimizers.params()).kind for tx in (signs, plain)]
    assert kinds == ["other", "sgd"]


def decays(tx, steps=2):
    """c of each leaf, NaN where the dependence on theta is another, and whether it is in the gradient."""
    params, state = trained(tx, steps)
    decay = jax.jit(lambda s, p: decay_per_step(tx.update, s, p, tx.init))(state, params)
    groups = ("a", "c", "d")
    found = by_group(jax.device_get(decay), groups, [leaf.size for leaf in jax.tree.leaves(params)])
    return np.array(list(found.values())), bool(decay.coupled)


DECAYS = {
    "decoupled": (lambda: optax.adamw(1e-2, weight_decay=0.1), 1e-3, False),
    "decoupled, lion": (lambda: optax.lion(1e-2, weight_decay=0.1), 1e-3, False),
    "decoupled, accumulated": (lambda: optax.MultiSteps(optax.adamw(1e-2, weight_decay=0.1), 2), 1e-3, False),
    "in the gradient": (lambda: optax.chain(optax.add_decayed_weights(0.05), optax.sgd(0.1)), 5e-3, False),
    "in the gradient, momentum": (
        lambda: optax.chain(optax.add_decayed_weights(0.05), optax.sgd(0.1, 0.9)), 5e-3, True,
    ),
    "by group": (
        lambda: optax.adamw(1e-2, weight_decay=0.1, mask=optimizers.MASK), np.array([1e-3, 0, 1e-3]), False,
    ),
    "small": (lambda: optax.adamw(1e-3, weight_decay=1e-2), 1e-5, False),
    "none": (lambda: optax.adam(1e-2), 0.0, False),
    "none, heavy ball": (lambda: optax.sgd(1e-2, 0.9), 0.0, False),
}  # fmt: skip


@pytest.mark.parametrize("name", DECAYS)
def test_the_share_that_decay_takes_is_rate_times_decay(name):
    make, wanted, coupled = DECAYS[name]
    found, through = decays(make())
    np.testing.assert_allclose(found, np.broadcast_to(wanted, 3), rtol=0.02, atol=1e-9)
    assert through == coupled


NO_DECAY = {
    "lars": lambda: optax.lars(0.1, weight_decay=0.01),
    "lamb": lambda: optax.lamb(0.1, weight_decay=0.01),
    "fresh": lambda: optax.lamb(0.1),
    "schedule_free": lambda: optax.contrib.schedule_free_sgd(0.1),
    "cocob": lambda: optax.contrib.cocob(),
    "dowg": lambda: optax.contrib.dowg(),
    "madgrad": lambda: optax.contrib.madgrad(0.1),
}


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("name", NO_DECAY)
def test_trust_ratios_and_pulls_to_other_parameters_are_not_mistaken_for_decay(name, steps):
    found, _ = decays(NO_DECAY[name](), steps)
    assert np.all(np.isnan(found) | (found == 0))


def test_decay_in_the_gradient_of_adam_has_no_clock():
    """Divided by the second moments it takes no share of the weights; that it takes none would be false."""
    from lrjax.monitor import Monitor

    tx, params = optax.chain(optax.add_decayed_weights(0.1), optax.adam(0.01)), optimizers.params()
    monitor = Monitor(optimizers.loss, tx, every=1, budget=0)
    for step, batch in enumerate(optimizers.batches(8) * 8):
        monitor.update(step, params, tx.init(params), batch)
    clocks = [row["decay/b"] for row in monitor.rows() if "decay/b" in row]
    assert clocks
    assert np.all(np.isnan(clocks))
    assert DECAY_FORM < 0.2


def test_the_learning_rate_is_found_in_nested_states():
    params = optimizers.params()
    inner = optax.inject_hyperparams(optax.adamw)(learning_rate=0.25)
    for tx in (
        optax.chain(optax.clip(1.0), inner), optax.MultiSteps(inner, 2), optax.apply_if_finite(inner, 2),
        optax.masked(inner, optimizers.MASK), optax.MultiSteps(optax.chain(optax.apply_if_finite(inner, 2)), 2),
    ):  # fmt: skip
        assert learning_rate_of(tx.init(params)) == 0.25


def test_the_learning_rates_of_groups_are_asked_for_by_their_label():
    groups = {name: optax.inject_hyperparams(optax.sgd)(learning_rate=rate) for name, rate in (("x", 0.5), ("y", 0.25))}
    state = optax.partition(groups, optimizers.LABELS).init(optimizers.params())
    assert [learning_rate_of(state, group=name) for name in ("x", "y")] == [0.5, 0.25]
    with pytest.raises(LrjaxError, match="different learning rates; choose by group="):
        learning_rate_of(state)
    with pytest.raises(LrjaxError, match="no learning rate of group 'z'"):
        learning_rate_of(state, group="z")
    assert rate_in_use(state, 0, None).value is None


def test_a_state_without_a_learning_rate_says_how_to_hold_one():
    with pytest.raises(LrjaxError, match="inject_hyperparams"):
        learning_rate_of(optax.adam(0.1).init(optimizers.params()))


def test_the_rate_in_use_is_that_of_the_count_of_the_schedule():
    """Under accumulation the steps of the training are more than those that the schedule has counted."""
    schedule = optax.linear_schedule(1.0, 0.0, 10)
    tx = optax.MultiSteps(optax.sgd(schedule), 2)
    _, state = trained(tx, 4)
    assert rate_in_use(state, 4, schedule).value == pytest.approx(0.8)
