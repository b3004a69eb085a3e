"""A sweep as jobs, here or on a cluster: `python -m launch.jobs --config=configs/X.py --sweep.seed='(0, 1)' --target=local`.

The points of the sweep are those of `sweep()` in the config file, or the product of --sweep.KEY='(VALUE, ...)'. Points that
differ in array values alone are one job. Jobs that are done are left out; the others start, or go on where they were.
"""

import argparse
import fcntl
import json
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lrjax.errors import LrjaxError, check, refuse
from lrjax.experiment.config.load import read_spec
from lrjax.experiment.config.overrides import parse_value
from lrjax.experiment.rundir.files import write_atomic
from lrjax.main import sentence

from . import local, offline, queues  # not by its name: in the wheel the folder is lrjax/_launch
from .clusters import EXTRAS, TARGETS, submission
from .local import PREEMPTED, Job, state_of

PROGRAM = "python -m launch.jobs"


def parse(
    arguments: Sequence[str], program: str = PROGRAM
) -> tuple[argparse.Namespace, dict[str, Any], dict[str, Any]]:
    """Command line -> (flags, overrides of all jobs, axes of --sweep)."""
    parser = argparse.ArgumentParser(prog=program, description=__doc__, allow_abbrev=False)
    parser.error = refuse
    add = parser.add_argument
    add("--config", action="append", help="FILE.py[:EXPERIMENT][,scale=...]; may be given several times")
    add("--queue", help="a text file of jobs in their order, a line each; gpu: the one that comes with lrjax")
    add(
        "--target",
        default="local",
        choices=["local", "print", "offline", *TARGETS],
        help="where the jobs run; default: local",
    )
    add(
        "--workdir",
        help="folder of the runs and of their page; default: runs/<config>-<experiment>-<scale>-sweep or runs/<queue>-queue",
    )
    add("--dry_run", action="store_true", help="show what would run or be submitted; write and start nothing")
    add("--parallel", type=int, help="jobs at a time (local: 1 by default; slurm: no limit; offline: 3)")
    add("--points_per_job", type=int, default=0, help="points of a job at most; default: all that share a program")
    add("--attempts", type=int, default=20, help="starts of a job at most, where each is preempted or killed")
    add("--plain_process", action="store_true", help="given to every job, see lrjax.main")
    add("--debug", action="store_true", help="show the stack trace of an error")
    add("--setup", help="a shell command before the job, in place of what installs the extra; skypilot: once a machine")
    add("--extra", choices=EXTRAS, help="JAX for: cuda12, cuda13, tpu, none; default: what the accelerator needs")
    add("--hosts", type=int, default=1, help="hosts of a job: slurm, skypilot, kubernetes")
    add("--time", default="24:00:00", help="slurm: time limit of a task, which then queues itself again")
    add("--option", action="append", default=[], help="slurm: of sbatch, as --option=--partition=gpu; repeatable")
    add("--tpu", help="tpu_vm: name of the TPU VM")
    add("--zone", help="tpu_vm: its zone")
    add("--accelerators", help="skypilot: for example A100:1 or tpu-v5e-8")
    add("--storage", help="skypilot: a bucket, as gs://NAME; kubernetes: a PersistentVolumeClaim")
    add("--image", help="kubernetes: a container image with lrjax in it")
    add("--resource", action="append", default=[], help="kubernetes: a limit, as nvidia.com/gpu=8; repeatable")
    add("--node_selector", action="append", default=[], help="kubernetes: KEY=VALUE; repeatable")
    offline.add_flags(add)
    parser.epilog = "Config keys of every job: --config.KEY=VALUE. Axes of the sweep: --sweep.KEY='(VALUE, VALUE)'."
    flags, rest = parser.parse_known_args(arguments)
    given: dict[str, dict[str, Any]] = {"config": {}, "sweep": {}}
    for argument in rest:
        match = re.fullmatch(r"--(config|sweep)\.([^=]+)=(.*)", argument, re.DOTALL)
        usage = f"cannot read {argument!r}; write --config.KEY=VALUE or --sweep.KEY='(VALUE, VALUE)'; see --help"
        check(match is not None, usage)
        kind, key, value = match.groups()  # pyright: ignore[reportOptionalMemberAccess]
        given[kind][key] = parse_value(value)
    check(
        bool(flags.config or flags.queue),
        "give --config=FILE.py, for example --config=configs/benign_osc.py, or --queue",
    )
    check(not (flags.queue and given["sweep"]), "--queue takes no --sweep; write --config.sweep.KEY into its lines")
    for name in ("parallel", "attempts", "hosts"):
        value = getattr(flags, name)
        check(value is None or value > 0, f"--{name}={value} must be at least 1")
    check(flags.points_per_job >= 0, f"--points_per_job={flags.points_per_job} must be zero (no limit) or more")
    takes = flags.parallel is None or flags.target in ("local", "slurm", "offline")
    check(takes, f"--parallel is for --target=local, slurm and offline; {flags.target} does not take it")
    return flags, given["config"], given["sweep"]


