"""Bilinear primitives of JAX whose derivatives are bilinear primitives again.

A primitive takes any number of pairs of operands and gives the sum over them, f(a, b) + f(c, d) + ...; hence the derivative
along both arguments of a pair, f(da, b) + f(a, db), is one primitive, not two. On a CPU the pairs are joined along the axes
that the operation sums over, so that matrix products get longer: that is what Hessian products gain by it.

What a primitive is made of is decided when it is lowered, for the device that will run it. Inside, all arrays have a
leading axis of lanes, for vmap over both operands together.
"""

import functools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir


def primitive(name: str, shape: Callable, on_cpu: Callable, native: Callable, places: Any, joined: Any) -> Primitive:
    """A primitive: the sum over pairs `(a, b)` of `f(a, b, window=window)`, with a static `window`.

    Args:
        name: of the primitive, in jaxprs.
        shape: `shape(a.shape, b.shape, window)`, that of the result; all three with the axis of lanes.
        on_cpu, native: `f` on a CPU and elsewhere, without the axis of lanes.
        places: `places[i]`: where an axis of operand i alone is folded in, and found in the result (axis of lanes: 0).
        joined: axes of both operands, without that of lanes, along which `f` sums: there pairs become one.

    Returns:
        The primitive; `transposes` makes it differentiable in reverse, `bind` applies it.
    """
    made = Primitive(name)
    made.def_impl(jax.jit(made.bind, static_argnames="window"))

    def result(a, b, *more, window):
        del more  # all pairs must give the same shape
        return a.update(shape=shape(a.shape, b.shape, window), weak_type=False)

    made.def_abstract_eval(result)
    batching.primitive_batchers[made] = partial(_batched, made, places)
    ad.primitive_jvps[made] = partial(_derivative, made)
    for lowered, platform in ((_summed(native), None), (_joined(on_cpu, joined), "cpu")):
        mlir.register_lowering(made, mlir.lower_fun(_by_lanes(lowered), multiple_results=False), platform=platform)
    return made


def transposes(primitive: Primitive, to_first: Callable, to_second: Callable) -> None:
    """Makes a primitive differentiable in reverse.

    Args:
        primitive: of this module.
        to_first: of a cotangent and b: the primitive, and its operands, that gives the cotangent of a.
        to_second: of a cotangent and a: that of b.
    """
    ad.primitive_transposes[primitive] = partial(_transpose, to_first, to_second)


def bind(primitive: Primitive, operands: Sequence[jax.Array], window: Any) -> jax.Array:
    """Applies a primitive to operands made to vary over the same axes of a mesh: inside `shard_map` JAX asks for that.

    Args:
        primitive: of this module.
        operands: a, b of one pair after the other, each with the axis of lanes.
        window: the static parameter.

    Returns:
        The sum over the pairs.
    """
    axes = frozenset().union(*map(_varying, operands))
    operands = [lax.pcast(c, tuple(axes - _varying(c)), to="varying") if axes - _varying(c) else c for c in operands]
    return primitive.bind(*operands, window=window)


def _varying(a):
    return jax.typeof(a).manual_axis_type.varying


def _pairs(operands):
    return list(zip(operands[::2], operands[1::2], strict=True))


def _by_lanes(function):
    def of_lanes(*operands, window):
        if operands[0].shape[0] == 1:
            return function([(a[0], b[0]) for a, b in _pairs(operands)], window)[None]
        return jax.vmap(lambda *own: function(_pairs(own), window))(*operands)

    return of_lanes


def _joined(function, axes):
    def of_pairs(pairs, window):
        firsts, seconds = (
            own[0] if len(own) == 1 else jnp.concatenate(own, axis)
            for own, axis in zip(zip(*pairs, strict=True), axes, strict=True)
        )
        return function(firsts, seconds, window=window)

    return of_pairs


def _summed(function):
    return lambda pairs, window: functools.reduce(jnp.add, [function(a, b, window=window) for a, b in pairs])


def _batched(primitive, places, operands, axes, *, window):
    if len(operands) == 2:
        return _folded(primitive, places, operands, axes, window)
    apart = zip(_pairs(operands), _pairs(axes), strict=True)  # pairs differ in what is batched
    return functools.reduce(jnp.add, [_to_front(primitive, places, *each, window) for each in apart]), 0


def _to_front(primitive, places, pair, axes, window):
    """A pair of a batched sum: its batched axis first, of length 1 where the pair has none."""
    if axes == (None, None):
        return bind(primitive, pair, window)[None]
    out, axis = _folded(primitive, places, pair, axes, window)
    return jnp.moveaxis(out, axis, 0)


def _folded(primitive, places, pair, axes, window):
    """An axis of one operand joins a dimension that the operation leaves untouched, axes of both become lanes."""
    size = next(a.shape[axis] for a, axis in zip(pair, axes, strict=True) if axis is not None)
    only = next((i for i in (0, 1) if axes[1 - i] is None), None)
    if only is None or pair[1 - only].shape[0] > 1:
        a, b = (
            jnp.broadcast_to(a[None], (size, *a.shape)) if axis is None else jnp.moveaxis(a, axis, 0)
            for a, axis in zip(pair, axes, strict=True)
        )
        out = bind(primitive, (a.reshape(-1, *a.shape[2:]), b.reshape(-1, *b.shape[2:])), window)
        return out.reshape(size, -1, *out.shape[1:]), 0
    place, place_out = places[only]
    own = jnp.moveaxis(pair[only], axes[only], place)
    own = own.reshape(*own.shape[:place], -1, *own.shape[place + 2 :])
    out = bind(primitive, (own, pair[1]) if only == 0 else (pair[0], own), window)
    return out.reshape(*out.shape[:place_out], size, -1, *out.shape[place_out + 1 :]), place_out


def _derivative(primitive, primals, tangents, *, window):
    terms = []
    for (a, b), (along_a, along_b) in zip(_pairs(primals), _pairs(tangents), strict=True):
        terms += [] if type(along_a) is ad.Zero else [along_a, b]
        terms += [] if type(along_b) is ad.Zero else [a, along_b]
    return bind(primitive, primals, window), bind(primitive, terms, window)


def _transpose(to_first, to_second, ct, *operands, window):
    def of(operand, primitive, pair):
        if not ad.is_undefined_primal(operand):
            return None
        return ad.Zero(operand.aval.to_ct_aval()) if type(ct) is ad.Zero else bind(primitive, pair, window)

    return [cotangent for a, b in _pairs(operands) for cotangent in (of(a, *to_first(ct, b)), of(b, *to_second(ct, a)))]
