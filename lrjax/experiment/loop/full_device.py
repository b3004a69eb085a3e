"""A device without room for a program: one sentence that names the key to change, in place of the compiler's report."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import jax

from lrjax.errors import LrjaxError
from lrjax.experiment.config.canonical import Config

FULL = "RESOURCE_EXHAUSTED"
LARGER = "one example does not fit; take a smaller model, or a device with more memory"


def of_step(static: Config) -> str:
    """Which key makes a training step smaller: fewer lanes first, then fewer examples, then what keeps less of them.

    Example:
        >>> from ml_collections import ConfigDict
        >>> several = dict(lanes_per_device=8, micro_batch=0, batch_size=128, compute_dtype="float32", remat=False)
        >>> of_step(ConfigDict(several))
        'set lanes_per_device below 8, the lanes that a device holds at a time'
        >>> of_step(ConfigDict(several | dict(lanes_per_device=1)))
        "set micro_batch below 128, remat=True or compute_dtype='bfloat16'"
    """
    if static.lanes_per_device > 1:
        return f"set lanes_per_device below {static.lanes_per_device}, the lanes that a device holds at a time"
    examples = static.micro_batch or static.batch_size
    ways = [f"micro_batch below {examples}"] if examples != 1 else []
    ways += [] if static.remat else ["remat=True"]
    ways += ["compute_dtype='bfloat16'"] if static.compute_dtype == "float32" else []
    if not ways:
        return LARGER
    *before, last = ways
    return f"set {', '.join(before)} or {last}" if before else f"set {last}"


def of_probe(name: str, static: Config) -> str:
    """Which key makes what a probe measures smaller.

    Example:
        >>> from ml_collections import ConfigDict
        >>> of_probe("spectrum", ConfigDict(dict(spectra=dict(batch_size=0))))
        "it was measuring the probe 'spectrum'; set spectra.batch_size=64, the examples that a product sees at once"
    """
    size = smaller(static.spectra.batch_size)
    remedy = f"set spectra.batch_size={size}, the examples that a product sees at once" if size else LARGER
    return f"it was measuring the probe {name!r}; {remedy}"


def smaller(size: int) -> int | None:
    """Fewer examples for a product than `size`, 0 being all; None below one.

    Example:
        >>> smaller(0), smaller(128), smaller(1)
        (64, 64, None)
    """
    return size // 2 or None if size else 64


@contextmanager
def told(remedy: str) -> Iterator[None]:
    """Context manager that turns a device's out-of-memory error into one sentence.

    Args:
        remedy: the end of the sentence: what to set.

    Raises:
        LrjaxError: the device was full. Any other error is left as it is.

    Example:
        >>> with told("set lanes_per_device below 8"):
        ...     pass
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if FULL not in str(error):
            raise
        raise LrjaxError(f"the device's memory is full{_asked(str(error))}: {remedy}") from error


def _asked(message: str) -> str:
    """How much was asked for, where the message says so: it counts bytes or writes them as 12.50GiB."""
    found = re.search(r"allocat\w*\s+([\d.]+)\s*(bytes|[KMGT]?i?B)", message)
    if not found:
        return ""
    size = f"{float(found[1]) / 1e9:.3g} GB" if found[2] == "bytes" else f"{found[1]} {found[2]}"
    return f" ({size} more were asked for)"
