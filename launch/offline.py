"""Jobs as a bundle for a machine that sees no internet: sources, wheels, data sets and the queue, in parts of a limited size.

`python run.py` in the bundle sets up (`unpack.py`), works through the queue (`node.py`) and leaves results, which
`lrjax import` takes back. The runs of jobs that have begun here travel with the bundle, and go on there.
"""

import argparse
import contextlib
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lrjax.errors import LrjaxError, check
from lrjax.experiment.rundir import archives
from lrjax.experiment.rundir.archives import Member
from lrjax.experiment.rundir.files import disk_error, write_atomic
from lrjax.experiment.rundir.manifests import read_manifest
from lrjax.files import sha256
from lrjax.version import __version__

from . import unpack, wheels
from .clusters import extra_of
from .local import Job, state_of

PART_SIZE, RESULT_SIZE = "60M", "15M"
PARALLEL = 3
PACKAGE = Path(__file__).resolve().parents[1]  # the checkout, or the installed package
ROOT = PACKAGE if (PACKAGE / "lrjax").is_dir() else PACKAGE.parent
SOURCES = ("lrjax", "configs", "launch") if ROOT == PACKAGE else ("lrjax",)


class Needs(NamedTuple):
    """What a job reads besides the sources."""

    config: str  # FILE[:EXPERIMENT][,scale=SCALE], the file from the working directory
    files: dict[str, Path]  # place below the working directory -> a file of the user
    data: dict[str, Path]  # folder of a data set, from that of all data sets -> where it lies here
    moved: bool  # its config says where data sets lie, and must say so of another place there


def add_flags(add: Callable[..., Any]) -> None:
    """The flags of this target."""
    add("--bundle", help="offline: folder of the bundle, made if missing; an earlier bundle in it is replaced")
    add("--python", default="3.12", help="offline: version of the machine's Python; default: 3.12")
    add(
        "--platform", default="manylinux_2_28_x86_64", help="offline: tag of its wheels; default: manylinux_2_28_x86_64"
    )
    add("--has", default="", help="offline: packages it has already, as jax,flax,optax; what they need is there too")
    add("--also", action="append", default=[], help="offline: a further package, as tokenizers; repeatable")
    add("--include", action="append", default=[], help="offline: a file or folder of yours that jobs read; repeatable")
    unpack.add_limits(add, "offline: ")


def _below(path: Path, what: str) -> str:
    """A path as it is read from the working directory, which is another one on the machine."""
    place = os.path.relpath(path, Path.cwd())
    check(
        not place.startswith(".."),
        f"{what} {path} lies outside of this folder, and has no place in a bundle; move it here",
    )
    return Path(place).as_posix()


def _config_files(spec: str) -> tuple[str, dict[str, Path]]:
    """A config as it is named on the machine, and the files of its folder that it has imported, where it is the user's own."""
    from lrjax.experiment.config.load import config_folders, find_config

    name, _, experiment = spec.partition(".py")
    path = find_config(f"{name}.py")
    packaged = [folder.resolve() for folder in config_folders()[1:]]
    if path.resolve().parent in packaged:
        return f"configs/{path.name}{experiment}", {}
    imported = [module for name, module in sys.modules.items() if name.startswith("lrjax_configs_")]
    modules = [Path(str(module.__file__)) for module in imported if getattr(module, "__file__", None)]
    own = [file for file in modules if file.resolve().parent == path.resolve().parent]
    files = {_below(file, "the config file"): file for file in own}
    return _below(path, "the config file") + experiment, files


def needs_of(job: Job) -> Needs:
    """What a job reads.

    Raises:
        LrjaxError: a data set or a file is not here.
    """
    from lrjax.data import DATASETS
    from lrjax.experiment.config.canonical import flatten
    from lrjax.experiment.config.load import load_config
    from lrjax.experiment.loop.sweep import expand
    from lrjax.main import parse

    flags, overrides = parse(job.command[3:])
    data, moved = {}, "data_dir" in overrides
    lanes = [lane.config for group in expand(load_config(flags.config, overrides)) for lane in group.lanes]
    spec, files = _config_files(flags.config)
    for lane in lanes:
        found = DATASETS[lane.data.name].files(lane)
        if found is not None:
            check(archives.is_inside(found[1]), f"data.source={found[1]!r} is no folder in data_dir; give one that is")
            data[found[1]] = found[0] / found[1]
            moved |= bool(lane.get("data_dir")) or lane.data.get("format") == "folder"
        for key, value in flatten(lane).items():
            if isinstance(value, str) and value and key != "data_dir" and Path(value).is_file():
                absolute = Path(value).is_absolute()
                check(
                    not absolute, f"{key}={value}: give a path from this folder, which is the same on the other machine"
                )
                files[_below(Path(value), key)] = Path(value)
    return Needs(spec, files, data, moved)


