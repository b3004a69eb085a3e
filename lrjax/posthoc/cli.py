"""Curvature of a run's checkpoints after the fact: what `python -m lrjax.posthoc` does."""

import argparse
import os
import shlex
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lrjax.errors import check
from lrjax.experiment.config.overrides import parse_value
from lrjax.experiment.loop import full_device
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.posthoc.checkpoints import Point, Stored, lanes_of, open_run, points, steps_of
from lrjax.posthoc.measuring import PROBES, Extras, Record, measure
from lrjax.posthoc.output import arrays_of, footnotes, heading, lines, write
from lrjax.probes.spectrum import cos_hk
from lrjax.spectra.density import Density
from lrjax.spectra.subset import SmallSubsetWarning

SETTINGS = ("k", "tol", "max_steps", "examples", "batch_size", "seed")
INTERRUPTED = 130


def _whole(flags: argparse.Namespace, name: str, default: int) -> int:
    text = getattr(flags, name)
    check(text is None or text.isdigit(), f"--{name}={text} must be a whole number")
    return default if text is None else int(text)


def _numbers(flags: argparse.Namespace, name: str) -> list[int] | None:
    text = getattr(flags, name) or "all"
    parts = [part.strip() for part in text.split(",")]
    check(
        text == "all" or all(part.isdigit() for part in parts),
        f"--{name}={text} must be all, or numbers with commas between",
    )
    return None if text == "all" else [int(part) for part in parts]


