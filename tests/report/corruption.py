"""Run directories damaged at random: each file, each way. `python -m tests.report.corruption --cases 300` prints what failed.

A damaged directory gives a report, or one sentence with the file's name. No traceback, no write outside of it, and each claim
comes out as before, to the digit, or as not judged.
"""

import argparse
import contextlib
import functools
import hashlib
import io
import json
import pickle
import random
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

import lrjax
from lrjax.devices import hosts
from lrjax.experiment.loop.stopping import Preempted
from lrjax.papers.claim import NOT_JUDGED
from lrjax.report import __main__

SETTINGS = {
    "sweep.e": (0.9, 1.0, 1.1, 1.25), "sweep.seed": (0,), "steps": 400, "log_every": 50, "checkpoint_every": 100,
    "arms.small_rate.steps": 330, "arms.time_matched.steps": 500, "lanes_per_device": 3, "probes.features": 100,
    "probes.test_accuracy": 200, "data.num_test": 50, "data.dim": 40, "model.width": 8,
}  # fmt: skip
WAYS = (
    "removed",
    "empty",
    "truncated",
    "another type",
    "another shape",
    "garbage",
    "a folder",
    "a link",
    "pickled",
    "huge",
)
STATES = ("done", "preempted")


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
    assert told(folder)[0] == 0
    return verdicts(folder)


def verdicts(folder):
    entries = json.loads((folder / "claims.json").read_text())
    return {entry["id"]: (entry["verdict"], entry["measured"]) for entry in entries}


def told(folder):
    """Exit status, stdout and stderr of `python -m lrjax.report`."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = __main__.main([str(folder)])
    return status, out.getvalue(), err.getvalue()


def other_shape(value, chance):
    """JSON with one key, entry or leaf changed, somewhere inside."""
    if isinstance(value, (dict, list)) and value:
        key = chance.choice(list(value)) if isinstance(value, dict) else chance.randrange(len(value))
        if isinstance(value[key], (dict, list)) and value[key] and chance.random() < 0.8:
            value[key] = other_shape(value[key], chance)
        elif chance.random() < 0.5:
            del value[key]
        else:
            value[key] = chance.choice([None, [], {}, "x", -1, 1e999, [[1]], {"a": 1}])
        return value
    return [value]


def other_arrays(path, chance):
    with np.load(path) as file:
        arrays = dict(file)
    name = chance.choice(sorted(arrays))
    ways = (
        lambda a: a[:-1],
        lambda a: a[:, :-1],
        lambda a: a.T,
        lambda a: a.astype(str),
        lambda a: a[0],
        lambda a: a + 1,
    )
    arrays[name] = chance.choice(ways)(arrays[name])
    np.savez(path, **arrays)


def damage(path, way, chance, outside):
    """Changes one file."""
    content = path.read_bytes()
    path.unlink()
    if way == "empty":
        path.write_bytes(b"")
    elif way == "truncated":
        path.write_bytes(content[: chance.randrange(max(1, len(content)))])
    elif way == "another type":
        path.write_text(chance.choice(["null", "[]", "{}", "3", '"text"', "[1, 2]", "[{}]", "[" * 5000]))
    elif way == "another shape" and path.suffix == ".npz":
        path.write_bytes(content)
        other_arrays(path, chance)
    elif way == "another shape":
        with contextlib.suppress(ValueError):
            content = json.dumps(other_shape(json.loads(content), chance)).encode()
        path.write_bytes(content)
    elif way == "garbage":
        place = chance.randrange(max(1, len(content)))
        path.write_bytes(content[:place] + chance.randbytes(20) + content[place + 20 :])
    elif way == "a folder":
        path.mkdir()
    elif way == "a link":
        path.symlink_to(outside / "precious.txt")
    elif way == "pickled":
        if path.suffix == ".npz":
            np.savez(path, step__loss=np.array([{"a": 1}], object))
        else:
            path.write_bytes(pickle.dumps({"a": 1}))
    elif way == "huge":
        with open(path, "wb") as file:
            file.truncate(1 << 32)  # of nothing: takes no room


def snapshot(folder):
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def fault_of(reference, source, target, outside, chance):
    """Damages a copy and reports on it: (what was done, what is wrong with the answer or "")."""
    shutil.copytree(source, target)
    files = sorted(path for path in target.rglob("*") if path.is_file())
    # As often a file that is read as one of the many of the checkpoints.
    read = [path for path in files if "ckpt" not in path.parts or path.name == "metadata"]
    path, way = chance.choice(read if chance.random() < 0.8 else files), chance.choice(WAYS)
    name = path.relative_to(target).as_posix()
    damage(path, way, chance, outside)
    before = snapshot(outside)
    try:
        status, _, err = told(target)
    except BaseException as error:
        return f"{name}: {way}", f"{type(error).__name__}: {error}"
    return f"{name}: {way}", _wrong(reference, target, path, status, err) or (
        "something was written outside" if snapshot(outside) != before else ""
    )


def _wrong(reference, target, path, status, err):
    if "Traceback" in err or "cannot be judged" in err:
        return err
    if status != 0:
        one = err.startswith("error: ") and err.count("\n") == 1
        return "" if one and path.name in err else f"no sentence with the name of the file: {err}"
    if not (target / "report.html").is_file() or (target / "report.html").is_symlink():
        return "no report"
    found = verdicts(target)
    if found.keys() != reference.keys():
        return f"other claims: {sorted(found)}"
    changed = [key for key, own in found.items() if own != reference[key] and own[0] != NOT_JUDGED]
    return f"another verdict: {[(key, reference[key], found[key]) for key in changed]}" if changed else ""


@functools.cache
def references(root):
    return {state: whole(root / state, state) for state in STATES}


def faults(cases, seed, root):
    """What failed of `cases` damaged directories: (case, what was done, what is wrong)."""
    outside = root / "outside"
    outside.mkdir(parents=True)
    (outside / "precious.txt").write_text("mine")
    known = references(root)
    found = []
    for number in range(cases):
        chance = random.Random(f"{seed}-{number}")
        state = chance.choice(STATES)
        target = root / f"case-{number}"
        done, wrong = fault_of(known[state], root / state, target, outside, chance)
        shutil.rmtree(target)
        found += [(number, f"{state}, {done}", wrong)] if wrong else []
    return found


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