def _label(values: dict[str, Any]) -> str:
    """What tells a job from its neighbours, as a part of a file name: "-batch_size=64", or nothing if it gets long."""
    named = [f"{key.split('.')[-1]}={value}" for key, value in values.items() if not isinstance(value, tuple)]
    text = "".join(f"-{name}" for name in named)
    return text if re.fullmatch(r"[\w.=+-]{1,60}", text) else ""


def jobs_of(
    specs: Sequence[str], root: Path, overrides: dict[str, Any], axes: dict[str, Any], *, most: int = 0
) -> list[Job]:
    """The jobs of a sweep, in the order of their first points.

    Args:
        specs: FILE[:EXPERIMENT][,scale=SCALE] each.
        root: each job has a folder in it, whose name is the same whenever it is planned.
        overrides: dotted key -> value, of all jobs.
        axes: in place of the `sweep()` of the config files: dotted key -> values.
        most: points of a job at most; 0: no limit.

    Raises:
        LrjaxError: a config, a key or a value is wrong.
    """
    import lrjax.probes  # noqa: F401 -- configs name probes, and a sweep is checked before its jobs start
    from lrjax.experiment.config.axes import grid
    from lrjax.experiment.config.load import load_config
    from lrjax.experiment.loop import sweep
    from lrjax.experiment.rundir import workdirs
    from lrjax.report.session import command_of

    tuples = {key: values if isinstance(values, (tuple, list)) else (values,) for key, values in axes.items()}
    jobs: dict[str, Job] = {}
    for spec in specs:
        chosen = grid(tuples) if axes else sweep.declared(spec)
        for own in sweep.runs(spec, chosen, overrides, most):
            values = {key: value for key, value in own.items() if overrides.get(key, ...) != value}
            stem, _, digits = workdirs.default_workdir(spec, load_config(spec, own)).name.rpartition("-")
            name = f"{stem}{_label(values)}-{digits}"
            command = (*command_of(spec, own), f"--workdir={root / name}")
            jobs.setdefault(name, Job(name, command, root / name, values))
    return list(jobs.values())


def _default_workdir(spec: str) -> str:
    _, *names = read_spec(spec)
    return "-".join([f"runs/{Path(spec.split('.py')[0]).name}", *names, "sweep"])


def _queued(
    specs: list[str], queue: Path | None, root: Path, overrides: dict[str, Any], axes: dict[str, Any], most: int
) -> list[Job]:
    """The jobs of the configs and of the lines of a queue, each once; keys of the command line go before those of a line."""
    jobs = jobs_of(specs, root, overrides, axes, most=most) if specs else []
    for line in queues.read(queue) if queue else ():
        jobs += jobs_of([line.spec], root, line.overrides | overrides, {}, most=most)
    return list({job.name: job for job in jobs}.values())


def record(root: Path, jobs: Sequence[Job]) -> None:
    """Writes down which jobs the folder is for; those of an earlier sweep that have run stay."""
    from lrjax.report.collection import JOBS, read_jobs  # not above: it loads JAX, and --help needs none

    check(not (root / "config.json").exists(), f"{root} is the folder of one run; give another --workdir")
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = open(root / ".lock", "a+")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise LrjaxError(f"cannot write to {root} ({error.strerror}); give another --workdir") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = root / JOBS
        known = read_jobs(root) or {}
        kept = {name: entry for name, entry in known.items() if (root / name).is_dir()}
        new = {job.name: {"command": shlex.join(job.command), "values": job.values} for job in jobs}
        write_atomic(path, json.dumps(kept | new, indent=1) + "\n")


