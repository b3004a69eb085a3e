"""Device mesh, and the placement of lanes and batches on it, over several hosts too.

Lanes are laid along the mesh axis "sweep", each device running a block of `lanes_per_device` of them. That block has the
same shape and place on any number of devices, so a lane's numbers do not depend on how many there are, bit for bit. The
batch of one lane may be split along "data"; XLA then adds the all-reduce of its gradient.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from lrjax.devices import hosts
from lrjax.devices.accelerators import platform
from lrjax.errors import check

SWEEP, DATA = "sweep", "data"


def make_mesh(data_devices: int, num_lanes: int, batch_size: int) -> Mesh:
    """A (sweep, data) mesh over all devices.

    Args:
        data_devices: devices that share one lane's batch; 0 takes all of them when there is a single lane and they
            divide its batch, else one.

    Raises:
        LrjaxError: the devices do not divide into groups of data_devices, or the batch not into equal parts.

    Example:
        >>> dict(make_mesh(0, num_lanes=40, batch_size=1).shape)["data"]
        1
    """
    count = jax.device_count()
    if data_devices == 0:
        data_devices = count if num_lanes == 1 and batch_size % count == 0 else 1
    check(count % data_devices == 0, f"data_devices={data_devices} does not divide the {count} devices here")
    check(batch_size % data_devices == 0, f"batch_size={batch_size} is no multiple of data_devices={data_devices}")
    return jax.make_mesh((count // data_devices, data_devices), (SWEEP, DATA), axis_types=(AxisType.Auto,) * 2)


def sweep_devices(mesh: Mesh) -> int:
    """Devices along the sweep axis."""
    return mesh.shape[SWEEP]


def shard_batch(batch: Any) -> Any:
    """Splits a batch over the data axis of the mesh in force."""
    return jax.tree.map(lambda a: jax.lax.with_sharding_constraint(a, P(DATA)), batch)


def batch_sharder(mesh: Mesh) -> Callable[[Any], Any]:
    """`shard_batch` where a batch is shared by devices; otherwise nothing, so that a pure sweep has no collective."""
    return shard_batch if mesh.shape[DATA] > 1 else lambda batch: batch


def _one_by_one(function: Callable, shared: tuple[int, ...]) -> Callable:
    def mapped(*args):
        def call(own):
            own = iter(own)
            return function(*(arg if i in shared else next(own) for i, arg in enumerate(args)))

        return jax.lax.map(call, tuple(arg for i, arg in enumerate(args) if i not in shared))

    return mapped


def _alone(function: Callable, shared: tuple[int, ...]) -> Callable:
    def squeezed(*args):
        first = [arg if i in shared else jax.tree.map(lambda a: a[0], arg) for i, arg in enumerate(args)]
        return jax.tree.map(lambda a: jnp.asarray(a)[None], function(*first))

    return squeezed


def _vectorised(function: Callable, shared: tuple[int, ...]) -> Callable:
    def mapped(*args):
        return jax.vmap(function, in_axes=tuple(None if i in shared else 0 for i in range(len(args))))(*args)

    return mapped


def best_lane_loop(engine: str) -> str:
    """How a device goes through its lanes fastest: on a CPU the direct engine's weights stay in cache one lane at a time.

    Measured by `python -m tests.benchmarks.two_layer` and `python -m tests.benchmarks.speed --parts=lanes`: on a CPU "map" wins
    at batch 128, and for large dense networks at any. "vmap" can win at small batches, where a config may say so.
    """
    return "map" if engine == "direct" and platform() == "cpu" else "vmap"


def examples_at_once(params: Any, batch_statistics: bool = False) -> int:
    """How many examples a product or a gradient should see at once: few where a network convolves on a CPU.

    What a convolution writes for 16 images stays in the cache; a dense layer wants as many rows as it can get. Measured by
    `python -m tests.benchmarks.spectra --parts=batches` and `python -m tests.benchmarks.speed --parts=micro_batch`.

    Args:
        params: of the model; it convolves if one of them has four axes.
        batch_statistics: BatchNorm takes those of a batch, which must then be large.

    Example:
        >>> import jax.numpy as jnp
        >>> examples_at_once({"kernel": jnp.ones((784, 10))})
        256
    """
    convolves = any(jnp.ndim(leaf) == 4 for leaf in jax.tree.leaves(params))
    return 16 if convolves and platform() == "cpu" and not batch_statistics else 256


LANE_LOOPS = {"vmap": _vectorised, "map": _one_by_one, "single": _alone}


def lanes(
    function: Callable,
    mesh: Mesh,
    loop: str,
    *,
    shared: tuple[int, ...] = (),
    donate: tuple[int, ...] = (),
    alone: bool = False,
) -> Callable:
    """Turns a function of one lane into a compiled function of a block of lanes, spread over the sweep axis.

    Args:
        function: arrays of one lane -> arrays of one lane.
        mesh: from `make_mesh`.
        loop: how a device goes through its lanes: a key of `LANE_LOOPS`.
        shared: positions of arguments that all lanes share (they have no lane axis).
        donate: positions of arguments whose memory may be reused.
        alone: devices that share a batch each compute the whole: what calls back to the host (to read weights) asks for.

    Example:
        >>> import jax.numpy as jnp
        >>> mesh = make_mesh(1, num_lanes=2, batch_size=1)
        >>> double = lanes(lambda x: 2 * x, mesh, "vmap")
        >>> double(put_lanes(jnp.arange(mesh.shape["sweep"] * 2), mesh))[:2].tolist()
        [0, 2]
    """
    local = LANE_LOOPS[loop](function, shared)
    axes = set(mesh.axis_names) if alone else {SWEEP}

    def spread(*args):
        specs = tuple(P() if i in shared else P(SWEEP) for i in range(len(args)))
        return jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=P(SWEEP), axis_names=axes)(*args)

    compiled = jax.jit(spread, donate_argnums=donate)

    def call(*args):
        with jax.set_mesh(mesh):
            return compiled(*args)

    call.compiled = compiled  # type: ignore[attr-defined]  # for the number of its traces, and its cost
    return call


def _put(tree: Any, sharding: NamedSharding) -> Any:
    """Places arrays, each process its own part: all of them pass the same ones, so nothing has to be sent."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def put(leaf: Any) -> jax.Array:
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return jax.device_put(leaf, sharding)
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

    return jax.tree.map(put, tree)