def command_there(job: Job, needs: Needs) -> list[str]:
    """The command of a job without its folders, which are others on the machine."""
    from lrjax.experiment.rundir.travel import without_workdir

    own = [word for word in without_workdir(job.command) if not word.startswith(("--config=", "--config.data_dir="))]
    return [*own[:3], f"--config={needs.config}", *own[3:]]


def _skipped(path: Path) -> bool:
    return "__pycache__" in path.parts or any(part.startswith(".") for part in path.parts)


def _write_source(path: Path, flags: argparse.Namespace) -> None:
    """The sources as a zip file, from which Python also imports; what git knows of them goes with them."""
    from lrjax.experiment.rundir.workdirs import PACKED, code_state

    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for folder in SOURCES:
            for member in archives.members_of(ROOT / folder, f"{folder}/", _skipped):
                file.write(member.path, member.name)
        file.writestr(PACKED, json.dumps(code_state()))
    size, part_size = path.stat().st_size, flags.part_size or PART_SIZE
    fits = size <= archives.to_bytes(part_size, "--part_size")
    check(fits, f"--part_size={part_size} is less than the {size} bytes of {path.name}, which stays whole")


def _included(paths: Sequence[str]) -> dict[str, Path]:
    """What --include names."""
    files = {}
    for path in map(Path, paths):
        check(path.exists(), f"--include={path}: there is no such file or folder")
        place = _below(path, "--include")
        one = [Member(place, path)]
        inside = archives.members_of(path, f"{place}/", _skipped, whole=True) if path.is_dir() else one
        files |= {member.name: member.path for member in inside}
    return files


def _data(needs: Sequence[Needs]) -> dict[str, list[Member]]:
    """The data sets of all jobs, each with its files."""
    data = {name: path for one in needs for name, path in one.data.items()}
    return {name: list(archives.members_of(path, whole=True)) for name, path in sorted(data.items())}


def _begun(jobs: Sequence[Job]) -> Iterator[Member]:
    """The run directories of jobs that have begun here."""
    from lrjax.experiment.rundir.travel import members_of_run

    for job in jobs:
        if state_of(job) != "new":
            yield from members_of_run(job.workdir, f"{job.name}/", checkpoints=True)


def _archives(folder: Path, jobs: Sequence[Job], data: dict, files: dict[str, Path], flags: Any) -> list[dict]:
    """Writes the archives of a bundle; returns their records, each with its place on the machine."""
    most = archives.to_bytes(flags.part_size or PART_SIZE, "--part_size")
    own = (Member(name, path) for name, path in sorted(files.items()))
    contents: dict[str, tuple[str, Iterable[Member]]] = {"files": ("files", own)}
    for name, members in data.items():
        contents[f"data-{name.replace('/', '-')}"] = (f"data/{name}", members)
    contents["begun"] = ("begun", _begun(jobs))
    made = []
    for name, (place, members) in contents.items():
        record = archives.write(folder, f"{name}.tar", members, most)
        if record["content"] or place.startswith("data/"):
            made.append(record | {"place": place})
        else:
            (folder / record["parts"][0]["name"]).unlink()
    return made


def _wheels(folder: Path, flags: Any, wanted: list[str], earlier: dict[str, Any]) -> dict[str, Any]:
    """Writes the archive of the wheels, unless the bundle before has it whole; returns its record."""
    has = [name for name in flags.has.split(",") if name]
    most = archives.to_bytes(flags.part_size or PART_SIZE, "--part_size")
    asked = {"python": flags.python, "platform": flags.platform, "has": has, "wanted": wanted, "most": most}
    for record in earlier["archives"]:
        if record.get("asked") == asked:
            with contextlib.suppress(LrjaxError):
                archives.verify(folder, record)
                return record
    with tempfile.TemporaryDirectory(dir=folder) as there:
        wheels.download(Path(there), wanted, python=flags.python, platform=flags.platform, has=has)
        record = archives.write(folder, "wheels.tar", archives.members_of(Path(there)), most)
    return record | {"place": "wheels", "asked": asked}


