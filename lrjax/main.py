"""Flags -> run(config, workdir) -> report. `python -m lrjax.main --config=configs/benign_osc.py[:EXPERIMENT][,scale=S]`."""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lrjax import config as configs
from lrjax.errors import LrjaxError


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, dict]:
    """Command line -> (flags, config overrides)."""
    parser = argparse.ArgumentParser(prog="python -m lrjax.main", description=__doc__, allow_abbrev=False)
    parser.add_argument("--config", help="FILE.py[:EXPERIMENT][,scale=smoke|small|paper]")
    parser.add_argument("--workdir", help="run directory; default: runs/<config>-<experiment>-<scale>-<fingerprint>")
    parser.add_argument("--list", action="store_true", help="show every experiment: paper, claim, scales, run time")
    parser.add_argument("--dry_run", action="store_true", help="show shapes, parameters, memory, steps, FLOPs; no data")
    parser.add_argument("--fresh", action="store_true", help="start over instead of resuming or showing a finished run")
    parser.add_argument("--no_cache", action="store_true", help="keep no compiled programs on disk")
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")
    parser.error = configs.refuse  # argparse would exit with status 2
    parser.epilog = "Any config key: --config.KEY=VALUE, for example --config.seed=3 --config.sweep.e='(1.1, 1.25)'"
    flags, rest = parser.parse_known_args(arguments)
    overrides = {}
    for argument in rest:
        key, equals, value = argument.removeprefix("--config.").partition("=")
        usage = f"cannot read {argument!r}; config keys are written --config.KEY=VALUE, and --help lists the flags"
        configs.check(argument.startswith("--config.") and bool(equals), usage)
        overrides[key] = configs.parse_value(value)
    configs.check(flags.list or bool(flags.config), "give --config=FILE.py, for example --config=configs/benign_osc.py")
    return flags, overrides


def _as_written(value: Any) -> str:
    return value if isinstance(value, str) and configs.parse_value(value) == value else repr(value)


def dispatch(arguments: Sequence[str]) -> int:
    """Does what the flags ask for and returns the exit status."""
    flags, overrides = parse(arguments)
    if flags.list:
        from lrjax.report.listing import experiments

        print(experiments())
        return 0
    config = configs.load_config(flags.config, overrides)
    if flags.dry_run:
        from lrjax.dry_run import describe

        print(describe(config))
        return 0
    from lrjax.report.session import run_and_report

    settings = [f"--config.{key}={_as_written(value)}" for key, value in overrides.items() if key != "data_dir"]
    command = shlex.join(["python", "-m", "lrjax.main", f"--config={flags.config}", *settings])
    workdir = Path(flags.workdir) if flags.workdir else None
    return run_and_report(flags.config, config, workdir, command, fresh=flags.fresh, cache=not flags.no_cache)


def main(arguments: Sequence[str] | None = None, run: Callable[[Sequence[str]], int] = dispatch) -> int:
    """Entry point: 0 done, 75 preempted (run the same command again), 1 failed with one sentence on stderr."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        return run(arguments)
    except BrokenPipeError:  # `--list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if "--debug" in arguments:
            raise
        known = isinstance(error, LrjaxError)
        text = f"{type(error).__name__}: {error}".split("\n")[0]
        print(f"error: {error if known else f'{text}; run again with --debug to see where'}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
