"""Jobs as what a cluster takes: a Slurm array, a script for a TPU VM, SkyPilot tasks, Kubernetes JobSets.

The files beside this one are the templates; change there what your cluster wants otherwise.
"""

import argparse
import json
import re
import shlex
import shutil
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from lrjax.errors import check

from .local import Job

AHEAD_S = 120  # between the warning and the end: time to save
PORT = 8476  # of the first of several hosts, where the others look for it
# In every process of several hosts, from what SkyPilot says of them.
JOIN = (
    f'export JAX_COORDINATOR_ADDRESS="$(head -n 1 <<< "$SKYPILOT_NODE_IPS"):{PORT}" '
    'JAX_NUM_PROCESSES="$SKYPILOT_NUM_NODES" JAX_PROCESS_ID="$SKYPILOT_NODE_RANK"'
)

# The range of JAX that lrjax takes, with an accelerator's extra; pip does nothing where it is there already.
JAX = "jax[{extra}]>=0.10,<0.13"
EXTRAS = ("cuda12", "cuda13", "tpu", "none")

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,  # shell and YAML; what a user gives is quoted or checked before
)


class Submission(NamedTuple):
    """What a cluster is given."""

    files: dict[str, str]  # name -> content
    commands: list[list[str]]  # with file names where the paths of the files go


class Target(NamedTuple):
    """A place where jobs run."""

    program: str
    install: str  # how one gets the program
    needs: tuple[str, ...]  # flags
    shares_files: bool  # the folder of the runs is one of this machine too
    submission: Callable[[Sequence[Job], argparse.Namespace], Submission]


def _filled(template: str, **values: Any) -> str:
    """A template of this folder with its names filled in; one that it does not name is an error."""
    return _TEMPLATES.get_template(template).render(values)


def _short(job: Job) -> str:
    """A name that Kubernetes takes too: lower case, at most 40 characters, the fingerprint at its end."""
    stem, _, fingerprint = job.name.lower().rpartition("-")
    return f"{re.sub('[^a-z0-9]+', '-', stem)[:29].strip('-')}-{fingerprint}"


def _pairs(settings: Sequence[str], flag: str) -> dict[str, Any]:
    pairs = [setting.partition("=") for setting in settings]
    check(all(equals for _, equals, _ in pairs), f"write --{flag}=KEY=VALUE")
    return {key: int(value) if value.isdigit() else value for key, _, value in pairs}


def extra_of(flags: argparse.Namespace) -> str | None:
    """The extra of lrjax that an accelerator needs: --extra, or what the target's own option names; None for a CPU.

    Raises:
        LrjaxError: an accelerator that no extra is for.
    """
    if flags.extra:
        return None if flags.extra == "none" else flags.extra
    named = {"tpu_vm": "tpu", "skypilot": flags.accelerators, "kubernetes": " ".join(flags.resource)}
    words = (named.get(flags.target) or "").lower()
    if "tpu" in words:
        return "tpu"
    foreign = re.search(r"amd|mi\d{3}|gaudi|trainium|inferentia|intel", words)
    check(
        foreign is None or bool(flags.setup),
        f"lrjax has no extra for {words}; give --setup, the command that installs JAX for it",
    )
    gpu = foreign is None and (flags.target == "skypilot" or "gpu" in words or "nvidia" in words)
    return "cuda12" if gpu else None


def _with_jax(flags: argparse.Namespace) -> str:
    """The shell command that installs JAX for the accelerator; empty for a CPU."""
    extra = extra_of(flags)
    return f"python -m pip install --quiet {shlex.quote(JAX.format(extra=extra))}" if extra else ""


def _is_checkout(folder: Path) -> bool:
    """Whether a folder is a checkout of lrjax: what pip would install from another is another project."""
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text()).get("project", {})
    except (OSError, ValueError):
        return False
    return project.get("name") == "lrjax"


def slurm(jobs: Sequence[Job], flags: argparse.Namespace) -> Submission:
    """One array; a task queues itself again before its time limit."""
    cases = [f"{number}) command=({shlex.join(job.command)}) ;;" for number, job in enumerate(jobs)]
    text = _filled(
        "slurm.sh",
        name="lrjax",
        array=f"0-{len(jobs) - 1}" + (f"%{flags.parallel}" if flags.parallel else ""),
        time=flags.time,
        hosts=flags.hosts,
        root=flags.workdir,
        ahead=AHEAD_S,
        options="\n".join(f"#SBATCH {option}" for option in flags.option),
        cases="\n".join(cases),
        setup=flags.setup or "",
    )
    return Submission({"slurm.sh": text}, [["sbatch", "slurm.sh"]])


