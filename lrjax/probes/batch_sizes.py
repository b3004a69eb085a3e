"""Numbers and sizes of the disjoint batches whose gradients make K."""

from typing import Any

from lrjax.errors import check


def batch_sizes(num_examples: int, num_batches: int, batch_size: int) -> tuple[int, int]:
    """(L, M) of disjoint batches: as asked for, or smaller ones of few examples. L goes first: the error is a matter of L.

    Raises:
        LrjaxError: there are no two batches.

    Example:
        >>> batch_sizes(4096, 25, 128), batch_sizes(64, 25, 128), batch_sizes(10, 25, 128)
        ((25, 128), (25, 2), (10, 1))
    """
    found = min(num_batches, num_examples)
    check(
        found >= 2, f"the noise probe needs two batches or more of the training examples, and there are {num_examples}"
    )
    return found, min(batch_size, num_examples // found)


def grid(pairs: Any, num_train: int) -> list[tuple[int, int]]:
    """The (L, M) of `spectra.noise_grid`, L disjoint batches of M examples.

    Raises:
        LrjaxError: fewer than two batches, or more examples than there are.
    """
    found = [(int(count), int(size)) for count, size in pairs]
    for count, size in found:
        right = count >= 2 and size >= 1 and count * size <= num_train and size < num_train
        check(
            right,
            f"spectra.noise_grid has ({count}, {size}): {count} disjoint batches of {size}, of {num_train} examples",
        )
    return found
