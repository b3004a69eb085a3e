"""Multi-process runs: initialisation, the process that writes, and collective decisions.

Every process goes through the same loop with the same numbers; arrays lie over the devices of all of them
(`lrjax.devices.parallel`). Process 0 reads the disk, broadcasts what it read, and alone writes. All of them
see the run directory (shared storage).
"""

import atexit
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from lrjax.devices.messages import packed, unpacked
from lrjax.devices.waiting import who_is_missing
from lrjax.errors import LrjaxError, check

# What `jax.distributed.initialize` asks for -> (flag, variable).
EXPLICIT = {
    "coordinator_address": ("--coordinator", "JAX_COORDINATOR_ADDRESS"),
    "num_processes": ("--num_processes", "JAX_NUM_PROCESSES"),
    "process_id": ("--process_id", "JAX_PROCESS_ID"),
}
SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID")
TPU_HOSTS = ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES")
HEARTBEAT_S = 30  # a process that is silent for so long is dead, and ends the job
SHUTDOWN_S = 3600  # how long the others wait at the end for the one that writes the report
LOST = re.compile(r"gloo|nccl|coordination service|heartbeat|connection (closed|reset)|remote process", re.IGNORECASE)
FIRST_PAGE, PAGE = 1 << 16, 1 << 22  # bytes that a process sends at once


def place(environment: Mapping[str, str], flags: Mapping[str, Any], tpu_vm: bool = False) -> dict[str, Any] | None:
    """What `jax.distributed.initialize` is to be told here; None for a process by itself.

    Flags come first, then JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID (in a Kubernetes job
    JOB_COMPLETION_INDEX will do), then a Slurm step of several tasks, then a TPU slice of several hosts.
    `--num_processes=1` wants a process by itself anywhere.

    Args:
        environment: variables.
        flags: those of `EXPLICIT` without the dashes, None where not given.
        tpu_vm: this is a TPU VM, whose metadata server knows the other hosts of its slice.

    Raises:
        LrjaxError: only a part of what is needed is set.

    Example:
        >>> place({"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, {}) is None
        True
        >>> place({"JAX_COORDINATOR_ADDRESS": "node1:1234", "JAX_NUM_PROCESSES": "2"}, {"process_id": "1"})["process_id"]
        1
    """
    given = {
        name: flags.get(flag.removeprefix("--")) or environment.get(variable)
        for name, (flag, variable) in EXPLICIT.items()
    }
    if given["num_processes"] == "1":
        return None
    if any(given.values()):
        return _explicit(given | {"process_id": given["process_id"] or environment.get("JOB_COMPLETION_INDEX")})
    if environment.get("SLURM_NTASKS", "1") != "1":
        missing = [name for name in SLURM if name not in environment]
        check(
            not missing,
            f"SLURM_NTASKS={environment['SLURM_NTASKS']} asks for several processes, but {', '.join(missing)} is not set; "
            "start the program with srun, or give --num_processes=1 for a process by itself",
        )
        return {"cluster_detection_method": "slurm"}
    hosts = next((environment[name] for name in TPU_HOSTS if name in environment), None)
    if hosts is not None:
        return {} if "," in hosts else None
    return {} if tpu_vm and "TPU_SKIP_MDS_QUERY" not in environment else None


def _explicit(given: dict[str, Any]) -> dict[str, Any]:
    missing = [" or ".join(reversed(EXPLICIT[name])) for name, value in given.items() if not value]
    known = [EXPLICIT[name][1] for name, value in given.items() if value]
    check(
        not missing,
        f"{' and '.join(known)} {'are' if len(known) > 1 else 'is'} set for a job of several processes, but "
        f"{' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} not; set all three in every process, or none",
    )
    address, count, number = given["coordinator_address"], given["num_processes"], given["process_id"]
    named = re.fullmatch(r".+:\d+", address)
    check(bool(named), f"JAX_COORDINATOR_ADDRESS={address} must be HOST:PORT of the first process")
    whole = count.isdecimal() and number.isdecimal() and int(number) < int(count)
    check(whole, f"JAX_PROCESS_ID={number} must be a number from 0 to JAX_NUM_PROCESSES - 1, and that is {count}")
    # Without a look round for a cluster, which would speak of Kubernetes where its package is missing.
    numbers = {"num_processes": int(count), "process_id": int(number)}
    return {"coordinator_address": address, **numbers, "cluster_detection_method": "deactivate"}


def _on_tpu_vm() -> bool:
    from importlib.util import find_spec

    chips = any(Path("/dev").glob("accel[0-9]*")) or any(Path("/dev/vfio").glob("[0-9]*"))
    wanted = os.environ.get("JAX_PLATFORMS", "tpu").split(",")
    return chips and "tpu" in wanted and find_spec("libtpu") is not None


