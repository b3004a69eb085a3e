"""A small run of the two-layer network with probes of curvature, and its matrices in plain NumPy."""

import jax
import numpy as np

from lrjax.experiment.step import gram as inner_product
from tests.on_devices import first_block
from tests.runs import tiny


def config(engine="gram", **overrides):
    """Two lanes of 60 steps and one of 30 in a block of four; 60 parameters, 16 examples."""
    settings = {
        "engine": engine,
        "arms.time_matched": None,
        "arms.small_rate.steps": 30,
        "data.n": 16,
        "data.n_weak": 4,
        "data.dim": 10,
        "model.width": 3,
        "model.init_scale": 0.3,
        "steps": 60,
        "log_every": 10,
        "checkpoint_every": 20,
        "lanes_per_device": 4,
        "probes.spectrum": "10 until 20, 30",
        "probes.noise": 30,
        "spectra.matrices": ("hessian", "gradient_covariance"),
        "spectra.k": 2,
        "spectra.tol": 1e-4,
        "spectra.batch_size": 5,
    }
    return tiny(settings | overrides, probes=("spectrum", "noise"))


def after_one_chunk(settings):
    """A block, its state ten steps into the run, and what its probes remember at first."""
    made, state, rows = first_block(settings)
    memory = made.start().memory
    return made, made.program.advance(state, made.hparams, made.data, rows)[0], memory


def lane(tree, place):
    """One lane of a tree of arrays."""
    return jax.tree.map(lambda a: np.asarray(a)[place], tree)


def filters(made, state, place):
    """The network's filters [2, m, d], whatever the engine keeps."""
    params = lane(state.params, place)
    if made.static.engine == "gram":
        engine = inner_product.engine(made.static)
        params = engine.weights(params, lane(made.hparams, place), lane(made.data, place))
    return np.asarray(params["filters"], np.float64)[:, :, 0]


def matrices(weights, x, y, curvature):
    """The matrices of the loss (curvature / 2) (f - y)^2, in the order of ravelled filters; no automatic derivative.

    f = (1/m) sum_jr s_j sum_p max(z, 0)^2 with z = <w_jr, x_p>, so grad_jr f = (2 s_j / m) sum_p max(z, 0) x_p and its own
    Hessian is (2 s_j / m) sum_p [z > 0] x_p x_p^T on the diagonal blocks.
    """
    width, sign = weights.shape[1], np.array([1.0, -1.0])
    z = np.einsum("jrd,npd->njrp", weights, x)
    output = np.einsum("njrp,j->n", np.maximum(z, 0) ** 2, sign) / width
    slopes = np.einsum("njrp,npd,j->njrd", np.maximum(z, 0), x, 2 * sign / width).reshape(len(y), -1)
    blocks = np.einsum("njrp,npd,npe,j->njrde", z > 0, x, x, 2 * sign / width)
    bend = curvature * np.einsum("n,njrde->jrde", output - y, blocks).reshape(-1, x.shape[2], x.shape[2]) / len(y)
    ggn = curvature * slopes.T @ slopes / len(y)
    hessian = ggn.copy()
    for number, block in enumerate(bend):
        own = slice(number * x.shape[2], (number + 1) * x.shape[2])
        hessian[own, own] += block
    gradients = curvature * (output - y)[:, None] * slopes
    centred = gradients - gradients.mean(axis=0)
    return {
        "hessian": hessian,
        "ggn": ggn,
        "fisher": ggn,
        "empirical_fisher": gradients.T @ gradients / len(y),
        "gradient_covariance": centred.T @ centred / len(y),
    }


def dense(made, state, place):
    """The matrices of one lane of a block."""
    train = lane(made.data["train"], place)
    curvature = {"square": 2.0, "half_square": 1.0}[made.static.loss]
    x, y = train["x"].astype(np.float64), train["y"].astype(np.float64)
    return matrices(filters(made, state, place), x, y, curvature)
