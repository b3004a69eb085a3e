"""Several runs on one page: curves over each other, differing keys, end values by setting, claims side by side."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from lrjax.errors import LrjaxError, check
from lrjax.experiment.config import plugins
from lrjax.experiment.config.canonical import flatten
from lrjax.experiment.rundir.files import write_atomic
from lrjax.experiment.rundir.locks import is_free
from lrjax.experiment.rundir.metrics import RunResult, load_run
from lrjax.papers.claim import claims_in, judge
from lrjax.plots.page.rendering import word
from lrjax.report import as_it_stands, check_config, notices, readable
from lrjax.report.curves import packed
from lrjax.report.lane_table import Table, end_title, ends_of, lines_of, name_of, settings_of, spread
from lrjax.report.own import paper_for
from lrjax.report.page import filled

MOST_RUNS = 40
MARK = '<meta name="generator" content="lrjax">'


class Compared(NamedTuple):
    """A run of a comparison: its name on the page, its files, its judged claims, and what it lacks, a sentence each."""

    name: str
    run: RunResult
    claims: list[dict[str, Any]]
    notices: Sequence[str] = ()


def read(folder: Path, name: str, *, judged: bool = True) -> Compared:
    """A run directory, in whatever state, with its claims as its files decide them now.

    Args:
        folder: the run directory; it is only read.
        name: on the page.
        judged: with claims. Those of a paper that is not known here are taken from claims.json.

    Raises:
        LrjaxError: it holds no run, or config.json or status.json is damaged.
    """
    run = as_it_stands(load_run(folder), is_free(folder))
    check_config(run)
    told, claims = notices(run), []
    with readable(run):
        lines_of(run)  # what cannot be drawn is said of this run, before it is put beside others
        ends_of(run)
        paper = paper_for(run.config, folder) if judged else None
        if paper is not None and paper.CLAIMS:
            claims = judge(paper.CLAIMS, run)
        elif judged:
            path = folder / "claims.json"
            claims = claims_in(path) or []
            if not claims and path.exists():
                told.append(f"Damaged: {path} is damaged or a link; the command of the run writes it again")
    return Compared(name, run, claims, told)


def differences(runs: Sequence[Compared]) -> Table:
    """The keys in which the configs of runs differ, a row a key."""
    flat = [dict(flatten(one.run.config)) for one in runs]
    keys = [key for key in dict.fromkeys(key for config in flat for key in config) if key != "data_dir"]
    differ = [key for key in keys if len({repr(config.get(key)) for config in flat}) > 1]
    rows = [[key, *(word(config[key]) if key in config else "not set" for config in flat)] for key in differ]
    return Table(["key", *(one.name for one in runs)], rows)


def end_values(runs: Sequence[Compared]) -> Table:
    """For each run and setting the mean and standard deviation of the seeds' last values."""
    ends = [ends_of(one.run) for one in runs]
    names = list(dict.fromkeys(name for found, _ in ends for name in found))
    rows: list[list[Any]] = []
    for one, (_, values) in zip(runs, ends, strict=True):
        groups: dict[str, list[dict[str, float]]] = {}
        for setting, last in zip(map(name_of, settings_of(one.run)), values, strict=True):
            groups.setdefault(setting, []).append(last)
        for setting, members in groups.items():
            told = [spread([member[name] for member in members if name in member]) for name in names]
            rows.append([one.name, setting, len(members), *told])
    return Table(["run", "setting", "lanes", *map(end_title, names)], rows)


def claims_beside(runs: Sequence[Compared]) -> list[dict[str, Any]]:
    """Each claim once, with the entry of every run or None."""
    statements: dict[tuple[str, str], str] = {}
    found: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for number, one in enumerate(runs):
        for entry in one.claims:
            key = (str(entry.get("paper")), str(entry.get("id")))
            statements.setdefault(key, entry.get("statement", ""))
            found.setdefault(key, {})[number] = entry
    return [
        {"id": key[1], "statement": statements[key], "entries": [found[key].get(n) for n in range(len(runs))]}
        for key in statements
    ]


def compared(runs: Sequence[Compared], unread: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    """What the templates need of a comparison.

    Args:
        runs: those that could be read.
        unread: name -> why the run could not.

    Example:
        >>> compared([])["claims"]
        []
    """
    return {
        "names": [one.name for one in runs],
        "asked": [*(one.name for one in runs), *unread],
        "notes": [
            *(f"{one.name}: {sentence}" for one in runs for sentence in one.notices),
            *(f"{name} is not compared: {why}" for name, why in unread.items()),
        ],
        "curves": packed([line for one in runs for line in lines_of(one.run, f"{one.name}: ")]),
        "differences": differences(runs),
        "ends": end_values(runs),
        "claims": claims_beside(runs),
    }


class Comparison(NamedTuple):
    """What was written: the page, and what its runs lack, a sentence each."""

    page: Path
    notes: list[str]


def write_comparison(folders: Sequence[str | Path], target: Path) -> Comparison:
    """Writes one page that compares runs; one that cannot be read is named on it, with the reason.

    Args:
        folders: run directories, two or more, in any state.
        target: the page; an existing file is replaced only if it is a page of lrjax.

    Raises:
        LrjaxError: too few or too many runs, a folder is no run's, none can be read, or `target` is another file.

    Example:
        >>> write_comparison(["one"], Path("page.html"))
        Traceback (most recent call last):
        ...
        lrjax.errors.LrjaxError: a comparison needs 2 to 40 runs, not 1; name their workdirs.
    """
    check(
        2 <= len(folders) <= MOST_RUNS,
        f"a comparison needs 2 to {MOST_RUNS} runs, not {len(folders)}; name their workdirs.",
    )
    paths = [Path(folder) for folder in folders]
    for path in paths:
        check(
            any(os.path.lexists(path / name) for name in ("config.json", "status.json")),
            f"{path} holds no run (it has no config.json); name the workdir that a run printed.",
        )
    if target.is_symlink() or (target.exists() and MARK not in target.read_text(errors="replace")[:2000]):
        raise LrjaxError(f"{target} exists and is no page of lrjax; name another by --output=FILE.")
    names = [path.resolve().name for path in paths]
    if len(set(names)) < len(names):
        names = [f"{number}. {name}" for number, name in enumerate(names, 1)]
    plugins.load()
    runs, unread = [], {}
    for path, name in zip(paths, names, strict=True):
        try:
            runs.append(read(path, name))
        except LrjaxError as error:
            unread[name] = str(error)
    check(bool(runs), next(iter(unread.values()), ""))
    context = compared(runs, unread) | {"title": f"Comparison of {len(paths)} runs"}
    write_atomic(target, filled("compare.html", context))
    return Comparison(target, list(context["notes"]))
