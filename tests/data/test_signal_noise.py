"""The synthetic data of benign oscillation, and how its keys follow from each other."""

import jax.numpy as jnp
import numpy as np
import pytest

import lrjax
from lrjax import LrjaxError
from lrjax.data import signal_noise
from lrjax.experiment.loop.sweep import expand


def lane(**overrides):
    settings = {
        "sweep.e": None,
        "arms.small_rate": None,
        "arms.time_matched": None,
        "sweep.seed": (3,),
        "lanes_per_device": 1,
    }
    return expand(lrjax.load_config("configs/benign_osc.py:CLEAR", {**settings, **overrides}))[0]


def generate(**overrides):
    group = lane(**overrides)
    hparams = {key: jnp.asarray(value) for key, value in group.lanes[0].hparams().items()}
    return signal_noise.generate(group.static, hparams), group.lanes[0].config


def test_patches_are_signed_features_and_noise_orthogonal_to_them():
    data, config = generate()
    x, y, strong = (np.asarray(a) for a in (data["train"]["x"], data["train"]["y"], data["strong"]))
    u, v = np.asarray(data["basis"][0]), np.asarray(data["basis"][1])
    assert np.allclose([np.linalg.norm(u), np.linalg.norm(v), u @ v], [1.0, 0.1, 0.0], atol=1e-6)
    assert np.allclose(x[strong, 0], y[strong, None] * u, atol=1e-7)
    assert np.all(x[~strong, 0] == 0)
    assert np.allclose(x[:, 1], y[:, None] * v, atol=1e-7)
    assert np.max(np.abs(x[:, 2] @ np.stack([u, v]).T)) < 1e-6
    assert np.sum(~strong) == config.data.n_weak == 8
    assert np.sum(y) == 0
    assert np.mean(np.sum(x[:, 2] ** 2, axis=1)) == pytest.approx(0.12 * 398 / 400, rel=0.05)  # kn |v|^2


def test_unprojected_noise_overlaps_the_features():
    data, _ = generate(**{"data.noise_projected": False})
    assert np.max(np.abs(np.asarray(data["train"]["x"][:, 2] @ data["basis"][0]))) > 1e-3


@pytest.mark.parametrize("slot", ["zero", "second_noise", "second_v"])
def test_first_patch_of_a_weak_example_is_what_weak_slot_says(slot):
    data, _ = generate(**{"data.weak_slot": slot})
    weak = ~np.asarray(data["strong"])
    first, second = np.asarray(data["train"]["x"])[weak, 0], np.asarray(data["train"]["x"])[weak, 1]
    if slot == "zero":
        assert np.all(first == 0)
    elif slot == "second_v":
        assert np.array_equal(first, second)
    else:
        noise = np.asarray(data["train"]["x"])[weak, 2]
        assert not np.allclose(first, noise)
        assert np.mean(np.sum(first**2, axis=1)) == pytest.approx(0.12, rel=0.3)


def test_patch_order_permutes_patches_and_nothing_else():
    plain, _ = generate()
    permuted, _ = generate(**{"data.patch_order": (2, 0, 1)})
    assert np.array_equal(plain["train"]["x"][:, (2, 0, 1)], permuted["train"]["x"])


def test_weak_by_chance_draws_the_fraction_rho():
    data, _ = generate(**{"data.weak_by_chance": True, "data.rho": 0.5, "data.n": 400, "data.dim": 10})
    assert np.mean(~np.asarray(data["strong"])) == pytest.approx(0.5, abs=0.1)


def test_data_are_a_function_of_the_seed_and_the_order_another():
    first, _ = generate()
    again, _ = generate(order="iid", **{"optimizer.learning_rate": 1.0, "e": None})
    other, _ = generate(**{"sweep.seed": (4,)})
    assert np.array_equal(first["train"]["x"], again["train"]["x"])
    assert not np.array_equal(first["train"]["x"], other["train"]["x"])


def test_e_and_learning_rate_follow_from_each_other():
    assert lane().lanes[0].config.optimizer.learning_rate == pytest.approx(1.25 * 16 / 4)
    assert lane(e=None, **{"optimizer.learning_rate": 5.0}).lanes[0].config.e == pytest.approx(1.25)
    assert lane(e=None, loss="half_square", **{"optimizer.learning_rate": 0.4 * 16}).lanes[0].config.e == pytest.approx(
        0.8
    )
    full = lane(batch_size="full").lanes[0].config
    assert full.optimizer.learning_rate == pytest.approx(1.25 * 64 * 16 / (4 * 28))


@pytest.mark.parametrize(
    "overrides",
    [
        {"optimizer.learning_rate": 1.0},
        {"e": None},
        {"data.sigma_p": 0.1},
        {"data.n_weak": 65},
        {"data.weak_slot": "third_v"},
        {"data.patch_order": (0, 0, 1)},
        {"data.v_norm": 0.0},
        {"data.dim": 2},
        {"loss": "cross_entropy"},
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_in_one_sentence(overrides):
    with pytest.raises(LrjaxError) as error:
        lane(**overrides)
    assert "\n" not in str(error.value)
