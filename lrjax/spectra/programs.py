"""Cache of compiled programs, keyed by the caller's functions and freed with them.

A static argument of `jax.jit` would keep a function, and all that it closes over, for as long as the program.
"""

import functools
import weakref
from collections.abc import Callable, Hashable, Iterator, Sequence
from inspect import ismethod
from typing import Any

import jax

from lrjax.errors import check


def _identity(function: Callable) -> tuple[int, ...]:
    # A bound method is a new object at every access: its object and its function stay the same.
    return (id(function.__self__), id(function.__func__)) if ismethod(function) else (id(function),)


class Functions:
    """The functions of a caller, compared by identity; equal `Functions` share their programs.

    The same function is the same object, or the same method of the same object. A lambda, a `functools.partial` or a jitted
    function made anew is a new function.

    Args:
        *functions: of the caller.
        has_aux: whether the first returns `(value, auxiliary data)`, of which the value is taken.

    Example:
        >>> Functions(abs, max) == Functions(abs, max), Functions(lambda: 0) == Functions(lambda: 0)
        (True, False)
    """

    def __init__(self, *functions: Callable, has_aux: bool = False):
        for function in functions:
            check(
                callable(function),
                f"a function is asked for, of parameters and a batch, and not {type(function).__name__}",
            )
        self.has_aux = has_aux
        self.given = functions
        self.members = _without_aux(functions, has_aux)
        self.identity = (has_aux, *map(_identity, functions))
        self.programs: dict[Hashable, Callable] = {}  # of functions that cannot be referred to weakly

    def __iter__(self) -> Iterator[Callable]:
        return iter(self.members)

    def __getitem__(self, index: int) -> Callable:
        return self.members[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Functions) and self.identity == other.identity

    def __hash__(self) -> int:
        return hash(self.identity)

    def __repr__(self) -> str:
        return f"Functions({', '.join(map(name_of, self.given))})"


def name_of(function: Callable) -> str:
    """The name of a function, for messages."""
    return getattr(function, "__qualname__", None) or type(function).__name__


def _without_aux(functions: Sequence[Callable], has_aux: bool) -> tuple[Callable, ...]:
    return (functools.partial(_value_alone, functions[0]), *functions[1:]) if has_aux else tuple(functions)


def _value_alone(function: Callable, *arguments: Any) -> Any:
    result = function(*arguments)
    pair = isinstance(result, tuple) and len(result) == 2
    check(pair, f"has_aux=True, but {name_of(function)} does not return a pair (value, auxiliary data)")
    return result[0]


def _forget(made: dict, key: Hashable, _: Any) -> None:
    made.pop(key, None)


class _Weak:
    """Calls a function without keeping it; whoever runs a program holds its functions."""

    def __init__(self, function: Callable, forget: Callable[[Any], Any]):
        self.reference = (weakref.WeakMethod if ismethod(function) else weakref.ref)(function, forget)

    def __call__(self, *arguments: Any) -> Any:
        function = self.reference()
        assert function is not None, "a program outlived the function it was made from"
        return function(*arguments)


class Remembered:
    """Facts about the functions of a caller: a dict for equal `Functions`, forgotten with the first of them that dies.

    Of functions that cannot be referred to weakly nothing is remembered: each time the dict is a new one.

    Example:
        >>> sizes = Remembered()
        >>> sizes.of(Functions(chunk_of := lambda n: n))["shape (3,)"] = 8
        >>> sizes.of(Functions(chunk_of)), sizes.of(Functions(lambda n: n))
        ({'shape (3,)': 8}, {})
    """

    def __init__(self):
        self.made: dict[Hashable, tuple[list[_Weak], dict]] = {}

    def of(self, functions: Functions) -> dict:
        """The dict of these functions, to be read and added to."""
        key = functions.identity
        if key not in self.made:
            try:
                forget = functools.partial(_forget, self.made, key)
                self.made[key] = [_Weak(function, forget) for function in functions.given], {}
            except TypeError:
                return {}
        return self.made[key][1]


class Program:
    """`jax.jit` of `body(functions, *static, *arrays)`, compiled once for equal `Functions` and equal static arguments.

    It holds the functions weakly, and dies with the first of them that dies. Functions that cannot be referred to weakly
    (methods of a NamedTuple) share programs only within one `Functions`. JAX keeps the rules of custom derivatives with a
    program: one that refers back to the function it serves keeps it.

    Args:
        body: takes a sequence of functions, then the static arguments, then arrays.
        static: how many static arguments there are.
        donate: names of arrays that are given up.
    """

    def __init__(self, body: Callable, static: int = 1, donate: tuple[str, ...] = ()):
        self.body, self.static, self.donate = body, static, donate
        self.made: dict[Hashable, Callable] = {}
        functools.update_wrapper(self, body)

    def of(self, functions: Functions, *static: Hashable) -> Any:
        """The jitted function of the arrays; hold the functions for as long as it is called."""
        key = (self, functions.identity, static)
        program = self.made.get(key) or functions.programs.get(key)
        if program is not None:
            return program
        try:
            # An identity is used again only after its first owner is gone, hence after the program is.
            forget = functools.partial(_forget, self.made, key)
            weak = _without_aux([_Weak(function, forget) for function in functions.given], functions.has_aux)
        except TypeError:
            program = functions.programs[key] = self._jitted(functions.members, static)
            return program
        program = self.made[key] = self._jitted(weak, static)
        return program

    def _jitted(self, functions: Any, static: tuple[Hashable, ...]) -> Callable:
        # Not `wraps`, which would name the body as the jitted function: JAX drops its caches of a function with that function.
        call = functools.partial(self.body, functions, *static)
        return jax.jit(call, donate_argnames=self.donate)

    def __call__(self, functions: Functions, *arguments: Any) -> Any:
        """Looks the program up and calls it with the static arguments and the arrays, in the order of the body."""
        return self.of(functions, *arguments[: self.static])(*arguments[self.static :])


def compiled(static: int = 1, donate: tuple[str, ...] = ()) -> Callable[[Callable], Program]:
    """Decorator that makes a function a `Program`.

    Example:
        >>> @compiled(static=1)
        ... def scaled(functions, factor, x):
        ...     return factor * functions[0](x)
        >>> scaled(Functions(abs), 2, -3.0).item()
        6.0
    """
    return functools.partial(Program, static=static, donate=donate)
