"""`lrjax import RESULTS`: what a machine without internet brought back (`lrjax sweep --target=offline`), into the runs here."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lrjax.errors import LrjaxError, check, refuse
from lrjax.version import __version__

MANIFEST = "results.json"
PLACES = {"records": "records", "logs": "node-logs"}  # not logs: a launcher here has its own there
MOST_BYTES = 1 << 40  # of what a single archive around the results may unpack to


def main(arguments: Sequence[str], *, alone: bool) -> int:
    """Takes runs, records and logs into the runs folder, and says what is done and which command goes on with the rest."""
    parser = argparse.ArgumentParser(prog="lrjax import", description=__doc__, allow_abbrev=False)
    parser.error = refuse
    parser.add_argument("results", metavar="RESULTS", nargs="?", help="folder with results.json, or a tar file of it")
    parser.add_argument("--runs", default="runs", help="folder that the runs go into; default: runs")
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")
    flags = parser.parse_args(arguments)
    check(bool(flags.results), "give the folder of the results: lrjax import RESULTS")
    results, runs = Path(flags.results), Path(flags.runs)
    check(results.exists(), f"there is no {results}; give the folder that holds {MANIFEST}")
    try:
        runs.mkdir(parents=True, exist_ok=True)
        # Beside the runs, so that one takes its place by a new name alone.
        with tempfile.TemporaryDirectory(dir=runs, prefix=".import-") as there:
            return _import(_opened(results, Path(there) / "opened"), runs, Path(there))
    except OSError as error:
        raise LrjaxError(f"cannot write to {runs} ({error.strerror or error}); give another --runs") from error


def _opened(results: Path, folder: Path) -> Path:
    """The folder with the manifest; a tar file is unpacked first."""
    from lrjax.experiment.rundir import archives

    if results.is_dir():
        return results
    if (results.parent / MANIFEST).is_file():
        return results.parent  # a file of the folder was named
    with open(results, "rb") as file:
        archives.extract(file, str(results), folder, MOST_BYTES)
    found = sorted(folder.rglob(MANIFEST), key=lambda path: len(path.parts))
    check(bool(found), f"{results} has no {MANIFEST}; give the folder that holds it")
    return found[0].parent


def _import(folder: Path, runs: Path, there: Path) -> int:
    from lrjax.experiment.rundir import archives
    from lrjax.experiment.rundir.files import is_plain

    manifest = archives.read_manifest(folder / MANIFEST)
    sweep, jobs = manifest.get("sweep"), manifest["jobs"]
    right = is_plain(sweep) and all(map(_is_job, jobs.values()))
    check(right, f"{folder / MANIFEST} is damaged (its jobs are not as they were written); {archives.AGAIN}")
    if (version := manifest.get("version")) != __version__:
        by = version if is_plain(version) else "of an unknown version"
        print(
            f"note: made by lrjax {by}, and this is {__version__}: what goes on here may end otherwise", file=sys.stderr
        )
    root, errors, took = runs / str(sweep), [], {}
    for number, record in enumerate(manifest["archives"]):
        unpacked = there / str(number)
        try:
            archives.unpack(folder, record, unpacked)
            took |= _arrived(unpacked, jobs, root, errors)
        except LrjaxError as error:
            errors.append(str(error))
    _remember(jobs, root)
    for name, job in jobs.items():
        print(f"{name}: {_told(job, root / name, took.get(name))}")
    for error in errors:
        print(f"error: {error}", file=sys.stderr)
    print(f"all on one page: lrjax report {root}")
    return 1 if errors else 0


def _is_job(job: dict[str, Any]) -> bool:
    def line(text: Any) -> bool:
        return isinstance(text, str) and text.isprintable()

    home = job.get("home")
    written = isinstance(home, list) and len(home) > 3 and all(map(line, home))
    return written and isinstance(job.get("values"), dict) and line(job.get("state")) and line(job.get("said"))


def _arrived(unpacked: Path, jobs: dict[str, Any], root: Path, errors: list[str]) -> dict[str, bool]:
    """Gives what an archive held its place; returns name of a run -> whether it took its place."""
    from lrjax.experiment.rundir.travel import arrive

    took = {}
    for path in sorted(unpacked.iterdir()):
        if path.name in PLACES:
            for own in sorted(path.iterdir()):
                known = own.name.removesuffix(".log") in jobs
                check(known, f"{own.name} of {path.name} is of no job of this queue; it is left out")
                _replaced(own, root / PLACES[path.name] / own.name)
            continue
        try:
            check(path.name in jobs, f"{path.name} is no job of this queue; it is left out")
            took[path.name] = arrive(path, root / path.name)
        except LrjaxError as error:
            errors.append(str(error))
    return took


def _replaced(source: Path, target: Path) -> None:
    """Moves a record or a log to its place, where an earlier one may be."""
    import shutil

    from lrjax.experiment.rundir.files import own_folder, refuse_link

    refuse_link(target.parent.parent)
    target.parent.parent.mkdir(parents=True, exist_ok=True)
    own_folder(target.parent)
    refuse_link(target)
    if target.is_dir():
        shutil.rmtree(target)
    source.replace(target)


def _remember(jobs: dict[str, Any], root: Path) -> None:
    """Writes down which jobs the folder is for, as the launchers do."""
    from lrjax.commands.sweep import launcher

    job = launcher("local").Job
    launcher().record(
        root,
        [
            job(name, (*told["home"][:-1], f"--workdir={root / name}"), root / name, told["values"])
            for name, told in jobs.items()
        ],
    )


def _told(job: dict[str, Any], workdir: Path, took: bool | None) -> str:
    """What became of a job, and the command that goes on with it."""
    import shlex

    from lrjax.experiment.rundir.metrics import read_status

    state = (read_status(workdir) or {}).get("state") if workdir.is_dir() else None
    own = [word for word in job["home"][3:] if not word.startswith("--workdir=")]
    command = shlex.join(["lrjax", "run", *own, f"--workdir={workdir}"])
    kept = "; the one here is as far or further, and stays" if took is False else ""
    if state == "done":
        return f"done: {workdir}{kept}"
    record = workdir.parent / "records" / workdir.name
    if state is None and record.is_dir():
        return f"done, its record alone came back: {record}"
    what = "begins" if state is None else "goes on"
    why = f" ({job['said']})" if job["said"].startswith(("failed", "it has")) else ""
    return f"not done{why}{kept}; it {what} with: {command}"
