"""The probes of the break-even paper measure what plain NumPy finds in the same network."""

import jax
import numpy as np
import pytest

from lrjax import LrjaxError
from lrjax.probes.break_even import gamma_norm
from lrjax.probes.next_step import find_stretch
from lrjax.probes.noise_grid import grid
from tests.on_devices import first_block
from tests.probes.problem import config, dense, filters, lane, matrices

PROBES = ("break_even", "noise_grid", "next_step", "batch_sharpness", "hessian_trace", "fisher_trace")


def settings(**overrides):
    """The problem of the spectrum probe under a loss that is a likelihood, with every probe of the break-even paper."""
    made = config(
        "direct",
        **{
            "loss": "half_square",
            "spectra.noise_batch_size": 1,
            "spectra.noise_batches": 16,
            "spectra.noise_grid": ((16, 1), (4, 4)),
            "spectra.trace_products": 60,
            "spectra.tol": 1e-5,
            **overrides,
        },
    )
    with made.unlocked():
        made.probes = type(made)(dict.fromkeys(PROBES, 30))
    return made


@pytest.fixture(scope="module")
def block():
    made, state, rows = first_block(settings())
    memory = made.start().memory
    return made, made.program.advance(state, made.hparams, made.data, rows)[0], memory


def measure(block, name):
    made, state, memory = block
    return made.program.probes[name].measure(state, made.hparams, made.data, memory[name], len(made.lanes))


@pytest.mark.slow
def test_break_even_probe_finds_what_the_dense_matrices_hold(block):
    made, state, _ = block
    found, memory = measure(block, "break_even")
    for place in range(len(made.lanes)):
        wanted = dense(made, state, place)
        top, vectors = np.linalg.eigh(wanted["hessian"])
        noise, directions = np.linalg.eigh(wanted["gradient_covariance"])
        e = vectors[:, -1]
        assert found["lambda_h1"][place] == pytest.approx(top[-1], rel=1e-3)
        assert found["trace_h_top"][place] == pytest.approx(top[-2:].sum(), rel=1e-3)
        assert found["lambda_k1_raw"][place] == pytest.approx(noise[-1], rel=1e-3)
        assert found["trace_k_per_example"][place] == pytest.approx(noise.sum(), rel=1e-3)
        assert found["cos_hk"][place] == pytest.approx(abs(e @ directions[:, -1]), abs=5e-3)
        assert found["alpha_ratio_raw"][place] == pytest.approx(noise[-1] / top[-1], rel=2e-3)
        train = lane(made.data["train"], place)
        own = [
            e
            @ matrices(filters(made, state, place), train["x"][i : i + 1].astype(float), train["y"][i : i + 1], 1.0)[
                "hessian"
            ]
            @ e
            for i in range(16)
        ]
        assert found["curvature_mean"][place] == pytest.approx(np.mean(own), rel=5e-3)
        assert found["curvature_std"][place] == pytest.approx(np.std(own), rel=1e-2)
        assert found["g_over_g5"][place] >= 1
        assert np.isnan(found["gamma_norm"][place])
        assert 0 <= found["train_accuracy"][place] <= 1
    assert memory["vectors"]["hessian"].shape[1] == 2


@pytest.mark.slow
def test_grid_of_single_examples_is_the_exact_covariance_and_of_fours_is_not(block):
    made, state, _ = block
    found = measure(block, "noise_grid")[0]
    assert found["batches"].tolist() == [[16, 4]] * 3
    for place in range(len(made.lanes)):
        noise = np.linalg.eigvalsh(dense(made, state, place)["gradient_covariance"])
        assert found["lambda_k1_per_example"][place][0] == pytest.approx(noise[-1], rel=1e-3)
        assert found["lambda_k1_raw"][place][1] < 0.7 * noise[-1]


@pytest.mark.slow
def test_exact_trace_of_H_is_that_of_the_dense_matrix(block):
    made, state, _ = block
    found = measure(block, "hessian_trace")[0]
    for place in range(len(made.lanes)):
        assert found["value"][place] == pytest.approx(
            np.trace(dense(made, state, place)["hessian"]), rel=1e-2, abs=1e-4
        )


@pytest.mark.slow
def test_trace_of_F_from_drawn_labels_is_that_of_the_dense_matrix_within_its_error(block):
    made, state, _ = block
    found = measure(block, "fisher_trace")[0]
    away = [
        (found["value"][place] - np.trace(dense(made, state, place)["fisher"])) / found["stderr"][place]
        for place in range(len(made.lanes))
    ]
    assert np.all(np.abs(away) < 4)
    assert np.all(found["stderr"] < found["value"])


@pytest.mark.slow
def test_batch_sharpness_lies_between_the_extreme_curvatures(block):
    found = measure(block, "batch_sharpness")[0]
    assert np.isfinite(found["value"]).all()


@pytest.mark.slow
def test_next_step_is_a_step_of_training_and_the_stretch_raises_the_loss_by_a_fifth(block):
    made, state, _ = block
    found = measure(block, "next_step")[0]
    assert ((found["increase_rate"] >= 0) & (found["increase_rate"] <= 1)).all()
    assert ((found["alpha_star"] > 0) & (found["alpha_star"] <= 100)).all()
    still = made.hparams | {"optimizer.learning_rate": 0 * made.hparams["optimizer.learning_rate"]}
    probe = made.program.probes["next_step"]
    rest = probe.measure(state, still, made.data, (), len(made.lanes))[0]
    assert (rest["delta_loss"] == 0).all()
    assert (rest["increase_rate"] == 0).all()
    assert (rest["alpha_star"] == 100).all()


def test_stretch_of_a_quadratic_is_the_closed_form_in_every_lane():
    rates = np.array([0.05, 0.4, 1.9, 30.0])  # eta lambda
    found = find_stretch(lambda alpha: (1 - alpha * rates) ** 2, 4)
    assert found == pytest.approx((1 + np.sqrt(1.2)) / rates, rel=0.011)
    assert np.isnan(find_stretch(lambda alpha: np.full(1, np.nan), 1)[0])


def test_gamma_is_that_of_the_last_layer_in_the_order_of_the_network():
    params = {"norm1": {"scale": np.ones(1)}, "norm4": {"scale": np.array([3.0, 4.0])}, "dense": {"kernel": np.ones(2)}}
    stats = {name: {"mean": np.zeros(1), "var": np.ones(1)} for name in ("norm1", "norm4")}
    assert gamma_norm({"params": params, "model_state": {"batch_stats": stats}}) == pytest.approx(5.0)
    assert np.isnan(gamma_norm({"params": params, "model_state": {}}))
    bare = params | {"norm4": {"bias": np.ones(2)}}
    assert np.isnan(gamma_norm({"params": bare, "model_state": {"batch_stats": stats}}))


def test_a_grid_that_needs_more_examples_than_there_are_is_refused():
    assert grid(((4, 4),), 16) == [(4, 4)]
    with pytest.raises(LrjaxError, match="5 disjoint batches of 4"):
        grid(((5, 4),), 16)


@pytest.mark.slow
def test_probes_change_no_parameter(block):
    made, state, memory = block
    before = jax.tree.map(np.asarray, state.params)
    for name in PROBES:
        measure(block, name)
    after = jax.tree.map(np.asarray, state.params)
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True))
