"""`lrjax sweep CONFIG --sweep.KEY='(A, B)'`: the launchers of `launch/`, from a checkout or from the wheel."""

import importlib
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lrjax.commands.runs import first_as
from lrjax.errors import check


def main(arguments: Sequence[str], *, alone: bool) -> int:
    """Runs or submits the jobs of a sweep; see `launch.jobs`."""
    return launcher().main(first_as("config", arguments), program="lrjax sweep CONFIG")


def launcher(part: str = "jobs") -> Any:
    """The module `launch.jobs`, or another one beside it.

    The wheel has the folder inside of the package, where it takes no name of its own. `launch` is a name that others use too,
    so the folder of a checkout is found by its place, not by its name.

    Raises:
        LrjaxError: there is no such folder.
    """
    package = Path(__file__).resolve().parents[1]
    folders = [folder for folder in (package / "_launch", package.parent / "launch") if (folder / "jobs.py").is_file()]
    check(bool(folders), "found no launchers; install lrjax again, or run from a checkout")
    name = "lrjax_launchers"
    if name not in sys.modules:
        module = types.ModuleType(name)
        module.__path__ = [str(folders[0])]
        sys.modules[name] = module
    return importlib.import_module(f"{name}.{part}")
