"""`lrjax.run`: the loop with the probes of lrjax."""

from lrjax.experiment.loop.train import run
from lrjax.probes import PROBES

__all__ = ["PROBES", "run"]
