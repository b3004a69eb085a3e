"""A run at a terminal: predictions before the run, progress, claims and the place of the report after it."""

import argparse
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lrjax.devices import hosts
from lrjax.errors import check, nearest
from lrjax.experiment.config.canonical import Config
from lrjax.experiment.config.load import load_config
from lrjax.experiment.config.overrides import parse_value
from lrjax.experiment.loop import process
from lrjax.experiment.loop.dry_run import describe
from lrjax.experiment.loop.run_block import Preempted
from lrjax.experiment.loop.sweep import expand, points
from lrjax.experiment.rundir import workdirs
from lrjax.experiment.rundir.sinks import named
from lrjax.papers import PAPERS
from lrjax.papers.claim import claims_in, print_table
from lrjax.probes.run import run
from lrjax.report import write_report
from lrjax.report.listing import experiments

PREEMPTED = 75


def _as_written(value: Any) -> str:
    return value if isinstance(value, str) and parse_value(value) == value else repr(value)


def command_of(spec: str, overrides: Mapping[str, Any]) -> list[str]:
    """The command line that runs a config with overrides, word by word.

    Example:
        >>> command_of("configs/benign_osc.py", {"seed": 3, "sweep.e": (1.1, 1.25)})[3:]
        ['--config=configs/benign_osc.py', '--config.seed=3', '--config.sweep.e=(1.1, 1.25)']
    """
    settings = [f"--config.{key}={_as_written(value)}" for key, value in overrides.items()]
    return ["python", "-m", "lrjax.main", f"--config={spec}", *settings]


def start(flags: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Does what the flags of `lrjax.main` ask for.

    Args:
        flags: config, workdir, list, dry_run, fresh, plain_process.
        overrides: dotted config key -> value.

    Returns:
        The exit status: 0 done, 75 preempted.

    Raises:
        LrjaxError: see `lrjax.run`.
    """
    if flags.list:
        print(experiments())
        return 0
    config = load_config(flags.config, overrides)
    if flags.dry_run:
        print(describe(config, compiled=flags.dry_run == "compiled"))
        return 0
    if not flags.plain_process:
        threads = process.limit_threads(config.threads)
        devices = process.spread_over_cores(config.threads, len(points(config)))
        print(process.settings(process.keep_compiled_programs(), threads, devices), file=sys.stderr)
    command = shlex.join(command_of(flags.config, {k: v for k, v in overrides.items() if k != "data_dir"}))
    workdir = Path(flags.workdir) if flags.workdir else workdirs.default_workdir(flags.config, config)
    with hosts.joined({name: getattr(flags, name) for name in ("coordinator", "num_processes", "process_id")}):
        watch = {"sinks": named(flags.sinks), "profile": flags.profile}
        return run_and_report(config, workdir, command, fresh=flags.fresh, watch=watch)


@contextmanager
def _preemptible() -> Iterator[None]:
    """SIGTERM before or after the training, as while the report is written: nothing to save, and the same exit status."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    leave = hosts.leave if hosts.several() else sys.exit
    previous = signal.signal(signal.SIGTERM, lambda *_: leave(PREEMPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@_preemptible()
def run_and_report(
    config: Config, workdir: Path, command: str, *, fresh: bool = False, watch: Mapping[str, Any] = MappingProxyType({})
) -> int:
    """Runs an experiment (or resumes it, or shows it when it is done) and writes its report.

    Returns:
        The exit status: 0 done, 75 preempted.

    Raises:
        LrjaxError: see `lrjax.run`.
    """
    check(config.paper in PAPERS, f"unknown paper {config.paper!r}; {nearest(config.paper, PAPERS)}")
    paper, groups = PAPERS[config.paper], expand(config)
    if fresh:
        hosts.agreed(lambda: workdirs.start_over(workdir))
    status = hosts.agreed(lambda: workdirs.inspect(workdir, config)) or {}
    done = status.get("state") == "done"
    change = workdirs.code_change(status) if status else None
    if change and hosts.writes():
        print(f"note: {change}", file=sys.stderr)
    try:
        if done:
            run(config, workdir, **watch)  # refuses while another process has it open
            if hosts.writes():
                print(f"{workdir} is done already; this is its report. --fresh runs it again.", file=sys.stderr)
        else:
            verb = "going on with" if (workdir / "ckpt").is_dir() else "running"
            if hosts.writes():
                print(f"{paper.before(groups)}\n{verb} {workdir}".lstrip(), flush=True)
            run(config, workdir, quiet=False, command=command, **watch)
    except (Preempted, KeyboardInterrupt):
        print(f"preempted; {workdir} is saved, the same command goes on from there", file=sys.stderr)
        return PREEMPTED
    if not hosts.writes():
        return 0  # and waits, in leaving, for the one that writes the report
    finished = workdir / "claims.json"
    shown = done and (workdir / "report.html").exists()
    print_table((shown and claims_in(finished)) or write_report(workdir))
    print(f"\nreport: {workdir / 'report.html'}")
    return 0
