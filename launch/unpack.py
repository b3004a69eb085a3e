"""On a machine without internet: unpacks a bundle, makes its environment, and starts its queue there.

`run.py` of the bundle calls this with Python alone, before anything is installed; `launch.node` goes on in the environment.
"""

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lrjax.errors import LrjaxError, check, refuse
from lrjax.experiment.config.durations import to_seconds
from lrjax.experiment.rundir import archives
from lrjax.experiment.rundir.manifests import read_manifest

MANIFEST, SOURCE = "bundle.json", "source.zip"
NODE = "import sys; from lrjax.commands.sweep import launcher; sys.exit(launcher('node').main(sys.argv[1:]))"


def add_limits(add: Callable[..., Any], at: str = "") -> None:
    """Flags of the queue, which the bundle is made with and which its `run.py` takes in their place.

    Args:
        add: of a parser.
        at: put before the help.
    """
    add("--budget", help=f"{at}time for all: set up, jobs, results; such as 8m; default: no limit")
    add("--part_size", help=f"{at}bytes of a file at most, of the bundle (60M) and of the results (15M)")
    add(
        "--out_size",
        help=f"{at}bytes of the results at most; what does not fit is left out, and named in results.json",
    )
    add("--keep_checkpoints", action="store_true", help=f"{at}bring back those of finished runs too")


def check_limits(flags: argparse.Namespace) -> None:
    """Refuses limits that cannot be read, before anything has run under them."""
    if flags.budget:
        to_seconds(flags.budget, "--budget")
    for name in ("part_size", "out_size"):
        if getattr(flags, name):
            archives.to_bytes(getattr(flags, name), f"--{name}")
    check(flags.parallel is None or flags.parallel > 0, f"--parallel={flags.parallel} must be at least 1")


def parser() -> argparse.ArgumentParser:
    """The command line of `run.py`."""
    made = argparse.ArgumentParser(prog="python run.py", description="Works through the queue of this bundle.")
    made.error = refuse
    add = made.add_argument
    add("--unpack", action="store_true", help="only unpack the archives that are here; the others may come later")
    add("--work", help="folder that all is unpacked to and run in; default: work, in the bundle")
    add("--out", help="folder of the results; default: results, in the bundle")
    add("--parallel", type=int, help="jobs at a time")
    add_limits(add)
    add("--bundle", required=True, type=Path, help=argparse.SUPPRESS)
    add("--began", type=float, default=None, help=argparse.SUPPRESS)
    return made


def read(arguments: Sequence[str]) -> tuple[argparse.Namespace, dict[str, Any]]:
    """Command line -> (flags, with those that the bundle was made with, its manifest)."""
    flags = parser().parse_args(arguments)
    check_limits(flags)
    manifest = read_manifest(flags.bundle / MANIFEST)
    for name, value in manifest["flags"].items():
        if getattr(flags, name) in (None, False):
            setattr(flags, name, value)
    flags.work = Path(flags.work or flags.bundle / "work").resolve()
    flags.out = Path(flags.out or flags.bundle / "results").resolve()
    flags.began = flags.began or time.time()
    return flags, manifest


def place(bundle: Path, record: dict[str, Any], work: Path) -> bool:
    """Unpacks an archive to its place, unless it is there; returns whether it is there now.

    Raises:
        LrjaxError: some of its parts are here, and one is missing or damaged; or its place lies outside of `work`.
    """
    target = work / archives.inside(record.get("place"), str(bundle / MANIFEST))
    done = work / "unpacked" / record["name"]
    seal = " ".join(part["sha256"] for part in record["parts"])
    if done.is_file() and done.read_text() == seal:
        return True
    if not any((bundle / part["name"]).exists() for part in record["parts"]):
        return False
    partial = work / "partial" / record["name"]
    shutil.rmtree(partial, ignore_errors=True)
    archives.unpack(bundle, record, partial)
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial.rename(target)
    done.parent.mkdir(parents=True, exist_ok=True)
    done.write_text(seal)
    return True


def place_source(bundle: Path, work: Path) -> None:
    """Unpacks the sources, whose checksum `run.py` has compared, anew."""
    shutil.rmtree(work / "source", ignore_errors=True)
    with zipfile.ZipFile(bundle / SOURCE) as file:
        file.extractall(work / "source")


