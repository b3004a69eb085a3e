"""Any schedules, momenta, decays and splits into groups: the same functions, or a refusal that names the first bad step."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lrjax.errors import LrjaxError
from lrjax.transforms import follow_plan, wd_free_plan, wd_free_tables
from tests.transforms import problems
from tests.transforms.problems import EQUAL, RULES, STEPS, deviation, trained, with_decay, without_decay

pytestmark = pytest.mark.slow

LENGTH = 200  # steps that are compared: later, rounding errors have grown through the chaos of training
T = np.arange(STEPS)
# Failures are not shrunk: each attempt is a training run.
few = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)

SHAPES = {
    "constant": lambda a, b: np.ones(STEPS),
    "step decay": lambda a, b: 0.1 ** (a * STEPS <= T) * 0.3 ** (b * STEPS <= T),
    "cosine": lambda a, b: (1 + np.cos(np.pi * T / STEPS)) / 2,
    "warm-up": lambda a, b: np.minimum(T / (1 + a * LENGTH), 1),
    "on and off": lambda a, b: (np.sin(T * (0.05 + a)) > b - 0.7).astype(float),
    "noise": lambda a, b: np.random.default_rng(int(1e6 * a)).uniform(0, 1, STEPS),
}


def tables(low, high):
    """A scalar times a shape: one value a step."""
    unit = st.floats(0, 1)
    return st.builds(
        lambda peak, shape, a, b: low + (peak - low) * SHAPES[shape](a, b),
        st.floats(low, high),
        st.sampled_from(sorted(SHAPES)),
        unit,
        unit,
    )


HYPER = st.tuples(tables(0.0, 0.2), tables(0.0, 0.01), tables(0.0, 0.9))


@pytest.mark.x64
@few
@given(HYPER, st.sampled_from(sorted(RULES)))
def test_any_schedules_of_any_rule_have_their_equal(hparams, rule):
    plan = wd_free_plan(*hparams, num_steps=STEPS, nesterov=rule[0], decay=rule[1])
    decayed = with_decay(np.stack(hparams, 1), RULES[rule])
    assert deviation(decayed, without_decay(wd_free_tables(plan)), LENGTH) <= EQUAL


LABELS = {"first": "first", "second": "second"}


def split(shared, row):
    """Each layer with its own numbers; with or without decay, as `shared` says."""
    optimizers = {
        name: problems.heavy_ball(None, row[name]) if shared[name] is None else follow_plan(shared[name])
        for name in LABELS
    }
    return optax.partition(optimizers, LABELS)


@pytest.mark.x64
@few
@given(HYPER, HYPER, st.sampled_from([("first",), ("second",), ("first", "second")]))
def test_any_groups_with_their_own_schedules_have_their_equal(first, second, converted):
    hparams = {"first": first, "second": second}
    rows = {name: jnp.asarray(np.stack(values, 1)) for name, values in hparams.items()}
    shared = {
        name: jax.tree.map(jnp.asarray, wd_free_tables(wd_free_plan(*values, num_steps=STEPS)))
        if name in converted
        else None
        for name, values in hparams.items()
    }
    decayed = trained(split, shared=dict.fromkeys(LABELS), rows=rows)
    assert deviation(decayed, trained(split, shared=shared, rows=rows), LENGTH) <= EQUAL


def first_without_alpha(eta, lam, gamma):
    """By the buffer itself, gradients left out: the first step at which weights along w turn their sign or vanish."""
    w, v = np.longdouble(1), np.longdouble(0)
    for t, (rate, decay, momentum) in enumerate(zip(eta, lam, gamma, strict=True)):
        v = momentum * v + decay * w
        w = w - rate * v
        if w <= 0:
            return t
    return None


@settings(few, max_examples=200)
@given(st.tuples(tables(0.0, 3.0), tables(0.0, 0.1), tables(0.0, 0.97)))
def test_a_refusal_names_the_step_at_which_decay_alone_would_turn_the_weights(hparams):
    expected = first_without_alpha(*hparams)
    if expected is None:
        assert (wd_free_plan(*hparams, num_steps=STEPS).alpha > 0).all()
    else:
        with pytest.raises(LrjaxError) as error:
            wd_free_plan(*hparams, num_steps=STEPS)
        assert int(re.search(r"from step (\d+) on", str(error.value))[1]) == expected
