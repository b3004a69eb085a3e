"""Progress of a run: a bar with the time left on a terminal, plain lines elsewhere."""

import os
import sys
import time
from typing import Any

from tqdm import tqdm

EVERY_S = 10.0  # between plain lines


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook, which shows a bar although its stderr is no terminal.

    Example:
        >>> in_notebook()
        False
    """
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


def _width() -> dict[str, Any]:
    """A terminal that does not know its width (a fresh pty) says 0, and a bar of 0 columns would not be seen."""
    if in_notebook():
        return {"ncols": 80}
    known = os.get_terminal_size(sys.stderr.fileno()).columns > 0
    return {"dynamic_ncols": True} if known else {"ncols": 80, "nrows": 24}


class Progress:
    """Counts steps over all lanes, on stderr.

    Args:
        total: steps of all lanes.
        quiet: print nothing.

    Example:
        >>> with Progress(10, quiet=True) as progress:
        ...     progress.advance(4, "block 0")
        >>> progress.done
        4
    """

    def __init__(self, total: int, *, quiet: bool = False):
        self.total, self.done, self.quiet = total, 0, quiet
        self._before, self._started, self._printed = 0, 0.0, time.monotonic()
        on_terminal = (sys.stderr.isatty() or in_notebook()) and not quiet
        self._bar: Any = tqdm(total=total, unit="step", unit_scale=True, **_width()) if on_terminal else None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def skip(self, steps: int) -> None:
        """Steps that an earlier start of this run has done."""
        self._count(steps)

    def advance(self, steps: int, what: str) -> None:
        """Counts steps just dispatched; `what` names where the run is."""
        if not self._started:  # the first chunk was mostly compilation, and says nothing of the rest
            self._before, self._started = self.done + steps, time.monotonic()
        self._count(steps)
        if self._bar is not None:
            self._bar.set_description_str(what, refresh=False)
        elif not self.quiet and time.monotonic() - self._printed > EVERY_S:
            self._printed = time.monotonic()
            rate = (self.done - self._before) / (self._printed - self._started + 1e-9)
            left = f", {(self.total - self.done) / rate:.0f} s left" if rate else ""
            print(f"{what}: {self.done}/{self.total} steps{left}", file=sys.stderr, flush=True)

    def _count(self, steps: int) -> None:
        self.done += steps
        if self._bar is not None:
            self._bar.update(steps)
