"""The Gram engine equals the direct engine and plain NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

import lrjax
from lrjax import LrjaxError, keys
from lrjax.data import signal_noise
from lrjax.data.order import Orders
from lrjax.experiment.loop.sweep import expand
from lrjax.models.two_layer import normal_filters
from tests import reference

ARRAYS = ("inner_u", "inner_v", "inner_xi", "strong", "weak", "noise", "output")


ONLY_MAIN = {"arms.small_rate": None, "arms.time_matched": None, "probes.curvature": None}


def small_config(steps=400, **overrides):
    """CLEAR with few examples and dimensions, so that it compiles and runs in seconds."""
    settings = {"steps": steps, "log_every": 100, "probes.features": 100, "probes.test_accuracy": 400}
    sizes = {"data.n": 16, "data.n_weak": 4, "data.dim": 40, "data.num_test": 20, "lanes_per_device": 2}
    lanes = {"sweep.e": (1.25,), "sweep.seed": (0, 1)}
    return lrjax.load_config("configs/benign_osc.py:CLEAR", {**settings, **sizes, **lanes, **ONLY_MAIN, **overrides})


def short(tmp_path, name, **overrides):
    return lrjax.run(small_config(**overrides), tmp_path / name)


def largest_difference(one, other):
    differences = []
    for a, b in zip(one.arrays, other.arrays, strict=True):
        for name in ARRAYS:
            x, y = a[f"features/{name}"], b[f"features/{name}"]
            differences.append(np.max(np.abs(x - y)) / np.max(np.abs(y)))
    return max(differences)


@pytest.mark.x64
@pytest.mark.parametrize(
    "overrides",
    [
        {},
        pytest.param(
            {"model.share_filters": False, "data.weak_slot": "second_v", "data.patch_order": (2, 0, 1)},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"data.weak_slot": "second_noise", "data.noise_projected": False, "label_noise": 0.4},
            marks=pytest.mark.slow,
        ),
        pytest.param({"data.weak_slot": "second_v", "batch_size": 4, "loss": "half_square"}, marks=pytest.mark.slow),
        pytest.param({"batch_size": "full", "averaging": "uniform", "averaging_start": 100}, marks=pytest.mark.slow),
        pytest.param(
            {"averaging": "ema", "schedule.name": "step_decay", "schedule.milestones": (200,)}, marks=pytest.mark.slow
        ),
    ],
    ids=str,
)
def test_gram_engine_equals_direct_engine_for_400_steps(tmp_path, overrides):
    gram = short(tmp_path, "gram", **overrides)
    direct = short(tmp_path, "direct", engine="direct", **overrides)
    assert gram.arrays[0]["features/output"].dtype == np.float64
    assert largest_difference(gram, direct) < 1e-9
    if overrides.get("averaging"):
        name = "test_accuracy/averaged_margin"
        assert np.allclose(gram.arrays[0][name], direct.arrays[0][name], rtol=1e-9)


@pytest.mark.x64
def test_a_wrong_gram_matrix_would_be_seen(tmp_path):
    gram = short(tmp_path, "gram")
    other = short(tmp_path, "other", engine="direct", **{"data.u_norm": 1.0 + 1e-6})
    assert largest_difference(gram, other) > 1e-8


@pytest.mark.x64
@pytest.mark.parametrize("engine", ["gram", "direct"])
def test_engine_equals_numpy_on_the_same_data(tmp_path, engine):
    config = small_config(engine=engine)
    result = lrjax.run(config, tmp_path)
    group = expand(config)[0]
    for lane, arrays in zip(group.lanes, result.arrays, strict=True):
        hparams = {key: jnp.asarray(value) for key, value in lane.hparams().items()}
        data = signal_noise.generate(group.static, hparams)
        start = normal_filters(group.static, hparams, data, keys.key(lane.config.seed, "init"))["filters"][:, :, 0]
        order = Orders([lane.config.seed], ["shuffle"], 16, 1).rows(0, 400)[0, :, 0]
        x, y = np.asarray(data["train"]["x"]), np.asarray(data["train"]["y"])
        eta = lane.config.optimizer.learning_rate
        wanted, margins = reference.train(np.asarray(start), x, y, eta, order)
        assert np.array_equal(arrays["step/example"], order)
        assert np.max(np.abs(arrays["step/margin"] - margins)) < 1e-9
        for name, vectors in (("inner_u", data["basis"][:1]), ("inner_xi", data["basis"][2:])):
            products = np.squeeze(np.einsum("jrd,nd->jrn", wanted, vectors))
            assert np.max(np.abs(arrays[f"features/{name}"][-1] - products)) < 1e-9
        assert np.max(np.abs(reference.train(np.asarray(start), x, y, 0.99 * eta, order)[1] - margins)) > 1e-2


@pytest.mark.slow
@pytest.mark.x64
def test_multiplier_identity_of_a_single_strong_example(tmp_path):
    config = lrjax.load_config(
        "configs/benign_osc.py:E1,scale=smoke",
        {"steps": 200, "log_every": 1, "probes.features": 1, "sweep.e": (0.5, 1.25), "probes.curvature": None},
    )
    result = lrjax.run(config, tmp_path)
    for lane, arrays in zip(result.lanes, result.arrays, strict=True):
        e, z = lane["e"], arrays["step/margin"]
        eps = float(arrays["data/v_norm"] / arrays["data/u_norm"]) ** 2
        for name, rate in (("inner_u", e), ("inner_v", e * eps)):
            own = arrays[f"features/{name}"][:, 0, 0]
            assert np.max(np.abs(own[1:] / own[:-1] - (1.0 + rate * (1.0 - z)))) < 1e-12
            assert (
                np.max(np.abs(own[1:] / own[:-1] - (1.0 + 1.01 * rate * (1.0 - z)))) > 1e-6
            )  # a wrong e would be seen


def test_gram_engine_refuses_what_it_cannot_do_exactly(tmp_path):
    for place, overrides in enumerate(({"optimizer.momentum": 0.9}, {"optimizer.l2": 0.1}, {"optimizer.name": "adam"})):
        with pytest.raises(LrjaxError, match="engine='direct'"):
            short(tmp_path, f"refused{place}", **overrides)
