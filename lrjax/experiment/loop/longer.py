"""Going on with a run for more steps, to the bits of a run that had them from the start; refused where that is not exact."""

import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from lrjax.errors import LrjaxError, by_path, check, refuse
from lrjax.experiment.config.canonical import Config, fingerprint, flatten, to_json, tuples
from lrjax.experiment.config.durations import due
from lrjax.experiment.config.overrides import apply_overrides, parse_value
from lrjax.experiment.loop import sweep
from lrjax.experiment.rundir import workdirs
from lrjax.experiment.rundir.files import write_atomic
from lrjax.experiment.rundir.metrics import read_status, write_status
from lrjax.experiment.rundir.records import read_meta, sealed

# May differ between the lanes of both: schedules are compared as tables, probes by when they measure.
FREE = ("steps", "schedule.", "l2_schedule.", "probes.", "checkpoint_every", "keep_checkpoints")
ANEW = "run it anew instead, with --config.steps"


def stored_config(source: Path) -> Config:
    """The config of a run directory.

    Raises:
        LrjaxError: it holds none.
    """
    check(source.is_dir(), f"there is no directory {source}; give --from the workdir of a run")
    try:
        content = json.loads((source / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise LrjaxError(f"{source}/config.json is missing or damaged; give --from the workdir of a run") from error
    known = isinstance(content, dict) and {"paper", "experiment", "steps", "sweep", "arms"} <= content.keys()
    check(known, f"{source}/config.json is not that of a run; give --from the workdir of a run")
    config = ConfigDict(tuples(content))
    config.lock()
    return config


def lengthened(config: Config, steps: str) -> Config:
    """A run's config with more steps.

    Args:
        config: as from `stored_config`.
        steps: how many in all, a number or a duration; "+1000" for so many more.

    Raises:
        LrjaxError: they are not more, or arms and the sweep say themselves how many.
    """
    own = [f"arms.{arm}" for arm, keys in config.arms.items() if keys is not None and "steps" in keys]
    own += ["sweep"] if "steps" in config.sweep else []
    check(not own, f"--steps is for lanes of one length, and here {', '.join(own)} set steps; {ANEW}")
    before = config.steps
    if steps.startswith("+"):
        more = steps[1:].isdecimal() and isinstance(before, int)
        check(more, f"--steps={steps} must be + and a number, of a run whose steps={before!r} are a number too")
        wanted: Any = before + int(steps[1:])
    else:
        wanted = parse_value(steps)
    longer = ConfigDict(config)
    longer.lock()
    return apply_overrides(longer, {"steps": wanted})


def default_folder(source: Path, config: Config) -> Path:
    """Beside the run, under the name that the longer one would have."""
    stem = re.sub(r"-[0-9a-f]{10}$", "", source.resolve().name)
    return source.resolve().with_name(f"{stem}-{fingerprint(config)}")


def begin(source: Path, workdir: Path, config: Config) -> str:
    """Makes a run directory that goes on where another one's first block of lanes can be gone on with.

    Args:
        source: of the shorter run; it stays as it is.
        workdir: of the longer one. One that is there already is gone on with as it is.
        config: of the longer one.

    Returns:
        A sentence for the user.

    Raises:
        LrjaxError: that would not be exact; says why.
    """
    old = stored_config(source)
    if (workdir / "config.json").exists():
        workdirs.inspect(workdir, config)
        return f"{workdir} is there already, and is gone on with"
    check(not workdir.exists() or not any(workdir.iterdir()), f"{workdir} is not empty; give another --workdir")
    with workdirs.opened(source, old):
        status = read_status(source)
        check(status is not None and bool(status.get("blocks")), f"{source} has not begun yet; run it first")
        assert status is not None
        meta = _place(source / "ckpt" / "block-000", *_same_lanes(old, config, status["blocks"][0]))
        _copy(source, workdir, config, meta, status)
    rest = len(status["blocks"]) - 1
    again = f"; its other {rest} block{'s' if rest > 1 else ''} of lanes run from their start" if rest else ""
    return f"{workdir} goes on from step {meta['step']} of {source}{again}"


def _same_lanes(old: Config, new: Config, block: list[int]) -> tuple[list[sweep.Lane], list[sweep.Lane]]:
    """The lanes of the first block, before and now; refuses where a setting other than the length has changed with it."""
    pairs = []
    for config in (old, new):
        lanes = {lane.index: lane for group in sweep.expand(config) for lane in group.lanes}
        pairs.append([lanes[index] for index in block])
    for before, now in zip(*pairs, strict=True):
        mine, theirs = flatten(now.config), flatten(before.config)
        keys = sorted(k for k in mine.keys() | theirs.keys() if mine.get(k) != theirs.get(k) and not k.startswith(FREE))
        check(
            not keys, f"{', '.join(keys[:3])} would be another one with these steps, so the run could not go on; {ANEW}"
        )
        longer, was = now.config.steps, before.config.steps
        check(longer > was, f"--steps={longer} must be more than the {was} of the run; +N stands for N more")
    return pairs[0], pairs[1]


def _place(folder: Path, old: list[sweep.Lane], new: list[sweep.Lane]) -> dict[str, Any]:
    """The record of the newest checkpoint up to which both runs are the same."""
    reason = "it has no checkpoint"
    for meta in sorted(read_meta(folder), key=lambda meta: -meta["step"]):
        found = next(
            (r for one, other in zip(old, new, strict=True) if (r := _differs(one, other, meta["step"]))), None
        )
        if found is None:
            return meta
        reason = found
    refuse(f"this run cannot be made longer exactly: {reason}; {ANEW}")


def _differs(old: sweep.Lane, new: sweep.Lane, at: int) -> str | None:
    """Why a lane at a step of the shorter run is not what it would be in the longer one; None where it is."""
    end, chunk = old.config.steps, old.config.log_every
    made = min(at, end)
    if not np.array_equal(old.learning_rates()[:made], new.learning_rates()[:made]):
        return f"its schedule {old.config.schedule.name!r} depends on the length of the run"
    rows = zip(by_path(old.coefficients()).values(), by_path(new.coefficients()).values(), strict=True)
    if not all(np.array_equal(a[:made], b[:made]) for a, b in rows):
        return "its weight decay depends on the length of the run"
    if at > end:
        return f"its last checkpoint is beyond its end, since log_every={chunk} does not divide steps={end}"
    for name in old.config.probes:
        mine, theirs = old.config.probes[name], new.config.probes[name]
        if at == end and not due(theirs, at):
            return (
                f"the probe {name} measured at its end, where a longer run does not, and no checkpoint before is kept"
            )
        if any(due(mine, step) != due(theirs, step) for step in range(0, at + 1, chunk)):
            return f"the probe {name} measures at steps that depend on the length of the run"
    return None


def _copy(source: Path, workdir: Path, config: Config, meta: dict[str, Any], status: dict[str, Any]) -> None:
    """What stands at the checkpoint, as a run directory of the new config; whole or not at all."""
    step, block = meta["step"], Path("ckpt") / "block-000"
    try:
        workdir.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=workdir.parent, prefix=f".{workdir.name}-"))
    except OSError as error:
        raise LrjaxError(f"cannot write to {workdir} ({error.strerror}); give another --workdir") from error
    try:
        (part / "arrays").mkdir()
        shutil.copytree(source / block / str(step), part / block / str(step), symlinks=True)
        forks = source / "ckpt" / "block-000-forks"
        if forks.is_dir():
            shutil.copytree(forks, part / "ckpt" / forks.name, symlinks=True)
        write_atomic(part / block / str(step) / "meta" / "metadata", json.dumps(sealed(meta | {"finished": False})))
        for path in (source / "arrays").glob("block-000-*.npz"):
            if int(path.stem.split("-")[2]) <= step:
                shutil.copyfile(path, part / "arrays" / path.name)
        with open(source / "metrics.jsonl", "rb") as rows:
            write_atomic(part / "metrics.jsonl", rows.read(meta["offset"]))
        write_atomic(part / "config.json", to_json(config) + "\n")
        kept = {key: value for key, value in status.items() if key not in ("bytes", "rows", "arrays")}  # of the whole
        write_status(part, kept | {"state": "preempted", "config": fingerprint(config)})
        part.chmod(0o755)
        part.rename(workdir)  # over an empty folder, too
    except OSError as error:
        raise LrjaxError(f"could not copy {source} to {workdir} ({error}); free disk space and run it again") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