def _submit(jobs: Sequence[Job], flags: argparse.Namespace) -> int:
    """Hands the jobs to a cluster, or shows what it would be handed."""
    made = submission(flags.target, jobs, flags, dry_run=flags.dry_run)
    root, folder = Path(flags.workdir), Path("runs") / "launch" / Path(flags.workdir).name
    commands = [[str(folder / word) if word in made.files else word for word in words] for words in made.commands]
    if flags.dry_run:
        print("---\n".join(made.files.values()) + "\n".join(f"# then: {shlex.join(words)}" for words in commands))
        return 0
    if TARGETS[flags.target].shares_files:
        record(root, jobs)
        (root / "logs").mkdir(exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in made.files.items():
        write_atomic(folder / name, text)
    failed = [words for words in commands if subprocess.run(words).returncode != 0]
    for words in failed:
        print(f"error: this failed: {shlex.join(words)}", file=sys.stderr)
    print(f"once they have ended: python -m lrjax.report {root}", file=sys.stderr)
    return 1 if failed else 0


def _run_here(jobs: Sequence[Job], flags: argparse.Namespace) -> int:
    """Runs the jobs as processes of this machine and writes the report of the sweep."""
    from lrjax.report.collection import write_collection

    root = Path(flags.workdir)
    record(root, jobs)
    open_jobs = [job for job in jobs if state_of(job) != "done"]
    if len(open_jobs) < len(jobs):
        print(f"{len(jobs) - len(open_jobs)} of {len(jobs)} jobs are done already", flush=True)
    found = local.run(
        open_jobs,
        root / "logs",
        parallel=flags.parallel or 1,
        attempts=flags.attempts,
        say=lambda line: print(line, flush=True),
    )
    page = write_collection(root)
    failed = {name: what for name, what in found.items() if what.startswith("failed")}
    for name, what in failed.items():
        print(f"error: {name} {what} ({root / 'logs' / name}.log)", file=sys.stderr)
    counts = Counter(what.partition(":")[0] for what in found.values())
    print(", ".join(f"{count} {what}" for what, count in counts.items()) or "nothing to do", f"\nreport: {page}")
    if "stopped" in counts:
        print(f"preempted; the jobs in {root} are saved, the same command goes on from there", file=sys.stderr)
        return PREEMPTED
    return 1 if failed else 0


def start(arguments: Sequence[str], program: str = PROGRAM) -> int:
    """Does what the command line asks for; see `main`."""
    flags, overrides, axes = parse(arguments, program)
    queue = queues.find(flags.queue) if flags.queue else None
    if flags.workdir is None:
        flags.workdir = f"runs/{queue.stem}-queue" if queue else _default_workdir(flags.config[0])
    jobs = _queued(flags.config or [], queue, Path(flags.workdir), overrides, axes, flags.points_per_job)
    if flags.plain_process:
        jobs = [job._replace(command=(*job.command, "--plain_process")) for job in jobs]
    if flags.target == "local" and not flags.dry_run:
        return _run_here(jobs, flags)
    jobs = [job for job in jobs if state_of(job) != "done"]
    if flags.target == "offline" and jobs:
        return offline.pack(jobs, flags)
    if flags.target in TARGETS and jobs:
        return _submit(jobs, flags)
    for job in jobs:
        print(shlex.join(job.command))
    if not jobs:
        print(f"nothing to do: every job in {flags.workdir} is done", file=sys.stderr)
    return 0


def main(arguments: Sequence[str] | None = None, *, program: str = PROGRAM) -> int:
    """Exit status: 0 all jobs done or submitted, 75 stopped (run the same command again), 1 with what failed on stderr."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        return start(arguments, program)
    except Exception as error:
        if "--debug" in arguments:
            raise
        print(f"error: {sentence(error)}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
