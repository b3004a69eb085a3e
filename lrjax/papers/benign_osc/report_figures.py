"""The figures of a report, by experiment. To add one, write a function of a run and a row in `FIGURES`."""

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.benign_osc.accuracy_figures import accuracy_against_e, phase_tables
from lrjax.papers.benign_osc.dynamics_figures import drift, edge_of_stability, weak_feature
from lrjax.papers.benign_osc.image_figures import planted_accuracy, training
from lrjax.papers.benign_osc.inner_figures import inner_dynamics
from lrjax.papers.benign_osc.map_figures import map_diagram, residual_bifurcation
from lrjax.papers.benign_osc.variation_figures import ablations, laws
from lrjax.papers.drawn import Draw, drawn
from lrjax.plots.drawing import Figure

__all__ = ["FIGURES", "Figure", "figures"]

_SWEEP = (accuracy_against_e, inner_dynamics, residual_bifurcation, weak_feature, edge_of_stability)
FIGURES: dict[str, tuple[Draw, ...]] = {
    "CLEAR": _SWEEP,
    "E1": (weak_feature, drift, edge_of_stability),
    "E2": _SWEEP,
    "phase": (phase_tables,),
    "ablate": (ablations, laws),
    "map": (map_diagram,),
    "E0": (training,),
    "E0_planted": (training, planted_accuracy),
}


def figures(run: RunResult) -> list[Figure]:
    """Draws what a run has to show, from its files alone; a figure without data is left out.

    Args:
        run: from `lrjax.experiment.rundir.metrics.load_run`; it need not be finished.

    Returns:
        The figures in the order of the report; none for an experiment that is not in `FIGURES`.

    Example:
        >>> from pathlib import Path
        >>> empty = RunResult([], [], {"state": "running"}, Path(), {"experiment": "CLEAR"}, [])
        >>> figures(empty)
        []
    """
    return drawn(FIGURES.get(run.config["experiment"], ()), run)
