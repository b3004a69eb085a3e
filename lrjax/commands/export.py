"""`lrjax export RUN --format=csv|parquet|npz`: the tables of a run as files for other programs."""

import argparse
import csv
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lrjax.errors import LrjaxError, check, refuse

if TYPE_CHECKING:
    from lrjax.experiment.rundir.frames import Columns


def main(arguments: Sequence[str], *, alone: bool) -> int:
    """Writes each table of a run into a folder, and prints what was written."""
    parser = argparse.ArgumentParser(prog="lrjax export", description=__doc__, allow_abbrev=False)
    parser.error = refuse
    parser.add_argument("run", metavar="RUN", nargs="?", help="directory of a run; it is only read")
    one_of = "{" + ",".join(FORMATS) + "}"
    parser.add_argument("--format", default="csv", metavar=one_of, help="default: csv")
    parser.add_argument("--table", help="metrics, lanes, step or a probe's name; default: all of them")
    parser.add_argument("--out", help="folder to write to, made if missing; default: RUN-tables beside the run")
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")
    flags = parser.parse_args(arguments)
    check(bool(flags.run), "give the directory of a run: lrjax export RUN")
    check(flags.format in FORMATS, f"--format={flags.format} must be one of {', '.join(FORMATS)}")
    return _export(Path(flags.run), flags.format, flags.table, flags.out)


def _export(workdir: Path, form: str, table: str | None, out: str | None) -> int:
    from lrjax.experiment.rundir.frames import columns, left_out, tables
    from lrjax.experiment.rundir.locks import is_free
    from lrjax.experiment.rundir.metrics import load_run
    from lrjax.report import as_it_stands, notices, readable

    check(workdir.is_dir(), f"there is no directory {workdir}; name the workdir that a run printed")
    run = as_it_stands(load_run(workdir), is_free(workdir))
    for sentence in notices(run):
        print(f"note: {sentence}", file=sys.stderr)
    folder = Path(out) if out else workdir.resolve().with_name(f"{workdir.resolve().name}-tables")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LrjaxError(f"cannot write to {folder} ({error.strerror}); give another --out") from error
    for name in [table] if table else tables(run):
        with readable(run):
            content, wide = columns(run, name, WIDEST[form]), left_out(run, name, WIDEST[form])
        for array, size in wide.items():
            print(f"note: {array} has {size} numbers a measurement, too many for columns of {form}; run.arrays has it")
        if content:
            path = folder / f"{name}.{form}"
            _whole(path, lambda part, content=content: FORMATS[form](part, content))
            print(f"{path}  {len(next(iter(content.values())))} rows, {len(content)} columns")
    return 0


def _whole(path: Path, write: Callable[[Path], None]) -> None:
    """Writes a file whole or not at all, and follows no link."""
    try:
        number, part = tempfile.mkstemp(dir=path.parent, prefix=".export-", suffix=path.suffix)
        os.close(number)
        try:
            write(Path(part))
            os.chmod(part, 0o666 & ~_umask())
            os.replace(part, path)
        finally:
            Path(part).unlink(missing_ok=True)
    except OSError as error:
        raise LrjaxError(f"cannot write {path} ({error.strerror or error}); give another --out") from error


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _csv(path: Path, content: "Columns") -> None:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(content)
        writer.writerows(zip(*(column.tolist() for column in content.values()), strict=True))


def _npz(path: Path, content: "Columns") -> None:
    import numpy as np

    # Without pickle: a column of text is an array of characters, not of objects.
    np.savez_compressed(path, allow_pickle=False, **content)  # pyright: ignore[reportArgumentType]


def _parquet(path: Path, content: "Columns") -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise LrjaxError("--format=parquet needs pyarrow: pip install pyarrow, or take --format=csv") from error
    pyarrow.parquet.write_table(pyarrow.table({name: column.tolist() for name, column in content.items()}), path)


WIDEST = {"csv": 64, "npz": 4096, "parquet": 4096}  # columns that an array becomes
FORMATS: dict[str, Callable[[Path, "Columns"], None]] = {"csv": _csv, "npz": _npz, "parquet": _parquet}