def tpu_vm(jobs: Sequence[Job], flags: argparse.Namespace) -> Submission:
    """A script that stays here and runs one job after the other on all hosts of a TPU VM."""
    setup = flags.setup or " && ".join(filter(None, ["cd lrjax", ". .venv/bin/activate", _with_jax(flags)]))
    runs = [f"run {shlex.quote(f'{setup} && {shlex.join(job.command)}')}" for job in jobs]
    quoted = dict(tpu=shlex.quote(flags.tpu), zone=shlex.quote(flags.zone))
    text = _filled("tpu_vm.sh", **quoted, attempts=flags.attempts, runs="\n".join(runs))
    return Submission({"tpu_vm.sh": text}, [["bash", "tpu_vm.sh"]])


def skypilot(jobs: Sequence[Job], flags: argparse.Namespace) -> Submission:
    """A managed job each; SkyPilot takes it up again on another machine."""
    files, extra = {}, extra_of(flags)
    check(
        bool(flags.setup) or _is_checkout(Path()),
        "--target=skypilot sends this folder and installs it, and it is no checkout of lrjax; start it in one, or give "
        "--setup, the command that installs lrjax, such as --setup='pip install URL-OF-A-WHEEL'",
    )
    install = f'pip install -e ".[{extra}]"' if extra else "pip install -e ."
    for job in jobs:
        files[f"{_short(job)}.yaml"] = _filled(
            "skypilot.yaml",
            name=_short(job),
            accelerators=flags.accelerators,
            root=flags.workdir,
            storage=flags.storage,
            hosts=flags.hosts,
            # On several hosts the error of one may be that of a host whose peer was preempted.
            errors=0 if flags.hosts == 1 else flags.attempts,
            join="" if flags.hosts == 1 else JOIN,
            setup=flags.setup or install,
            command=shlex.join(job.command),
        )
    return Submission(files, [["sky", "jobs", "launch", "--yes", "--detach-run", name] for name in files])


def kubernetes(jobs: Sequence[Job], flags: argparse.Namespace) -> Submission:
    """A JobSet each, which restarts after a preemption."""
    texts, setup = [], flags.setup or _with_jax(flags)
    for job in jobs:
        # The job takes the place of the shell, so that it gets the signals.
        before = ["sh", "-c", f'{setup} && exec "$@"', "sh"] if setup else []
        first = (
            f"{_short(job)}-run-0-0.{_short(job)}:{PORT}"  # its first pod; a pod's own number is JOB_COMPLETION_INDEX
        )
        several = {"JAX_COORDINATOR_ADDRESS": first, "JAX_NUM_PROCESSES": str(flags.hosts)}
        variables = [{"name": name, "value": value} for name, value in several.items() if flags.hosts > 1]
        texts.append(
            _filled(
                "jobset.yaml",
                name=_short(job),
                attempts=flags.attempts,
                on_error="FailJobSet" if flags.hosts == 1 else "RestartJobSet",
                hosts=flags.hosts,
                ahead=AHEAD_S,
                selector=json.dumps(_pairs(flags.node_selector, "node_selector")),
                image=flags.image,
                command=json.dumps([*before, *job.command]),
                environment=json.dumps(variables),
                resources=json.dumps(_pairs(flags.resource, "resource")),
                root=flags.workdir,
                storage=flags.storage,
            )
        )
    return Submission({"jobset.yaml": "---\n".join(texts)}, [["kubectl", "apply", "--filename", "jobset.yaml"]])


TARGETS = {
    "slurm": Target(
        "sbatch", "run this on a login node of the cluster, or install Slurm's client programs", (), True, slurm
    ),
    "tpu_vm": Target("gcloud", "install the Google Cloud CLI (cloud.google.com/sdk)", ("tpu", "zone"), False, tpu_vm),
    "skypilot": Target("sky", "pip install skypilot", ("accelerators", "storage"), False, skypilot),
    "kubernetes": Target(
        "kubectl", "install kubectl (kubernetes.io/docs/tasks/tools)", ("image", "storage"), False, kubernetes
    ),
}


def submission(target: str, jobs: Sequence[Job], flags: argparse.Namespace, *, dry_run: bool) -> Submission:
    """What a cluster is given for some jobs.

    Raises:
        LrjaxError: its program is not installed (where it is to be used), or a flag is missing.
    """
    place = TARGETS[target]
    missing = [f"--{name}" for name in place.needs if not getattr(flags, name)]
    check(not missing, f"--target={target} needs {' and '.join(missing)}; see --help")
    on_mount = target not in ("skypilot", "kubernetes") or Path(flags.workdir).is_absolute()
    check(on_mount, f"--target={target} mounts the storage at --workdir: give an absolute path, such as /runs/NAME")
    for name in ("workdir", "storage", "image", "accelerators"):
        value = getattr(flags, name) or ""
        check(re.fullmatch(r"[\w./:@+=-]*", value) is not None, f"--{name}={value!r}: no blanks and quotes, please")
    check(target != "tpu_vm" or flags.hosts == 1, "--target=tpu_vm runs on every host of the TPU VM; leave --hosts out")
    found = dry_run or shutil.which(place.program)
    check(bool(found), f"--target={target} needs the program {place.program}, which is not here: {place.install}")
    return place.submission(jobs, flags)
