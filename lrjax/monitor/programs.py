"""The compiled programs of a monitor: one a measurement, compiled once for batches of one shape."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.errors import check, refuse
from lrjax.monitor import clock
from lrjax.monitor.accumulation import whole_step
from lrjax.monitor.cost import flops
from lrjax.monitor.instruments import along, gain, gradient_curvature, noise_of_pair, update_sizes
from lrjax.monitor.learning_rate import held, scheduled
from lrjax.monitor.optimizer_facts import Facts, optimizer_facts
from lrjax.monitor.trees import inner_product, moved, wide
from lrjax.monitor.virtual_step import (
    VirtualStep,
    caller,
    transformation_of,
    value_and_gradient,
    value_of,
    virtual_step,
)
from lrjax.spectra.frameworks import Tree
from lrjax.spectra.second_moments import plain

_ADDRESS = re.compile(r"0x[0-9a-f]+")
SCALARS = ("loss", "gradient_norm", "gain_ratio")
GROUPED = ("gradient_sizes", "update_rms", "weight_rms", "update_over_weights", "angle")
PRECISION = "highest"  # of matrix products, as in all curvature of lrjax


class Programs:
    """What a monitor computes, of one loss, one optimizer and one grouping of the parameters.

    Args:
        loss_fn: `(params, batch) -> scalar`.
        optimizer: of optax; None where there is none, and no virtual step.
        groups: of each leaf.
        has_aux, extra_args, gradient_fn: as for `virtual_step`.
    """

    def __init__(
        self,
        loss_fn: Callable,
        optimizer: Any,
        groups: Sequence[str],
        *,
        has_aux: bool = False,
        extra_args: Callable | None = None,
        gradient_fn: Callable | None = None,
    ):
        self.loss_fn, self.optimizer, self.has_aux, self.groups = loss_fn, optimizer, has_aux, tuple(groups)
        self.extra_args, self.gradient_fn = extra_args, gradient_fn
        names = (
            "step",
            "loss",
            "virtual",
            "line",
            "noise",
            "decay",
            "loss_at",
            "curvature",
            "mean",
            "gradient",
            "rates",
        )
        self._bodies: dict[str, Callable] = {name: getattr(self, f"_{name}") for name in names}
        self._jitted: dict[str, Any] = {name: jax.jit(body) for name, body in self._bodies.items()}

    def __call__(self, name: str, *arguments: Any) -> Any:
        """Runs a program in the precision of curvature."""
        with jax.default_matmul_precision(PRECISION):
            return self._jitted[name](*arguments)

    def compiled(self) -> int:
        """How many programs have been compiled."""
        return sum(program._cache_size() for program in self._jitted.values())

    def flops(self, name: str, *arguments: Any) -> float:
        """Operations of a program, counted before it runs."""
        return flops(self._bodies[name], *arguments)

    def _made(self, params: Tree, opt_state: Tree, batch: Tree) -> VirtualStep:
        return virtual_step(
            self.loss_fn, self.optimizer, params, opt_state, batch,
            has_aux=self.has_aux, extra_args=self.extra_args, gradient_fn=self.gradient_fn,
        )  # fmt: skip

    def _gradient(self, params: Tree, batch: Tree) -> tuple[jax.Array, Tree]:
        return value_and_gradient(self.loss_fn, params, batch, self.has_aux)

    def _loss(self, params: Tree, batch: Tree) -> jax.Array:
        return value_of(self.loss_fn, params, batch, self.has_aux)

    def _loss_at(self, params: Tree, update: Tree, multiple: jax.Array, batch: Tree) -> jax.Array:
        return self._loss(moved(params, update, multiple), batch)

    def told(self, numbers: Any) -> dict[str, Any]:
        """What a virtual step tells, by name: scalars, and arrays with an entry a group."""
        scalar, grouped = np.split(np.asarray(numbers), [len(SCALARS)])
        found: dict[str, Any] = dict(zip(SCALARS, scalar, strict=True))
        return found | dict(zip(GROUPED, grouped.reshape(len(GROUPED), -1), strict=True))

    def _step(self, params: Tree, opt_state: Tree, batch: Tree) -> tuple[jax.Array, Tree, Tree]:
        """What a virtual step tells, its gradient and its update, which other instruments then need not make again."""
        step = self._made(params, opt_state, batch)
        result = gain(
            step.loss, self._loss(moved(params, step.update), batch), inner_product(step.gradient, step.update)
        )
        sizes = update_sizes(params, step.update, self.groups)
        scalar = (step.loss, jnp.sqrt(inner_product(step.gradient, step.gradient)), result.ratio)
        gradients = update_sizes(params, step.gradient, self.groups).update
        grouped = (gradients, sizes.update, sizes.weights, sizes.relative, sizes.angle)
        # One array, since each that comes to the host costs as much as a small step.
        return jnp.concatenate([jnp.ravel(value) for value in (*scalar, *grouped)]), step.gradient, step.update

    def _virtual(self, params: Tree, opt_state: Tree, batch: Tree) -> tuple[Tree, Tree]:
        step = self._made(params, opt_state, batch)
        return step.gradient, step.update

    def _line(self, params: Tree, update: Tree, batch: Tree) -> tuple[Any, Any, Any]:
        line = along(self.loss_fn, params, update, batch, has_aux=self.has_aux)
        return line.loss, line.slope, line.curvature

    def _noise(self, params: Tree, gradient: Tree, other: Tree) -> tuple[jax.Array, jax.Array]:
        return noise_of_pair(gradient, self._gradient(params, other)[1])

    def _curvature(self, params: Tree, batch: Tree, diagonal: Tree | None) -> jax.Array:
        _, gradient = self._gradient(params, batch)
        return gradient_curvature(self.loss_fn, params, gradient, batch, diagonal, has_aux=self.has_aux)

    def _mean(self, mean: Tree, params: Tree, count: jax.Array) -> Tree:
        return jax.tree.map(lambda m, p: m + (wide(p) - m) / count, mean, params)

    def _call(self, batch: Tree, params: Tree) -> Callable:
        """The optimizer's update with the keywords of a loss of nearly zero, where a rate that follows the loss shows."""
        keywords: dict[str, Any] = {"value": jnp.float32(1e-20), "grad": jax.tree.map(jnp.zeros_like, plain(params))}
        keywords["value_fn"] = lambda p: jnp.sum(jnp.stack([jnp.sum(leaf) for leaf in jax.tree.leaves(p)]))
        keywords |= dict(self.extra_args(params, batch)) if self.extra_args is not None else {}
        return caller(transformation_of(self.optimizer), keywords)

    def _decay(self, params: Tree, opt_state: Tree, batch: Tree) -> clock.Decay:
        call, init = self._call(batch, params), transformation_of(self.optimizer).init
        theta = plain(params)
        if self.gradient_fn is None:
            return clock.decay_per_step(call, plain(opt_state), theta, init)
        given = jax.tree.map(jnp.zeros_like, plain(self.gradient_fn(params, batch)))
        return clock.decay_per_step(lambda _, state, p: call(given, state, p), plain(opt_state), theta, init)

    def _rates(self, params: Tree, opt_state: Tree, batch: Tree) -> list[Any]:
        """The learning rates that the next update uses, where a schedule is injected; all else of the update is dead code."""
        call, theta, state = self._call(batch, params), plain(params), plain(opt_state)
        zeros = jax.tree.map(
            jnp.zeros_like, theta if self.gradient_fn is None else plain(self.gradient_fn(params, batch))
        )
        state = whole_step(call, zeros, state, theta)
        return list(held(call(zeros, state, theta)[1]).values())

    def following_rates(self, params: Tree, opt_state: Tree, batch: Tree) -> dict[Hashable, float] | None:
        """Group -> learning rate of the next update; None where the state holds none that follows a schedule."""
        if self.optimizer is None or not scheduled(opt_state):
            return None
        rates = jax.device_get(self("rates", params, opt_state, batch))
        return {key: float(rate) for key, rate in zip(held(opt_state), rates, strict=True)}

    def facts(self, params: Tree, opt_state: Tree, batch: Tree) -> Facts:
        """Kind and settings of the optimizer."""

        class Jitted:
            init = staticmethod(lambda params: None)
            update = staticmethod(jax.jit(lambda g, s, p: self._call(batch, params)(g, s, p)))

        if self.gradient_fn is not None:
            return Facts("other")
        return optimizer_facts(Jitted, opt_state, params)


