"""The virtual step is the step that the optimizer makes: all optimizers of optax, under its wrappers, inside each other."""

from inspect import Parameter, signature

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

from lrjax.errors import LrjaxError
from lrjax.monitor import virtual_step
from lrjax.monitor.accumulation import accumulators, micro_batches
from lrjax.monitor.virtual_step import check_state
from tests.monitor import optimizers

STEPS = 3
BATCHES = optimizers.batches(8)


def gradient_of(params, batch, extra):
    if "gradient_fn" in extra:
        return extra["gradient_fn"](params, batch)
    return jax.grad(optimizers.loss)(params, batch)


def keywords_of(params, batch, extra):
    made = {
        "value": optimizers.loss(params, batch),
        "grad": jax.grad(optimizers.loss)(params, batch),
        "value_fn": lambda p: optimizers.loss(p, batch),
    }
    return made | (extra["extra_args"](params, batch) if "extra_args" in extra else {})


def assert_equal(made, wanted):
    assert jax.tree.structure(made) == jax.tree.structure(wanted)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-5, atol=1e-6), made, wanted
    )


def taken_by(tx, keywords):
    """Those of the keywords that an update takes: one without `**extra_args` refuses the others."""
    takes = signature(tx.update).parameters.values()
    if any(one.kind is Parameter.VAR_KEYWORD for one in takes):
        return keywords
    return {name: value for name, value in keywords.items() if name in {one.name for one in takes}}


def compare(tx, extra, steps=STEPS):
    """The virtual update beside that of each step of a training, and the states after them."""

    def pair(params, state, batch):
        virtual = virtual_step(optimizers.loss, tx, params, state, batch, **extra)
        full = optax.with_extra_args_support(tx)
        gradient, keywords = gradient_of(params, batch, extra), keywords_of(params, batch, extra)
        update, after = full.update(gradient, state, params, **taken_by(full, keywords))
        return virtual, update, after

    pair, params = jax.jit(pair), optimizers.params()
    state, moved = tx.init(params), False
    for batch in BATCHES[:steps]:
        virtual, update, after = pair(params, state, batch)
        assert_equal(virtual.update, update)
        moved = moved or any(np.any(np.asarray(leaf)) for leaf in jax.tree.leaves(update))
        params, state = optax.apply_updates(params, update), after
    return moved


@pytest.mark.parametrize("name", sorted(optimizers.constructors()))
def test_the_virtual_update_of_every_optimizer_is_that_of_its_training(name):
    if name in optimizers.EXCEPTIONS:
        pytest.skip(f"{name} {optimizers.EXCEPTIONS[name]}")
    tx = optimizers.made(name)
    assert tx is not None, (
        f"tests/monitor/optimizers.py has neither arguments for optax's {name} nor a reason to leave it out"
    )
    extra = optimizers.EXTRA[name](optimizers.loss) if name in optimizers.EXTRA else {}
    assert compare(tx, extra) or name == "set_to_zero"


