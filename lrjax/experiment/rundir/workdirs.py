"""Run directories: the experiment that each belongs to, and locks for its one writer and for its report."""

import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

from lrjax.errors import check, refuse
from lrjax.experiment.config.canonical import Config, fingerprint, flatten, to_json
from lrjax.experiment.rundir.files import parsed, read_bytes, read_json, write_atomic
from lrjax.experiment.rundir.locks import LOCKS, kept, locked, undisturbed
from lrjax.experiment.rundir.metrics import read_status
from lrjax.version import __version__

OWN = (
    *("config.json", "status.json", "metrics.jsonl", "arrays", "ckpt", "spectra", *LOCKS),
    *("figures", "claims.json", "observations.json", "report.html"),
)
PACKED = "source.json"  # beside the package, in sources that were packed for another machine: their `code_state`
SHOWN = 4  # keys that a message names


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
    code = digest.hexdigest()[:12]
    if commit is None and (package.parent / PACKED).is_file():
        packed = read_json(package.parent / PACKED, dict, "unpack the bundle again")
        commit, changed = (packed.get(key) if packed.get("code") == code else None for key in ("commit", "changed"))
    return {"version": __version__, "commit": commit, "changed": changed, "code": code}


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


def start_over(workdir: Path, config: Config | None = None) -> None:
    """Empties the run directory of a config of this experiment, whatever else that says.

    Args:
        workdir: emptied but for its locks; one that is not there is left so.
        config: of the run that is to begin there; None for any experiment's directory.

    Raises:
        LrjaxError: the folder is no run's or another experiment's, holds other files too (then nothing is removed), is in
            use, or its report is being written.
    """
    if not workdir.is_dir():
        return
    _refuse_foreign(workdir)
    _refuse_other(workdir, config)
    with locked(workdir), undisturbed(workdir, wait_s=0.0):
        for path in workdir.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name not in LOCKS:
                path.unlink()


def _refuse_other(workdir: Path, config: Config | None) -> None:
    """`--fresh` is for a run of the same experiment: nobody throws away another one by a wrong --workdir."""
    stored = _stored(workdir)
    if config is None or stored is None:
        return
    check(
        _name(stored) == _name(config),
        f"{workdir} holds a run of another experiment ({_name(stored)}), which --fresh does not remove; give another "
        f"--workdir, or remove that folder yourself if {_name(config)} is to take its place",
    )


def _name(config: Mapping[str, Any] | Config) -> str:
    return f"{config.get('paper')}:{config.get('experiment')},scale={config.get('scale')}"


def _stored(workdir: Path) -> dict[str, Any] | None:
    """The config of the run in a directory; None where there is none that can be read."""
    try:
        stored = parsed(read_bytes(workdir / "config.json"))
    except (OSError, ValueError):
        return None
    return stored if isinstance(stored, dict) else None


def _is_temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith((".tmp", ".partial"))


def _refuse_foreign(workdir: Path) -> None:
    own = OWN if (workdir / "config.json").exists() else LOCKS
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
    if fingerprint(stored) == fingerprint(config):
        return
    same = _name(stored) == _name(config)
    what = f"; they differ in {_differences(stored, config)}" if same else ""
    instead = "give another --workdir, or --fresh to replace it" if same else "give another --workdir"
    refuse(f"{workdir} holds a run of another config ({_name(stored)}){what}; {instead}")


def _differences(stored: Mapping[str, Any], config: Config) -> str:
    """The keys whose values differ, with both."""
    there, here = flatten(stored), flatten(json.loads(to_json(config)))
    keys = [key for key in sorted(there | here) if key != "data_dir" and there.get(key) != here.get(key)]

    def value(of: Mapping[str, Any], key: str) -> str:
        text = json.dumps(of[key]) if key in of else "not set"
        return text if len(text) <= 40 else text[:37] + "..."

    told = [f"{key} ({value(there, key)} there, {value(here, key)} here)" for key in keys[:SHOWN]]
    more = len(keys) - SHOWN
    return ", ".join(told + ([f"{more} key{'s' * (more > 1)} more"] if more > 0 else []))


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
def held(workdir: Path, config: Config, *, fresh: bool = False) -> Iterator[None]:
    """Keeps a run directory from before the training to the end of the report; `opened` inside needs no lock of its own.

    Args:
        workdir: made if missing.
        config: of the run.
        fresh: empty the directory first, of a run of the same experiment.

    Raises:
        LrjaxError: as `opened` and `start_over`; then nothing was changed.
    """
    if fresh:
        start_over(workdir, config)
    else:
        inspect(workdir, config)
    with kept(workdir):
        yield


@contextmanager
def opened(workdir: Path, config: Config) -> Iterator[dict[str, Any]]:
    """Opens a run directory for one process: makes it, or checks that it is this config's, and locks it.

    Yields:
        The status to start from: that of a finished run, else a new one.

    Raises:
        LrjaxError: not writable, another config's, not a run's, or in use by another process.
    """
    inspect(workdir, config)
    with locked(workdir):
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
            new = {"versions": versions(), "state": "running", "config": fingerprint(config)}
            yield code_state() | _begun(status) | new


def _begun(status: Mapping[str, Any] | None) -> dict[str, Any]:
    """When a run was begun, and on which devices: for good, so that going on with it does not make it younger.

    One that an earlier version began has no date, and gets none.
    """
    if status is None:
        return {"started": datetime.now(UTC).isoformat(timespec="seconds")}
    return {key: status[key] for key in ("started", "device") if key in status}
