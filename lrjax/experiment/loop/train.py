"""Training loop of an experiment: lanes in blocks, from a config to a finished run directory."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from lrjax import data
from lrjax.devices import hosts, parallel
from lrjax.errors import LrjaxError, check
from lrjax.experiment.config.canonical import Config, fingerprint
from lrjax.experiment.loop import branch, full_device, sweep
from lrjax.experiment.loop.block import Block
from lrjax.experiment.loop.precision import precision_of
from lrjax.experiment.loop.progress import Progress, in_notebook
from lrjax.experiment.loop.run_block import run_block
from lrjax.experiment.loop.stopping import Preempted, watched
from lrjax.experiment.rundir import workdirs
from lrjax.experiment.rundir.checkpoint import finished, read_meta
from lrjax.experiment.rundir.metrics import RunResult, SinksOf, Writer, load_run, read_status, write_status


def run(
    config: Config,
    workdir: str | Path,
    *,
    quiet: bool | None = None,
    command: str | None = None,
    sinks: Sequence[str] = (),
    profile: bool = False,
    time_limit: float | None = None,
) -> RunResult:
    """Runs an experiment, or goes on with it, or reads it when it is done.

    Args:
        config: from `lrjax.load_config`.
        workdir: made if missing; a killed run of the same config in it is taken up again.
        quiet: no progress on stderr; default: quiet, but for a bar in a notebook.
        command: what the report shows as the way to repeat the run.
        sinks: where the rows of metrics.jsonl go besides: keys of `lrjax.experiment.rundir.sinks.SINKS`.
        profile: write a trace of one chunk of steps into workdir/profile, for TensorBoard, XProf or Perfetto.
        time_limit: seconds after which the run is saved and ends, `Preempted`; at least one chunk of steps is made.

    Returns:
        The run in memory.

    Raises:
        LrjaxError: a wrong config, or a workdir that is not this experiment's.
        Preempted: SIGTERM, SIGHUP or SIGUSR1 came, or the time limit; the same call goes on.
        KeyboardInterrupt: Ctrl-C. The run is saved after the chunk, unless a second one comes before.

    Example:
        >>> import lrjax, tempfile
        >>> config = lrjax.load_config("configs/benign_osc.py:E1,scale=smoke")
        >>> result = lrjax.run(config, tempfile.mkdtemp())
        >>> result.status["state"], sorted(result.arrays[0])[-1].split("/")[0]
        ('done', 'step')
    """
    quiet = not in_notebook() if quiet is None else quiet
    with ExitStack() as stack:
        stack.enter_context(precision_of(config))
        groups = sweep.expand(config)
        if hosts.several():
            hosts.require_same(fingerprint(config) + workdirs.code_state()["code"], "configs or code")
        status = hosts.agreed(lambda: stack.enter_context(workdirs.opened(Path(workdir), config)))
        if status.get("state") != "done":
            _run_groups(groups, Path(workdir), status | {"command": command}, quiet, sinks, profile, time_limit)
        elif hosts.writes():
            SinksOf(Path(workdir), sinks).open()
    return load_run(workdir)


def _shared_data(group: sweep.Group, mesh: Mesh) -> Any:
    source = data.DATASETS[group.static.data.name]
    if source.per_lane:
        return None
    loaded = source.load(group.lanes[0].config)
    return parallel.put_shared({"train": loaded.train, "tests": loaded.tests}, mesh)


def _jobs(groups: list[sweep.Group]) -> list[tuple[sweep.Group, list[sweep.Lane], Mesh]]:
    num_lanes = sum(len(group.lanes) for group in groups)
    jobs = []
    for group in groups:
        mesh = parallel.make_mesh(group.static.data_devices, num_lanes, group.static.batch_size)
        size = group.static.lanes_per_device * parallel.sweep_devices(mesh)
        jobs += [(group, members, mesh) for members in sweep.blocks(group, size)]
    lanes = {lane.index: lane for group in groups for lane in group.lanes}
    return sorted(jobs, key=lambda job: branch.depth(job[1][0], lanes))  # what others begin from comes first


def _placed(block: Block, jobs: list[tuple[sweep.Group, list[sweep.Lane], Mesh]], folder: Path) -> Block:
    """Tells a block where its lanes begin, and which of its states others begin from."""
    where = {lane.index: (number, place) for number, job in enumerate(jobs) for place, lane in enumerate(job[1])}
    origins = [lane.origin for lane in block.lanes if lane.origin]
    block.places = [(branch.forks(folder, where[o.lane][0]), where[o.lane][1]) for o in origins]
    later = [lane.origin for _, members, _ in jobs for lane in members if lane.origin]
    block.forks = frozenset(origin.at for origin in later if where[origin.lane][0] == block.number)
    return block


def _earlier(workdir: Path, blocks: list[list[int]]) -> float:
    """Seconds that earlier starts of a run took; refuses one that cannot be resumed."""
    folder = workdir / "ckpt"
    stored = (read_status(workdir) or {}).get("blocks", blocks)
    check(
        stored == blocks or not folder.is_dir(),
        f"{workdir} was begun on another number of devices; go on with as many (on a CPU JAX_NUM_CPU_DEVICES=N sets it), or "
        "run with --fresh to start over",
    )
    metas = [meta for number in range(len(blocks)) for meta in read_meta(folder / f"block-{number:03d}")]
    return max((meta.get("wall_time_s", 0.0) for meta in metas), default=0.0)


def _plan(
    groups: list[sweep.Group], jobs: list[tuple[sweep.Group, list[sweep.Lane], Mesh]], earlier: str | None
) -> dict[str, Any]:
    """What status.json says from the start: lanes, blocks, and devices in words; also those that a run was begun on."""
    records = sorted((lane.record() for group in groups for lane in group.lanes), key=lambda record: record["lane"])
    device = parallel.described({device for _, _, mesh in jobs for device in mesh.devices.flat})
    if earlier:
        device = earlier if earlier.split(", then ")[-1] == device else f"{earlier}, then {device}"
    return {"lanes": records, "blocks": [[lane.index for lane in members] for _, members, _ in jobs], "device": device}


def _say_layout(jobs: list[tuple[sweep.Group, list[sweep.Lane], Mesh]]) -> None:
    layouts = [(mesh, group.static) for group, _, mesh in jobs]
    lines = [
        parallel.layout(
            mesh, s.lanes_per_device, s.batch_size, s.micro_batch if s.batch_statistics == "micro_batch" else 0
        )
        for mesh, s in layouts
    ]
    print(*dict.fromkeys(lines), sep="\n", flush=True)


def _write_state(
    workdir: Path,
    status: dict[str, Any],
    writer: Writer,
    blocks: int,
    clock: Callable[[], float],
    state: str,
    error: str | None = None,
) -> None:
    """Writes status.json, with what the files beside it hold."""
    if not hosts.writes():
        return
    account = {"bytes": writer.offset, "arrays": [writer.account.get(number, {}) for number in range(blocks)]}
    account |= {} if state == "running" else {"rows": writer.checksum_of_rows()}
    told = {"error": error} if error else {}
    write_status(workdir, status | account | told | {"state": state, "wall_time_s": round(clock(), 2)})


def _forget_after(number: int, blocks: int, folder: Path) -> None:
    """Removes the checkpoints of later blocks: their rows stand behind those that this block writes again."""
    for later in range(number + 1, blocks) if hosts.writes() else ():
        shutil.rmtree(folder / f"block-{later:03d}", ignore_errors=True)


def _run_groups(
    groups: list[sweep.Group],
    workdir: Path,
    status: dict[str, Any],
    quiet: bool,
    sinks: Sequence[str],
    profile: bool,
    time_limit: float | None,
) -> None:
    jobs = _jobs(groups)
    status = status | _plan(groups, jobs, status.get("device"))
    records = status["lanes"]
    folder = workdir / "ckpt"
    earlier = hosts.agreed(lambda: _earlier(workdir, status["blocks"]))
    started = time.monotonic()

    def clock() -> float:
        return earlier + time.monotonic() - started

    writer, offset = Writer(workdir, silent=not hosts.writes(), sinks=sinks), 0

    update = partial(_write_state, workdir, status, writer, len(jobs), clock)
    traces = iter([workdir / "profile"] if profile else [])
    group_data: tuple[Any, Any] = (None, None)
    if not quiet:
        _say_layout(jobs)
    total = sum(lane.config.steps - lane.begin for group in groups for lane in group.lanes)
    with (
        watched(time_limit) as stop,
        Progress(total, quiet=quiet or not hosts.writes()) as progress,
        _state_on_error(update),
    ):
        update("running")
        for number, (group, members, mesh) in enumerate(jobs):
            meta = hosts.agreed(lambda number=number: finished(folder / f"block-{number:03d}"))
            if meta is not None:
                ended, offset = meta["lanes"], meta["offset"]
                writer.vouch(number, meta)
                progress.skip(sum(lane.config.steps - lane.begin for lane in members))
            else:
                _forget_after(number, len(jobs), folder)
                if group_data[0] is not group:
                    with full_device.told("set data.num_train lower, so that the data set fits beside the model"):
                        group_data = (group, _shared_data(group, mesh))
                with full_device.told(full_device.of_step(group.static)):
                    block = _placed(Block(number, group, members, mesh, group_data[1]), jobs, folder)
                    ended = run_block(block, writer, folder, offset, clock, progress, stop, next(traces, None))
                offset = writer.offset
            for end in ended:
                records[end["lane"]] |= end
        hosts.agreed(lambda: update("done"))  # no process reads the run before it is whole


@contextmanager
def _state_on_error(update: Callable[..., None]) -> Iterator[None]:
    """Leaves in status.json how the run ended; on a full disk the error itself matters more than the record of it."""
    try:
        yield
    except BaseException as error:
        saved = isinstance(error, (Preempted, KeyboardInterrupt))
        with suppress(LrjaxError):
            update("preempted") if saved else update("failed", _reason(error))
        raise


def _reason(error: BaseException) -> str:
    """What a report says of a failure: the sentence for the user, or the kind of the error and its first line."""
    first = str(error).split("\n")[0][:500]
    return first if isinstance(error, LrjaxError) else f"{type(error).__name__}: {first}".removesuffix(": ")
