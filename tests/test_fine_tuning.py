"""A frozen body does not move, nor do its BatchNorm statistics; a head's own rate is that of a run with this rate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrjax import data
from lrjax.experiment.config.canonical import freeze
from lrjax.experiment.loop import sweep
from lrjax.experiment.step.engines import ENGINES
from lrjax.experiment.step.train_step import StepInputs, init_state, train_step
from tests.papers.patterns import config
from tests.runs import equal_trees


@pytest.fixture(scope="module")
def lane():
    """The group of one lane, its state after two steps and what steps read; how it is fine-tuned is the caller's choice."""
    settings = config("L7_ps10", {"data.num_test": 8, "model.width": 4})
    group = next(g for g in sweep.expand(settings) if g.lanes[0].arm.startswith("new_finetune"))
    hparams = {k: jnp.asarray(v) for k, v in group.lanes[0].hparams().items()}
    arrays = jax.jit(lambda h: data.DATASETS["ps10"].load(group.static, h))(hparams)

    def run(steps=2, learning_rate=0.01, **fine_tune):
        static = freeze(group.static.to_dict() | {"fine_tune": dict(head_rate=1.0, body_rate=1.0) | fine_tune})
        engine = ENGINES["direct"](static, 10)
        row = StepInputs(jnp.arange(16), jnp.float32(learning_rate), jnp.array(True))
        begin = jax.jit(lambda h: init_state(engine, static, h, arrays))(hparams)
        advance = jax.jit(lambda s: train_step(engine, static, s, hparams, arrays, row)[0])
        state = begin
        for _ in range(steps):
            state = advance(state)
        return jax.tree.map(np.asarray, (begin, state))

    return run


def parts(params):
    return params["head"], {name: part for name, part in params.items() if name != "head"}


def test_a_body_rate_of_zero_freezes_all_but_the_head(lane):
    begin, end = lane(body_rate=0.0, head_rate=10.0)
    (head, body), (new_head, new_body) = parts(begin.params), parts(end.params)
    assert equal_trees(body, new_body)
    assert equal_trees(begin.model_state, end.model_state)
    assert not np.array_equal(head["kernel"], new_head["kernel"])
    assert int(end.step) == 2


def test_with_the_body_trained_everything_moves(lane):
    begin, end = lane()
    for before, after in zip(*map(jax.tree.leaves, (begin.params, end.params)), strict=True):
        assert not np.array_equal(before, after)
    assert not equal_trees(begin.model_state, end.model_state)


@pytest.mark.slow
def test_head_rate_is_the_learning_rate_of_the_head(lane):
    tenfold, whole = lane(steps=1, head_rate=10.0)[1], lane(steps=1, learning_rate=0.1)[1]
    usual = lane(steps=1)[1]
    np.testing.assert_allclose(tenfold.params["head"]["kernel"], whole.params["head"]["kernel"], rtol=1e-5, atol=1e-7)
    assert equal_trees(parts(tenfold.params)[1], parts(usual.params)[1])
