"""Training loops of the frameworks that people use: `(monitor or None) -> what was trained`, each with donated buffers."""

from functools import partial

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import optax
import optax.contrib
from flax import nnx
from flax.training import train_state

STEPS = 60


def batch_of(step):
    """Inputs and targets, made anew each time: the step may give them away."""
    key = jax.random.fold_in(jax.random.key(7), step)
    x = jax.random.normal(key, (8, 4))
    return {"x": x, "y": jnp.sin(x[:, :2])}


def plain_params():
    return {"dense": {"w": jnp.linspace(-0.6, 0.5, 8).reshape(4, 2), "b": jnp.zeros(2)}}


def plain_loss(params, batch):
    return jnp.mean((batch["x"] @ params["dense"]["w"] + params["dense"]["b"][None] - batch["y"]) ** 2) / 2


def trained(watch, loss, params, optimizer, steps=STEPS):
    """A loop over a pytree; the compiled step is given parameters, state and batch."""

    @partial(jax.jit, donate_argnums=(0, 1, 2))
    def step(params, state, batch):
        value, gradient = jax.value_and_grad(loss)(params, batch)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value, batch

    state, losses = optimizer.init(params), []
    for index in range(steps):
        batch = batch_of(index)
        watch(loss, optimizer, index, params, state, batch)
        params, state, value, _ = step(params, state, batch)
        losses.append(value)
    return params, state, losses


LABELS = {"dense": {"w": "muon", "b": "adam"}}
OPTIMIZERS = {
    "adamw": lambda: optax.adamw(1e-2),
    "multi_steps": lambda: optax.MultiSteps(optax.adam(1e-2), 3),
    "muon_and_adam": lambda: optax.partition({"muon": optax.contrib.muon(1e-2), "adam": optax.adam(1e-2)}, LABELS),
    "schedule_free": lambda: optax.contrib.schedule_free_sgd(0.1),
    "noisy": lambda: optax.chain(optax.add_noise(0.1, 0.5, jax.random.key(1)), optax.sgd(0.1, 0.9)),
}


def plain(name, watch):
    return trained(watch, plain_loss, plain_params(), OPTIMIZERS[name]())


class Normed(nn.Module):
    """A layer and BatchNorm."""

    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(2)(nn.BatchNorm(use_running_average=not train)(nn.Dense(4)(x)))


class State(train_state.TrainState):
    """With running statistics."""

    batch_stats: dict


def linen(watch):
    model, optimizer = Normed(), optax.sgd(0.05, 0.9)
    variables = model.init(jax.random.key(0), batch_of(0)["x"], train=False)
    state = State.create(
        apply_fn=model.apply, params=variables["params"], tx=optimizer, batch_stats=variables["batch_stats"]
    )

    def loss(params, batch):
        variables = {"params": params, "batch_stats": batch["stats"]}
        out, changed = model.apply(variables, batch["x"], train=True, mutable=["batch_stats"])
        return jnp.mean((out - batch["y"]) ** 2) / 2, changed["batch_stats"]

    @partial(jax.jit, donate_argnums=0)
    def step(state, batch):
        batch = batch | {"stats": state.batch_stats}
        (value, stats), gradient = jax.value_and_grad(loss, has_aux=True)(state.params, batch)
        return state.apply_gradients(grads=gradient, batch_stats=stats), value

    losses = []
    for index in range(STEPS):
        batch = batch_of(index)
        watch(loss, optimizer, index, state.params, state.opt_state, batch | {"stats": state.batch_stats}, has_aux=True)
        state, value = step(state, batch)
        losses.append(value)
    return state.params, state.opt_state, state.batch_stats, losses


def nnx_loop(watch):
    model = nnx.Linear(4, 2, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
    graph = nnx.graphdef(model)

    def loss(params, batch):
        return jnp.mean((nnx.merge(graph, params)(batch["x"]) - batch["y"]) ** 2)

    @nnx.jit
    def step(model, optimizer, batch):
        value, gradient = nnx.value_and_grad(lambda m: jnp.mean((m(batch["x"]) - batch["y"]) ** 2))(model)
        optimizer.update(model, gradient)
        return value

    losses = []
    for index in range(STEPS):
        batch = batch_of(index)
        watch(loss, optimizer, index, nnx.state(model, nnx.Param), optimizer.opt_state, batch)
        losses.append(step(model, optimizer, batch))
    return nnx.state(model), nnx.state(optimizer), losses


def nnx_split(watch):
    graph, params, rest = nnx.split(nnx.Linear(4, 2, rngs=nnx.Rngs(0)), nnx.Param, ...)

    def loss(params, batch):
        return jnp.mean((nnx.merge(graph, params, rest)(batch["x"]) - batch["y"]) ** 2)

    return trained(watch, loss, params, optax.sgd(0.05, 0.9))


def equinox(watch):
    params, static = eqx.partition(eqx.nn.MLP(4, 2, 8, 1, key=jax.random.key(0)), eqx.is_inexact_array)

    def loss(params, batch):
        return jnp.mean((jax.vmap(eqx.combine(params, static))(batch["x"]) - batch["y"]) ** 2)

    return trained(watch, loss, params, optax.adamw(1e-2))


def haiku(watch):
    network = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([8, 2])(x)))
    params = network.init(jax.random.key(0), batch_of(0)["x"])

    def loss(params, batch):
        return jnp.mean((network.apply(params, batch["x"]) - batch["y"]) ** 2)

    return trained(watch, loss, params, optax.adam(1e-2))


LOOPS = {name: partial(plain, name) for name in OPTIMIZERS} | {
    "linen": linen,
    "nnx": nnx_loop,
    "nnx_split": nnx_split,
    "equinox": equinox,
    "haiku": haiku,
}
