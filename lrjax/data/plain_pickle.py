"""Pickles of numbers and of arrays of bytes, as Python 2 wrote them, read without running anything that is in them."""

import io
import pickle
from typing import Any

import numpy as np

from lrjax.errors import LrjaxError


class _Named:
    """Stands in for an array or a data type of numpy, which trust what a pickle tells them about memory."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = ()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        """The array of bytes that was pickled; TypeError or ValueError where it is something else."""
        _, shape, kind, by_columns, content = self.state
        if kind.arguments[0] not in (b"u1", "u1") or by_columns:
            raise TypeError(f"its numbers are {kind.arguments[0]}")
        return np.frombuffer(content, np.uint8).reshape(shape)


class _Plain(pickle._Unpickler):  # pyright: ignore[reportAttributeAccessIssue]
    """Reads a pickle of numbers and plain containers, and refuses to import anything.

    It is the reader in Python: the one in C has been seen to crash on a damaged pickle.
    """

    def find_class(self, module: str, name: str) -> Any:
        array = name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray")
        if array or (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return _Named
        raise LrjaxError(f"the pickle asks for {module}.{name}, which no array needs; it is not read")


def load(content: bytes) -> Any:
    """What a pickle holds: numbers, bytes, plain containers, and for each array something with `array()`.

    Raises:
        LrjaxError: it asks for anything else. A damaged one raises an exception of any kind.

    Example:
        >>> load(pickle.dumps({"labels": [1, 2]}, protocol=2))
        {'labels': [1, 2]}
    """
    return _Plain(io.BytesIO(content), encoding="bytes").load()
