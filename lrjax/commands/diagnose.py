"""`lrjax diagnose MODULE:NAME --checkpoint=DIR`: what the learning rate does at a checkpoint of any JAX training."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from lrjax.errors import check, refuse

FLAGS = {
    "checkpoint": "folder of orbax (a CheckpointManager's, one step of it, or a tree), or a .safetensors file; no pickle",
    "step": "one of the stored steps; default: the latest",
    "save": "write the report as a page, FILE.html",
    "json": "write the report as JSON",
}
ABOUT = """
What the learning rate does at a checkpoint of any JAX training. NAME is a mapping or an object, or a function without
arguments that returns one, with loss_fn (params, batch) -> scalar, params (a tree of the shapes) and batches (a list, or a
function that returns an iterator); and optionally optimizer, opt_state (a tree of the shapes; default: that of
optimizer.init), learning_rate (number or schedule), num_steps, params_at and opt_state_at (where in the checkpoint they are).
MODULE is also looked for in the working directory.
"""


def main(arguments: Sequence[str], *, alone: bool) -> int:
    """Reads a checkpoint, and prints what `lrjax.diagnose` says of it."""
    parser = argparse.ArgumentParser(prog="lrjax diagnose", description=ABOUT, allow_abbrev=False)
    parser.error = refuse
    parser.add_argument("problem", metavar="MODULE:NAME", nargs="?", help="an object of your own")
    for name, text in FLAGS.items():
        parser.add_argument(f"--{name}", help=text, metavar={"checkpoint": "DIR", "step": "N"}.get(name, "FILE"))
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")
    flags = parser.parse_args(arguments)
    check(bool(flags.problem), "name what to diagnose: lrjax diagnose MODULE:NAME --checkpoint=DIR")
    check(bool(flags.checkpoint), "give --checkpoint=DIR, a folder of orbax or a .safetensors file")
    check(flags.step is None or flags.step.isdecimal(), f"--step={flags.step} must be a whole number")
    for flag in ("save", "json"):
        _check_place(getattr(flags, flag), flag)
    return _diagnose(flags)


def _check_place(file: str | None, flag: str) -> None:
    """Before the work, not after it."""
    if file is not None:
        path = Path(file)
        check(
            path.parent.is_dir() and not path.is_dir(),
            f"cannot write --{flag}={file}; name a file in a folder that exists",
        )


def _diagnose(flags: argparse.Namespace) -> int:
    import lrjax
    from lrjax.experiment.rundir.files import write_atomic
    from lrjax.posthoc.problem import batches_of, find_problem, restore

    problem = find_problem(flags.problem)
    stored = restore(problem, flags.checkpoint, None if flags.step is None else int(flags.step))
    for sentence in stored.notes:
        print(f"note: {sentence}", file=sys.stderr)
    report = lrjax.diagnose(
        problem.loss_fn,
        stored.params,
        batches_of(problem),
        problem.optimizer,
        stored.opt_state,
        learning_rate=problem.learning_rate,
        num_steps=problem.num_steps,
        step=stored.step,
    )
    print(report)
    if flags.json:
        write_atomic(Path(flags.json), json.dumps(report.to_dict(), indent=1) + "\n")
        print(f"json: {flags.json}")
    if flags.save:
        report.save(flags.save)
        print(f"report: {flags.save}")
    return 0
