"""Report of `scale_invariance`: the groups of arrays, the obstacles, and the refusal of a conversion."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np
import optax

from lrjax.errors import check, path_of
from lrjax.transforms.scale_groups import Relations

if TYPE_CHECKING:
    from jaxtyping import PyTree


class ScaleGroup(NamedTuple):
    """A smallest set of arrays that may be multiplied by one c > 0 without a change of the loss.

    Attributes:
        paths: of the arrays, such as "conv1/kernel".
        angle: the largest |<dL/dw, w>| / (|dL/dw| |w|) of the points measured.
        change: the largest relative change of the loss under scaling by 0.5, 1.7 and 2.9.

    Example:
        >>> import jax.numpy as jnp
        >>> from lrjax.transforms import scale_invariance
        >>> report = scale_invariance(lambda w: w[0] / jnp.sqrt(jnp.sum(w**2)), jnp.array([3.0, 4.0]))
        >>> len(report.groups), report.groups[0].change < 1e-5
        (1, True)
    """

    paths: tuple[str, ...]
    angle: float
    change: float


class Obstacle(NamedTuple):
    """An array that is in no scale-invariant group.

    Attributes:
        path: of the array.
        angle, change: as in `ScaleGroup`, for this array alone.
        reason: why the loss depends on its scale.

    Example:
        >>> import jax.numpy as jnp
        >>> from lrjax.transforms import scale_invariance
        >>> report = scale_invariance(lambda p: jnp.sum(p["w"] ** 2), {"w": jnp.array([3.0, 4.0])})
        >>> report.obstacles[0].path, report.obstacles[0].reason
        ('w', 'the loss depends on its scale, whatever else is scaled')
    """

    path: str
    angle: float
    change: float
    reason: str


class InvarianceReport(NamedTuple):
    """Result of `scale_invariance`; `print` it, `require` it, take `labels` for `optax.partition` from it.

    Attributes:
        groups: the smallest groups that may be scaled together. Scaling all of them by one c keeps the loss too.
        obstacles: the arrays that are in no group; () if the network is scale invariant.
        paths: all arrays.
        relations: the exponents d for which scaling array i by c^d_i keeps the loss.
        dtype: the coarsest that the loss computes in.
        tolerance: relative size of what counts as rounding in it.

    Example:
        >>> import jax.numpy as jnp
        >>> from lrjax.transforms import scale_invariance
        >>> def loss(params):
        ...     return params["w"][0] / jnp.sqrt(jnp.sum(params["w"] ** 2)) + params["bias"] ** 2
        >>> params = {"bias": jnp.array(0.5), "w": jnp.array([3.0, 4.0])}
        >>> report = scale_invariance(loss, params)
        >>> report.invariant, report.labels(params)
        (False, {'bias': 'other', 'w': 'si'})
    """

    groups: tuple[ScaleGroup, ...]
    obstacles: tuple[Obstacle, ...]
    paths: tuple[str, ...]
    relations: Relations
    dtype: str = "float64"
    tolerance: float = 0.0

    @property
    def invariant(self) -> bool:
        """Whether the loss does not change when all arrays are scaled by one c."""
        return not self.obstacles

    def __str__(self) -> str:
        """One line a group and a line an obstacle."""
        lines = [
            "scale invariant" if self.invariant else f"not scale invariant: {len(self.obstacles)} arrays in the way"
        ]
        if self.dtype not in ("float32", "float64"):
            lines[0] += f", to {self.tolerance:.0e}, as the loss computes in {self.dtype}"
        for group in self.groups:
            alone = "alone" if len(group.paths) == 1 else "jointly"
            lines.append(f"  {alone:8}{', '.join(group.paths)}  (angle {group.angle:.0e}, change {group.change:.0e})")
        lines += [
            f"  broken  {o.path}  (angle {o.angle:.0e}, change {o.change:.0e}): {o.reason}" for o in self.obstacles
        ]
        return "\n".join(lines)

    def require(self, only: Callable[[str], bool] | None = None) -> None:
        """Refuses a conversion that would change the function that is trained.

        Args:
            only: of a path, whether the array is converted; None for all. Those converted together must be invariant
                together.

        Raises:
            LrjaxError: naming the layer and the reason.

        Example:
            >>> import jax.numpy as jnp
            >>> from lrjax.transforms import scale_invariance
            >>> report = scale_invariance(lambda w: w[0] / jnp.sqrt(jnp.sum(w**2)), jnp.array([3.0, 4.0]))
            >>> report.require()
        """
        chosen = [only is None or bool(only(path)) for path in self.paths]
        check(any(chosen), f"only() chooses none of the arrays {', '.join(self.paths)}")
        if self.relations.holds(np.asarray(chosen, float)):
            return
        converted = {path for path, take in zip(self.paths, chosen, strict=True) if take}
        for obstacle in self.obstacles:
            check(
                obstacle.path not in converted,
                f"the loss depends on the scale of {obstacle.path}: {obstacle.reason}; mend the network, or restrict the "
                f"conversion to the other arrays (report.labels and optax.partition)",
            )
        for group in self.groups:
            apart = [path for path in group.paths if path not in converted]
            inside = [path for path in group.paths if path in converted]
            check(
                not (apart and inside),
                f"{', '.join(inside)} may only be converted together with {', '.join(apart)}: the loss is invariant to "
                "their joint scale alone",
            )

    def labels(self, params: optax.Params, *, group: str = "si", other: str = "other") -> PyTree[str]:
        """Labels for `optax.partition` of the arrays that may be converted with one common plan, and of all else.

        Args:
            params: the parameters that were checked.
            group, other: the two labels.

        Returns:
            A tree like params.

        Example:
            >>> import jax.numpy as jnp
            >>> from lrjax.transforms import scale_invariance
            >>> report = scale_invariance(lambda p: p["w"][0] / jnp.sqrt(jnp.sum(p["w"] ** 2)), {"w": jnp.ones(2)})
            >>> report.labels({"w": jnp.ones(2)})
            {'w': 'si'}
        """
        free = set(self.paths) - {obstacle.path for obstacle in self.obstacles}
        return jax.tree_util.tree_map_with_path(lambda p, _: group if path_of(p) in free else other, params)
