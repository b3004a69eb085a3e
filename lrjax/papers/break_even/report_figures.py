"""The figures of a report, by what a run recorded. To add one, write a function of a run and a place in `FIGURES`."""

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.break_even.edge_figures import alignment, detector_table, edge, noise_scale, stability
from lrjax.papers.break_even.series_figures import batch_norm, conditioning, early_phase, sharpness
from lrjax.papers.break_even.trajectory_figures import trajectory
from lrjax.papers.drawn import Draw, drawn
from lrjax.plots.drawing import Figure

__all__ = ["FIGURES", "Figure", "figures"]

FIGURES: tuple[Draw, ...] = (
    trajectory,
    early_phase,
    conditioning,
    sharpness,
    stability,
    edge,
    noise_scale,
    alignment,
    batch_norm,
    detector_table,
)


def figures(run: RunResult) -> list[Figure]:
    """Draws what a run has to show, from its files alone; a figure without data is left out.

    Args:
        run: from `lrjax.experiment.rundir.metrics.load_run`; it need not be finished.

    Returns:
        The figures in the order of the report.
    """
    return drawn(FIGURES, run)
