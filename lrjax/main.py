"""Flags -> run(config, workdir) -> report: `python -m lrjax.main --config=configs/benign_osc.py[:EXPERIMENT][,scale=SCALE]`."""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from lrjax.errors import LrjaxError, check, refuse
from lrjax.experiment.config.durations import to_seconds
from lrjax.experiment.config.overrides import parse_value
from lrjax.experiment.loop.process import restart_with_huge_pages

PROGRAM = "python -m lrjax.main"
INSTALLED = {"site-packages", "dist-packages"}


def parse(arguments: Sequence[str], program: str = PROGRAM) -> tuple[argparse.Namespace, dict]:
    """Command line -> (flags, config overrides)."""
    parser = argparse.ArgumentParser(prog=program, description=__doc__, allow_abbrev=False)
    parser.add_argument("--config", help="FILE.py[:EXPERIMENT][,scale=smoke|small|medium|paper]")
    parser.add_argument("--workdir", help="run directory; default: runs/<config>-<experiment>-<scale>-<fingerprint>")
    parser.add_argument("--list", action="store_true", help="show every experiment (with --config=FILE.py, its own)")
    whats = (
        "show shapes, memory, FLOPs and an estimated time, in half a minute; =compiled takes its time, =shapes no time"
    )
    ways = ("limited", "compiled", "shapes")
    parser.add_argument("--dry_run", nargs="?", const=ways[0], choices=ways, help=whats)
    parser.add_argument("--fresh", action="store_true", help="start over instead of resuming or showing a finished run")
    parser.add_argument("--plain_process", action="store_true", help="no large pages, no compiled programs on disk")
    parser.add_argument(
        "--from", dest="source", metavar="RUN", help="go on with a run directory, whose config it takes"
    )
    parser.add_argument(
        "--steps", help="with --from: go on to so many steps (or +N more), in a run directory beside it"
    )
    parser.add_argument("--time_limit", help="save and end with status 75 before that long: 45s, 8m, 1h30m")
    parser.add_argument("--sinks", default="", help="where metrics go besides metrics.jsonl: tensorboard,wandb")
    parser.add_argument("--profile", action="store_true", help="write a trace of some steps into WORKDIR/profile")
    parser.add_argument("--coordinator", help="HOST:PORT of the first of several processes; or JAX_COORDINATOR_ADDRESS")
    parser.add_argument("--num_processes", help="how many; or JAX_NUM_PROCESSES; 1 for a process by itself anywhere")
    parser.add_argument("--process_id", help="which one this is, from 0; or JAX_PROCESS_ID")
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")
    parser.error = refuse  # one sentence and status 1, instead of the usage and status 2
    parser.epilog = "Any config key: --config.KEY=VALUE, for example --config.seed=3 --config.sweep.e='(1.1, 1.25)'"
    flags, rest = parser.parse_known_args(arguments)
    overrides = {}
    for argument in rest:
        key, equals, value = argument.removeprefix("--config.").partition("=")
        usage = f"cannot read {argument!r}; config keys are written --config.KEY=VALUE, and --help lists the flags"
        check(argument.startswith("--config.") and bool(equals), usage)
        overrides[key] = parse_value(value)
    check(not flags.steps or bool(flags.source), "--steps is for --from=RUN; of a new run write --config.steps")
    check(
        flags.list or bool(flags.config or flags.source),
        "give --config=FILE.py, for example --config=configs/benign_osc.py",
    )
    if flags.time_limit is not None:
        flags.time_limit = to_seconds(flags.time_limit, "--time_limit")
    return flags, overrides


def own_line(error: BaseException) -> str | None:
    """File and line of the user's own code in which an error was raised: a schedule, a config; None where it is ours.

    Args:
        error: as it was caught; what lrjax called, directly or not, is looked at, and its last line outside of all packages.
    """
    package, packages = Path(__file__).resolve().parent, (Path(sys.prefix), Path(sys.base_prefix))
    found, ours = None, False
    for frame, line in traceback.walk_tb(error.__traceback__):
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(package):
            ours = ours or path != Path(__file__).resolve()
        installed = any(path.is_relative_to(place) for place in packages) or set(path.parts) & INSTALLED
        if ours and path.is_absolute() and not installed and not path.is_relative_to(package):
            found = f"{shown(path)}:{line}, in {frame.f_code.co_name}"
    if isinstance(error, SyntaxError) and error.filename:
        return f"{shown(Path(error.filename))}:{error.lineno}"
    return found


def sentence(error: Exception) -> str:
    """What is said of an error: its own sentence, or its first line with the user's line or the way to see where."""
    if isinstance(error, LrjaxError):
        return str(error)
    first, where = f"{type(error).__name__}: {error}".split("\n")[0], own_line(error)
    return f"{where}: {first}" if where else f"{first}; run again with --debug to see where"


def shown(path: Path) -> Path:
    """A path as one reads it: from the working directory, where the file lies below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def main(arguments: Sequence[str] | None = None, *, program: str = PROGRAM, alone: bool | None = None) -> int:
    """Exit status: 0 done, 75 preempted (run the same command again), 1 failed with one sentence on stderr.

    Args:
        arguments: those of this process for None.
        program: what usage and `--help` call it.
        alone: this process is for it alone, and may be started again with large pages; default: `arguments` is None.
    """
    alone = arguments is None if alone is None else alone
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        flags, overrides = parse(arguments, program)
        if alone and not flags.plain_process:
            restart_with_huge_pages()
        from lrjax.report import session  # after the flags: it loads JAX

        return session.start(flags, overrides)
    except BrokenPipeError:  # `--list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:  # outside of the training, which saves
        print("interrupted; the same command goes on from what is saved", file=sys.stderr)
        return 75
    except Exception as error:
        if "--debug" in arguments:
            raise
        print(f"error: {sentence(error)}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