def _earlier(folder: Path) -> dict[str, Any]:
    """The manifest of an earlier bundle in a folder.

    Raises:
        LrjaxError: the folder holds something else.
    """
    if (folder / unpack.MANIFEST).is_file():
        return read_manifest(folder / unpack.MANIFEST)
    check(folder.is_dir() or not folder.exists(), f"{folder} is a file; give another --bundle")
    # What a bundle that was not finished left is no reason to refuse.
    foreign = [p.name for p in folder.glob("*") if not re.fullmatch(r"source\.zip|run\.py|[\w.-]+\.tar\.\d{3}", p.name)]
    check(
        not foreign, f"{folder} is not empty and no bundle (it holds {', '.join(foreign[:3])}); give another --bundle"
    )
    return {"archives": []}


def _shown(jobs: Sequence[Job], data: dict[str, list[Member]], files: dict[str, Path], flags: Any) -> int:
    for job in jobs:
        print(shlex.join(job.command))
    for name, members in data.items():
        print(f"# data set {name}: {sum(member.path.stat().st_size for member in members) / 1e6:.0f} MB")
    for name in sorted(files):
        print(f"# file {name}")
    begun = [job.name for job in jobs if state_of(job) != "new"]
    print(f"# begun here, goes on there: {', '.join(begun) or 'none'}")
    print(f"# wheels for Python {flags.python} on {flags.platform}, without {flags.has or 'any package'} there")
    return 0


def pack(jobs: Sequence[Job], flags: argparse.Namespace) -> int:
    """Makes the bundle of some jobs.

    Args:
        jobs: those that are not done.
        flags: of `launch.jobs`.

    Returns:
        The exit status.

    Raises:
        LrjaxError: a flag is wrong, a data set is not here, or the wheels cannot be had.
    """
    check(bool(flags.bundle), "--target=offline needs --bundle, the folder to pack into; see --help")
    check(flags.hosts == 1, "--target=offline is for one machine; leave --hosts out")
    unpack.check_limits(flags)
    files, needs = _included(flags.include), [needs_of(job) for job in jobs]
    for one in needs:
        files |= one.files
    data = _data(needs)
    if flags.dry_run:
        return _shown(jobs, data, files, flags)
    folder, wanted = Path(flags.bundle), wheels.requirements(extra_of(flags), flags.also)
    earlier = _earlier(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_source(folder / unpack.SOURCE, flags)
        records = [_wheels(folder, flags, wanted, earlier), *_archives(folder, jobs, data, files, flags)]
        shutil.copyfile(Path(__file__).with_name("run_here.py"), folder / "run.py")
        parts = {part["name"] for record in records for part in record["parts"]}
        for old in {part["name"] for record in earlier["archives"] for part in record["parts"]} - parts:
            (folder / old).unlink(missing_ok=True)
    except OSError as error:
        raise disk_error(folder, error) from error
    queue = {
        job.name: {
            "command": command_there(job, one),
            "moved": one.moved,
            "home": list(job.command),
            "values": job.values,
        }
        for job, one in zip(jobs, needs, strict=True)
    }
    limits = {name: getattr(flags, name) for name in ("budget", "out_size", "keep_checkpoints")}
    manifest = {
        "version": __version__,
        "sweep": Path(flags.workdir).name,
        "python": flags.python,
        "source": sha256(folder / unpack.SOURCE),
        "requirements": wanted,
        "flags": limits | {"part_size": RESULT_SIZE, "parallel": flags.parallel or PARALLEL},
        "archives": records,
        "jobs": queue,
    }
    write_atomic(folder / unpack.MANIFEST, json.dumps(manifest, indent=1) + "\n")
    _say(folder, len(jobs))
    return 0


def _say(folder: Path, jobs: int) -> None:
    files = [path for path in folder.iterdir() if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    print(f"{folder}: {jobs} job{'s' * (jobs > 1)}, {len(files)} files, {size:.0f} MB")
    print("there: python run.py; then bring back its folder results; here: lrjax import results")
