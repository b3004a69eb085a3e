"""python -m lrjax.report.record WORKDIR [--into=docs/results] [--device=h100]: a record of a run, to judge its claims again.

With --joined, runs that differ in their seeds alone make one record, that of the run that had all the seeds.

Claims are judged and figures drawn while what they read is noted; that is written, read back, judged and drawn once more, and
refused where a claim, a number or a figure is another one.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from lrjax.errors import LrjaxError, check
from lrjax.experiment.config import plugins
from lrjax.experiment.rundir.files import write_atomic
from lrjax.experiment.rundir.lanes import check_whole
from lrjax.experiment.rundir.metrics import RunResult, load_run
from lrjax.experiment.rundir.reading import Notes, Watched
from lrjax.experiment.rundir.record import load_record, write_record
from lrjax.papers.claim import judge, summary
from lrjax.report import check_config, drawings
from lrjax.report.joined import load_joined
from lrjax.report.own import paper_for

MOST_BYTES = 150_000
LARGEST = 4  # arrays named where a record is too large


class Shown(NamedTuple):
    """What a run comes to: its claims, and its figures by name, as files."""

    entries: list[dict[str, Any]]
    figures: dict[str, bytes]


def shown(run: RunResult) -> Shown:
    """Judges and draws a run, or a record.

    Args:
        run: a `lrjax.experiment.rundir.metrics.RunResult`.
    """
    paper = paper_for(run.config)
    entries = judge(paper.CLAIMS, run)
    pictures, lost = drawings(run, paper)
    check(not lost, "; ".join(lost))
    return Shown(entries, {picture.name: picture.png for picture in pictures})


def make(workdir: Path, folder: Path) -> list[dict[str, Any]]:
    """Writes the record of a finished run.

    Args:
        workdir: the run directory.
        folder: of the record.

    Returns:
        Its claims.

    Raises:
        LrjaxError: the run is not whole, or its record would be larger than `MOST_BYTES` or say something else than the run.
    """
    return make_of(load_run(workdir), folder)


def make_of(run: RunResult, folder: Path) -> list[dict[str, Any]]:
    """Writes the record of a run in memory; `make` without the loading.

    Args:
        run: a finished run, or several that were joined, see `lrjax.report.joined.load_joined`.
        folder: of the record.

    Returns:
        Its claims.

    Raises:
        LrjaxError: see `make`.
    """
    check_config(run)
    check_whole(run)
    notes = Notes()
    lanes = [Watched(arrays, notes) for arrays in run.arrays]
    watched: list[Any] = list(lanes)
    first = shown(run._replace(arrays=watched))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=".record-") as made:  # what is refused takes no place
        _write(Path(made), run, lanes, first)
        folder.mkdir(exist_ok=True)
        for path in Path(made).iterdir():
            path.replace(folder / path.name)
    return first.entries


def _write(folder: Path, run: RunResult, lanes: Sequence[Watched], first: Shown) -> None:
    """Writes a record and refuses it where it is too large or says something else than its run."""
    sizes = write_record(folder, run, lanes)
    write_atomic(folder / "claims.json", json.dumps(first.entries, indent=2, allow_nan=False) + "\n")
    total = sum(path.stat().st_size for path in folder.iterdir() if path.suffix in (".json", ".npz"))
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:LARGEST]
    told = ", ".join(f"{name} {size / 1000:.0f} kB" for name, size in largest)
    check(
        total <= MOST_BYTES,
        f"the record of {run.workdir} has {total / 1000:.0f} kB, {MOST_BYTES / 1000:.0f} are allowed; let its checks and "
        f"figures read less of the largest by lrjax.experiment.rundir.reading.derived: {told}",
    )
    again = shown(load_record(folder))
    differ = [one["id"] for one, two in zip(first.entries, again.entries, strict=True) if one != two]
    differ += [name for name, png in first.figures.items() if again.figures.get(name) != png]
    check(not differ, f"judged from its record, {run.workdir} says something else: {', '.join(differ)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Writes records of run directories; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lrjax.report.record", description=__doc__)
    parser.add_argument("workdir", nargs="+", type=Path, help="a finished run directory")
    parser.add_argument("--into", type=Path, default=Path("docs/results"), help="folder of the records")
    parser.add_argument("--joined", action="store_true", help="one record of runs that differ in their seeds alone")
    parser.add_argument("--device", help="of a run elsewhere than on two CPU cores, such as h100: a record of its own")
    flags = parser.parse_args(argv)
    plugins.load()
    try:
        for run in [load_joined(flags.workdir)] if flags.joined else map(load_run, flags.workdir):
            device = f"@{flags.device}" if flags.device else ""
            folder = flags.into / f"{run.config['paper']}-{run.config['experiment']}{device}"
            print(f"{folder}: {summary(make_of(run, folder))}")
    except LrjaxError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
