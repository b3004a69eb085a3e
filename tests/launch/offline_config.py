"""A config of a user with a neighbour, and with a probe that takes its time where SLOWLY says so."""

import os
import time

import jax
import numpy as np

import lrjax
from lrjax.experiment.loop.probe import PROBES, without_memory

from .sweep_config import tiny as larger

DEFAULT = "tiny"


def _slowly(static, engine, mesh):
    def measure(state, hparams, data):
        time.sleep(float(os.environ.get("SLOWLY", "0")))
        return {"nothing": np.zeros(jax.tree.leaves(state.params)[0].shape[0])}

    return without_memory(measure)


PROBES["slowly"] = _slowly


def tiny(scale):
    config = larger(scale)
    sizes = {"steps": 1000, "log_every": 50, "checkpoint_every": 100, "sweep.seed": (0,)}
    sizes |= {"arms.small_rate": None, "data.dim": 40, "model.width": 8, "data.num_test": 50, "probes.slowly": 50}
    with config.unlocked():
        lrjax.experiment.config.overrides.apply_overrides(config, sizes)
    return config


EXPERIMENTS = {"tiny": tiny}