def check_loss(programs: Programs, params: Tree, batch: Tree) -> float:
    """The loss on a batch, computed twice.

    Raises:
        LrjaxError: a loss that is not deterministic.
    """
    with jax.default_matmul_precision(PRECISION):
        traces = [jax.make_jaxpr(lambda p, b: programs._loss(p, b))(params, batch) for _ in range(2)]
    constants = [[np.asarray(c) for c in trace.consts if hasattr(c, "shape") and _number(c)] for trace in traces]
    texts = [_ADDRESS.sub("", str(trace.jaxpr)) for trace in traces]
    same = texts[0] == texts[1] and all(
        np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(*constants, strict=False)
    )
    first, second = (float(programs("loss", params, batch)) for _ in range(2))
    if not same or not (first == second or (np.isnan(first) and np.isnan(second))):
        refuse(
            "loss_fn is not deterministic: the same parameters and the same batch gave two losses; put random keys into the "
            "batch, or turn dropout off in the loss that the monitor gets"
        )
    return first


def _number(constant: Any) -> bool:
    return jnp.issubdtype(constant.dtype, jnp.number) or jnp.issubdtype(constant.dtype, jnp.bool_)


def batch_size_of(batch: Tree) -> int | None:
    """Examples of a batch: the length that all its arrays share; None where there is none.

    Example:
        >>> batch_size_of((jnp.ones((8, 3)), jnp.ones(8))), batch_size_of((jnp.ones((8, 3)), jnp.ones(4)))
        (8, None)
    """
    lengths = {np.shape(leaf)[0] if np.ndim(leaf) else None for leaf in jax.tree.leaves(batch)}
    return lengths.pop() if len(lengths) == 1 else None


