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
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lrjax.errors import LrjaxError
from lrjax.experiment.config.durations import to_seconds
from lrjax.experiment.rundir import archives
from lrjax.experiment.rundir.archives import Member
from lrjax.experiment.rundir.files import write_atomic
from lrjax.experiment.rundir.manifests import read_manifest
from lrjax.experiment.rundir.travel import arrive, members_of_run
from lrjax.main import sentence
from lrjax.version import __version__

from . import local, unpack
from .local import PREEMPTED, Job, state_of

RESULTS = "results.json"
RESERVE_S = 60.0  # of the budget, for records and results; a quarter of a shorter one
ATTEMPTS = 3
LOG_BYTES = 200_000  # of a job's log, its end
ENTRY_BYTES = 300  # in results.json, of an archive and of each part of it, at most
NO_ROOM = {what: f"its {what} has no room within --out_size" for what in ("record", "log", "run")}


def settings(work: Path, parallel: int) -> dict[str, str]:
    """The environment variables of the jobs; of those that are set, XLA_PYTHON_CLIENT_* stay."""
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


def _log(job: Job, work: Path) -> list[Member]:
    """The end of the log of a job, where it has one."""
    log, end = work / "logs" / f"{job.name}.log", work / "ends" / f"{job.name}.log"
    if not log.exists():
        return []
    end.parent.mkdir(exist_ok=True)
    end.write_bytes(log.read_bytes()[-LOG_BYTES:])
    return [Member(f"logs/{log.name}", end)]


class Results:
    """The folder of results, filled in the order of what is worth most, up to its size.

    Args:
        folder: made if missing; the results of an earlier start in it are replaced.
        part_size: bytes of a file at most.
        room: bytes at most of all archives and their entries in the manifest.
    """

    def __init__(self, folder: Path, part_size: int, room: float):
        self.folder, self.part_size, self.left = folder, part_size, room
        self.records: list[dict[str, Any]] = []
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / RESULTS).is_file():
            with contextlib.suppress(LrjaxError):  # damaged: its parts stay, and belong to nothing
                for record in read_manifest(folder / RESULTS)["archives"]:
                    for part in record["parts"]:
                        (folder / part["name"]).unlink(missing_ok=True)
            (folder / RESULTS).unlink()

    def _needed(self, size: float) -> float:
        """Bytes of an archive and its entry."""
        return size + ENTRY_BYTES * (1 + math.ceil(size / self.part_size))

    def _sizes(self, groups: dict[str, list[Member]]) -> dict[str, float]:
        """Bytes of the archive of each group alone: an upper bound where all have room, else exactly."""
        if math.isinf(self.left):
            return dict.fromkeys(groups, 0)
        # What gzip cannot compress grows by less than 0.1 %.
        most = {group: 1.001 * archives.size_of(own, compressed=False) + 64 for group, own in groups.items()}
        fits = self._needed(sum(most.values())) <= self.left
        return most if fits else {group: archives.size_of(own) for group, own in groups.items()}

    def add(self, name: str, groups: dict[str, list[Member]]) -> set[str]:
        """Writes an archive of those groups of files that have room; returns the names of the others."""
        groups = {group: own for group, own in groups.items() if own}
        taken, total = [], 0.0
        for group, size in self._sizes(groups).items():
            if self._needed(total + size) <= self.left:
                taken.append(group)
                total += size
        while taken:
            members = [member for group in taken for member in groups[group]]
            record = archives.write(self.folder, f"{name}.tar.gz", members, self.part_size, compressed=True)
            needed = self._needed(sum(part["bytes"] for part in record["parts"]))
            if needed <= self.left:
                self.left -= needed
                self.records.append(record)
                break
            # Groups compressed together may need a little more than each alone.
            taken.pop()
            for part in record["parts"]:
                (self.folder / part["name"]).unlink()
        return groups.keys() - set(taken)


def bring_back(jobs: Sequence[Job], found: dict[str, str], flags: Any, manifest: dict[str, Any]) -> dict[str, Any]:
    """Writes the results: records first, then what is done, then what goes on elsewhere; returns their manifest."""
    part_size = archives.to_bytes(flags.part_size, "--part_size")
    out_size = archives.to_bytes(flags.out_size, "--out_size") if flags.out_size else math.inf
    records, done, begun, told = {}, {}, {}, {}
    for job in jobs:
        state, entry = state_of(job), manifest["jobs"][job.name]
        said = "; ".join([found[job.name], *NO_ROOM.values()])  # at its longest, so that there is room for it
        told[job.name] = {"home": entry["home"], "values": entry["values"], "state": state, "said": said}
        folder = flags.work / "records" / job.name
        records[job.name] = list(archives.members_of(folder, f"records/{job.name}/"))
        if state == "done":
            done[job.name] = list(members_of_run(job.workdir, f"{job.name}/", checkpoints=flags.keep_checkpoints))
        elif (job.workdir / "config.json").exists():
            begun[job.name] = list(members_of_run(job.workdir, f"{job.name}/", checkpoints=True))
    content = {"version": __version__, "sweep": manifest["sweep"], "archives": [], "jobs": told}
    results = Results(flags.out, part_size, out_size - len(json.dumps(content, indent=1)) - 1)
    left_out = {
        "record": results.add("records", records),
        "log": results.add("logs", {job.name: _log(job, flags.work) for job in jobs}),
        "run": results.add("done", done) | results.add("unfinished", begun),
    }
    content["archives"] = results.records
    for name, job in told.items():
        job["said"] = "; ".join([found[name], *(NO_ROOM[kind] for kind, names in left_out.items() if name in names)])
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
    for name, job in bring_back(jobs, found, flags, manifest)["jobs"].items():
        say(f"{name}: {job['said']}")
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
