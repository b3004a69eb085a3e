"""Run directories damaged at random: each file, each way. `python -m tests.report.corruption --cases 300` prints what failed.

A damaged directory gives a report, or one sentence with the file's name. No traceback, no write outside of it, and each claim
comes out as before, to the digit, or as not judged. Beside a whole run, in a folder of runs and exported as tables it gives
what it gave before, or the name of the file is said.
"""

import argparse
import contextlib
import functools
import hashlib
import io
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lrjax
from lrjax import commands
from lrjax.devices import hosts
from lrjax.experiment.loop.stopping import Preempted
from lrjax.papers.claim import NOT_JUDGED
from lrjax.report import __main__
from tests.report.damage import WAYS, damage

SETTINGS = {
    "sweep.e": (1.1, 1.25), "sweep.seed": (0, 1, 2), "steps": 400, "log_every": 50, "checkpoint_every": 100,
    "arms.small_rate.steps": 330, "arms.time_matched.steps": 500, "lanes_per_device": 3, "probes.features": 100,
    "probes.test_accuracy": 200, "data.num_test": 50, "data.dim": 40, "model.width": 8,
}  # fmt: skip
STATES = ("done", "preempted")
FORMATS = ("npz", "csv", "parquet")


class Told(NamedTuple):
    """What a command left: exit status, stdout, stderr."""

    status: int
    out: str
    err: str


class Known(NamedTuple):
    """What a whole run gives: verdicts by claim, the page of a comparison, that of a folder, and tables by form."""

    verdicts: dict[str, tuple[str, str]]
    compared: str
    collected: str
    tables: dict[str, dict[str, str]]


def whole(folder, state):
    """A run at scale small, so that its claims are decided, with its report; its verdicts by claim."""
    config = lrjax.load_config("configs/benign_osc.py:CLEAR,scale=small", SETTINGS)
    asked = []
    before = hosts.stop_agreed
    try:
        if state == "preempted":
            hosts.stop_agreed = lambda: lambda wanted: bool(asked.append(wanted)) or len(asked) > 12
        with contextlib.suppress(Preempted):
            lrjax.run(config, folder, command="python -m lrjax.main")
    finally:
        hosts.stop_agreed = before
    assert told(__main__.main, [str(folder)]).status == 0
    return verdicts(folder)


def verdicts(folder):
    entries = json.loads((folder / "claims.json").read_text())
    return {entry["id"]: (entry["verdict"], entry["measured"]) for entry in entries}