def put_lanes(tree: Any, mesh: Mesh) -> Any:
    """Places arrays with a leading lane axis."""
    return _put(tree, NamedSharding(mesh, P(SWEEP)))


def _automatic(mesh: Mesh) -> Mesh:
    """The mesh with axes that XLA shards along.

    `jax.make_mesh` makes explicit ones, with which a function written without them does not run.
    """
    return Mesh(mesh.devices, mesh.axis_names)


def put_shared(tree: Any, mesh: Mesh) -> Any:
    """Places arrays that every device holds whole."""
    return _put(tree, NamedSharding(_automatic(mesh), P()))


def put_examples(batch: Any, mesh: Mesh | None) -> Any:
    """Places a batch with its examples spread over all devices of a mesh, or whole on each where they do not divide.

    With several processes each passes the same batch; arrays that are already spread over the processes stay as they are.
    """
    if mesh is None:
        return jax.tree.map(jnp.asarray, batch)

    def put(leaf: Any) -> jax.Array:
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return leaf
        if jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
            return jax.random.wrap_key_data(put_shared(jax.random.key_data(leaf), mesh), impl=jax.random.key_impl(leaf))
        leaf = np.asarray(leaf)
        divides = leaf.ndim > 0 and leaf.shape[0] % mesh.size == 0
        return _put(leaf, NamedSharding(_automatic(mesh), P(mesh.axis_names) if divides else P()))

    return jax.tree.map(put, batch)


