"""A network with batch norm on random data, and the runs with weight decay that the transforms must equal.

An MLP 16-24-24-3: batch norm without affine after each hidden layer (eps 0), frozen last layer. So the loss is invariant to
scaling either weight matrix. Near the limit of momentum .9: learning rate .2, weight decay .01.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lrjax.transforms import WDFreeTables, follow_plan, wd_free_sgd
from lrjax.transforms.plan import split_power

RATE, DECAY, MOMENTUM = 0.2, 0.01, 0.9
STEPS = 300
EQUAL, DIFFERENT = 1e-8, 1e-2  # deviation of logits


class Problem(NamedTuple):
    params: Any
    head: jax.Array
    x: jax.Array  # [T, 32, 16]
    y: jax.Array  # [T, 32]
    probe: jax.Array  # [32, 16]


@functools.lru_cache
def problem():
    rng = np.random.default_rng(0)

    def array(*shape):
        return jnp.asarray(rng.normal(size=shape), float)

    params = {"first": array(16, 24) / 4, "second": array(24, 24) / 5}
    x, y = array(STEPS, 32, 16), jnp.asarray(rng.integers(0, 3, (STEPS, 32)))
    return Problem(params, array(24, 3) / 5, x, y, array(32, 16))


def with_head():
    """The parameters, with a trainable last layer."""
    return problem().params | {"head": problem().head, "bias": jnp.zeros(3)}


def normalised(h):
    return (h - h.mean(0, keepdims=True)) / h.std(0, keepdims=True)


def logits(params, x, head):
    h = x
    for name in ("first", "second"):
        h = jax.nn.relu(normalised(h @ params[name]))
    return h @ params.get("head", head) + params.get("bias", jnp.zeros(3))[None]


def loss(params, x, y, head):
    return optax.softmax_cross_entropy_with_integer_labels(logits(params, x, head), y).mean()


class Run(NamedTuple):
    logits: jax.Array  # [T, 32, 3] on the probe batch, after each step
    norm: jax.Array  # [T + 1], of all weights
    params: Any
    state: Any


@functools.partial(jax.jit, static_argnums=0)
def _trained(build, shared, rows, start, state, x, y, head):
    def one(carry, inputs):
        params, state = carry
        row, x, y = inputs
        updates, state = build(shared, row).update(jax.grad(loss)(params, x, y, head), state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    (_, state), path = jax.lax.scan(one, (start, state), (rows, x, y))
    return state, path


@jax.jit
def _seen(path, start, probe, head):
    norms = jax.vmap(optax.tree.norm)(path)
    return jax.vmap(lambda p: logits(p, probe, head))(path), jnp.concatenate([optax.tree.norm(start)[None], norms])


def trained(build, shared=None, rows=None, start=None, state=None, window=(0, STEPS)):
    """A run of `build(shared, row)`, rebuilt at each step; compiled once a function `build`, numbers are arguments.

    Args:
        shared: pytree of arrays.
        rows: pytree of arrays [T, ...].
        start, state: parameters and optimizer state at the first step of the window.
    """
    data = problem()
    rows = jax.tree.map(jnp.asarray, np.zeros(STEPS) if rows is None else rows)
    start = data.params if start is None else start
    state = build(shared, jax.tree.map(lambda a: a[0], rows)).init(start) if state is None else state
    rows, x, y = jax.tree.map(lambda a: a[slice(*window)], (rows, data.x, data.y))
    state, path = _trained(build, shared, rows, start, state, x, y, data.head)
    return Run(*_seen(path, start, data.probe, data.head), jax.tree.map(lambda a: a[-1], path), state)


def fixed(optimizer, **settings):
    """A run of one optimizer."""
    return trained(lambda shared, row: optimizer, **settings)


def heavy_ball(shared, row):
    return optax.chain(optax.add_decayed_weights(row[1]), optax.sgd(row[0], momentum=row[2]))


def nesterov(shared, row):
    return optax.chain(optax.add_decayed_weights(row[1]), optax.sgd(row[0], momentum=row[2], nesterov=True))


def sgdw(shared, row):
    rate = optax.scale_by_learning_rate(row[0])
    return optax.chain(optax.trace(row[2]), optax.add_decayed_weights(row[1]), rate)


def sgdw_nesterov(shared, row):
    rate = optax.scale_by_learning_rate(row[0])
    return optax.chain(optax.trace(row[2], nesterov=True), optax.add_decayed_weights(row[1]), rate)


def open_form(shared, row):
    return wd_free_sgd(row[0], row[1], row[2])


# (nesterov, decay) -> the chain with weight decay that it stands for
RULES = {
    (False, "l2"): heavy_ball,
    (True, "l2"): nesterov,
    (False, "decoupled"): sgdw,
    (True, "decoupled"): sgdw_nesterov,
}


def with_decay(rows, rule=heavy_ball, **settings):
    """The run with weight decay; rows are learning rate, weight decay and momentum, [T, 3]."""
    return trained(rule, rows=rows, **settings)


def by_tables(tables, row):
    return follow_plan(tables)


def without_decay(tables, **settings):
    """The run without weight decay, along the tables of a plan."""
    return trained(by_tables, shared=jax.tree.map(jnp.asarray, tables), **settings)


def tables_of(log_lr, momentum=MOMENTUM):
    """Tables of plain SGD along log learning rates [T], right or wrong ones."""
    return WDFreeTables(*split_power(np.asarray(log_lr) / np.log(2)), np.full(STEPS, float(momentum)), None, None)


def rows(learning_rate=RATE, weight_decay=DECAY, momentum=MOMENTUM):
    """[T, 3] of scalars, arrays, or functions of a plain step."""
    columns = [
        [float(v(t)) for t in range(STEPS)] if callable(v) else np.broadcast_to(v, STEPS)
        for v in (learning_rate, weight_decay, momentum)
    ]
    return np.stack([np.asarray(c, np.float64) for c in columns], 1)


def step_decay(t):
    """The rate of a run with phases of 100 steps."""
    return RATE * 0.1 ** (t // 100)


def deviation(a, b, steps=STEPS):
    """Largest difference of logits on the probe batch, over the first steps of two runs."""
    return float(jnp.max(jnp.abs(a.logits[:steps] - b.logits[:steps])))