def signature_of(batch: Tree) -> tuple:
    """Structure, shapes and dtypes of a batch.

    Example:
        >>> signature_of(jnp.ones(2)) == signature_of(jnp.zeros(2)), signature_of(jnp.ones(2)) == signature_of(jnp.ones(3))
        (True, False)
    """
    leaves, structure = jax.tree.flatten(batch)
    return structure, tuple((np.shape(leaf), str(getattr(leaf, "dtype", type(leaf).__name__))) for leaf in leaves)


def check_params(params: Tree) -> None:
    """Refuses parameters without gradients.

    Raises:
        LrjaxError: leaves that are no floating-point arrays, or none at all.
    """
    leaves = jax.tree.leaves(params)
    check(bool(leaves), "params holds no arrays; pass the tree that the optimizer trains")
    kinds = {
        str(jnp.asarray(leaf).dtype) for leaf in leaves if not jnp.issubdtype(jnp.asarray(leaf).dtype, jnp.floating)
    }
    check(
        not kinds,
        f"params holds leaves of {', '.join(sorted(kinds))}, which have no gradient; pass only what the optimizer trains, such "
        "as nnx.state(model, nnx.Param) or eqx.filter(model, eqx.is_inexact_array)",
    )


def scalars(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, float]:
    """A flat dict of numbers: arrays by group as "name/group".

    Example:
        >>> scalars({"loss": 1.0, "angle": np.array([0.5, 0.25])}, ("a", "b"))
        {'loss': 1.0, 'angle/a': 0.5, 'angle/b': 0.25}
    """
    flat: dict[str, float] = {}
    for key, value in row.items():
        array = np.asarray(value, np.float64)
        if array.ndim:
            flat |= {f"{key}/{name}": float(number) for name, number in zip(names, array, strict=True)}
        else:
            flat[key] = float(array)
    return flat
