"""A config of a user: an experiment of the package, and a sweep of its own."""

import lrjax
from lrjax.experiment.config.axes import chain, crossed, grid, zipped

DEFAULT = "tiny"


def tiny(scale):
    config = lrjax.load_config(f"configs/benign_osc.py:CLEAR,scale={scale}", {"sweep.e": (1.25,)})
    with config.unlocked():
        del config.arms["time_matched"]
    return config


def sweep():
    pairs = crossed(zipped({"batch_size": (1, 2), "steps": (400, 200)}), grid({"seed": range(3)}))
    return chain(pairs, zipped({"seed": (7, 8), "e": (1.1, 1.4)}))


EXPERIMENTS = {"tiny": tiny}
