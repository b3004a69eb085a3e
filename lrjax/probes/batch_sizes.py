"""The examples that H and K are measured on: their order, and numbers and sizes of the disjoint batches of K."""

from typing import Any

import numpy as np

from lrjax.data.images import generator
from lrjax.errors import check


def example_order(num_train: int, settings: Any) -> np.ndarray:
    """The order of the training examples in all probes of the break-even paper, so that they share what they measure on.

    Args:
        num_train: training examples.
        settings: the config group `spectra`; read here is `seed`.

    Returns:
        A permutation [num_train].
    """
    return generator(settings.seed, "break even").permutation(num_train)


def batch_sizes(num_examples: int, num_batches: int, batch_size: int) -> tuple[int, int]:
    """(L, M) of disjoint batches: as asked for, or smaller ones of few examples. L goes first: the error is a matter of L.

    Raises:
        LrjaxError: there are no two batches.

    Example:
        >>> batch_sizes(4096, 25, 128), batch_sizes(64, 25, 128), batch_sizes(10, 25, 128)
        ((25, 128), (25, 2), (10, 1))
    """
    count = min(num_batches, num_examples)
    check(
        count >= 2, f"the noise probe needs two batches or more of the training examples, and there are {num_examples}"
    )
    return count, min(batch_size, num_examples // count)


def grid(pairs: Any, num_train: int) -> list[tuple[int, int]]:
    """The (L, M) of `spectra.noise_grid`, L disjoint batches of M examples.

    Raises:
        LrjaxError: fewer than two batches, or more examples than there are.
    """
    sizes = [(int(count), int(size)) for count, size in pairs]
    for count, size in sizes:
        right = count >= 2 and size >= 1 and count * size <= num_train and size < num_train
        check(
            right,
            f"spectra.noise_grid has ({count}, {size}): {count} disjoint batches of {size}, of {num_train} examples",
        )
    return sizes
