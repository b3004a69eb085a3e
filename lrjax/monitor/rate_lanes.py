"""Short trainings at many learning rates, from several seeds and over several horizons, as lanes of one program."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lrjax.errors import by_path, check, path_of, refuse

PROBED = 5  # steps of each lane that are timed where vmap and map are compared


def linear(rate: Any, num_steps: Any) -> optax.Schedule:
    """From the rate down to 0 after num_steps steps.

    Example:
        >>> float(linear(0.4, 4)(1))
        0.3...
    """
    return lambda count: rate * jnp.maximum(0.0, 1.0 - count / num_steps)


def cosine(rate: Any, num_steps: Any) -> optax.Schedule:
    """Half a cosine from the rate down to 0 after num_steps steps."""
    return lambda count: rate * 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.minimum(1.0, count / num_steps)))


def constant(rate: Any, num_steps: Any) -> Any:
    """The rate itself, a traced number: for optimizers that make their own schedule of it."""
    del num_steps
    return rate


SCHEDULES: dict[str, Callable[[Any, Any], Any]] = {"constant": constant, "cosine": cosine, "linear": linear}


class Problem(NamedTuple):
    """What each lane trains.

    Attributes:
        loss_fn: (params, batch) -> scalar.
        init: key -> params.
        make_optimizer: rate or schedule -> optimizer of optax.
        schedule: (rate, num_steps) -> argument of make_optimizer.
    """

    loss_fn: Callable[[Any, Any], Any]
    init: Callable[[Any], Any]
    make_optimizer: Callable[[Any], optax.GradientTransformation]
    schedule: Callable[[Any, Any], Any]


class Data(NamedTuple):
    """Batches on the device.

    Attributes:
        batches: tree of [batches, ...].
        orders: int32 [seeds, steps], the batch of each step.
        evaluated: tree of [batches, ...] on which final losses are measured.
        keys: [seeds] for the initial parameters.
    """

    batches: Any
    orders: Any
    evaluated: Any
    keys: Any


def stacked(batches: Any, most: int, name: str = "batches") -> Any:
    """The first batches as one tree of arrays [batches, ...].

    Args:
        batches: equally shaped trees of arrays: a list, or a function that returns an iterator over them.
        most: batches to take at the most.
        name: of the argument, for messages.

    Raises:
        LrjaxError: no batches, or batches of different structure or shape.

    Example:
        >>> stacked([{"x": np.zeros(3)}, {"x": np.ones(3)}], 8)["x"].shape
        (2, 3)
    """
    source: Any = batches() if callable(batches) else batches
    check(
        isinstance(source, Iterable) and not isinstance(source, (dict, str)),
        f"{name} must be a list of batches or a function that returns an iterator over them, not a "
        f"{type(source).__name__}: put a single batch into a list",
    )
    taken = [jax.tree.map(np.asarray, batch) for batch in itertools.islice(source, most)]
    check(bool(taken), f"{name} holds no batch: give a list of batches, or a function that starts an iterator anew")
    structure, first = jax.tree.structure(taken[0]), by_path(taken[0])
    for index, batch in enumerate(taken):
        check(jax.tree.structure(batch) == structure, f"{name}: batch {index} is another tree of arrays than batch 0")
        for path, leaf in jax.tree.leaves_with_path(batch):
            shape, wanted = leaf.shape, first[path_of(path)].shape
            array = f"the array {path_of(path)}".rstrip()
            check(
                shape == wanted,
                f"{name}: {array} of batch {index} has the shape {shape} where batch 0 has "
                f"{wanted}: drop the last batch or pad it, so that one compiled step takes all",
            )
    return jax.tree.map(lambda *leaves: np.stack(leaves), *taken)


def shuffled(count: int, num_steps: int, seeds: int, generator: np.random.Generator) -> np.ndarray:
    """Which batch each step takes: all of them in a new order, again and again.

    Args:
        count: batches.
        num_steps: columns of the table.
        seeds: rows of the table.
        generator: of random numbers.

    Returns:
        int32 [seeds, num_steps].

    Example:
        >>> sorted(shuffled(4, 8, 1, np.random.default_rng(0))[0, 4:].tolist())
        [0, 1, 2, 3]
    """
    passes = np.tile(np.arange(count, dtype=np.int32), (seeds, -(-num_steps // count), 1))
    return generator.permuted(passes, axis=-1).reshape(seeds, -1)[:, :num_steps]


def check_problem(problem: Problem, data: Data) -> None:
    """Traces one step, without computing it.

    Raises:
        LrjaxError: init returns no arrays, the loss is no scalar, or the optimizer cannot be built of a traced rate.
    """
    try:
        params = jax.eval_shape(problem.init, data.keys[0])
    except TypeError as error:
        refuse(
            f"init must be a traceable function of a key that returns a tree of arrays ({str(error).splitlines()[0]}): of a "
            "module keep the arrays and close over the rest, as eqx.partition and nnx.split give them"
        )
    batch = jax.tree.map(lambda leaf: leaf[0], data.batches)
    loss = jax.eval_shape(problem.loss_fn, params, batch)
    check(
        getattr(loss, "shape", None) == (),
        f"loss_fn must return a scalar, the mean over the batch, not {jax.tree.map(lambda leaf: leaf.shape, loss)}",
    )
    try:
        jax.eval_shape(lambda rate, params: _update(problem, rate, params), jnp.float32(1.0), params)
    except Exception as error:
        refuse(
            "make_optimizer cannot build an optimizer whose learning rate is traced "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}): it must hand its "
            "argument, a schedule or with schedule='constant' a traced number, to optax as `lambda rate: optax.adam(rate)` "
            "does, without float(rate) or comparisons"
        )


def _update(problem: Problem, rate: Any, params: Any) -> Any:
    optimizer = optimizer_of(problem, rate, jnp.float32(10.0))
    grads = jax.tree.map(jnp.zeros_like, params)
    return updated(optimizer, grads, optimizer.init(params), params, jnp.float32(0.0), lambda params: jnp.float32(0.0))


def optimizer_of(problem: Problem, rate: Any, horizon: Any) -> optax.GradientTransformationExtraArgs:
    """The optimizer of one lane."""
    return optax.with_extra_args_support(problem.make_optimizer(problem.schedule(rate, horizon)))


def updated(optimizer: Any, grads: Any, state: Any, params: Any, value: Any, value_fn: Callable) -> tuple[Any, Any]:
    """One update; line searches and rules that read the loss get what they ask for."""
    updates, state = optimizer.update(grads, state, params, value=value, grad=grads, value_fn=value_fn)
    return optax.apply_updates(params, updates), state


def evaluate(loss_fn: Callable, params: Any, batches: Any) -> Any:
    """The mean loss over stacked batches."""
    return jnp.mean(jax.lax.map(lambda batch: loss_fn(params, batch), batches))


def train(problem: Problem, data: Data, horizon: Any, rate: Any, key: Any, order: Any) -> tuple[Any, Any]:
    """One lane: trains for `horizon` steps.

    Returns:
        The final loss on `data.evaluated`, and the first step whose loss was not finite, or -1.
    """
    params = problem.init(key)
    optimizer = optimizer_of(problem, rate, horizon)

    def step(count, carry):
        params, state, diverged_at = carry
        batch = jax.tree.map(lambda leaf: leaf[order[count]], data.batches)
        loss, grads = jax.value_and_grad(problem.loss_fn)(params, batch)
        new = updated(optimizer, grads, state, params, loss, lambda params: problem.loss_fn(params, batch))
        return *new, jnp.where((diverged_at < 0) & ~jnp.isfinite(loss), count, diverged_at)

    start = (params, optimizer.init(params), jnp.int32(-1))
    params, _, diverged_at = jax.lax.fori_loop(0, horizon, step, start)
    return evaluate(problem.loss_fn, params, data.evaluated), diverged_at


def program(problem: Problem, lanes: str) -> Callable[[Any, Any, Data], tuple[Any, Any]]:
    """All lanes as one function of (horizons [H] int32, rates [R], data), to be compiled.

    The number of steps is an argument, so the step is compiled once for all horizons and a shorter horizon costs less.

    Args:
        problem: what each lane trains.
        lanes: "vmap", the lanes of a horizon side by side: seeds outside and rates inside, so that a batch is read once for
            all rates of a seed; or "map", one lane after the other.

    Returns:
        A function whose value is the final losses and the steps of divergence, each [H, R, S].
    """

    def side_by_side(horizon, rates, data):
        of_seed = jax.vmap(
            lambda key, order: jax.vmap(lambda rate: train(problem, data, horizon, rate, key, order))(rates), out_axes=1
        )
        return of_seed(data.keys, data.orders)

    def one_by_one(horizon, rates, data):
        def of_rate(rate):
            return jax.lax.map(lambda seed: train(problem, data, horizon, rate, *seed), (data.keys, data.orders))

        return jax.lax.map(of_rate, rates)

    of_horizon = {"vmap": side_by_side, "map": one_by_one}[lanes]
    return lambda horizons, rates, data: jax.lax.map(lambda horizon: of_horizon(horizon, rates, data), horizons)


def run(
    problem: Problem, data: Data, horizons: tuple[int, ...], rates: np.ndarray, lanes: str
) -> tuple[np.ndarray, np.ndarray, str, dict[str, float]]:
    """Compiles the lanes and runs them.

    Args:
        problem: what each lane trains.
        data: the batches.
        horizons: [H] steps.
        rates: [R].
        lanes: "vmap", "map", or "auto", which compiles both, times a few steps and takes the faster.

    Returns:
        Final losses and steps of divergence [H, R, S], the way the lanes ran, and the measured milliseconds that a step of
        all lanes took by each way that was timed.
    """
    steps, rates32 = jnp.asarray(horizons, jnp.int32), jnp.asarray(rates, jnp.float32)
    ways = ("vmap", "map") if lanes == "auto" else (lanes,)
    compiled = {way: jax.jit(program(problem, way)).lower(steps, rates32, data).compile() for way in ways}
    times: dict[str, float] = {}
    if len(ways) > 1:
        few = jnp.full_like(steps, min(PROBED, *horizons))
        for way in ways:
            jax.block_until_ready(compiled[way](few, rates32, data))
            start = time.perf_counter()
            jax.block_until_ready(compiled[way](few, rates32, data))
            times[way] = 1e3 * (time.perf_counter() - start) / int(few.sum())
    way = min(times, key=lambda way: times[way]) if times else lanes
    losses, diverged_at = compiled[way](steps, rates32, data)
    return np.asarray(losses, np.float64), np.asarray(diverged_at), way, times