SCHEDULE = optax.warmup_cosine_decay_schedule(0.0, 0.1, 2, 8)
WRAPPED = {
    "chain": lambda: optax.chain(optax.clip_by_global_norm(0.1), optax.add_decayed_weights(0.1), optax.adam(SCHEDULE)),
    "named chain": lambda: optax.named_chain(("clip", optax.clip(0.1)), ("sgd", optax.sgd(0.1))),
    "partition": lambda: optax.partition({"x": optax.contrib.muon(0.1), "y": optax.adam(0.1)}, optimizers.LABELS),
    "masked": lambda: optax.masked(optax.adam(0.1), optimizers.MASK),
    "injected": lambda: optax.inject_hyperparams(optax.adamw)(learning_rate=SCHEDULE, weight_decay=0.1),
    "finite": lambda: optax.apply_if_finite(optax.adam(0.1), 3),
    "partition of injected": lambda: optax.partition(
        {"x": optax.inject_hyperparams(optax.sgd)(SCHEDULE), "y": optax.adam(0.1)}, optimizers.LABELS
    ),
    "finite partition": lambda: optax.apply_if_finite(
        optax.partition({"x": optax.lion(0.1), "y": optax.adamw(SCHEDULE)}, optimizers.LABELS), 3
    ),
    "masked in a chain": lambda: optax.chain(
        optax.masked(optax.add_decayed_weights(0.1), optimizers.MASK), optax.sgd(SCHEDULE, momentum=0.9, nesterov=True)
    ),
    "schedule-free over injected": lambda: optax.contrib.schedule_free(
        optax.inject_hyperparams(optax.sgd)(learning_rate=0.1), 0.1
    ),
    "value in a chain": lambda: optax.chain(optax.polyak_sgd(), optax.contrib.reduce_on_plateau(patience=1)),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_the_virtual_update_under_wrappers_is_that_of_the_training(name):
    assert compare(WRAPPED[name](), {}, 5)


def whole(make, k, params, gradient, state):
    """The update of k micro-batches with the same gradient, from an empty accumulator."""
    for _ in range(k):
        update, state = make.update(gradient, state, params)
    return update


INNER = {
    "adam": lambda: optax.adam(0.1),
    "clipped, scheduled": lambda: optax.chain(optax.clip_by_global_norm(0.05), optax.sgd(SCHEDULE, momentum=0.9)),
    "partition": lambda: optax.partition({"x": optax.contrib.muon(0.1), "y": optax.adamw(0.1)}, optimizers.LABELS),
    "injected": lambda: optax.inject_hyperparams(optax.adamw)(learning_rate=SCHEDULE),
}


def accumulated_case(tx, sizes):
    """Checks the virtual update at each micro-batch of some steps against the step that has one gradient throughout."""
    params, state = optimizers.params(), tx.init(optimizers.params())
    start = state
    virtual = jax.jit(lambda p, s, b: virtual_step(optimizers.loss, tx, p, s, b).update)
    update_of = jax.jit(tx.update)
    index = 0
    for k in sizes:
        start = state
        for _ in range(k):
            batch = BATCHES[index % len(BATCHES)]
            gradient = jax.grad(optimizers.loss)(params, batch)
            wanted, inner = None, start
            for _ in range(k):
                wanted, inner = update_of(gradient, inner, params)
            assert_equal(virtual(params, state, batch), wanted)
            update, state = update_of(gradient, state, params)
            params = optax.apply_updates(params, update)
            index += 1


@pytest.mark.parametrize("mean", [True, False])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_virtual_step_of_multi_steps_is_the_whole_step_at_every_position(k, mean):
    inner = list(INNER.values())[k - 1]()
    accumulated_case(optax.MultiSteps(inner, k, use_grad_mean=mean), (k, k))


def test_the_virtual_step_follows_a_schedule_of_accumulation():
    sizes = (1, 1, 3, 3)
    tx = optax.MultiSteps(INNER["injected"](), lambda step: jnp.where(step < 2, 1, 3))
    accumulated_case(tx, sizes)


def test_multi_steps_inside_multi_steps_make_the_whole_step_of_both():
    accumulated_case(optax.MultiSteps(optax.MultiSteps(optax.adam(0.1), 2), 3, use_grad_mean=False), (6,))


def test_multi_steps_inside_a_partition_keep_their_own_counts():
    """Each group makes the step at the end of its own accumulation."""
    several = {"x": optax.MultiSteps(optax.adam(0.1), 2), "y": optax.MultiSteps(optax.sgd(0.1), 3)}
    several = {name: one.gradient_transformation() for name, one in several.items()}
    tx, alone = (
        optax.partition(one, optimizers.LABELS) for one in (several, {"x": optax.adam(0.1), "y": optax.sgd(0.1)})
    )
    params, batch = optimizers.params(), BATCHES[0]
    gradient = jax.grad(optimizers.loss)(params, batch)
    state = tx.update(gradient, tx.init(params), params)[1]
    made = virtual_step(optimizers.loss, tx, params, state, batch).update
    assert_equal(made, alone.update(gradient, alone.init(params), params)[0])


def test_the_size_of_an_accumulation_is_found_without_copies_of_the_parameters():
    """A copy for each count that is tried would take 4096 times the parameters."""
    tx = optax.MultiSteps(optax.adam(0.1), 5)
    params = {"w": jnp.zeros((256, 256))}

    def sizes(state, params):
        return micro_batches(lambda g, s, p: jax.jit(tx.update)(g, s, p), state, params)

    memory = jax.jit(sizes).lower(tx.init(params), params).compile().memory_analysis()
    assert int(sizes(tx.init(params), params)[0]) == 5
    assert memory.temp_size_in_bytes < 8 * params["w"].nbytes


def test_nothing_that_was_passed_changes():
    tx = optax.MultiSteps(optax.adam(0.1), 3)
    params, batch = optimizers.params(), BATCHES[0]
    state = tx.init(params)
    before = jax.tree.map(np.array, (params, state, batch))
    virtual_step(optimizers.loss, tx, params, state, batch)
    jax.tree.map(np.testing.assert_array_equal, before, jax.tree.map(np.array, (params, state, batch)))


def needs(tx, **extra):
    params = optimizers.params()
    return virtual_step(optimizers.loss, tx, params, tx.init(params), BATCHES[0], **extra)


def test_an_optimizer_that_needs_more_names_the_argument():
    def update(updates, state, params=None, *, obj_fn, **_):
        return updates, state

    own = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
    with pytest.raises(LrjaxError, match=r"needs obj_fn; pass extra_args="):
        needs(own)
    with pytest.raises(LrjaxError, match=r"needs obj_fn; pass extra_args="):
        needs(optimizers.made("sophia"))
    with pytest.raises(LrjaxError, match=r"needs grad_fn; pass extra_args="):
        needs(optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.1), opaque_mode=True))
    with pytest.raises(LrjaxError, match=r"gradient_fn="):
        needs(optimizers.made("dpsgd"))
    grad_fn = {"grad_fn": lambda p, _: jax.grad(optimizers.loss)(p, BATCHES[0])}
    needs(optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.1), opaque_mode=True), extra_args=lambda params, batch: grad_fn)


def test_a_state_of_another_optimizer_or_of_other_parameters_is_refused():
    params, adam = optimizers.params(), optax.adam(0.1)
    with pytest.raises(LrjaxError, match="opt_state"):
        virtual_step(optimizers.loss, adam, params, optax.sgd(0.1).init(params), BATCHES[0])
    wider = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf], -1), params)
    for state in (adam.init(wider), optax.sgd(0.1).init(params)):
        with pytest.raises(LrjaxError, match="does not belong"):
            check_state(adam, state, params)
    for tx in (adam, optax.MultiSteps(adam, 2), WRAPPED["partition"](), WRAPPED["injected"]()):
        check_state(tx, tx.init(params), params)


def test_states_of_multi_steps_are_found_by_their_depth():
    state = optax.MultiSteps(optax.MultiSteps(optax.sgd(0.1), 2), 3).init(optimizers.params())
    assert [len(accumulators(state, depth)) for depth in (0, 1, 2)] == [1, 1, 0]