def packages_here(bundle: Path) -> list[str]:
    """The folders from which this Python imports packages: not its own library, and not the bundle."""
    own = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")}
    own |= {path / "lib-dynload" for path in own}
    here = [Path(entry).resolve() for entry in sys.path if entry and Path(entry).is_dir()]
    return [str(path) for path in here if path not in own and not path.is_relative_to(bundle.resolve())]


def environment(work: Path, bundle: Path, manifest: dict[str, Any]) -> Path:
    """Makes the virtual environment, with what this Python has and the wheels of the bundle; returns its Python.

    Raises:
        LrjaxError: this Python is not the one of the wheels, or a package is lacking.
    """
    version, wheels, folder = "{}.{}".format(*sys.version_info), work / "wheels", work / "venv"
    check(
        version == manifest["python"],
        f"this is Python {version}, and the bundle was made for Python {manifest['python']}; start run.py with that one, or "
        f"make the bundle with --python={version}",
    )
    python = folder / "bin" / "python"
    made = subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], capture_output=True, text=True)
    check(
        made.returncode == 0, f"python -m venv failed ({made.stderr.strip()[-200:]}); start run.py with another Python"
    )
    (packages,) = (folder / "lib").glob("python*/site-packages")
    # Not --system-site-packages: the packages of a Python that is itself a virtual environment would not be seen.
    paths = [str(work / "source"), *packages_here(bundle)]
    (packages / "lrjax_offline.pth").write_text("\n".join(paths) + "\n")
    done = subprocess.run(
        install(python, wheels, manifest["requirements"]),
        env={key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
        | {"PIP_CONFIG_FILE": os.devnull},
        capture_output=True,
        text=True,
    )
    said = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")] or [done.stderr.strip()[-200:]]
    check(
        done.returncode == 0,
        f"this machine lacks a package ({said[-1].removeprefix('ERROR: ')}); make the bundle again without it in --has, or "
        "with the right --platform",
    )
    return python


def install(python: Path, wheels: Path, requirements: Sequence[str]) -> list[str]:
    """The command that installs the wheels that are not there in a version that does, by the pip among them.

    By name and without what each declares: some declare packages that lrjax never imports (`wheels.UNUSED`).
    """
    names = sorted({path.name.split("-")[0] for path in wheels.glob("*.whl")} - {"pip"})
    pip = next(wheels.glob("pip-*.whl"))
    options = ["--no-index", "--no-deps", "--no-cache-dir", "--no-compile", "--quiet", f"--find-links={wheels}"]
    return [str(python), str(pip / "pip"), "install", *options, *requirements, *names]


def _writable(folder: Path, flag: str) -> None:
    """Makes a folder, which must be there before the time is spent."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise LrjaxError(f"cannot write to {folder} ({error.strerror or error}); give another {flag}") from error


def start(arguments: Sequence[str]) -> int:
    """Unpacks, sets up and starts the queue; does not return where the queue is started."""
    flags, manifest = read(arguments)
    for name in ("work", "out")[: 1 if flags.unpack else 2]:
        _writable(getattr(flags, name), f"--{name}")
    place_source(flags.bundle, flags.work)
    missing = [record for record in manifest["archives"] if not place(flags.bundle, record, flags.work)]
    if flags.unpack:
        told = ", ".join(record["name"] for record in missing)
        print(f"unpacked to {flags.work}" + (f"; not here yet: {told}" if missing else ""))
        return 0
    for record in missing:
        archives.verify(flags.bundle, record)  # names the first part that is missing
    python = environment(flags.work, flags.bundle, manifest)
    (flags.work / "files").mkdir(exist_ok=True)  # the jobs' working directory
    print(f"set up in {time.time() - flags.began:.0f} s: {python}", flush=True)
    os.chdir(flags.work / "files")
    own = [f"--work={flags.work}", f"--out={flags.out}", f"--bundle={flags.bundle.resolve()}", f"--began={flags.began}"]
    os.execv(python, [str(python), "-c", NODE, *arguments, *own])


def main(bundle: Path, arguments: Sequence[str]) -> int:
    """Exit status: that of `launch.node`, or 1 with one sentence on stderr."""
    try:
        return start([*arguments, f"--bundle={bundle}"])
    except LrjaxError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