def start(flags: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Does what the flags of `python -m lrjax.posthoc` ask for.

    Returns:
        The exit status: 0 done, 130 interrupted.

    Raises:
        LrjaxError: see `measure_run`.
    """
    settings = {name: parse_value(text) for name in SETTINGS if (text := getattr(flags, name)) is not None}
    if flags.matrices is not None:
        settings["matrices"] = tuple(flags.matrices.split(","))
    if flags.batch_statistics:
        settings["batch_statistics"] = True
    spread, probes = _whole(flags, "spread", 0), _whole(flags, "probes", PROBES)
    try:
        measure_run(
            flags.workdir,
            steps=_numbers(flags, "steps"),
            lanes=_numbers(flags, "lanes"),
            settings=settings,
            extras=Extras(flags.density, flags.trace, spread, probes),
            data_dir=flags.data_dir,
            out=flags.out,
            command=shlex.join(["python", "-m", "lrjax.posthoc", *arguments]),
        )
    except KeyboardInterrupt:
        print("interrupted; what was measured until then, if anything, is written", file=sys.stderr)
        return INTERRUPTED
    return 0


class _Findings:
    """Results so far, and the eigenvectors of each lane from which the next step starts."""

    def __init__(self) -> None:
        self.rows: list[Record] = []
        self.diverged: dict[int, int] = {}
        self.densities: dict[tuple[int, int, str], Density] = {}
        self.cosines: dict[tuple[int, int], float] = {}
        self.rates: dict[int, np.ndarray] = {}
        self._vectors: dict[int, dict[str, np.ndarray]] = {}

    def add(self, point: Point, extras: Extras) -> list[Record]:
        """Measures a point, and returns its rows; none where the lane has diverged."""
        lane, step = point.lane.index, point.step
        if point.state.diverged_at >= 0:
            self.diverged[lane] = int(point.state.diverged_at)
            return []
        found = {m.row["matrix"]: m for m in measure(point, self._vectors.get(lane, {}), extras)}
        vectors = {name: m.vectors for name, m in found.items() if m.vectors is not None}
        self._vectors[lane] = self._vectors.get(lane, {}) | vectors
        self.rates[lane] = point.lane.learning_rates()
        self.densities |= {(lane, step, name): m.density for name, m in found.items() if m.density is not None}
        if cosine := cos_hk(vectors):
            self.cosines[lane, step] = cosine["cos_hk"]
        rows = [m.row for m in found.values()]
        self.rows += rows
        return rows

    def write(self, out: Path, stored: Stored, record: dict[str, Any]) -> None:
        """Writes all that was measured, and what it was measured of."""
        rows = sorted(self.rows, key=lambda row: (row["lane"], row["step"]))
        found = arrays_of(rows, self.densities, self.cosines)
        records = [lane.record() for group in stored.groups for lane in group.lanes]
        lanes = sorted((lane for lane in records if lane["lane"] in found), key=lambda lane: lane["lane"])
        arrays = [found[lane["lane"]] | {"step/learning_rate": self.rates[lane["lane"]]} for lane in lanes]
        run = RunResult([], arrays, stored.status, stored.workdir, stored.config.to_dict(), lanes)
        write(out, record | {"rows": rows}, run, self.densities)


@contextmanager
def _notes() -> Iterator[None]:
    """Each warning of a small subset as one line on stderr, once."""
    shown: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("always", SmallSubsetWarning)
        usual = warnings.showwarning

        def show(message: Any, category: Any, *rest: Any, **named: Any) -> None:
            if not issubclass(category, SmallSubsetWarning):
                usual(message, category, *rest, **named)
            elif str(message) not in shown:
                shown.add(str(message))
                print(f"note: {message}", file=sys.stderr)

        warnings.showwarning = show
        yield


def measure_run(
    workdir: str | Path,
    *,
    steps: Sequence[int] | None = None,
    lanes: Sequence[int] | None = None,
    settings: Mapping[str, Any] | None = None,
    extras: Extras | None = None,
    data_dir: str | None = None,
    out: str | Path | None = None,
    command: str | None = None,
) -> list[Record]:
    """Measures the curvature of stored checkpoints, prints a table, and writes spectra.json, arrays and figures.

    Every lane is measured on the examples of the spectrum probe; each step starts from the eigenvectors of the one before.
    The run directory is only read, and may be in use.

    Args:
        workdir: of a run.
        steps: of checkpoints, and 0, which is made again from the seed; None for all.
        lanes: by number; None for all. A lane that has diverged is left out from there on.
        settings: of the config group `spectra`, in place of the run's own: matrices, k, tol, max_steps, examples, ...
        extras: density, trace and spread.
        data_dir: folder of the tfds data, if it moved.
        out: folder to write to, made if missing; default `workdir`/spectra.
        command: what spectra.json names as its origin.

    Returns:
        A row a lane, step and matrix, as in spectra.json: values, residuals, converged, products, seconds, examples, and
        what was asked for beside them.

    Raises:
        LrjaxError: no run, no such lane, step or matrix, or a folder that cannot be written to.
    """
    workdir, extras = Path(workdir), Extras() if extras is None else extras
    check(extras.spread != 1, "a spread needs two subsets or more, not 1")
    check(extras.probes >= 2, f"density and trace need two random vectors or more, not {extras.probes}")
    overrides = {f"spectra.{name}": value for name, value in (settings or {}).items()}
    stored = open_run(workdir, overrides | ({} if data_dir is None else {"data_dir": data_dir}))
    chosen = lanes_of(stored, lanes)
    numbers = steps_of(stored, chosen, steps)
    folder = workdir / "spectra" if out is None else Path(out)
    _check_writable(folder)
    findings, complete = _Findings(), False
    try:
        with _notes():
            for point in points(stored, chosen, numbers):
                with full_device.told(_remedy(point.static.spectra.batch_size)):
                    rows = findings.add(point, extras)
                if rows and len(rows) == len(findings.rows):
                    print(heading(stored.config.spectra.k))
                for row in rows:
                    print(lines(row), flush=True)
        complete = True
    finally:
        if findings.rows:
            used = {name: value for name, value in stored.config.spectra.items() if not name.startswith("noise")}
            record = {"workdir": str(workdir), "command": command, "settings": used | extras._asdict()}
            findings.write(folder, stored, record | {"complete": complete})
    for lane, step in sorted(findings.diverged.items()):
        print(f"note: lane {lane} diverged at step {step} and is not measured from there on", file=sys.stderr)
    if findings.rows:
        print("\n".join([*footnotes(findings.rows), "", f"spectra: {folder / 'spectra.json'}"]))
    return findings.rows


def _remedy(size: int) -> str:
    """Which flag makes a product smaller, with a number that does."""
    fewer = full_device.smaller(size)
    return f"give --batch_size={fewer}, the examples that a product sees at once" if fewer else full_device.LARGER


def _check_writable(folder: Path) -> None:
    """Before hours of measuring, and without making anything."""
    place = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    check(place.is_dir() and os.access(place, os.W_OK), f"cannot write to {folder}; give another --out")
