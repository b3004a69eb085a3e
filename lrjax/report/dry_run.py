"""`--dry_run` at a terminal: what compiling tells, in a process that may be ended, or an answer without it."""

import subprocess
import sys
from collections.abc import Sequence

from lrjax.experiment.config.canonical import Config
from lrjax.experiment.loop.dry_run import describe

LIMIT_S = 18.0  # of the other process; an answer without it takes some seconds more


def answer(config: Config, words: Sequence[str], notes: Sequence[str], how: str) -> str:
    """The text of a dry run.

    A compiler that is at work cannot be stopped, so another process has it, which also leaves an accelerator to this one.

    Args:
        config: of the experiment.
        words: the flags of `lrjax.main` that give this config.
        notes: lines at the end.
        how: "limited": compiled where that is done in `LIMIT_S`, else memory before activations, and the time by FLOPs;
            "compiled": however long that takes; "shapes": never, and without a time.
    """
    if how == "limited":
        compiled, why = _compiled([*words, "--dry_run=compiled"])
        if compiled is not None:
            return compiled
        notes = [f"not compiled: {why}", *notes]
    text = describe(config, compiled=how == "compiled", timed=how != "shapes")
    return "\n".join([text, *(f"note: {note}" for note in notes)])


def _compiled(words: Sequence[str]) -> tuple[str | None, str]:
    """What the command line with these words prints; None where it takes too long, or fails, and why."""
    command = [sys.executable, "-m", "lrjax.main", *words]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S, check=True
        )
    except subprocess.TimeoutExpired:
        return None, f"that takes longer than {LIMIT_S:.0f} s here; --dry_run=compiled waits for it"
    except subprocess.CalledProcessError:
        return None, "that failed; --dry_run=compiled shows why"
    return done.stdout.rstrip("\n"), ""
