"""Streaming of training data that does not fit into memory: a chunk of steps is prefetched while the one before it runs."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from lrjax.data.dataset import Stream
from lrjax.data.order import Orders
from lrjax.errors import LrjaxError

THREADS = 16
AT_ONCE = 32  # examples that one thread reads before it hands them on


def threaded(read: Callable[[np.ndarray], dict[str, np.ndarray]]) -> Stream:
    """`read` by several threads at once, in the order of the indices.

    Args:
        read: indices int [m] -> arrays with m rows; called from several threads.

    Raises:
        LrjaxError: grain is not installed.

    Example:
        >>> read = threaded(lambda i: {"x": 10 * i, "y": i})
        >>> read(np.arange(100))["x"][[0, 99]].tolist()
        [0, 990]
    """
    try:
        import grain
    except ImportError as error:
        raise LrjaxError("reading data while training needs a package: pip install grain (the extra large)") from error
    options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=2 * THREADS)

    def whole(indices: np.ndarray) -> dict[str, np.ndarray]:
        pieces = [indices[at : at + AT_ONCE] for at in range(0, len(indices), AT_ONCE)]
        parts = list(grain.MapDataset.source(pieces).map(read).to_iter_dataset(options))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    return whole


class Feed:
    """The examples of one chunk of steps after another, and where in them each step finds its own.

    Lanes that see the same examples in the same order share them. The next chunk is read in the background.

    Args:
        orders: which examples the lanes see.
        read: indices -> examples.
        chunk: steps.
        length: of the run, in steps.

    Example:
        >>> feed = Feed(Orders([0, 0], ["cyclic"] * 2, n=6, batch_size=2), lambda i: {"x": 10 * i}, 2, 4)
        >>> index, examples = feed.chunk(2)
        >>> examples["x"].tolist(), index.tolist()
        ([40, 50, 0, 10], [[[0, 1], [2, 3]], [[0, 1], [2, 3]]])
    """

    def __init__(self, orders: Orders, read: Stream, chunk: int, length: int):
        self.orders, self.read, self.steps, self.length = orders, read, chunk, length
        self._pool = ThreadPoolExecutor(1)
        self._next: tuple[int, Future] | None = None

    def _load(self, start: int) -> tuple[np.ndarray, dict[str, Any]]:
        index = self.orders.rows(start, self.steps)
        distinct, lane = np.unique(index.reshape(len(index), -1), axis=0, return_inverse=True)
        own = np.arange(distinct.size, dtype=np.int32).reshape(len(distinct), *index.shape[1:])
        return own[lane.reshape(-1)], self.read(distinct.reshape(-1))

    def chunk(self, start: int) -> tuple[np.ndarray, dict[str, Any]]:
        """Indices int32 [lanes, steps, batch] into the arrays beside them, for the steps from `start` on."""
        ready = self._next[1] if self._next and self._next[0] == start else self._pool.submit(self._load, start)
        found = ready.result()
        later = start + self.steps
        self._next = (later, self._pool.submit(self._load, later)) if later < self.length else None
        return found
