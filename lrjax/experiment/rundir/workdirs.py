"""Run directories: the experiment that each belongs to, and a lock for its one writer."""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

from lrjax.errors import LrjaxError, check
from lrjax.experiment.config.canonical import Config, fingerprint, to_json
from lrjax.experiment.rundir.files import parsed, read_bytes, read_json, write_atomic
from lrjax.experiment.rundir.metrics import read_status
from lrjax.version import __version__

OWN = (
    "config.json",
    "status.json",
    "metrics.jsonl",
    "arrays",
    "ckpt",
    "figures",
    "claims.json",
    "observations.json",
    "report.html",
    "spectra",
    ".lock",
)

IN_USE = "another process is running in"


def default_workdir(spec: str, config: Config) -> Path:
    """runs/<config>-<experiment>-<scale>-<fingerprint>: the same config always finds its run again."""
    stem = Path(spec.split(".py")[0]).name
    return Path("runs") / f"{stem}-{config.experiment}-{config.scale}-{fingerprint(config)}"


def code_state() -> dict[str, Any]:
    """Which code this is: version, git commit and whether the sources differ from it (None outside a checkout), a digest."""
    package = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    commit = changed = None
    if (package.parent / ".git").exists():
        commit = _git(package.parent, "rev-parse", "HEAD") or None
        # A report must not name a commit whose sources are others than those that ran.
        listed = _git(package.parent, "status", "--porcelain", "--untracked-files=all", "--", "lrjax", "configs")
        changed = listed is None or bool(listed)
    return {"version": __version__, "commit": commit, "changed": changed, "code": digest.hexdigest()[:12]}


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def code_change(status: dict[str, Any]) -> str | None:
    """A sentence when the code is not the one that a run was made with, else None."""
    now = code_state()
    if status.get("code") == now["code"]:
        return None
    then = f"version {status.get('version')}, commit {str(status.get('commit'))[:10]}"
    return f"the code has changed since this run was made ({then}); --fresh runs it again"


def versions() -> dict[str, str]:
    """Versions of what decides a run's numbers."""
    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {"python": platform.python_version()} | {name: package_version(name) for name in names}


def start_over(workdir: Path) -> None:
    """Empties the run directory of any config.

    Raises:
        LrjaxError: the folder is no run's, holds other files too (then nothing is removed), or is in use.
    """
    if not workdir.is_dir():
        return
    _refuse_foreign(workdir)
    with _locked(workdir):
        for path in workdir.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != ".lock":
                path.unlink()


def _is_temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith((".tmp", ".partial"))


def _refuse_foreign(workdir: Path) -> None:
    own = OWN if (workdir / "config.json").exists() else (".lock",)
    foreign = sorted(p.name for p in workdir.iterdir() if p.name not in own and not _is_temporary(p.name))
    check(not foreign, f"{workdir} holds files that are not a run's ({', '.join(foreign[:3])}); give another --workdir")
    try:
        stored = parsed(read_bytes(workdir / "config.json"))
    except (FileNotFoundError, ValueError):
        return
    known = isinstance(stored, dict) and "paper" in stored and "experiment" in stored
    check(known, f"{workdir}/config.json is not that of a run; give another --workdir")


def _same_config(workdir: Path, config: Config) -> None:
    stored = read_json(workdir / "config.json", dict)
    same = fingerprint(stored) == fingerprint(config)
    name = f"{stored.get('paper')}:{stored.get('experiment')},scale={stored.get('scale')}"
    check(same, f"{workdir} holds a run of another config ({name}); give another --workdir, or --fresh to replace it")


def inspect(workdir: Path, config: Config) -> dict[str, Any] | None:
    """The status of this config's run in a directory, None where there is none yet; changes nothing.

    Raises:
        LrjaxError: the directory is another config's, or not a run's.
    """
    if not workdir.is_dir():
        return None
    if (workdir / "config.json").exists():
        _same_config(workdir, config)
    else:
        _refuse_foreign(workdir)
    return read_status(workdir)


@contextmanager
def _locked(workdir: Path) -> Iterator[None]:
    """Makes the directory and keeps every other process out of it."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        # Not through a link; held to the end of the run.
        lock = open(os.open(workdir / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+")  # noqa: SIM115
    except OSError as error:
        raise LrjaxError(f"cannot write to {workdir} ({error.strerror}); give another --workdir") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LrjaxError(f"{IN_USE} {workdir}; wait for it or give another --workdir") from error
        yield


@contextmanager
def undisturbed(workdir: Path) -> Iterator[bool]:
    """Keeps every writer out of a run directory while a report of it is written, where there is none in it already.

    Yields:
        Whether there is none: a run that its status calls running, and that nobody writes, was killed.
    """
    try:
        lock = open(os.open(workdir / ".lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")  # noqa: SIM115
    except OSError:  # a copy without it, or one that may only be read
        yield True
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


@contextmanager
def opened(workdir: Path, config: Config) -> Iterator[dict[str, Any]]:
    """Opens a run directory for one process: makes it, or checks that it is this config's, and locks it.

    Yields:
        The status to start from: that of a finished run, else a new one.

    Raises:
        LrjaxError: not writable, another config's, not a run's, or in use by another process.
    """
    inspect(workdir, config)
    with _locked(workdir):
        status = inspect(workdir, config)  # again, now that nobody else can change it
        written = [*workdir.iterdir(), *(workdir / "arrays").glob(".*")]
        for left in (path for path in written if _is_temporary(path.name)):
            left.unlink(missing_ok=True)  # by a killed process
        if not (workdir / "config.json").exists():
            check(os.access(workdir, os.W_OK), f"cannot write to {workdir}; give another --workdir")
            write_atomic(workdir / "config.json", to_json(config) + "\n")
        if status is not None and status.get("state") == "done":
            yield status
        else:
            yield code_state() | {"versions": versions(), "state": "running", "config": fingerprint(config)}
