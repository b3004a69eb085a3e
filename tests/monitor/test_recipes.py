"""Each recipe of docs/howto/monitor.md: 500 steps are the same to the bit with and without the monitor."""

import functools

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from jax.sharding import NamedSharding, PartitionSpec

import lrjax

pytestmark = pytest.mark.slow
STEPS = 500
X = np.asarray(jax.random.normal(jax.random.key(0), (64, 6)))
Y = np.sin(X[:, :1])
BATCHES = [(X[i : i + 16], Y[i : i + 16]) for i in range(0, 64, 16)]


def quadratic(predict):
    return lambda params, batch: jnp.mean((predict(params, batch[0]) - batch[1]) ** 2)


def plain_params():
    return {"hidden": 0.4 * jax.random.normal(jax.random.key(1), (6, 16)), "out": jnp.ones((16, 1)) / 16}


plain = quadratic(lambda params, x: jnp.tanh(x @ params["hidden"]) @ params["out"])


def watch(loss, optimizer, **settings):
    """A monitor that makes every measurement within the run."""
    return lrjax.Monitor(loss, optimizer, **{"num_steps": STEPS, "every": 10, "budget": 0.5, **settings})


def trained(loss, params, optimizer, watched, batches=BATCHES, **settings):
    """(all that training changed, the monitor), by a step that donates what it replaces."""

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def train_step(params, state, batch):
        value, gradient = jax.value_and_grad(loss)(params, batch)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    params = jax.tree.map(jnp.copy, params)
    state, values = optimizer.init(params), []
    monitor = watch(loss, optimizer, **settings) if watched else None
    for step in range(STEPS):
        if monitor is not None:
            monitor.update(step, params, state, batches[step % 4])
        params, state, value = train_step(params, state, batches[step % 4])
        values.append(value)
    return (params, state, jnp.stack(values)), monitor


class Net(nnx.Module):
    def __init__(self, rngs):
        self.hidden, self.norm = nnx.Linear(6, 8, rngs=rngs), nnx.BatchNorm(8, rngs=rngs)
        self.out = nnx.Linear(8, 1, rngs=rngs)

    def __call__(self, x):
        return self.out(jnp.tanh(self.norm(self.hidden(x))))


def nnx_of_params(model):
    graph, _, rest = nnx.split(model, nnx.Param, ...)
    return quadratic(lambda params, x: nnx.merge(graph, params, rest, copy=True)(x))


def nnx_split(watched):
    model = Net(nnx.Rngs(0))
    return trained(nnx_of_params(model), nnx.state(model, nnx.Param), optax.adam(1e-2), watched, learning_rate=1e-2)


def nnx_optimizer(watched):
    model = Net(nnx.Rngs(0))
    optimizer, values = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param), []
    monitor = watch(nnx_of_params(model), optimizer, learning_rate=1e-2) if watched else None

    @nnx.jit
    def train_step(model, optimizer, batch):
        value, gradient = nnx.value_and_grad(quadratic(lambda model, x: model(x)))(model, batch)
        optimizer.update(model, gradient)
        return value

    for step in range(STEPS):
        if monitor is not None:
            monitor.update(step, nnx.state(model, nnx.Param), optimizer.opt_state, BATCHES[step % 4])
        values.append(train_step(model, optimizer, BATCHES[step % 4]))
    return (nnx.state((model, optimizer)), jnp.stack(values)), monitor


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(1)(jnp.tanh(nn.BatchNorm(use_running_average=not train)(nn.Dense(8)(x))))


class Stateful(TrainState):
    batch_stats: object = None


def linen(watched):
    net = Normed()
    variables = net.init(jax.random.key(2), X, False)
    statistics = variables["batch_stats"]
    state = Stateful.create(
        apply_fn=net.apply, params=variables["params"], batch_stats=statistics, tx=optax.adamw(1e-2)
    )

    def loss(params, batch_stats, batch):
        variables = {"params": params, "batch_stats": batch_stats}
        outputs, new = net.apply(variables, batch[0], True, mutable=["batch_stats"])
        return jnp.mean((outputs - batch[1]) ** 2), new["batch_stats"]

    @jax.jit
    def train_step(state, batch):
        of_params = jax.value_and_grad(loss, has_aux=True)
        (value, new), gradient = of_params(state.params, state.batch_stats, batch)
        return state.apply_gradients(grads=gradient, batch_stats=new), value

    monitor = None
    if watched:
        monitor = watch(lambda params, batch: loss(params, statistics, batch)[0], state.tx, learning_rate=1e-2)
    values = []
    for step in range(STEPS):
        if monitor is not None:
            monitor.update(step, state.params, state.opt_state, BATCHES[step % 4])
        state, value = train_step(state, BATCHES[step % 4])
        values.append(value)
    return (state.params, state.opt_state, state.batch_stats, jnp.stack(values)), monitor


def equinox(watched):
    params, static = eqx.partition(eqx.nn.MLP(6, 1, 8, 1, key=jax.random.key(3)), eqx.is_inexact_array)
    loss = quadratic(lambda params, x: jax.vmap(eqx.combine(params, static))(x))
    return trained(loss, params, optax.sgd(0.1), watched, learning_rate=0.1)


def haiku(watched):
    network = hk.without_apply_rng(hk.transform(lambda x: hk.Linear(1)(jnp.tanh(hk.Linear(8)(x)))))
    loss = quadratic(network.apply)
    return trained(loss, network.init(jax.random.key(4), X), optax.sgd(0.1), watched, learning_rate=0.1)


def multi_steps(watched):
    optimizer = optax.MultiSteps(optax.adam(1e-2), every_k_schedule=2)
    return trained(plain, plain_params(), optimizer, watched, learning_rate=1e-2)


def muon_and_adam(watched):
    labels = {"hidden": "muon", "out": "adam"}
    muon, adam = optax.inject_hyperparams(optax.contrib.muon), optax.inject_hyperparams(optax.adam)
    optimizer = optax.partition({"muon": muon(learning_rate=2e-2), "adam": adam(learning_rate=3e-3)}, labels)
    return trained(plain, plain_params(), optimizer, watched, groups=("labels", labels))


def schedule_free(watched):
    return trained(plain, plain_params(), optax.contrib.schedule_free_adamw(1e-2), watched, learning_rate=1e-2)


def several_devices(watched):
    mesh = jax.make_mesh((jax.device_count(),), ("data",))
    batches = jax.device_put(BATCHES, NamedSharding(mesh, PartitionSpec("data")))
    params = jax.device_put(plain_params(), NamedSharding(mesh, PartitionSpec()))
    return trained(plain, params, optax.adam(1e-2), watched, batches, learning_rate=1e-2)


RECIPES = (nnx_split, nnx_optimizer, linen, equinox, haiku, multi_steps, muon_and_adam, schedule_free, several_devices)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.__name__)
def test_a_recipe_trains_the_same_to_the_bit_with_and_without_the_monitor(recipe):
    with jax.numpy_rank_promotion("allow"):
        (with_it, monitor), (without, _) = recipe(True), recipe(False)
    left, right = jax.tree.leaves(with_it), jax.tree.leaves(without)
    assert len(left) == len(right)
    assert all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))
    assert monitor.report().notices == ()
    assert {"loss", "gain_ratio", "valley_gap", "full_rho", "batch_sharpness"} <= {
        key for row in monitor.rows() for key in row
    }
