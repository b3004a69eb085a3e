"""The precision of a run: JAX computes in float64 while one runs whose config asks for it."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax

from lrjax.experiment.config.canonical import Config
from lrjax.experiment.loop.points import points

WIDE = "float64"


def asks_for_float64(config: Config) -> bool:
    """Whether a lane of an experiment has compute_dtype="float64".

    Example:
        >>> from lrjax.experiment.config.load import load_config
        >>> asks_for_float64(load_config("configs/exp_lr.py:twins,scale=paper"))
        True
    """
    lanes = ({**values, **overrides} for _, values, overrides in points(config))
    return any(lane.get("compute_dtype", config.compute_dtype) == WIDE for lane in lanes)


@contextmanager
def precision_of(config: Config) -> Iterator[None]:
    """Context manager in which JAX has float64 where an experiment asks for it, and what it had before elsewhere.

    Example:
        >>> from lrjax.experiment.config.load import load_config
        >>> with precision_of(load_config("configs/exp_lr.py:twins,scale=paper")):
        ...     jax.numpy.zeros(()).dtype
        dtype('float64')
    """
    before = bool(jax.config.read("jax_enable_x64"))
    jax.config.update("jax_enable_x64", before or asks_for_float64(config))
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)
