"""Convolution that is fast on a CPU: XLA's own on other devices, matrix products there.

On XLA:CPU the gradients of a convolution are slow. A convolution is bilinear, so it and its two transposes,

    convolve          y[p] = sum_t x[s p + d t] w[t]
    input_gradient    x[q] = sum_{s p + d t = q} y[p] w[t]^T
    kernel_gradient   w[t] = sum_p x[s p + d t]^T y[p]

are closed under differentiation: the derivatives of each, in either argument, are among the three. Each is a primitive
(`lrjax.models.conv.bilinear`) whose rules say so; hence jvp, vjp, linearize, transposes and vmap of any order never leave them.
On a CPU it is made of slices and matrix products, elsewhere of `lax.conv_general_dilated` and its transposes. A
`custom_vjp` could not be differentiated forward again, and a choice at trace time would fix the device too early.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from lrjax.models.conv import bilinear
from lrjax.models.conv import cpu as convolution_cpu
from lrjax.models.conv.cpu import NHWC, Window, native


def conv(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: int | Sequence[int] = 1,
    padding: str | int | Sequence[tuple[int, int]] = "SAME",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> jax.Array:
    """2-D convolution of images `[N, H, W, C]` with a kernel `[h, w, C / groups, O]`.

        y[n, p, o] = sum_{t, c} x[n, strides p + dilation t - low, c] kernel[t, c, o]

    Equal to `lax.conv_general_dilated` up to rounding, and that function itself on GPU and TPU, for `groups > 1`, and for
    arrays that are not floating point.

    Args:
        x: images `[N, H, W, C]`.
        kernel: `[h, w, C / groups, O]`, of the dtype of `x`.
        strides: step between windows, for both axes or each.
        padding: "SAME", "VALID", one number for all four sides, or `((top, bottom), (left, right))`.
        dilation: step between the taps of the kernel, for both axes or each.
        groups: number of groups of channels.

    Returns:
        `[N, H', W', O]`, of the dtype of `x`.

    Raises:
        TypeError: for operands of different dtypes, as `lax.conv_general_dilated` does.

    Example:
        >>> import jax.numpy as jnp
        >>> conv(jnp.ones((1, 5, 5, 2)), jnp.ones((3, 3, 2, 4)), strides=2, padding="VALID").shape
        (1, 2, 2, 4)
        >>> conv(jnp.ones((1, 2, 2, 1)), jnp.ones((3, 3, 1, 1)))[0, :, :, 0].tolist()
        [[4.0, 4.0], [4.0, 4.0]]
    """
    if isinstance(padding, int):
        padding = ((padding, padding),) * 2
    return conv_general_dilated(
        x, kernel, _pair(strides), padding, None, _pair(dilation), NHWC, feature_group_count=groups
    )


def conv_general_dilated(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    precision: Any = None,
) -> jax.Array:
    """`conv` with the signature of `lax.conv_general_dilated`, for `nn.Conv(conv_general_dilated_cls=...)`.

    What `conv` has no fast form for (other layouts, 1 or 3 spatial axes, groups, dilated inputs) goes to `lax`.

    Args:
        lhs, rhs, window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers, feature_group_count, precision:
            as for `lax.conv_general_dilated`.

    Returns:
        The convolution, in the layout of `dimension_numbers`.

    Example:
        >>> import flax.linen as nn, jax, jax.numpy as jnp
        >>> layer = nn.Conv(4, (3, 3), conv_general_dilated_cls=lambda: conv_general_dilated)
        >>> layer.init_with_output(jax.random.key(0), jnp.ones((2, 8, 8, 3)))[0].shape
        (2, 8, 8, 4)
    """
    layout = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    fast = (
        lhs.ndim == 4
        and layout == lax.conv_dimension_numbers(lhs.shape, rhs.shape, NHWC)
        and feature_group_count == 1
        and lhs.shape[3] == rhs.shape[2]
        and set(lhs_dilation or (1,)) == {1}
        and lhs.dtype == rhs.dtype
        and jnp.issubdtype(lhs.dtype, jnp.floating)
        and min(lhs.size, rhs.size) > 0
    )
    if fast:
        default = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]  # jax defines it when it runs
        window = _window(lhs, rhs, window_strides, padding, rhs_dilation or (1, 1), precision or default)
        if min(window.output) > 0:
            return bilinear.bind(_convolve, (lhs[None], rhs[None]), window)[0]
    return lax.conv_general_dilated(
        lhs, rhs, window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers, feature_group_count,
        precision=precision,
    )  # fmt: skip


def _window(x, kernel, strides, padding, dilation, precision):
    if isinstance(padding, str):
        reach = [(k - 1) * d + 1 for k, d in zip(kernel.shape, dilation, strict=False)]
        padding = lax.padtype_to_pads(x.shape[1:3], reach, strides, padding)
    (top, bottom), (left, right) = padding
    padding = ((top, bottom), (left, right))
    return Window(x.shape[1:3], kernel.shape[:2], tuple(strides), padding, tuple(dilation), precision)


def _pair(value: int | Sequence[int]) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _input_gradient_native(y, kernel, *, window):
    x = jax.ShapeDtypeStruct((y.shape[0], *window.image, kernel.shape[2]), y.dtype)
    return jax.linear_transpose(lambda x: native(x, kernel, window=window), x)(y)[0]


def _kernel_gradient_native(x, y, *, window):
    kernel = jax.ShapeDtypeStruct((*window.kernel, x.shape[3], y.shape[3]), y.dtype)
    return jax.linear_transpose(lambda kernel: native(x, kernel, window=window), kernel)(y)[0]


_convolve = bilinear.primitive(
    "convolve",
    lambda x, kernel, window: (*x[:2], *window.output, kernel[4]),
    convolution_cpu.convolve,
    native,
    places=((1, 1), (4, 4)),
    joined=(3, 2),
)
_input_gradient = bilinear.primitive(
    "convolve_input_gradient",
    lambda y, kernel, window: (*y[:2], *window.image, kernel[3]),
    convolution_cpu.input_gradient,
    _input_gradient_native,
    places=((1, 1), (3, 4)),
    joined=(3, 3),
)
_kernel_gradient = bilinear.primitive(
    "convolve_kernel_gradient",
    lambda x, y, window: (x[0], *window.kernel, x[4], y[4]),
    convolution_cpu.kernel_gradient,
    _kernel_gradient_native,
    places=((4, 3), (4, 4)),
    joined=(0, 0),
)


bilinear.transposes(
    _convolve,
    lambda ct, kernel: (_input_gradient, (ct, kernel)),
    lambda ct, x: (_kernel_gradient, (x, ct)),
)
bilinear.transposes(
    _input_gradient,
    lambda ct, kernel: (_convolve, (ct, kernel)),
    lambda ct, y: (_kernel_gradient, (ct, y)),
)
bilinear.transposes(
    _kernel_gradient,
    lambda ct, y: (_input_gradient, (y, ct)),
    lambda ct, x: (_convolve, (x, ct)),
)
