"""`lrjax COMMAND ...`: one command over the functions of `lrjax.main`, `lrjax.report`, `lrjax.posthoc` and the launchers.

A command's module is imported when it is asked for, and loads JAX when its flags have been read.
"""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from lrjax.errors import check, nearest, refuse


class Command(NamedTuple):
    """A row of `lrjax --help`."""

    usage: str
    summary: str
    module: str  # has main(arguments, *, alone) -> exit status


COMMANDS = {
    "run": Command("CONFIG [--config.KEY=VALUE]", "train, then judge and report", "lrjax.commands.runs"),
    "list": Command("[FILE.py] [WORD]", "the experiments and their claims", "lrjax.commands.listing"),
    "report": Command("RUN", "judge a run again, write its page", "lrjax.commands.reports"),
    "compare": Command("RUN RUN ...", "several runs on one page", "lrjax.commands.compare"),
    "spectra": Command("RUN [--steps=0,100]", "curvature of stored checkpoints", "lrjax.commands.spectra"),
    "diagnose": Command("MODULE:NAME --checkpoint=DIR", "the rate at a checkpoint of yours", "lrjax.commands.diagnose"),
    "sweep": Command("CONFIG --sweep.KEY='(A, B)'", "a sweep as jobs, also on clusters", "lrjax.commands.sweep"),
    "import": Command("RESULTS [--runs=runs]", "results of an offline machine", "lrjax.commands.importing"),
    "export": Command("RUN [--format=csv]", "tables of a run as csv, npz, ...", "lrjax.commands.export"),
    "data": Command("list|prepare NAME", "data sets at hand; prepare one", "lrjax.commands.data_sets"),
    "completion": Command("bash|zsh", "completes this command in a shell", "lrjax.commands.completion"),
}


def overview() -> str:
    """The text of `lrjax --help`.

    Example:
        >>> len(overview().splitlines()) < 24
        True
    """
    width = max(len(f"{name} {command.usage}") for name, command in COMMANDS.items())
    rows = [f"  lrjax {f'{name} {command.usage}':{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "What does the learning rate do to a network? Four papers, one set of tools.",
            "",
            *rows,
            "",
            "For example:  lrjax run configs/benign_osc.py:E2,scale=smoke --config.seed=3",
            "",
            "  lrjax COMMAND --help   flags of a command        lrjax --version   versions",
            "  Exit status: 0 done; 75 preempted, the same command goes on; 1 failed.",
        ]
    )


def versions() -> str:
    """The line of `lrjax --version`; imports none of the packages.

    Example:
        >>> versions().split()[0]
        'lrjax'
    """
    import platform
    from importlib.metadata import version

    from lrjax.version import __version__

    return f"lrjax {__version__} (Python {platform.python_version()}, JAX {version('jax')})"


def painted(text: str, style: str, stream: object = None) -> str:
    """Text in bold, red, ... where the stream is a terminal and NO_COLOR is not set.

    Args:
        text: one line.
        style: an SGR number, such as "1" for bold.
        stream: default stdout.

    Example:
        >>> import io
        >>> painted("error", "31", io.StringIO())
        'error'
    """
    terminal = getattr(sys.stdout if stream is None else stream, "isatty", bool)()
    return f"\033[{style}m{text}\033[0m" if terminal and not os.environ.get("NO_COLOR") else text


def guarded(function: Callable[[], int], debug: bool) -> int:
    """Runs a command: what a user can mend is one sentence on stderr and status 1.

    Example:
        >>> guarded(lambda: 0, debug=False)
        0
    """
    try:
        return function()
    except BrokenPipeError:  # `lrjax list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            raise
        from lrjax.main import sentence

        said = sentence(error)
        print(f"{painted('error:', '31', sys.stderr)} {said}", file=sys.stderr)
        return 1


def _dispatch(arguments: list[str], alone: bool) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if arguments[0] == "--version":
        print(versions())
        return 0
    name, *rest = arguments
    if name.startswith("-"):
        refuse(f"lrjax takes a command before its flags, not {name!r}; lrjax --help lists the commands")
    check(name in COMMANDS, f"there is no command {name!r}; {nearest(name, COMMANDS)}")
    return importlib.import_module(COMMANDS[name].module).main(rest, alone=alone)


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script `lrjax`; returns the exit status of the command.

    Args:
        arguments: those of this process for None.

    Example:
        >>> main(["--version"])
        lrjax ...
        0
    """
    own = sys.argv[1:] if arguments is None else list(arguments)
    return guarded(lambda: _dispatch(own, alone=arguments is None), "--debug" in own)
