"""On a machine without internet, in the environment of a bundle: works through its queue within the time, and packs results."""

import contextlib
import json
import math
import os
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lrjax.errors import LrjaxError
from lrjax.experiment.config.durations import to_seconds
from lrjax.experiment.rundir import archives
from lrjax.experiment.rundir.archives import Member
from lrjax.experiment.rundir.files import write_atomic
from lrjax.experiment.rundir.travel import arrive, members_of_run
from lrjax.main import sentence
from lrjax.version import __version__

from . import local, unpack
from .local import PREEMPTED, Job, state_of

RESULTS = "results.json"
RESERVE_S = 60.0  # of the budget, for records and results; a quarter of a shorter one
ATTEMPTS = 3
LOG_BYTES = 200_000  # of a job's log, its end


def settings(work: Path, parallel: int) -> dict[str, str]:
    """The environment variables of the jobs; those that are set stay."""
    return {
        "TFDS_DATA_DIR": str(work / "data"),
        "JAX_COMPILATION_CACHE_DIR": str(work / "compiled"),
        # Several jobs share a card.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 / parallel:.2f}",
    } | {key: value for key, value in os.environ.items() if key.startswith("XLA_PYTHON_CLIENT")}


def jobs_of(manifest: dict[str, Any], work: Path) -> list[Job]:
    """The queue, in its order."""
    found = []
    for name, entry in manifest["jobs"].items():
        moved = [f"--config.data_dir={work / 'data'}"] if entry["moved"] else []
        workdir = work / "runs" / name
        found.append(Job(name, (*entry["command"], *moved, f"--workdir={workdir}"), workdir, entry["values"]))
    return found


def record_of(job: Job, work: Path, seconds: float) -> str:
    """Makes the record of a finished run; returns why there is none, or ""."""
    folder = work / "records" / job.name
    if any(folder.glob("*/claims.json")):
        return ""
    command = [sys.executable, "-m", "lrjax.report.record", job.workdir, f"--into={folder}"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=max(seconds, 1.0))
    except subprocess.TimeoutExpired:
        return "no time was left for its record"
    return (
        "" if done.returncode == 0 else f"no record: {(done.stderr.strip().splitlines() or ['it wrote nothing'])[-1]}"
    )


def _records(jobs: Sequence[Job], work: Path) -> Iterator[Member]:
    """The records of runs and the ends of the logs of jobs."""
    for job in jobs:
        yield from archives.members_of(work / "records" / job.name, f"records/{job.name}/")
        log = work / "logs" / f"{job.name}.log"
        if log.exists():
            end = work / "ends" / log.name
            end.parent.mkdir(exist_ok=True)
            end.write_bytes(log.read_bytes()[-LOG_BYTES:])
            yield Member(f"logs/{log.name}", end)


class Results:
    """The folder of results, filled in the order of what is worth most, up to its size.

    Args:
        folder: made if missing; the results of an earlier start in it are replaced.
        part_size: bytes of a file at most.
        out_size: bytes of all files at most.
    """

    def __init__(self, folder: Path, part_size: int, out_size: float):
        self.folder, self.part_size, self.left = folder, part_size, out_size
        self.records: list[dict[str, Any]] = []
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / RESULTS).is_file():
            with contextlib.suppress(LrjaxError):  # damaged: its parts stay, and belong to nothing
                for record in archives.read_manifest(folder / RESULTS)["archives"]:
                    for part in record["parts"]:
                        (folder / part["name"]).unlink(missing_ok=True)
            (folder / RESULTS).unlink()

    def add(self, name: str, groups: dict[str, list[Member]]) -> set[str]:
        """Writes an archive of those groups of files that have room; returns their names."""
        taken, members = set(), []
        for group, own in groups.items():
            size = sum(member.path.stat().st_size for member in own)
            size = archives.size_of(own) if size > self.left else size
            if own and size <= self.left:
                self.left -= size
                taken.add(group)
                members += own
        if members:
            self.records.append(archives.write(self.folder, f"{name}.tar.gz", members, self.part_size, compressed=True))
        return taken