def fetch(tree: Any) -> Any:
    """Device arrays -> numpy arrays on this host; every process gets what lies on the others too, so all have to ask."""
    leaves, treedef = jax.tree.flatten(tree)
    away = [isinstance(a, jax.Array) and not (a.is_fully_addressable or a.is_fully_replicated) for a in leaves]
    gathered = iter(_gathered([leaf for leaf, far in zip(leaves, away, strict=True) if far]))
    near = jax.device_get([None if far else leaf for leaf, far in zip(leaves, away, strict=True)])
    return jax.tree.unflatten(
        treedef, [next(gathered) if far else np.asarray(a) for a, far in zip(near, away, strict=True)]
    )


def _parts(leaf: jax.Array) -> list[list[tuple[slice, ...]]]:
    """Which parts of an array each process sends: those on its devices, each once."""
    parts: list[dict[str, tuple[slice, ...]]] = [{} for _ in range(jax.process_count())]
    for device, index in leaf.sharding.devices_indices_map(leaf.shape).items():
        parts[device.process_index][str(index)] = index
    return [list(own.values()) for own in parts]


def _gathered(leaves: list[jax.Array]) -> list[np.ndarray]:
    """Arrays that lie on several hosts, in one message."""
    if not leaves:
        return []
    wholes, own = [np.empty(leaf.shape, leaf.dtype) for leaf in leaves], jax.process_index()
    for whole, leaf in zip(wholes, leaves, strict=True):
        for shard in leaf.addressable_shards:
            whole[shard.index] = shard.data
    parts = [_parts(leaf) for leaf in leaves]
    mine = [whole[index].tobytes() for whole, part in zip(wholes, parts, strict=True) for index in part[own]]
    for number, content in enumerate(hosts.exchanged(b"".join(mine))):
        begin = 0
        for whole, part in zip(wholes, parts, strict=True):
            for index in part[number]:
                shape, size = whole[index].shape, whole[index].nbytes
                whole[index] = np.frombuffer(content[begin : begin + size], whole.dtype).reshape(shape)
                begin += size
    return wholes


def layout(mesh: Mesh, lanes_per_device: int, batch_size: int, normalised: int = 0) -> str:
    """One line for the log: what lies where, and over how many examples BatchNorm takes its statistics.

    Args:
        normalised: examples of each statistic; 0: the batch.

    Example:
        >>> layout(make_mesh(1, num_lanes=4, batch_size=8), 2, 8).split(";")[-1]
        " on a device 2 lanes, and 8 of a lane's 8 examples a step"
    """
    processes, devices = jax.process_count(), jax.device_count()
    own = "" if processes == 1 else f"process {jax.process_index()} of {processes}, "
    over = f"each {normalised}" if normalised else f"all {batch_size}"
    statistics = f" (BatchNorm's statistics are those of {over})" if normalised or mesh.shape[DATA] > 1 else ""
    return (
        f"devices: {own}{devices} {jax.default_backend()} device{'s' if devices > 1 else ''}; "
        f"mesh {mesh.shape[SWEEP]} ({SWEEP}) x {mesh.shape[DATA]} ({DATA}); on a device {lanes_per_device} "
        f"lane{'s' if lanes_per_device > 1 else ''}, and {batch_size // mesh.shape[DATA]} of a lane's {batch_size} examples "
        f"a step{statistics}"
    )


def described(devices: Iterable[Any]) -> str:
    """Devices in words, for whoever reads afterwards how long a run took; a CPU by the cores that this process may use.

    Args:
        devices: some of `jax.devices()`; those that simulate several on one CPU count once.

    Example:
        >>> from types import SimpleNamespace
        >>> gpu = SimpleNamespace(platform="gpu", device_kind="NVIDIA H200", process_index=0)
        >>> described([gpu, gpu])
        '2 x NVIDIA H200'
    """
    used = list(devices)
    processes = len({device.process_index for device in used})
    kinds = Counter(device.device_kind for device in used if device.platform != "cpu")
    parts = [f"{count} x {kind}" for kind, count in kinds.items()]
    if any(device.platform == "cpu" for device in used):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        parts.append(f"CPU: {cores} core{'s' if cores > 1 else ''}")
    return ", ".join(parts) + (f" ({processes} processes)" if processes > 1 else "")
