"""Modes of differentiation: forward over reverse, or reverse mode alone for functions that have no forward mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax

from lrjax.errors import LrjaxError, check
from lrjax.spectra.programs import Functions, name_of

DIFFERENTIATION = ("auto", "forward_over_reverse", "reverse_over_reverse")


def needs_reverse(functions: Functions, differentiation: str, trace: Callable[[bool], Any]) -> bool:
    """Whether a program is to be differentiated in reverse mode alone.

    Args:
        functions: of the caller, for messages.
        differentiation: of `DIFFERENTIATION`; "auto" takes forward over reverse where it works.
        trace: whether in reverse mode alone -> the program as traced (`jax.jit(...).trace`); its first call uses the trace.

    Raises:
        LrjaxError: the functions cannot be differentiated so, or the mode asked for is none.
    """
    names = ", ".join(DIFFERENTIATION)
    check(differentiation in DIFFERENTIATION, f"differentiation must be one of {names}, not {differentiation!r}")
    modes = {"auto": (False, True)}.get(differentiation, (differentiation == "reverse_over_reverse",))
    errors: list[Exception] = []
    for reverse in modes:
        try:
            one_way = sorted(set(_without_forward_mode(trace(reverse).jaxpr.jaxpr)))
            if not one_way:
                return reverse
            raise TypeError(f"the custom_vjp of {', '.join(one_way)} has no forward mode")
        except LrjaxError:
            raise
        except Exception as error:
            errors.append(error)
    raise LrjaxError(_no_derivative(functions, errors[-1])) from errors[0]


def _without_forward_mode(jaxpr: Any) -> Iterator[str]:
    """Names of the functions with a `jax.custom_vjp` whose tangents a program needs: it would fail where it is compiled."""
    calls = [e for e in jaxpr.eqns if e.primitive.name.startswith("custom_vjp_call")]
    names = [str(e.params["name"]) for e in calls if e.params.get("name", "?") != "?"]
    for equation in jaxpr.eqns:
        if equation.primitive.name == "custom_lin":
            yield from names or ["a function"]
        for value in jax.tree.leaves(equation.params, is_leaf=lambda v: hasattr(v, "eqns") or hasattr(v, "jaxpr")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _without_forward_mode(inner)


def _no_derivative(functions: Functions, error: Exception) -> str:
    """A sentence for losses that JAX cannot differentiate twice."""
    cause = str(error).strip().split("\n")[0][:200]
    return (
        f"{' and '.join(map(name_of, functions.given[:2]))} cannot be differentiated as this matrix needs: {cause} "
        f"({type(error).__name__}); leave differentiation at 'auto', give what is called there a derivative by jax.custom_jvp, "
        "or replace it"
    )