def bring_back(jobs: Sequence[Job], found: dict[str, str], flags: Any, manifest: dict[str, Any]) -> dict[str, Any]:
    """Writes the results: records first, then what is done, then what goes on elsewhere; returns their manifest."""
    part_size = archives.to_bytes(flags.part_size, "--part_size")
    out_size = archives.to_bytes(flags.out_size, "--out_size") if flags.out_size else math.inf
    results, states = Results(flags.out, part_size, out_size), {job.name: state_of(job) for job in jobs}
    results.add("records", {"records": list(_records(jobs, flags.work))})
    done, begun = {}, {}
    for job in jobs:
        if states[job.name] == "done":
            done[job.name] = list(members_of_run(job.workdir, f"{job.name}/", checkpoints=flags.keep_checkpoints))
        elif (job.workdir / "config.json").exists():
            begun[job.name] = list(members_of_run(job.workdir, f"{job.name}/", checkpoints=True))
    back = results.add("done", done) | results.add("unfinished", begun)
    told = {}
    for job in jobs:
        entry = manifest["jobs"][job.name]
        left_out = job.name in done | begun and job.name not in back
        told[job.name] = {
            "home": entry["home"],
            "values": entry["values"],
            "state": states[job.name],
            "said": "it has no room within --out_size" if left_out else found[job.name],
        }
    content = {"version": __version__, "sweep": manifest["sweep"], "archives": results.records, "jobs": told}
    write_atomic(flags.out / RESULTS, json.dumps(content, indent=1) + "\n")
    return content


def start(arguments: Sequence[str]) -> int:
    """Works through the queue; see `main`."""
    flags, manifest = unpack.read(arguments)
    os.environ.update(settings(flags.work, flags.parallel))
    jobs, ahead = jobs_of(manifest, flags.work), flags.began - time.time() + time.monotonic()
    for job in jobs:
        if (flags.work / "begun" / job.name).is_dir():
            job.workdir.parent.mkdir(exist_ok=True)
            arrive(flags.work / "begun" / job.name, job.workdir)
    budget = to_seconds(flags.budget, "--budget") if flags.budget else math.inf
    end = ahead + budget
    until = end - min(RESERVE_S, budget / 4) if flags.budget else math.inf
    found = {job.name: "done" for job in jobs if state_of(job) == "done"}
    left = [job for job in jobs if job.name not in found]
    say = lambda line: print(line, flush=True)  # noqa: E731
    found |= local.run(left, flags.work / "logs", parallel=flags.parallel, attempts=ATTEMPTS, say=say, until=until)
    done = [job for job in jobs if found[job.name] == "done"]
    with ThreadPoolExecutor(flags.parallel) as pool:
        lacks = list(pool.map(lambda job: record_of(job, flags.work, end - time.monotonic() - RESERVE_S / 4), done))
    found |= {job.name: f"done; {lack}" for job, lack in zip(done, lacks, strict=True) if lack}
    bring_back(jobs, found, flags, manifest)
    for name, what in found.items():
        say(f"{name}: {what}")
    files = list(flags.out.iterdir())
    counts = Counter(what.partition(":")[0].partition(";")[0] for what in found.values())
    say(", ".join(f"{count} {what}" for what, count in counts.items()))
    say(f"results: {flags.out}: {len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:.1f} MB")
    say(f"at home: lrjax import {shlex.quote(flags.out.name)}")
    return 1 if "failed" in counts else PREEMPTED if "stopped" in counts else 0


def main(arguments: Sequence[str]) -> int:
    """Exit status: 0 all jobs done, 75 some go on (here by the same command, or elsewhere), 1 with what failed."""
    try:
        return start(arguments)
    except Exception as error:
        print(f"error: {sentence(error)}", file=sys.stderr)
        return 1
