"""The wheels that a machine without internet lacks, for its Python and its platform, from a package registry by pip."""

import importlib.metadata
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lrjax.errors import LrjaxError, check

from .clusters import JAX

# A registry has these as source only; they are pure Python, and a wheel is built here.
SOURCE_ONLY = ("promise",)
# Declared by tensorflow_datasets, for formats that lrjax does not read: 55 MB.
UNUSED = ("pyarrow",)
LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}  # glibc 2.MINOR -> the older name of its tag


def requirements(extra: str | None, also: Sequence[str]) -> list[str]:
    """What lrjax needs, as its project file or its installed metadata say.

    Args:
        extra: an extra of JAX, such as "cuda12".
        also: further requirements.
    """
    project = Path(__file__).resolve().parents[1] / "pyproject.toml"
    if project.is_file():
        own = tomllib.loads(project.read_text())["project"]["dependencies"]
    else:
        own = [line for line in importlib.metadata.requires("lrjax") or () if "extra ==" not in line]
    return [*own, *([JAX.format(extra=extra)] if extra else []), *also]


def platforms(platform: str) -> list[str]:
    """The tags of wheels that run on a platform: for a Linux with glibc 2.N those for every older glibc too.

    Example:
        >>> platforms("manylinux_2_18_x86_64")[:3]
        ['manylinux_2_18_x86_64', 'manylinux_2_17_x86_64', 'manylinux2014_x86_64']
        >>> platforms("win_amd64")
        ['win_amd64']
    """
    match = re.fullmatch(r"(?:manylinux_2_(\d+)|(manylinux2014))_(\w+)", platform)
    if match is None:
        return [platform]
    newest, machine = int(match[1] or 17), match[3]
    tags = []
    for minor in range(newest, 4, -1):
        tags += [f"manylinux_2_{minor}_{machine}", *([f"{LEGACY[minor]}_{machine}"] if minor in LEGACY else [])]
    return tags


def normal(name: str) -> str:
    """A package's name as packages are compared by.

    Example:
        >>> normal("ML_Collections"), normal("orbax.checkpoint")
        ('ml-collections', 'orbax-checkpoint')
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def lacking(resolved: Iterable[dict[str, Any]], has: Iterable[str]) -> dict[str, str]:
    """Name -> version of the packages that a machine lacks: all but those it has and what those need.

    Args:
        resolved: metadata of all packages, as pip reports it.
        has: names of packages that are there.

    Raises:
        LrjaxError: one of the names is not among what lrjax needs.

    Example:
        >>> flax = {"name": "flax", "version": "1", "requires_dist": ["numpy>=2", 'torch; extra == "testing"']}
        >>> others = [{"name": name, "version": "2"} for name in ("numpy", "tqdm")]
        >>> lacking([flax, *others], ["flax"])
        {'tqdm': '2'}
    """
    needs = {
        normal(one["name"]): [
            normal(re.match(r"[\w.-]+", line)[0])  # pyright: ignore[reportOptionalSubscript]
            for line in one.get("requires_dist") or ()
            if "extra ==" not in line
        ]
        for one in resolved
    }
    there, waiting = set(), [normal(name) for name in has]
    unknown = [name for name in waiting if name not in needs]
    check(
        not unknown, f"--has={','.join(unknown)}: lrjax needs no such package; its packages: {', '.join(sorted(needs))}"
    )
    while waiting:
        name = waiting.pop()
        if name not in there:
            there.add(name)
            waiting += [needed for needed in needs[name] if needed in needs]
    return {one["name"]: one["version"] for one in resolved if normal(one["name"]) not in there}


def download(folder: Path, wanted: Sequence[str], *, python: str, platform: str, has: Sequence[str]) -> list[Path]:
    """Downloads the wheels that a machine lacks, and pip's own, which installs them there.

    Args:
        folder: made; of the wheels.
        wanted: requirements.
        python: version of the machine's Python, such as "3.12".
        platform: tag of its wheels, such as "manylinux_2_28_x86_64".
        has: packages that are there already.

    Returns:
        The wheels.

    Raises:
        LrjaxError: the registry is not reached, or has no such wheel.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tags = [word for tag in platforms(platform) for word in ("--platform", tag)]
    target = ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}", *tags]
    # Before it is known whether the machine lacks them: below, pip finds what is needed among wheels alone.
    _pip("wheel", "--no-deps", f"--wheel-dir={folder}", *SOURCE_ONLY)
    with tempfile.TemporaryDirectory() as made:
        report, nowhere = f"{made}/report.json", f"--target={made}/none"
        resolve = [
            "--dry-run",
            "--ignore-installed",
            "--quiet",
            f"--report={report}",
            nowhere,
            f"--find-links={folder}",
        ]
        _pip("install", *resolve, *target, *wanted)
        resolved = [entry["metadata"] for entry in json.loads(Path(report).read_text())["install"]]
    missing = {name: own for name, own in lacking(resolved, has).items() if normal(name) not in UNUSED}
    for name in SOURCE_ONLY:
        if name not in missing:
            for path in folder.glob(f"{name}-*.whl"):
                path.unlink()
    exact = [f"{name}=={version}" for name, version in missing.items() if name not in SOURCE_ONLY]
    _pip("download", "--no-deps", f"--dest={folder}", *target, *exact, "pip")
    return sorted(folder.glob("*.whl"))


def _pip(command: str, *words: str) -> None:
    """Runs pip of this Python; its last error is the sentence of ours."""
    run = [sys.executable, "-m", "pip", "--disable-pip-version-check", command, *words]
    done = subprocess.run(run, capture_output=True, text=True)
    if done.returncode:
        said = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        last = (said or done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise LrjaxError(
            f"pip {command} found no wheels for the bundle ({last}); check --python and --platform, or that a package "
            "registry can be reached from here"
        )