def told(main: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> Told:
    """Runs a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(arguments)
    return Told(status, out.getvalue(), err.getvalue())


def snapshot(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def compared(folder, scratch):
    """`lrjax compare` of a run and the good one beside it: what was told, and the page."""
    page = scratch / "page.html"
    page.unlink(missing_ok=True)
    answer = told(commands.main, ["compare", str(folder), str(folder.parent / "good"), f"--output={page}"])
    return answer, page.read_text() if page.exists() else ""


def collected(folder):
    """`lrjax report` of the folder of a run: what was told, and the page."""
    answer = told(commands.main, ["report", str(folder.parent)])
    page = folder.parent / "report.html"
    return answer, page.read_text() if page.exists() else ""


def exported(folder, form, scratch):
    """`lrjax export` of a run: what was told, and the tables."""
    tables = scratch / "tables"
    shutil.rmtree(tables, ignore_errors=True)
    answer = told(commands.main, ["export", str(folder), f"--format={form}", f"--out={tables}"])
    return answer, snapshot(tables) if tables.exists() else {}


@functools.cache
def forms():
    """The formats whose packages are there."""
    import importlib.util

    return FORMATS if importlib.util.find_spec("pyarrow") else FORMATS[:2]


def known_of(root, state) -> Known:
    """Makes a run in root/whole/STATE/run, and one beside it with which to compare it, in .../good."""
    folder, scratch = root / "whole" / state / "run", root / "scratch"
    scratch.mkdir(exist_ok=True)
    reference = whole(folder, state)
    shutil.copytree(folder, folder.parent / "good")
    tables = {form: exported(folder, form, scratch)[1] for form in forms()}
    return Known(reference, compared(folder, scratch)[1], collected(folder)[1], tables)


def chosen(folder, chance):
    """A file of a run; each file of its own, the arrays, the figures, the records and states of checkpoints as often."""
    kinds: dict[str, list[Path]] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")):
        parts = path.relative_to(folder).parts
        kinds.setdefault("records" if path.name == "metadata" else parts[0], []).append(path)
    return chance.choice(kinds[chance.choice(sorted(kinds))])


def fault_of(known: Known, source: Path, target: Path, root: Path, chance: random.Random) -> tuple[str, str]:
    """Damages a copy and asks every command: (what was done, what is wrong with the answers or "")."""
    shutil.copytree(source.parent, target.parent)
    path, way = chosen(target, chance), chance.choice(sorted(WAYS))
    name = path.relative_to(target).as_posix()
    damage(path, way, chance, root / "outside")
    before = snapshot(root / "outside")
    form = chance.choice(forms())
    shown = {"report.html", *(figure.name for figure in (target / "figures").glob("*"))}  # where there are such
    checks = {
        # First what only reads: a report writes some of the files again.
        "export": lambda: _silent(path, *exported(target, form, root / "scratch"), known.tables[form]),
        "compare": lambda: _beside(path, *compared(target, root / "scratch"), known.compared),
        "folder": lambda: _beside(path, *collected(target), "" if path.name in shown else known.collected),
        "report": lambda: _judged(known.verdicts, target, path, told(__main__.main, [str(target)])),
    }
    wrong = []
    for command, check in checks.items():
        try:
            fault = check()
        except BaseException as error:
            fault = f"{type(error).__name__}: {error}"
        wrong += [f"{command}: {fault}"] if fault else []
    wrong += ["something was written outside"] if snapshot(root / "outside") != before else []
    return f"{name}: {way}", "; ".join(wrong)


def _badly(path: Path, answer: Told) -> str:
    """What is wrong with how a command ended: anything but a sentence, which names the file."""
    if "Traceback" in answer.err or "cannot be judged" in answer.err or "--debug" in answer.err:
        return answer.err
    if answer.status == 0:
        return ""
    one = answer.err.startswith("error: ") and answer.err.count("\n") == 1
    return "" if one and path.name in answer.err else f"no sentence with the name of the file: {answer.err}"


def _silent(path: Path, answer: Told, content: Any, wanted: Any) -> str:
    """Whether something else came out and nothing named the file."""
    other = answer.status == 0 and content != wanted and path.name not in answer.err
    return _badly(path, answer) or (f"other content, and only this is said: {answer.err!r}" if other else "")


def _beside(path: Path, answer: Told, page: str, wanted: str) -> str:
    """A page of several runs is there, as before or with the name of the file, and shows the others."""
    if answer.status != 0 or "Traceback" in answer.err:
        return f"no page: {answer.err}"
    if wanted and page != wanted and path.name not in page:
        return "another page that does not name the file"
    return "" if "good" in page else "the other run is not in it"


def _judged(reference: dict[str, tuple[str, str]], target: Path, path: Path, answer: Told) -> str:
    """A report that says of each claim what it said before, or that it is not judged."""
    if answer.status != 0 or _badly(path, answer):
        return _badly(path, answer)
    if not (target / "report.html").is_file() or (target / "report.html").is_symlink():
        return "no report"
    now = verdicts(target)
    if now.keys() != reference.keys():
        return f"other claims: {sorted(now)}"
    changed = [key for key, own in now.items() if own != reference[key] and own[0] != NOT_JUDGED]
    return f"another verdict: {[(key, reference[key], now[key]) for key in changed]}" if changed else ""


def faults(cases, seed, root):
    """What failed of `cases` damaged directories: (case, what was done, what is wrong)."""
    outside = root / "outside"
    outside.mkdir(parents=True)
    (outside / "precious.txt").write_text("mine")
    known = {state: known_of(root, state) for state in STATES}
    failed = []
    for number in range(cases):
        chance = random.Random(f"{seed}-{number}")
        state = chance.choice(STATES)
        target = root / f"case-{number}" / state / "run"  # of the names that the pages have
        done, wrong = fault_of(known[state], root / "whole" / state / "run", target, root, chance)
        shutil.rmtree(root / f"case-{number}")
        failed += [(number, f"{state}, {done}", wrong)] if wrong else []
    return failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        failed = faults(flags.cases, flags.seed, Path(folder))
    print(*(f"case {number}: {done}: {wrong}" for number, done, wrong in failed), sep="\n")
    print(f"{flags.cases} damaged run directories, {len(failed)} faults")
    sys.exit(bool(failed))