@contextmanager
def joined(flags: Mapping[str, Any]) -> Iterator[None]:
    """Joins the other processes of the job, where there are any; to be entered before the first device is asked for.

    A process that fails inside leaves at once. The others notice by a broken connection, or after `HEARTBEAT_S` seconds of
    silence, and end too, with a status that is not 0.

    Raises:
        LrjaxError: see `place`; the others cannot be reached; or one of them was lost.
    """
    told = place(os.environ, flags, _on_tpu_vm())
    if told is None:
        yield
        return
    try:
        with who_is_missing(told):
            jax.distributed.initialize(
                **told, heartbeat_timeout_seconds=HEARTBEAT_S, shutdown_timeout_seconds=SHUTDOWN_S
            )
    except (RuntimeError, ValueError) as error:
        raise LrjaxError(
            f"could not join the other processes of this job ({_first_line(error)}); see that all of them run and reach "
            f"{told.get('coordinator_address', 'the first one')}, or give --num_processes=1 for a process by itself"
        ) from error
    try:
        yield
    except Exception as error:
        atexit.register(leave, 1)
        if not isinstance(error, LrjaxError) and LOST.search(str(error)):
            raise LrjaxError(
                f"lost another process of this job ({_first_line(error)}): it was killed or has failed, and its own log says "
                "why; start the same command in every process again, and the run goes on from its last checkpoint"
            ) from error
        raise


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def leave(status: int) -> NoReturn:
    """Ends a process without waiting for the others, which may wait for it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def several() -> bool:
    """Whether other processes belong to this run."""
    return jax.process_count() > 1


def writes() -> bool:
    """Whether this is the one process that writes files."""
    return jax.process_index() == 0


def exchanged(own: bytes) -> list[bytes]:
    """Gathers bytes from all processes, by process index. Collective: every process must call it.

    Sent in pages of two sizes, so that two programs serve every message, and a long one needs no more memory on the devices.

    Example:
        >>> exchanged(b"a state")
        [b'a state']
    """
    if not several():
        return [own]
    page = np.zeros(FIRST_PAGE, np.uint8)
    page[:8] = np.frombuffer(len(own).to_bytes(8), np.uint8)
    page[8 : 8 + len(own)] = np.frombuffer(own[: FIRST_PAGE - 8], np.uint8)
    pages = multihost_utils.process_allgather(page)
    lengths = [int.from_bytes(row[:8].tobytes()) for row in pages]
    parts = [[row[8:].tobytes()] for row in pages]
    for start in range(FIRST_PAGE - 8, max(lengths), PAGE):
        page = np.frombuffer(own[start : start + PAGE].ljust(PAGE, b"\0"), np.uint8)
        for number, row in enumerate(multihost_utils.process_allgather(page)):
            parts[number].append(row[: max(0, lengths[number] - start)].tobytes())
    return [b"".join(part)[:length] for part, length in zip(parts, lengths, strict=True)]


def agreed(function: Callable[[], Any]) -> Any:
    """Runs a function on process 0 and broadcasts its value. Collective: every process must call it.

    Args:
        function: its value is JSON where there are several processes. An `LrjaxError` is raised in all of them.

    Example:
        >>> agreed(lambda: {"state": "done"})
        {'state': 'done'}
    """
    if not several():
        return function()
    answer: dict[str, Any] = {}
    if writes():
        try:
            answer = {"value": function()}
        except LrjaxError as error:
            answer = {"error": str(error)}
    answer = json.loads(exchanged(json.dumps(answer).encode())[0])
    if "error" in answer:
        raise LrjaxError(answer["error"])
    return answer["value"]


def share_out(count: int, task: Callable[[int], Any]) -> list[Any]:
    """Distributes tasks 0 .. count - 1 over processes and gathers their results. Collective: every process must call it.

    Args:
        count: of tasks.
        task: to be done without the other processes; its value is numbers, text, None and numpy arrays, in dicts with text
            for keys, lists and tuples.

    Example:
        >>> share_out(3, lambda number: number**2)
        [0, 1, 4]
    """
    if not several():
        return [task(number) for number in range(count)]
    own = [task(number) for number in range(jax.process_index(), count, jax.process_count())]
    parts = [unpacked(content) for content in exchanged(packed(own))]
    return [parts[number % len(parts)][number // len(parts)] for number in range(count)]


def require_same(what: str, name: str) -> None:
    """Refuses processes that were not started alike.

    Args:
        what: a fingerprint.
        name: what it is of, for the message.

    Raises:
        LrjaxError: not all have the same, in every process.
    """
    found = exchanged(what.encode())
    others = [str(number) for number, one in enumerate(found) if one != found[0]]
    check(
        not others,
        f"process 0 and process {', '.join(others)} of this job have different {name}; start the same command from the same "
        "code in all of them",
    )


def stop_agreed() -> Callable[[bool], bool]:
    """A function that says in all processes at once that one of them wants to stop.

    Each calls it after each chunk with what it wants itself. The answer is that of the chunk before: it was on its way while
    the devices worked, so nobody waits for it. (`multihost_utils.reached_preemption_sync_point` may miss its step where
    chunks are short, and then never says so.)
    """
    if not several():
        return lambda wanted: wanted
    everywhere = NamedSharding(Mesh(np.array(jax.devices()), ("devices",)), P("devices"))
    reduced = jax.jit(jnp.any, out_shardings=NamedSharding(everywhere.mesh, P()))
    before: list[jax.Array] = []

    def ask(wanted: bool) -> bool:
        own = jax.make_array_from_callback((jax.device_count(),), everywhere, lambda _: np.array([wanted]))
        before.append(reduced(own))
        return len(before) > 1 and bool(np.asarray(before.pop(0)))

    return ask
