"""The figures of a report, by experiment. To add one, write a function of a run and a row in `FIGURES`."""

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.drawn import Draw, drawn
from lrjax.papers.lr_decay import cause_figures as causes
from lrjax.papers.lr_decay import image_figures as images
from lrjax.papers.lr_decay import level_figures as levels
from lrjax.papers.lr_decay import pattern_figures as patterns
from lrjax.papers.lr_decay.curvature_figures import curvature
from lrjax.plots.drawing import Figure

FIGURES: dict[str, tuple[Draw, ...]] = {
    "L3": (patterns.accuracy_by_subset, patterns.gain_by_stage),
    "L4": (*map(patterns.noisy_accuracy, patterns.KINDS), patterns.memorised_noise, curvature),
    "L5": (causes.root_cause, curvature),
    "L6": (causes.rules,),
    "L10": (causes.average, causes.valley),
    "L11": (levels.networks,),
    "L12": (levels.plateaus,),
    "L7_ps10": (images.transfer,),
    "L7": (images.transfer,),
    "L1": (images.training, curvature),
    "L2": (images.training,),
    "L9": (images.training, images.explained),
    "L8": (images.patches,),
}


def figures(run: RunResult) -> list[Figure]:
    """Draws what a run has to show, from its files alone; a figure without data is left out.

    Example:
        >>> from pathlib import Path
        >>> figures(RunResult([], [], {"state": "running"}, Path(), {"experiment": "L3"}, []))
        []
    """
    return drawn(FIGURES.get(run.config["experiment"], ()), run)
