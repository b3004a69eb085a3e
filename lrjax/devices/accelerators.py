"""Memory that a program needs on an accelerator, by compiling for one that need not be present."""

import contextlib
import contextvars
import hashlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from jax.sharding import SingleDeviceSharding

_PLATFORM: contextvars.ContextVar[str | None] = contextvars.ContextVar("platform", default=None)
# Programs compiled so far, by device and text: lanes that differ in their data have one program, which takes minutes.
_NEEDED: dict[tuple[str, str], int | None] = {}
GIB = 2**30
# Memory of one device, from their makers' data sheets, smallest first.
SIZES = (
    ("TPU v5e", 16 * GIB),
    ("TPU v6e", 32 * GIB),
    ("40 GB A100", 40 * GIB),
    ("80 GB A100 or H100", 80 * GIB),
    ("TPU v5p", 95 * GIB),
)
# FLOP/s without sparsity, from the maker's data sheets (SXM); float64 and float32 without tensor cores.
PEAK_FLOPS = {
    "H100": {"float64": 34e12, "float32": 67e12, "tensorfloat32": 494.7e12, "bfloat16": 989.4e12},
    "H200": {"float64": 34e12, "float32": 67e12, "tensorfloat32": 494.7e12, "bfloat16": 989.4e12},
    "A100": {"float64": 9.7e12, "float32": 19.5e12, "tensorfloat32": 156e12, "bfloat16": 312e12},
}
# What XLA and the allocator keep for themselves; a program that needs more of a device than this is not said to fit.
USABLE = 0.95
QUIET = {"TPU_ACCELERATOR_TYPE": "v5litepod-4", "TPU_WORKER_HOSTNAMES": "localhost", "TPU_SKIP_MDS_QUERY": "1"}
TOPOLOGIES = (("TPU v5e", "v5e:2x2"), ("TPU v5p", "v5p:2x2x1"))  # names that the TPU compiler knows


class Memory(NamedTuple):
    """Memory that a compiled program takes."""

    compiled_for: str
    needed: int | None  # bytes: arguments, results and temporaries; None: more than the largest device compiled for has


def platform() -> str:
    """ "cpu", "gpu" or "tpu": for which a program is being traced; that of this process unless `compiling_for` says else."""
    return _PLATFORM.get() or jax.default_backend()


@contextlib.contextmanager
def compiling_for(name: str) -> Iterator[None]:
    """What is traced inside is meant for another platform than the one of this process.

    Example:
        >>> with compiling_for("tpu"):
        ...     platform()
        'tpu'
    """
    token = _PLATFORM.set(name)
    try:
        yield
    finally:
        _PLATFORM.reset(token)


def free_memory() -> int | None:
    """Bytes of the first device here that are not in use; None on a CPU, and where a device does not say."""
    stats = jax.local_devices()[0].memory_stats() if jax.default_backend() != "cpu" else None
    return stats["bytes_limit"] - stats["bytes_in_use"] if stats and "bytes_limit" in stats else None


def smallest_device(needed: int) -> str | None:
    """The smallest device with room for so many bytes, as "TPU v5e (16 GB)"; None if there is none.

    Example:
        >>> smallest_device(17 * 2**30)
        'a TPU v6e (32 GB)'
    """
    return next((f"a {name} ({size // GIB} GB)" for name, size in SIZES if needed <= USABLE * size), None)


def _targets() -> Iterator[tuple[str, str, Any]]:
    """(name, platform, device) to compile for, until one has room: this accelerator, else a TPU, else this CPU."""
    backend = jax.default_backend()
    own = jax.devices()[0]
    if backend != "cpu":
        yield own.device_kind, backend, own
        return
    compiler = importlib.util.find_spec("libtpu")
    if (compiler is None or compiler.origin is None) and not os.environ.get("TPU_LIBRARY_PATH"):
        yield "CPU", backend, own
        return
    # The TPU compiler alone, which needs no TPU. JAX has looked for one when it was imported, and left its complaint here.
    os.environ.update({k: v for k, v in QUIET.items() if os.environ.get(k, "WARNING").startswith("WARNING")})
    from jax.experimental import topologies

    for name, topology in TOPOLOGIES:
        yield name, "tpu", topologies.get_topology_desc(platform="tpu", topology_name=topology).devices[0]


def _placed(shapes: Any, sharding: SingleDeviceSharding) -> Any:
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), shapes)


def compiled_memory(program: Callable[[], tuple[Callable, tuple[Any, ...]]]) -> Memory:
    """Memory of a program, by the compiler of an accelerator where there is one: here, or of TPUs in the extra `tpu`.

    Args:
        program: () -> (function, shapes of its arguments), called once for each device tried; the first argument is donated.

    Returns:
        Memory on the first device tried that holds it.

    Example:
        >>> import jax.numpy as jnp
        >>> memory = compiled_memory(lambda: (jnp.sin, (jax.ShapeDtypeStruct((1000,), jnp.float32),)))
        >>> memory.needed >= 4000
        True
    """
    name = ""
    for name, target, device in _targets():
        with compiling_for(target):
            function, shapes = program()
            # A step does not read the test set, but the device holds it.
            jitted = jax.jit(function, donate_argnums=0, keep_unused=True)
            lowered = jitted.lower(*_placed(shapes, SingleDeviceSharding(device)))
        key = name, hashlib.sha256(lowered.as_text().encode()).hexdigest()
        if key not in _NEEDED:
            _NEEDED[key] = _needed(lowered)
        if _NEEDED[key] is not None:
            return Memory(name, _NEEDED[key])
    return Memory(name, None)


def _needed(lowered: Any) -> int | None:
    try:
        found = lowered.compile().memory_analysis()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None
    held = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return held + found.temp_size_in_bytes
