"""A paper that lrjax does not know, in one file: its schedule, probe, model, data, claim, figure and experiment."""

import sys

import jax
import jax.numpy as jnp
import numpy as np

import lrjax
from lrjax import data, models, papers
from lrjax.data import Dataset, Source
from lrjax.experiment.loop.probe import PROBES, without_memory
from lrjax.experiment.step import schedules
from lrjax.papers.claim import Claim, Finding


def sawtooth(settings, peak, steps):
    return lambda t: peak * (1 - (t % 10) / 10)


def rings(config):
    pixels = np.random.default_rng(config["data"]["seed"])
    y = np.arange(config["data"]["n"], dtype=np.int32) % 2
    turn = pixels.uniform(0, 2 * np.pi, len(y))
    x = ((1 + 2 * y) * np.stack([np.cos(turn), np.sin(turn)])).T.astype(np.float32)
    return Dataset({"x": x, "y": y}, {"test": {"x": x, "y": y}}, 2)


def rings_spec(config):
    n = config["data"]["n"]
    split = {"x": jax.ShapeDtypeStruct((n, 2), np.float32), "y": jax.ShapeDtypeStruct((n,), np.int32)}
    return Dataset(split, {"test": split}, 2)


def radial(model_config, num_classes):
    def init(key, x):
        return {"w": 0.1 * jax.random.normal(key, (model_config["width"], num_classes))}, {}

    def apply(params, model_state, x, *, train, key=None):
        radius = jnp.linalg.norm(x, axis=-1, keepdims=True)
        return jnp.cos(radius * jnp.arange(model_config["width"])[None]) @ params["w"], model_state

    return models.Model(init, apply)


def weight_norm(static, engine, mesh):
    return without_memory(lambda state, hparams, data: {"value": jnp.linalg.norm(state.params["w"], axis=(1, 2))})


def grows(run):
    norms = run.arrays[0]["weight_norm/value"]
    return Finding("supported" if norms[-1] > norms[0] else "contradicted", f"{norms[0]:.3f} -> {norms[-1]:.3f}")


CLAIMS = [Claim("grows", "sawtooth", ("main",), "The weights grow.", "ours", "the last norm above the first", grows)]
NOTE = "Nothing was reconstructed."


def before(groups):
    return "a sawtooth"


def figures(run):
    return []


def main(scale):
    config = lrjax.load_config("configs/break_even.py:E7_mlp,scale=smoke")
    with config.unlocked(), config.ignore_type():
        config.paper, config.arms = "sawtooth", type(config)()
        config.data = type(config)({"name": "rings", "n": 64, "seed": 0})
        config.model = type(config)({"name": "radial", "width": 8})
        config.probes = type(config)({"weight_norm": 50})
        config.schedule.name = "sawtooth"
        config.optimizer.learning_rate = 0.5
        config.update(batch_size=16, steps=200, log_every=50, checkpoint_every=100)
    return config


schedules.SCHEDULES["sawtooth"] = sawtooth
data.DATASETS["rings"] = Source(rings, rings_spec)
models.MODELS["radial"] = radial
PROBES["weight_norm"] = weight_norm
papers.PAPERS["sawtooth"] = sys.modules[__name__]
EXPERIMENTS, DEFAULT = {"main": main}, "main"
