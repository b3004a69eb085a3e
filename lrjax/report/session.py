"""A run at a terminal: predictions before the run, progress, claims and the place of the report after it."""

import argparse
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lrjax.devices import hosts
from lrjax.errors import check
from lrjax.experiment.config import plugins
from lrjax.experiment.config.canonical import Config
from lrjax.experiment.config.listing import experiments
from lrjax.experiment.config.load import load_config
from lrjax.experiment.config.overrides import apply_overrides, parse_value
from lrjax.experiment.config.reach import exceptions
from lrjax.experiment.loop import longer, process
from lrjax.experiment.loop.stopping import INTERRUPTED, Preempted, handled
from lrjax.experiment.loop.sweep import Group, expand, points
from lrjax.experiment.rundir import workdirs
from lrjax.experiment.rundir.sinks import named
from lrjax.papers.claim import claims_in
from lrjax.papers.terminal import print_table
from lrjax.probes.run import run
from lrjax.report import dry_run, write_report
from lrjax.report.own import paper_for, unregistered

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
    began = time.monotonic()
    if flags.list:
        print(experiments(flags.config))
        return 0
    config = _continued(flags, overrides) if flags.source else load_config(flags.config, overrides)
    notes = exceptions(config, overrides)
    if not flags.plain_process and flags.dry_run != "shapes":
        threads = process.limit_threads(config.threads)
        devices = process.spread_over_cores(config.threads, len(points(config)))
        print(process.settings(process.keep_compiled_programs(), threads, devices), file=sys.stderr)
    if flags.dry_run:  # after the settings of the process, in which it measures
        source = [f"--{name}={value}" for name, value in (("from", flags.source), ("steps", flags.steps)) if value]
        words = source if flags.source else command_of(flags.config, overrides)[3:]
        words += ["--plain_process"] if flags.plain_process else []
        print(dry_run.answer(config, words, notes, flags.dry_run))
        return 0
    if flags.source:
        words = ["lrjax", "run", f"--from={flags.source}", *([f"--steps={flags.steps}"] if flags.steps else [])]
        workdir = longer.default_folder(Path(flags.source), config) if flags.steps else Path(flags.source)
    else:
        words = command_of(flags.config, {k: v for k, v in overrides.items() if k != "data_dir"})
        workdir = workdirs.default_workdir(flags.config, config)
    workdir = Path(flags.workdir) if flags.workdir else workdir
    with hosts.joined({name: getattr(flags, name) for name in ("coordinator", "num_processes", "process_id")}):
        left = flags.time_limit and max(0.0, flags.time_limit - (time.monotonic() - began))
        watch = {"sinks": named(flags.sinks), "profile": flags.profile, "time_limit": left}
        if flags.steps:
            said = hosts.agreed(lambda: longer.begin(Path(flags.source), workdir, config))
            print(said, file=sys.stderr)
        return run_and_report(config, workdir, shlex.join(words), fresh=flags.fresh, watch=watch, notes=notes)


def _continued(flags: argparse.Namespace, overrides: Mapping[str, Any]) -> Config:
    """The config of --from: that of the run, with more steps where they are asked for."""
    check(not flags.config, "--from takes its config from the run; leave --config out")
    check(not flags.fresh, "--from goes on with a run, and --fresh starts over; give one of them")
    check(
        bool(flags.steps) or not flags.workdir, "--workdir with --from is for the longer run of --steps; leave it out"
    )
    other = sorted(overrides.keys() - {"data_dir"})
    check(
        not other, f"--from takes its config from the run, so {', '.join(other)} cannot change; start a run of its own"
    )
    plugins.load()
    config = longer.stored_config(Path(flags.source))
    check(
        unregistered(config) is None,
        f"{flags.source} is a run of {config.paper!r}, a paper of a config file of your own, which is read by the command "
        "that began the run; give that again, with --config",
    )
    apply_overrides(config, overrides)
    return longer.lengthened(config, flags.steps) if flags.steps else config


@contextmanager
def _preemptible() -> Iterator[None]:
    """A signal before or after the training, as while the report is written: nothing to save, and the same exit status."""
    leave = hosts.leave if hosts.several() else sys.exit
    with handled(lambda *_: leave(PREEMPTED), interrupts=False):
        yield


@_preemptible()
def run_and_report(
    config: Config,
    workdir: Path,
    command: str,
    *,
    fresh: bool = False,
    watch: Mapping[str, Any] = MappingProxyType({}),
    notes: Sequence[str] = (),
) -> int:
    """Runs an experiment (or resumes it, or shows it when it is done) and writes its report.

    Args:
        config: from `lrjax.load_config`.
        workdir: run directory.
        command: that repeats the run.
        fresh: start over.
        watch: further arguments of `lrjax.run`.
        notes: printed before the run.

    Returns:
        The exit status: 0 done, 75 preempted.

    Raises:
        LrjaxError: see `lrjax.run`.
    """
    notes = [*notes, *filter(None, [unregistered(config)])]
    groups = expand(config)
    with ExitStack() as stack:  # no other process begins there before the report is written
        hosts.agreed(lambda: stack.enter_context(workdirs.held(workdir, config, fresh=fresh)))
        if hosts.writes():
            print(*(f"note: {note}\n" for note in notes), sep="", end="", flush=True)
        return _run_and_report(config, groups, workdir, command, watch)


def _run_and_report(config: Config, groups: list[Group], workdir: Path, command: str, watch: Mapping[str, Any]) -> int:
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
                print(f"{paper_for(config).before(groups)}\n{verb} {workdir}".lstrip(), flush=True)
            run(config, workdir, quiet=False, command=command, **watch)
    except (Preempted, KeyboardInterrupt) as error:
        reason = INTERRUPTED if isinstance(error, KeyboardInterrupt) else error
        print(f"{reason}; {workdir} is saved, the same command goes on from there", file=sys.stderr)
        return PREEMPTED
    if not hosts.writes():
        return 0  # and waits, in leaving, for the one that writes the report
    finished = workdir / "claims.json"
    shown = done and (workdir / "report.html").exists()
    print_table((shown and claims_in(finished)) or write_report(workdir))
    print(f"\nreport: {workdir / 'report.html'}")
    return 0
