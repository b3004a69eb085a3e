"""Floating-point operations of a traced function. XLA's own count takes the body of a loop once, however often it runs."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from lrjax.devices.accelerators import compiling_for

# What moves numbers and computes none.
MOVES = {
    "broadcast_in_dim", "concatenate", "convert_element_type", "copy", "dynamic_slice", "dynamic_update_slice", "expand_dims",
    "gather", "iota", "pad", "reshape", "rev", "scatter", "select_n", "slice", "squeeze", "transpose",
}  # fmt: skip
# Those of `lrjax.models.conv.convolution`: where the kernel and the output are among a pair and the result. A lane has its own.
CONVOLUTIONS = {"convolve": (1, 2), "convolve_input_gradient": (1, 0), "convolve_kernel_gradient": (2, 1)}


def count(function: Callable, *shapes: Any) -> float:
    """FLOPs of a call, a multiplication and an addition being two; of a `while` loop, one round.

    Convolutions are counted as they stand on an accelerator; on a CPU lrjax computes them in another way.

    Args:
        function: of arrays.
        shapes: trees of `jax.ShapeDtypeStruct`, its arguments.

    Example:
        >>> w = jax.ShapeDtypeStruct((8, 8), jnp.float32)
        >>> count(lambda w: w @ w, w)
        1024.0
        >>> count(lambda w: jax.lax.scan(lambda v, _: (v @ w, None), w, length=10)[0], w)
        10240.0
    """
    with compiling_for("tpu"):
        return float(_of(jax.make_jaxpr(function)(*shapes).jaxpr))


def _of(jaxpr: Any) -> float:
    return sum(_equation(equation) for equation in jaxpr.eqns)


def _inner(parameters: Any) -> Iterator[Any]:
    for value in parameters:
        if isinstance(value, (tuple, list)):
            yield from _inner(value)
        elif hasattr(value, "eqns"):
            yield getattr(value, "jaxpr", value)


def _equation(equation: Any) -> float:
    name, sizes = equation.primitive.name, equation.params
    inner = [_of(jaxpr) for jaxpr in _inner(sizes.values())]
    if inner:
        return max(inner) if name == "cond" else sum(inner) * (sizes["length"] if name == "scan" else 1)
    result = equation.outvars[0].aval
    if name == "dot_general":
        (contracted, _), _ = sizes["dimension_numbers"]
        return 2 * result.size * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval
        return 2 * result.size * kernel.size // kernel.shape[sizes["dimension_numbers"].rhs_spec[0]]
    if name in CONVOLUTIONS:
        pairs = len(equation.invars) // 2  # all of the same shapes; the primitive adds them up
        kernel, output = ((*equation.invars[:2], *equation.outvars)[place].aval for place in CONVOLUTIONS[name])
        return 2 * pairs * output.size * kernel.size // (kernel.shape[0] * kernel.shape[-1])
    if name in MOVES or not jnp.issubdtype(result.dtype, jnp.floating):
        return 0
    return max([result.size, *(v.aval.size for v in equation.invars)]) if name.startswith("reduce") else result.size
