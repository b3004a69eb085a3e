"""`lrjax import RESULTS`: what a machine without internet brought back (`lrjax sweep --target=offline`), into the runs here."""

import argparse
import contextlib
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
    from lrjax.experiment.rundir.archives import reading

    check(bool(flags.results), "give the folder of the results: lrjax import RESULTS")
    results, runs = Path(flags.results), Path(flags.runs)
    with reading(results):
        check(results.exists(), f"there is no {results}; give the folder that holds {MANIFEST}")
    try:
        runs.mkdir(parents=True, exist_ok=True)
        # Beside the runs, so that one takes its place by a new name alone.
        made = tempfile.TemporaryDirectory(dir=runs, prefix=".import-")
    except OSError as error:
        raise LrjaxError(f"cannot write to {runs} ({error.strerror or error}); give another --runs") from error
    with made as there:
        return _import(_opened(results, Path(there) / "opened"), runs, Path(there))


def _opened(results: Path, folder: Path) -> Path:
    """The folder with the manifest; a tar file is unpacked first."""
    from lrjax.experiment.rundir import archives

    if results.is_dir():
        return results
    if results.name == MANIFEST or results.name in _parts_beside(results):
        return results.parent  # a file of the folder was named
    with contextlib.closing(archives.Joined([results])) as file:
        archives.extract(file, str(results), folder, MOST_BYTES)
    found = sorted(folder.rglob(MANIFEST), key=lambda path: len(path.parts))
    check(bool(found), f"{results} has no {MANIFEST}; give the folder that holds it")
    return found[0].parent


def _parts_beside(path: Path) -> set[str]:
    """The files that a manifest beside this one lists; without a manifest that can be read, none."""
    from lrjax.experiment.rundir.manifests import read_manifest

    with contextlib.suppress(LrjaxError):
        records = read_manifest(path.with_name(MANIFEST))["archives"]
        return {part["name"] for record in records for part in record["parts"]}
    return set()


def _import(folder: Path, runs: Path, there: Path) -> int:
    from lrjax.experiment.rundir import archives
    from lrjax.experiment.rundir.files import is_plain
    from lrjax.experiment.rundir.manifests import read_manifest

    manifest = read_manifest(folder / MANIFEST)
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
    for command in joining([root / name for name in jobs]):
        print(f"runs that differ in their seeds alone, as one: {command}")
    print(f"all on one page: lrjax report {root}")
    return 1 if errors else 0


def _is_job(job: dict[str, Any]) -> bool:
    def line(text: Any) -> bool:
        return isinstance(text, str) and text.isprintable()

    home = job.get("home")
    written = isinstance(home, list) and len(home) > 3 and all(map(line, home))
    return written and isinstance(job.get("values"), dict) and line(job.get("state")) and line(job.get("said"))


def _arrived(unpacked: Path, jobs: dict[str, Any], root: Path, errors: list[str]) -> dict[str, bool]:
    """Gives what an archive held its place; returns name of a run -> whether it took its place.

    Args:
        unpacked: the files of the archive.
        jobs: of the queue.
        root: folder of the runs.
        errors: is given a sentence for each item that is left out.
    """
    from lrjax.experiment.rundir.travel import arrive

    took = {}
    for path in sorted(unpacked.iterdir()):
        within = path.name in PLACES and path.is_dir()
        for item in sorted(path.iterdir()) if within else [path]:
            try:
                if within:
                    known = item.name.removesuffix(".log") in jobs
                    check(known, f"{item.name} of {path.name} is of no job of this queue; it is left out")
                    _replaced(item, root / PLACES[path.name] / item.name)
                else:
                    check(item.is_dir() and item.name in jobs, f"{item.name} is no job of this queue; it is left out")
                    took[item.name] = arrive(item, root / item.name)
            except LrjaxError as error:
                errors.append(str(error))
    return took


def _replaced(source: Path, target: Path) -> None:
    """Moves a record or a log to its place, where an earlier one may be."""
    import shutil

    from lrjax.experiment.rundir.files import disk_error, own_folder, refuse_link

    refuse_link(target.parent.parent)
    try:
        target.parent.parent.mkdir(parents=True, exist_ok=True)
        own_folder(target.parent)
        refuse_link(target)
        if target.is_dir():
            shutil.rmtree(target)
        source.replace(target)
    except OSError as error:
        raise disk_error(target, error) from error


def _remember(jobs: dict[str, Any], root: Path) -> None:
    """Writes down which jobs the folder is for, as the launchers do."""
    from lrjax.commands.sweep import launcher
    from lrjax.experiment.rundir.travel import without_workdir

    job = launcher("local").Job
    launcher().record(
        root,
        [
            job(name, (*without_workdir(told["home"]), f"--workdir={root / name}"), root / name, told["values"])
            for name, told in jobs.items()
        ],
    )


def _told(job: dict[str, Any], workdir: Path, took: bool | None) -> str:
    """What became of a job, and the command that goes on with it."""
    import shlex

    from lrjax.experiment.rundir.metrics import read_status
    from lrjax.experiment.rundir.travel import without_workdir

    state = (read_status(workdir) or {}).get("state") if workdir.is_dir() else None
    command = shlex.join(["lrjax", "run", *without_workdir(job["home"][3:]), f"--workdir={workdir}"])
    said = job["said"] if job["said"].startswith("failed") else job["said"].partition("; ")[2]
    why = f" ({said})" if said else ""
    kept = "; the one here is as far or further, and stays" if took is False else ""
    if state == "done":
        return f"done: {workdir}{why}{kept}"
    record = workdir.parent / "records" / workdir.name
    if state is None and record.is_dir():
        return f"done, its record alone came back: {record}{why}"
    what = "begins" if state is None else "goes on"
    return f"not done{why}{kept}; it {what} with: {command}"


def joining(folders: Sequence[Path]) -> list[str]:
    """The command that joins them, for each set of finished runs that differ in their seeds alone.

    Args:
        folders: run directories; the report goes beside them.

    Example:
        >>> joining([Path("runs/no"), Path("runs/such")])
        []
    """
    import shlex

    from lrjax.experiment.config.canonical import fingerprint
    from lrjax.experiment.loop.join import joinable
    from lrjax.experiment.rundir.files import read_json

    found = []
    for group in joinable(folders):
        target = group[0].with_name(f"joined-{fingerprint(read_json(group[0] / 'config.json', dict))}")
        found.append(shlex.join(["lrjax", "report", f"--joined={target}", *map(str, group)]))
    return found
