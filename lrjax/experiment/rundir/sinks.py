"""Further sinks of the rows of metrics.jsonl: TensorBoard and Weights & Biases, one run a lane.

metrics.jsonl and arrays/ are always written and all that a report needs; a sink is for watching. Which ones is no part of the
experiment: a run can be gone on with, or read, with others or none. To add one, write a function like `tensorboard` and a
row in `SINKS`.
"""

import importlib
import inspect
import json
import math
import os
import re
import shutil
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from lrjax.errors import LrjaxError, check, nearest
from lrjax.experiment.rundir.files import read_json, refuse_link, write_atomic
from lrjax.experiment.rundir.names import lane_names

MetricsRow = Mapping[str, Any]
Sink = Callable[[Sequence[MetricsRow]], None]
NAMES = ("lane", "arm", "step")  # what a row is of, rather than what was measured


def _package(name: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise LrjaxError(f"the sink {extra} needs a package: pip install {package} (the extra {extra})") from error


def _lane(row: MetricsRow) -> str:
    # The arm is a name from a file, and this the name of a folder.
    return f"lane-{row['lane']:03d}-{re.sub(r'[^A-Za-z0-9_.,=+-]', '_', row['arm'])}"


def titles(workdir: Path) -> dict[int, str]:
    """Lane -> what a sink calls it, by what differs: `e=1.1 seed=0`; from status.json, which is written before a row.

    They are names of folders too, so what a file system or TensorBoard may not take is replaced.
    """
    try:
        lanes = read_json(workdir / "status.json", dict)["lanes"]
        names = [re.sub(r"[^\w .,=+#-]+", "_", name)[:100].strip(" .") for name in lane_names(lanes)]
        found = {lane["lane"]: name for lane, name in zip(lanes, names, strict=True)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return found if len(set(names)) == len(names) and all(names) else {}


def scalars(row: MetricsRow) -> dict[str, float]:
    """What was measured, without names and what is not finite (a diverged lane's loss).

    Example:
        >>> scalars({"lane": 0, "arm": "main", "step": 5, "loss": float("nan"), "accuracy": 0.5, "seed": 3})
        {'accuracy': 0.5, 'seed': 3.0}
    """
    found = {name: value for name, value in row.items() if name not in NAMES and isinstance(value, (int, float))}
    return {name: float(value) for name, value in found.items() if math.isfinite(value)}


def tensorboard(workdir: Path, config: Mapping[str, Any], kept: Sequence[MetricsRow]) -> Sink:
    """Event files in workdir/tensorboard/NAME, a lane each, such as `e=1.1 seed=0`: `tensorboard --logdir WORKDIR/tensorboard`.

    Args:
        workdir: the run directory.
        config: of the run, as JSON.
        kept: rows that are in metrics.jsonl already. They are written again in place of what was there, so that after a
            resumption, too, each step is written once.

    Raises:
        LrjaxError: the extra `tensorboard` is not installed.
    """
    # Its SummaryWriter hands rows to a thread, and loses those that are under way when the process ends.
    files = _package("tensorboardX.event_file_writer", "tensorboard")
    summaries, protocol = (_package(f"tensorboardX.{name}", "tensorboard") for name in ("summary", "proto.event_pb2"))
    refuse_link(workdir / "tensorboard")
    shutil.rmtree(workdir / "tensorboard", ignore_errors=True)
    writers: dict[str, Any] = {}
    named = titles(workdir)

    def write(rows: Sequence[MetricsRow]) -> None:
        for row in rows:
            name = named.get(row["lane"], _lane(row))
            if name not in writers:
                (workdir / "tensorboard" / name).mkdir(parents=True)
                writers[name] = files.EventsWriter(str(workdir / "tensorboard" / name / "events"))
            for key, value in scalars(row).items():
                summary = summaries.scalar(key, value)
                writers[name].write_event(protocol.Event(wall_time=time.time(), step=row["step"], summary=summary))
        for writer in writers.values():
            writer.flush()

    weakref.finalize(write, _close, writers)
    write(kept)
    return write


def _close(writers: Mapping[str, Any]) -> None:
    for writer in writers.values():
        writer.close()


NO_ACCOUNT = "run `wandb login` or set WANDB_API_KEY; WANDB_MODE=offline keeps the rows in the run directory instead"


def _check_account(package: ModuleType) -> None:
    """Refuses, before anything is trained, to be a sink without a key: W&B itself would ask, or fail at the first row."""
    login = getattr(package, "login", None)
    settings = {"prompt": False, "verify": False}  # neither a question nor a wait for the network
    offline = os.environ.get("WANDB_MODE", "online") != "online"
    if login is None or offline or not settings.keys() <= inspect.signature(login).parameters.keys():
        return
    check(
        login(**settings) or package.setup().settings.mode != "online",
        f"Weights & Biases has no key here; {NO_ACCOUNT}",
    )


def _begun(package: ModuleType, settings: Mapping[str, Any]) -> Any:
    """A run of W&B; what keeps it from beginning as one sentence."""
    try:
        return package.init(**settings)
    except Exception as error:
        first = str(error).strip().split("\n")[0].rstrip(".")
        raise LrjaxError(f"Weights & Biases did not begin a run ({first}); {NO_ACCOUNT}") from error


def wandb(workdir: Path, config: Mapping[str, Any], kept: Sequence[MetricsRow]) -> Sink:
    """Runs of Weights & Biases, one a lane, in the group WORKDIR's name; WANDB_MODE=offline keeps them in workdir/wandb.

    A lane's run is called by what differs, such as `e=1.1 seed=0`, and has an id of its own, so a resumed one goes on in it.
    What was sent is not sent again: workdir/wandb.json says up to which step that is.

    Args:
        workdir: the run directory.
        config: of the run, as JSON.
        kept: rows that are in metrics.jsonl already; those not sent yet are sent.

    Raises:
        LrjaxError: the extra `wandb` is not installed, there is no key for it here, or it does not begin a run.
    """
    package = _package("wandb", "wandb")
    _check_account(package)
    record = workdir / "wandb.json"
    sent: dict[str, int] = read_json(record, dict, "remove it, and rows are sent again") if record.exists() else {}
    runs: dict[str, Any] = {}
    named = titles(workdir)

    def write(rows: Sequence[MetricsRow]) -> None:
        for row in rows:
            name = _lane(row)
            if row["step"] <= sent.get(name, -1):
                continue
            if name not in runs:
                settings = dict(project="lrjax", group=workdir.name, name=named.get(row["lane"], name))
                settings |= dict(id=f"{workdir.name}-{name}"[-120:], dir=str(workdir), config=dict(config))
                runs[name] = _begun(package, settings | dict(resume="allow", reinit="create_new"))
            runs[name].log(scalars(row), step=row["step"])
            sent[name] = row["step"]
        write_atomic(record, json.dumps(sent))

    write(kept)
    return write


SINKS: dict[str, Callable[[Path, Mapping[str, Any], Sequence[MetricsRow]], Sink]] = {
    "tensorboard": tensorboard,
    "wandb": wandb,
}


def named(text: str) -> tuple[str, ...]:
    """The sinks of a flag: "tensorboard,wandb" -> their names.

    Raises:
        LrjaxError: there is no such sink.

    Example:
        >>> named("tensorboard, wandb"), named("")
        (('tensorboard', 'wandb'), ())
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        check(name in SINKS, f"there is no sink {name!r}; {nearest(name, SINKS)}")
    return names
