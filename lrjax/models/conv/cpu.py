"""A convolution and its two transposes for XLA:CPU: as slices and matrix products, except where there are few features.

The usual 3x3 kernel takes the minimal filtering of Lavin & Gray 2015 (arXiv 1509.09308, section 4.1), F(2x2, 3x3): for each
2x2 tile of the output 16 products in place of 36, between sums of the 4x4 pixels that the tile sees and sums of the taps,

    Y = A^T [(G k G^T) (B^T d B)] A,

each bracket of 16 being one matrix product over channels. It copies 4 numbers a pixel where the taps are 9, and rounds no
worse than the direct sum: its constants are 1 and 1/2.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import sequential_vmap

NHWC = ("NHWC", "HWIO", "NHWC")
TILED = 32  # channels on either side
FEW = 16  # features: a matrix product of so few columns is slower than XLA's own loop, which copies nothing
NEAR, FAR = 2**21, 2**24  # bytes of copies that stay in the caches nearest to a core, and in the last one


class Window(NamedTuple):
    """What a convolution and its transposes know besides their operands."""

    image: tuple[int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    dilation: tuple[int, int]
    precision: Any = None

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width of the padded image."""
        (top, bottom), (left, right) = self.padding
        return self.image[0] + top + bottom, self.image[1] + left + right

    @property
    def output(self) -> tuple[int, int]:
        """Height and width of the result; not positive where the kernel does not fit."""
        h, w = (
            (size - (k - 1) * d - 1) // s + 1
            for size, k, d, s in zip(self.padded, self.kernel, self.dilation, self.strides, strict=True)
        )
        return h, w


def _pad(x, rows, columns):
    """Pads height and width of `[N, H, W, C]`, or crops them where negative."""
    if (*rows, *columns) == (0, 0, 0, 0):
        return x
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), (*rows, 0), (*columns, 0), (0, 0, 0)])


def _shift(x, axis, tap, size, window):
    """What a tap sees along height (0) or width (1)."""
    start, step = tap * window.dilation[axis], window.strides[axis]
    return lax.slice_in_dim(x, start, start + (size - 1) * step + 1, step, axis + 1)


def _join(parts):
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, -1)


def _columns(x, window):
    """`[N, H, W, C]` to `[N, H, W', w C]`: what the taps of one row of the kernel see."""
    return _join([_shift(x, 1, j, window.output[1], window) for j in range(window.kernel[1])])


def _patches(x, window):
    """`[N, H, W, C]` to `[N, H', W', h w C]`: what all taps see."""
    rows = [_shift(x, 0, i, window.output[0], window) for i in range(window.kernel[0])]
    return _join([_columns(row, window) for row in rows])


def _dot(a, b, contracting):
    """Matrix product over axis `contracting` of `a` and the first of `b`, accumulated in float32 at least."""
    wide = jnp.promote_types(a.dtype, jnp.float32)
    return lax.dot_general(a, b, (((contracting,), (0,)), ((), ())), preferred_element_type=wide)


def _by_rows(window, channels, features):
    """Whether to copy the taps of a row of the kernel only, and add up shifted rows of the product.

    Copying all taps moves h w C numbers an output pixel; this moves w C before the product and h O after it.
    """
    h, w = window.kernel
    return window.strides == (1, 1) and h * w * channels > w * channels + h * features


def _by_tiles(window, channels, features, dtype):
    """Whether minimal filtering pays: with few channels its additions cost more than the products that it saves."""
    plain = (window.kernel, window.strides, window.dilation) == ((3, 3), (1, 1), (1, 1))
    return plain and min(channels, features) >= TILED and dtype in (jnp.float32, jnp.float64)


def _twice(function, x, axes):
    """A transform of both axes: 16 arrays, row by row."""
    return [column for row in function(x, axes[0]) for column in function(row, axes[1])]


def _seen(x, axis):
    """B^T: what two neighbouring outputs see, along an axis of 2 T + 2 pixels."""
    end = x.shape[axis] - 3
    a, b, c, d = (lax.slice_in_dim(x, i, i + end, 2, axis) for i in range(4))
    return a - c, b + c, c - b, b - d


def _taps(kernel, axis):
    """G: of three taps."""
    a, b, c = (lax.index_in_dim(kernel, i, axis, keepdims=True) for i in range(3))
    return a, (a + b + c) / 2, (a - b + c) / 2, c


