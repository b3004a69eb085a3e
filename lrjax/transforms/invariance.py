"""Scale-invariant parameter groups of a network, measured, with the reason for each array that is in none."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
import optax

from lrjax.errors import check
from lrjax.transforms.invariance_measure import (
    Measured,
    Subject,
    check_deterministic,
    measure,
    points_near,
    scaled_calls,
    subject_of,
)
from lrjax.transforms.invariance_report import InvarianceReport, Obstacle, ScaleGroup
from lrjax.transforms.scale_groups import Relations, finest_groups, largest_group, nearest_exponents, relations

if TYPE_CHECKING:
    from jaxtyping import Array, Float, PyTree

FACTORS = (0.5, 1.7, 2.9)


def scale_invariance(
    loss_fn: Callable[..., Float[Array, ""]],
    params: optax.Params,
    *args: PyTree,
    outputs: Callable[..., Float[Array, ...]] | None = None,
    tolerance: float | None = None,
    seed: int = 0,
) -> InvarianceReport:
    r"""Find scale-invariant parameter groups.

    .. math::
        L(c^{d_1} w_1, \ldots, c^{d_n} w_n) = L(w) \ \forall c > 0
        \iff \sum_i d_i \langle \partial L / \partial w_i, w_i \rangle = 0 \text{ everywhere}

    The inner products are measured at n + 4 points around params, so that all exponents d follow from one null space;
    groups are its vectors of zeros and ones. Each group is then scaled by 0.5, 1.7 and 2.9. float64 makes the verdict sharp;
    float32 suffices for networks that are not very deep. Matrices are multiplied in full precision on every device.

    Args:
        loss_fn: `loss_fn(params, *args) -> scalar`, in training mode, smooth almost everywhere, the same at each call.
        params: any pytree of arrays; what is frozen belongs into args. Integers, bools, keys, None and empty arrays are
            constants.
        *args: pytrees of arrays that both functions take after params, such as a batch.
        outputs: `outputs(params, *args) -> array`, the logits, say; with it, reasons state their degree of homogeneity.
        tolerance: relative size below which products and changes are rounding; None for that of the coarsest dtype in which
            the loss computes: 1e-9 in float64, 3e-4 in float32, 2e-3 in float16, 1e-2 in bfloat16. Parameters and args in
            half precision are measured in float32 where the loss takes that; casts inside the loss stay.
        seed: draws the points.

    Returns:
        The groups, and the arrays that are in none, with the reason.

    Raises:
        LrjaxError: the loss or its gradient is not finite; the loss is zero everywhere, no scalar, or not the same at each
            call; no array of params can be scaled.

    References:
        Li & Arora (2020), An Exponential Learning Rate Schedule for Deep Learning, appendix C: degrees of homogeneity.
        The table of degrees and the measurement are ours.

    Example:
        >>> import jax.numpy as jnp
        >>> def loss(params, x):
        ...     h = x @ params["hidden"]
        ...     h = jax.nn.relu((h - h.mean(0, keepdims=True)) / h.std(0, keepdims=True))
        ...     return jnp.mean((h @ params["head"] - 1) ** 2)
        >>> x = jax.random.normal(jax.random.key(0), (32, 4))
        >>> report = scale_invariance(loss, {"head": jnp.ones(3), "hidden": jnp.eye(4, 3) + 0.1}, x)
        >>> [group.paths for group in report.groups]
        [('hidden',)]
        >>> report.require()
        Traceback (most recent call last):
        lrjax.errors.LrjaxError: the loss depends on the scale of head: ...
        >>> report.require(only=lambda path: path == "hidden")
    """
    # An accelerator multiplies matrices in TF32 or bfloat16 unless told otherwise: its rounding alone, some 1e-3 of the loss,
    # is more than the tolerance.
    with jax.default_matmul_precision("highest"):
        subject = subject_of(loss_fn, outputs, params, args)
        tolerance = subject.tolerance if tolerance is None else tolerance
        points = points_near(subject.leaves, len(subject.leaves) + 4, seed)
        check_deterministic(subject, points[0])
        measured = measure(subject, points)
        found = relations(measured.products, measured.sizes, tolerance)
        together = largest_group(found, np.asarray([leaf.size for leaf in subject.leaves], float))
        loss, logits = scaled_calls(subject.loss), subject.outputs and scaled_calls(subject.outputs)
        scan = _Scan(loss, logits, points[:2], subject, measured, tolerance)
        groups = tuple(scan.group(members) for members in finest_groups(found, together))
        obstacles = tuple(scan.obstacle(found, int(i), together) for i in np.flatnonzero(~together))
    return InvarianceReport(groups, obstacles, subject.paths, found, subject.dtype.name, tolerance)


class _Scan(NamedTuple):
    loss: Callable[..., np.ndarray]
    outputs: Callable[..., np.ndarray] | None
    points: list[list[Any]]
    subject: Subject
    measured: Measured
    tolerance: float

    @property
    def paths(self) -> tuple[str, ...]:
        return self.subject.paths

    def group(self, members: np.ndarray) -> ScaleGroup:
        angle, change = self._angle(members), self._change(members)
        names = tuple(path for path, member in zip(self.paths, members, strict=True) if member)
        check(
            change <= max(self.tolerance, 1e-12) ** 0.75,
            f"the gradient says that {', '.join(names)} may be scaled, but the loss then changes by {change:.0e}, more than "
            f"the rounding of {self.subject.dtype.name}; does gradient flow through all of it (stop_gradient, rounding to "
            "integers, a custom derivative)? If it is rounding in a very deep network, enable float64 (JAX_ENABLE_X64=1)",
        )
        return ScaleGroup(names, angle, change)

    def obstacle(self, found: Relations, array: int, together: np.ndarray) -> Obstacle:
        alone = np.arange(len(self.paths)) == array
        return Obstacle(
            self.paths[array], self._angle(alone), self._change(alone), self._reason(found, array, together | alone)
        )

    def _angle(self, members: np.ndarray) -> float:
        product, size = self.measured.products[:, members].sum(1), self.measured.sizes[:, members]
        return float(np.max(np.abs(product) / np.maximum(np.linalg.norm(size, axis=1), np.finfo(float).tiny)))

    def _change(self, members: np.ndarray) -> float:
        changes = []
        for point in self.points:
            values = [float(self.loss(point, self.subject.args, np.where(members, c, 1.0))) for c in (1.0, *FACTORS)]
            # A loss that happens to be near zero here is measured by its size elsewhere.
            own = max(abs(values[0]), 1e-3 * self.measured.scale)
            changes += [abs(value - values[0]) / own if np.isfinite(value) else np.inf for value in values[1:]]
        return max(changes)

    def _reason(self, found: Relations, array: int, members: np.ndarray) -> str:
        degree = self._degree(members)
        exponents = nearest_exponents(found, array)
        if exponents is not None:
            # These would need another power of c than all the rest: the sides of a sum that do not agree.
            other = np.flatnonzero(np.abs(exponents - 1) > 1e-6)
            needed = [f"{self.paths[i]} by c^{exponents[i]:g}" for i in other]
            if needed:
                return f"terms of different degree are added: if it is scaled by c, the loss asks for {_few(needed)}"
        if degree is None:
            return "the loss depends on its scale, whatever else is scaled"
        power, homogeneous = degree
        if homogeneous and abs(power) > 1e-3:
            return f"the output has degree {power:g} in the invariant arrays and this one; only degree 0 keeps the loss"
        return f"the output has no degree in it (locally {power:.2g}): terms of different degree are added"

    def _degree(self, members: np.ndarray) -> tuple[float, bool] | None:
        if self.outputs is None:
            return None
        factor, point = 2.0, self.points[0]
        before, after = (self.outputs(point, self.subject.args, np.where(members, c, 1.0)) for c in (1.0, factor))
        if not np.any(before):
            return None
        ratio = float(np.sum(after * before) / np.sum(before * before))
        if ratio <= 0:
            return float("nan"), False
        power = round(float(np.log(ratio) / np.log(factor)), 6)
        return power, bool(np.linalg.norm(after - ratio * before) <= self.tolerance**0.75 * np.linalg.norm(after))


def _few(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
