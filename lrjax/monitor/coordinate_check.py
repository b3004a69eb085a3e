"""Does one step move activations as far in wide networks as in narrow ones? The coordinate check of muP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lrjax.errors import check
from lrjax.monitor.rate_lanes import stacked, updated
from lrjax.spectra.random_vectors import as_key
from lrjax.spectra.results import to_dict

WIDER = 4  # the least ratio of the largest width to the smallest


class LayerSlope(NamedTuple):
    """How the change of a layer's activations grows with the width.

    Attributes:
        layer: its name.
        slope: of log RMS on log width; the RMS is a geometric mean over the steps.
        interval: (low, high) by Student's t, from the scatter of widths and seeds about the line.
        slopes: [steps] of each step alone; NaN where nothing changed, as behind a layer that starts at 0.
        reading: "flat", "grows" or "shrinks" by the slope; "unchanged" where no step changed the layer.
    """

    layer: str
    slope: float
    interval: tuple[float, float]
    slopes: np.ndarray
    reading: str

    to_dict = to_dict


class CoordinateCheck(NamedTuple):
    """Slopes of the change of activations on the width, by layer.

    Attributes:
        layers: one a layer.
        changes: layer -> RMS of the change since initialisation [widths, seeds, steps].
        widths: that were trained.
        tolerance: up to which a slope is flat.
        level: of the intervals.
    """

    layers: tuple[LayerSlope, ...]
    changes: dict[str, np.ndarray]
    widths: tuple[int, ...]
    tolerance: float
    level: float

    to_dict = to_dict

    @property
    def flat(self) -> bool:
        """No layer grows or shrinks with the width by more than the tolerance."""
        return all(layer.reading in ("flat", "unchanged") for layer in self.layers)

    def __repr__(self) -> str:
        steps = len(self.layers[0].slopes)
        name = max(5, *(len(layer.layer) for layer in self.layers))
        lines = [f"{'layer':<{name}}  {'slope':>6}  {f'{self.level:.0%} interval':<16}  reading"]
        for layer in self.layers:
            ends = f"[{layer.interval[0]:.2f}, {layer.interval[1]:.2f}]"
            inside = all(abs(end) <= self.tolerance for end in layer.interval)
            outside = layer.interval[0] > self.tolerance or layer.interval[1] < -self.tolerance
            doubt = "" if inside or outside or layer.reading == "unchanged" else ", not certain: more seeds or widths"
            lines.append(f"{layer.layer:<{name}}  {layer.slope:>6.2f}  {ends:<16}  {layer.reading}{doubt}")
        lines.append(
            f"Slope of log RMS change of activations on log width, {min(self.widths)} to {max(self.widths)}; flat is within "
            f"{self.tolerance:g}. It covers steps 1 to {steps} only: later training may still depend on the width."
        )
        return "\n".join(lines)


def coordinate_check(
    make_model: Callable[[int], tuple[Callable, Callable, Callable]],
    make_optimizer: Callable[[int], Any],
    batches: Any,
    *,
    widths: Sequence[int] = (64, 128, 256, 512),
    steps: int = 10,
    seeds: int = 3,
    key: Any = None,
    tolerance: float = 0.1,
    level: float = 0.95,
) -> CoordinateCheck:
    """Slope, by layer, of log RMS of the change of activations on log width, over the first steps of training.

    Under muP the change neither grows nor shrinks with the width, which is what lets a rate move from a narrow network to a
    wide one; in standard parameterisation under Adam it grows, at most as the width. A slope within `tolerance` is called
    flat, a threshold of convention. It covers the start only: flat slopes there do not show that the best rate stays.

    Args:
        make_model: width -> (init, loss_fn, activations): init(key) -> params, loss_fn(params, batch) -> scalar, and
            activations(params, batch) -> name -> array, with the same names at all widths; best before the nonlinearity.
        make_optimizer: width -> optimizer of optax, with the rates that belong to the width.
        batches: equally shaped trees of arrays: a list, or a function that returns an iterator; reused in their order. The
            activations are those of the first.
        widths: three or more, over a factor of 4 or more.
        steps: of training.
        seeds: networks of each width.
        key: a key of `jax.random`, or an integer; default 0.
        tolerance: up to which a slope is flat.
        level: of the intervals.

    Returns:
        CoordinateCheck.

    Raises:
        LrjaxError: too few widths or too narrow a range, layers that differ between widths, activations that are not finite.

    References:
        Yang et al. (2021), Tensor Programs V: Tuning Large Neural Networks via Zero-Shot Hyperparameter Transfer,
        appendix D.1.

    Example:
        >>> def make_model(width):  # a linear readout that is divided by the width, as in muP
        ...     out = lambda w, x: jnp.repeat(x, width // 4, 1) @ w / width
        ...     init, loss = lambda key: jax.random.normal(key, (width,)), lambda w, x: jnp.mean(out(w, x))
        ...     return init, loss, lambda w, x: {"out": out(w, x)}
        >>> x = jax.random.normal(jax.random.key(0), (2, 8, 4))
        >>> coordinate_check(make_model, lambda width: optax.adam(1e-2), x, widths=(16, 32, 64), steps=2).flat
        True
    """
    widths = _widths(widths)
    check(steps >= 1 and seeds >= 1, f"steps and seeds must be 1 or more, not {steps} and {seeds}")
    key = as_key(key)
    data = jax.tree.map(jnp.asarray, stacked(batches, steps))
    keys = jax.random.split(key, seeds)
    by_width = [_changes(make_model(width), make_optimizer(width), data, keys, steps) for width in widths]
    names = list(by_width[0])
    for width, changes in zip(widths, by_width, strict=True):
        check(
            list(changes) == names,
            f"activations must give the same names at all widths: {sorted(changes)} at {width}, {sorted(names)} at {widths[0]}",
        )
        for name, values in changes.items():
            check(
                bool(np.isfinite(values).all()),
                f"the activations of {name} at width {width} are not finite: lower the rate",
            )
    changes = {name: np.stack([of_width[name] for of_width in by_width]) for name in names}
    layers = tuple(_slope(name, np.log(widths), changes[name], tolerance, level) for name in names)
    return CoordinateCheck(layers, changes, widths, tolerance, level)


def _widths(widths: Sequence[int]) -> tuple[int, ...]:
    taken = tuple(sorted({int(width) for width in widths}))
    check(
        len(taken) >= 3 and taken[0] >= 1 and taken[-1] >= WIDER * taken[0],
        f"widths must be three or more over a factor of {WIDER} or more, such as (64, 128, 256, 512), not {tuple(widths)}: "
        "a slope over less says nothing",
    )
    return taken


def _changes(model: Any, optimizer: Any, data: Any, keys: Any, steps: int) -> dict[str, np.ndarray]:
    """Layer -> RMS of the change of its activations after each step [seeds, steps]."""
    init, loss_fn, activations = model
    optimizer = optax.with_extra_args_support(optimizer)
    count = len(jax.tree.leaves(data)[0])
    probe = jax.tree.map(lambda leaf: leaf[0], data)

    def train(key):
        start = init(key)
        before = activations(start, probe)

        def one(carry, step):
            params, state = carry
            batch = jax.tree.map(lambda leaf: leaf[step % count], data)
            loss, grads = jax.value_and_grad(loss_fn)(params, batch)
            params, state = updated(optimizer, grads, state, params, loss, lambda params: loss_fn(params, batch))
            now = activations(params, probe)
            # A list, because jit sorts the names of a dict and the layers have an order.
            return (params, state), [jnp.sqrt(jnp.mean((now[name] - before[name]) ** 2)) for name in before]

        return jax.lax.scan(one, (start, optimizer.init(start)), jnp.arange(steps))[1]

    names: list[str] = []
    jax.eval_shape(lambda key: names.extend(activations(init(key), probe)), keys[0])
    return dict(zip(names, map(np.asarray, jax.jit(jax.vmap(train))(keys)), strict=True))


def _slope(layer: str, x: np.ndarray, changes: np.ndarray, tolerance: float, level: float) -> LayerSlope:
    """The line through log RMS [widths, seeds, steps]."""
    from scipy.special import stdtrit

    steps = changes.shape[-1]
    moved = (changes > 0).all((0, 1))
    if not moved.any():
        return LayerSlope(layer, float("nan"), (float("nan"), float("nan")), np.full(steps, np.nan), "unchanged")
    logs = np.log(np.where(moved, changes, 1.0))
    away = x - x.mean()
    slopes = np.where(moved, np.einsum("w,wst->t", away, logs) / (logs.shape[1] * away @ away), np.nan)
    y = logs[..., moved].mean(-1)  # [widths, seeds]
    slope = float((away @ y).mean() / (away @ away))
    left = y - y.mean() - slope * away[:, None]
    freedom = y.size - 2
    error = np.sqrt((left**2).sum() / freedom / (y.shape[1] * away @ away))
    half = float(stdtrit(freedom, (1 + level) / 2) * error)
    reading = "flat" if abs(slope) <= tolerance else "grows" if slope > 0 else "shrinks"
    return LayerSlope(layer, slope, (slope - half, slope + half), slopes, reading)
