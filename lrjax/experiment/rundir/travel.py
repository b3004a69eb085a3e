"""Run directories that go from one machine to another: which of their files, and how one takes its place where it arrives."""

import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from lrjax.errors import check
from lrjax.experiment.config.canonical import fingerprint
from lrjax.experiment.rundir.archives import Member, members_of
from lrjax.experiment.rundir.files import disk_error, read_json
from lrjax.experiment.rundir.locks import LOCKS, locked, undisturbed
from lrjax.experiment.rundir.metrics import read_status
from lrjax.experiment.rundir.records import newest
from lrjax.experiment.rundir.workdirs import OWN

BLOCK = re.compile(r"block-\d+")


def without_workdir(words: Iterable[str]) -> list[str]:
    """The words of a command without its run directory, which is another one where the run goes to.

    Example:
        >>> without_workdir(["lrjax", "run", "--workdir=here", "--plain_process"])
        ['lrjax', 'run', '--plain_process']
    """
    return [word for word in words if not word.startswith("--workdir=")]


def _newest_steps(workdir: Path) -> dict[str, int]:
    """Block -> the step of its newest whole checkpoint."""
    folders = [path for path in sorted((workdir / "ckpt").glob("block-*")) if BLOCK.fullmatch(path.name)]
    return {path.name: newest(path).get("step", 0) for path in folders}


def members_of_run(workdir: Path, prefix: str = "", *, checkpoints: bool) -> Iterator[Member]:
    """The files of a run that another machine needs.

    Args:
        workdir: the run directory; nobody writes there.
        prefix: put before their names.
        checkpoints: those that the run resumes from, and all of a run that keeps all; without them a finished run can be
            read, judged and shown.
    """
    config = read_json(workdir / "config.json", dict)
    steps = {} if config.get("keep_checkpoints") == "all" else _newest_steps(workdir)

    def leave(path: Path) -> bool:
        top, *rest = path.parts
        if top not in OWN or top in LOCKS or (top == "ckpt" and not checkpoints):
            return True
        if any(part.startswith(".") or "checkpoint-tmp" in part for part in path.parts):
            return True  # being written when the process was killed
        older = top == "ckpt" and len(rest) > 1 and rest[0] in steps and rest[1].isdigit()
        return older and int(rest[1]) != steps[rest[0]]

    yield from members_of(workdir, prefix, leave)


def progress(workdir: Path) -> tuple[bool, int]:
    """How far a run is: whether it is done, and the steps of its newest checkpoints together."""
    status = read_status(workdir) or {}
    return status.get("state") == "done", sum(_newest_steps(workdir).values())


def arrive(source: Path, target: Path) -> bool:
    """Gives a run directory its place, unless the same run is there and as far.

    Args:
        source: of the run; on the file system of `target`.
        target: its place; an earlier state of the same run there is replaced.

    Returns:
        Whether it took the place.

    Raises:
        LrjaxError: `source` is no run, or `target` is another one, or in use.
    """
    stray = sorted(path.name for path in source.iterdir() if path.name not in OWN)
    check(not stray, f"{source.name} holds {', '.join(stray[:3])}, which is no file of a run; it is left out")
    check((source / "config.json").is_file(), f"{source.name} has no config.json, so it is no run; it is left out")
    arriving = fingerprint(read_json(source / "config.json", dict))
    try:
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            source.rename(target)
            return True
        with locked(target), undisturbed(target, wait_s=0.0):
            here = target / "config.json"
            if here.exists():
                same = fingerprint(read_json(here, dict)) == arriving
                check(same, f"{target} holds a run of another config; give another --runs, or move it away")
                if progress(target) >= progress(source):
                    return False
            else:
                foreign = [path.name for path in target.iterdir() if path.name not in LOCKS]
                check(not foreign, f"{target} holds files that are not a run's; give another --runs, or move it away")
            earlier = target.with_name(f".{target.name}.{secrets.token_hex(4)}.earlier")
            target.rename(earlier)
            source.rename(target)
        shutil.rmtree(earlier, ignore_errors=True)
    except OSError as error:
        raise disk_error(target, error) from error
    return True
