"""The figures of a paper, drawn from runs in every state."""

from collections.abc import Callable, Iterable

import matplotlib

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.claim import NotMeasured
from lrjax.plots.drawing import STYLE, Figure

Draw = Callable[[RunResult], Figure | None]


def is_whole(run: RunResult) -> bool:
    """Whether the run directory has all that a finished run leaves."""
    return not getattr(run, "missing", ()) and not getattr(run, "gaps", ())


def drawn(draws: Iterable[Draw], run: RunResult) -> list[Figure]:
    """Calls each function; a figure without data is left out, and so is one that a run that is not whole has too little for.

    Args:
        draws: functions of a run that give a figure or None.
        run: it need not be finished.

    Example:
        >>> drawn([lambda run: None], None)
        []
    """
    figures = []
    with matplotlib.rc_context(STYLE):
        for draw in draws:
            try:
                figures.append(draw(run))
            except NotMeasured:
                continue
            except Exception:
                if is_whole(run):
                    raise
    return [figure for figure in figures if figure is not None]