def _outputs(a, b, c, d):
    """A^T: two neighbouring outputs from four products."""
    return a + b + c, b - c - d


def _spread(y, axis):
    """A: what two neighbouring outputs give back to the four products, along an axis of 2 T pixels."""
    a, b = (lax.slice_in_dim(y, i, None, 2, axis) for i in range(2))
    return a, a + b, a - b, -b


def _tiled(x, window):
    """The 16 sums of pixels `[N, T, T', C]`; an odd height or width of the output is filled up to whole tiles."""
    more = [(low, high + size % 2) for (low, high), size in zip(window.padding, window.output, strict=True)]
    return _twice(_seen, _pad(x, *more), (1, 2))


def _convolve_tiles(x, kernel, window):
    images, (height, width) = x.shape[0], window.output
    part = _part(images, 4 * height * width * x.shape[3] * x.dtype.itemsize, FAR)
    if part < images:
        parts = x.reshape(images // part, part, *x.shape[1:])
        return lax.map(lambda own: _convolve_tiles(own, kernel, window), parts).reshape(images, height, width, -1)
    n, channels, features = x.shape[0], *kernel.shape[2:]
    products = [
        _dot(seen.reshape(-1, channels), taps.reshape(channels, features), 1).reshape(*seen.shape[:3], features)
        for seen, taps in zip(_tiled(x, window), _twice(_taps, kernel, (0, 1)), strict=True)
    ]
    columns = zip(*(_outputs(*products[row : row + 4]) for row in range(0, 16, 4)), strict=True)
    y = jnp.stack([jnp.stack(_outputs(*column), 2) for column in columns], 4)
    y = y.reshape(n, 2 * y.shape[1], 2 * y.shape[3], features)
    return lax.slice(y, (0, 0, 0, 0), (n, height, width, features))


def _kernel_gradient_tiles(x, y, window):
    channels, features = x.shape[3], y.shape[3]
    y = _pad(y, *((0, size % 2) for size in window.output))
    products = [
        _dot(seen.reshape(-1, channels), given.reshape(-1, features), 0)
        for seen, given in zip(_tiled(x, window), _twice(_spread, y, (1, 2)), strict=True)
    ]
    columns = zip(*(_three(*products[row : row + 4]) for row in range(0, 16, 4)), strict=True)
    return jnp.stack([jnp.stack(_three(*column)) for column in columns], 1)


def _three(a, b, c, d):
    """G^T: the three taps from four products."""
    return a + (b + c) / 2, (b - c) / 2, (b + c) / 2 + d


def native(x, kernel, *, window):
    """XLA's own convolution."""
    return lax.conv_general_dilated(
        x, kernel, window.strides, window.padding, None, window.dilation, NHWC, precision=window.precision
    )


def convolve(x, kernel, *, window):
    """y[p] = sum_t x[s p + d t] w[t]: `[N, H, W, C]` and `[h, w, C, O]` to `[N, H', W', O]`."""
    (h, w), (height, width) = window.kernel, window.output
    channels, features = kernel.shape[2:]
    if features <= FEW and h * w > 1:
        # Lanes go one after the other: together they would be a convolution in groups, which XLA:CPU is slow at.
        return sequential_vmap(partial(native, window=window))(x, kernel)
    if _by_tiles(window, channels, features, x.dtype):
        return _convolve_tiles(x, kernel, window)
    x = _pad(x, *window.padding)
    n = x.shape[0]
    if not _by_rows(window, channels, features):
        y = _dot(_patches(x, window).reshape(-1, h * w * channels), kernel.reshape(-1, features), 1)
        return y.reshape(n, height, width, features).astype(x.dtype)
    seen = _columns(x, window)
    rows = _dot(seen.reshape(-1, w * channels), kernel.transpose(1, 2, 0, 3).reshape(w * channels, -1), 1)
    rows = rows.reshape(n, seen.shape[1], width, h * features)
    parts = [_shift(rows[..., i * features : (i + 1) * features], 0, i, height, window) for i in range(h)]
    return sum(parts[1:], parts[0]).astype(x.dtype)


def input_gradient(y, kernel, *, window):
    """x[q] = sum_{s p + d t = q} y[p] w[t]^T: `[N, H', W', O]` and `[h, w, C, O]` to `[N, H, W, C]`."""
    if window.strides == (1, 1):
        flipped = kernel[::-1, ::-1].swapaxes(2, 3)
        before = [
            (k - 1) * d - low for k, d, (low, _) in zip(window.kernel, window.dilation, window.padding, strict=True)
        ]
        padding = tuple(
            (low, size + (k - 1) * d - out - low)
            for low, size, k, d, out in zip(
                before, window.image, window.kernel, window.dilation, window.output, strict=True
            )
        )
        return convolve(y, flipped, window=window._replace(image=window.output, padding=padding))
    h, w, channels, features = kernel.shape
    taps = _dot(y.reshape(-1, features), kernel.reshape(-1, features).T, 1)
    taps = taps.reshape(*y.shape[:3], h, w, channels)
    rows = [_interleave([taps[:, :, :, i, j] for j in range(w)], 1, window) for i in range(h)]
    (top, bottom), (left, right) = window.padding
    return _pad(_interleave(rows, 0, window), (-top, -bottom), (-left, -right)).astype(y.dtype)


def _interleave(taps, axis, window):
    """Adds each tap at its place, for every phase of the stride apart: no zeros are stored between the elements."""
    stride, size, at = window.strides[axis], window.padded[axis], axis + 1
    length = -(-size // stride)
    phases = []
    for phase in range(stride):
        total = jnp.zeros((*taps[0].shape[:at], length, *taps[0].shape[at + 1 :]), taps[0].dtype)
        for number, tap in enumerate(taps):
            start, own = divmod(number * window.dilation[axis], stride)
            if own == phase:
                config = [(0, 0, 0)] * tap.ndim
                config[at] = (start, length - start - tap.shape[at], 0)
                total += lax.pad(tap, jnp.zeros((), tap.dtype), config)
        phases.append(total)
    whole = jnp.stack(phases, at + 1)
    whole = whole.reshape(*whole.shape[:at], length * stride, *whole.shape[at + 2 :])
    return lax.slice_in_dim(whole, 0, size, axis=at)


def _part(images: int, copied: int, held: int) -> int:
    """How many images to take at a time, if `copied` bytes of each are to be read again while a cache of `held` has them."""
    return max(n for n in range(1, images + 1) if images % n == 0 and (n == 1 or n * copied <= held))


def _summed_in_parts(function: Callable, x: jax.Array, y: jax.Array, window: Window, copies: int) -> jax.Array:
    """A sum over images, a few of them at a time, of a function that copies `copies` numbers of each channel and pixel."""
    images = x.shape[0]
    part = _part(images, copies * math.prod(window.output) * x.shape[3] * x.dtype.itemsize, NEAR)
    if part == images:
        return function(x, y, window)
    x, y = (a.reshape(images // part, part, *a.shape[1:]) for a in (x, y))
    first = function(x[0], y[0], window)
    return lax.scan(lambda total, own: (total + function(*own, window), None), first, (x[1:], y[1:]))[0]


def kernel_gradient(x, y, *, window):
    """w[t] = sum_p x[s p + d t]^T y[p]: `[N, H, W, C]` and `[N, H', W', O]` to `[h, w, C, O]`."""
    if _by_tiles(window, x.shape[3], y.shape[3], x.dtype):
        return _summed_in_parts(_kernel_gradient_tiles, x, y, window, 4)
    return _summed_in_parts(_kernel_gradient, x, y, window, window.kernel[1])


def _kernel_gradient(x, y, window):
    (h, w), channels, features = window.kernel, x.shape[3], y.shape[3]
    x = _pad(x, *window.padding)
    if not _by_rows(window, channels, features):
        gradient = _dot(_patches(x, window).reshape(-1, h * w * channels), y.reshape(-1, features), 0)
        return gradient.reshape(h, w, channels, features).astype(y.dtype)
    seen = _columns(x, window)
    rows = [i * window.dilation[0] for i in range(h)]
    shifted = _join([_pad(y, (row, seen.shape[1] - y.shape[1] - row), (0, 0)) for row in rows])
    gradient = _dot(seen.reshape(-1, w * channels), shifted.reshape(-1, h * features), 0)
    return gradient.reshape(w, channels, h, features).transpose(2, 0, 1, 3).astype(y.dtype)
