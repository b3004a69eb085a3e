"""Results as text and as plain Python: the methods `__repr__` and `to_dict` of every result."""

from typing import Any

import jax
import jax.core
import numpy as np

LISTED = 6  # numbers that a text writes out
WIDTH = 110
# Fields whose arrays have an axis of D parameters.
PARAMETER_SPACE = {
    "Eigen": ("vectors",),
    "Gram": ("vectors",),
    "Diagonal": ("value", "stderr"),
    "Landscape": ("directions",),
}
STANDARD_ERRORS = {"value": "stderr", "squared": "squared_stderr"}


def to_dict(result: Any, *, vectors: bool = False) -> dict[str, Any]:
    """The fields as plain Python: numbers, strings, lists, and dicts of other results.

    `json.dumps` takes them, and writes NaN and infinity in its own way.

    Args:
        result: a NamedTuple.
        vectors: with the arrays that have an axis of all parameters, such as eigenvectors, too.

    Returns:
        Field -> value.

    Example:
        >>> from lrjax.spectra.random_vectors import Estimate
        >>> to_dict(Estimate(np.float32(0.5), 0.25))
        {'value': 0.5, 'stderr': 0.25}
    """
    left_out = () if vectors else PARAMETER_SPACE.get(type(result).__name__, ())
    return {name: _plain(getattr(result, name), vectors) for name in result._fields if name not in left_out}


def _plain(value: Any, vectors: bool) -> Any:
    if hasattr(value, "_fields"):
        return to_dict(value, vectors=vectors)
    if isinstance(value, (tuple, list)):
        return [_plain(member, vectors) for member in value]
    if isinstance(value, dict):
        return {str(name): _plain(member, vectors) for name, member in value.items()}
    if not isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return value
    array = np.asarray(value)
    # Not only float16: bfloat16 is no number type of NumPy's own, and its `tolist` gives no Python floats.
    return (array if array.dtype.kind in "bui" else array.astype(np.float64)).tolist()


def readable(result: Any) -> str:
    """Name and fields of a result, on one line or one a field: numbers with their standard errors, long arrays as ranges.

    Args:
        result: a NamedTuple.

    Returns:
        The text.

    Example:
        >>> from lrjax.spectra.random_vectors import Estimate
        >>> readable(Estimate(0.5, 0.25))
        'Estimate(value=0.5 +- 0.25)'
    """
    paired = {
        error: name
        for name, error in STANDARD_ERRORS.items()
        if error in result._fields and np.ndim(getattr(result, name)) == 0
    }
    parts = []
    for name in result._fields:
        if name not in paired:
            error = next((_text(getattr(result, e)) for e, of in paired.items() if of == name), None)
            text = _text(getattr(result, name))
            parts.append(f"{name}={text}" if error is None else f"{name}={text} +- {error}")
    line = f"{type(result).__name__}({', '.join(parts)})"
    if len(line) <= WIDTH and "\n" not in line:
        return line
    return f"{type(result).__name__}(\n    " + ",\n    ".join(part.replace("\n", "\n    ") for part in parts) + ",\n)"


def _text(value: Any) -> str:
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return f"({', '.join(map(_text, value))}{',' * (len(value) == 1)})"
    if isinstance(value, jax.core.Tracer) or not isinstance(value, (float, np.ndarray, np.generic, jax.Array)):
        return repr(value)
    array = np.asarray(value)
    if array.ndim and array.dtype.kind == "b":
        return f"{int(array.sum())} of {array.size}"
    if array.dtype.kind in "bui":
        numbers = [str(number) for number in array.ravel()[:LISTED].tolist()]
    else:
        array = array.astype(np.float64)
        numbers = [f"{number:.5g}" for number in array.ravel()[:LISTED]]
    if array.ndim == 0:
        return numbers[0]
    if array.ndim == 1 and array.size <= LISTED:
        return f"[{', '.join(numbers)}]"
    finite = array[np.isfinite(array)]
    shape = " x ".join(map(str, array.shape))
    return f"[{shape}] from {finite.min():.5g} to {finite.max():.5g}" if finite.size else f"[{shape}]"
