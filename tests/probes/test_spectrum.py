"""The spectrum probe measures the matrices of the network as it is, warm-started, and knows when not to."""

import flax.linen as nn
import jax
import numpy as np
import pytest

import lrjax
from lrjax import LrjaxError, models
from lrjax import data as data_registry
from lrjax.data.dataset import Source
from lrjax.experiment.loop.resolve import resolve
from lrjax.experiment.step import curvature_losses
from lrjax.models.linen import batch_norm, from_linen
from lrjax.spectra.subset import SmallSubsetWarning
from tests.on_devices import first_block, image_config, random_images, shapes
from tests.probes.problem import after_one_chunk, config, dense, lane
from tests.runs import equal_trees

SIX = ("hessian", "ggn", "fisher", "empirical_fisher", "gradient_covariance", "preconditioned_hessian")
ADAM = {
    "optimizer.name": "adam",
    "optimizer.learning_rate": 0.01,
    "optimizer.b2": 0.9,
    "e": None,
    "loss": "half_square",
}
ADAM |= {"sweep.e": None, "arms.small_rate": None, "spectra.matrices": SIX}


@pytest.fixture(scope="module")
def gram():
    return after_one_chunk(config())


def measure(block, name="spectrum"):
    made, state, memory = block
    return made.program.probes[name].measure(state, made.hparams, made.data, memory[name], len(made.lanes))


def agree(found, matrix):
    assert np.allclose(found, np.linalg.eigvalsh(matrix)[::-1][: len(found)], rtol=1e-3, atol=1e-6)


def test_values_are_those_of_the_dense_matrices_under_the_gram_engine(gram):
    made, state, _ = gram
    found, memory = measure(gram)
    for place in range(len(made.lanes)):
        wanted = dense(made, state, place)
        for name in ("hessian", "gradient_covariance"):
            agree(found[f"{name}_values"][place], wanted[name])
            vector = memory["vectors"][name][place][0]
            residual = wanted[name] @ vector - found[f"{name}_values"][place][0] * vector
            assert np.linalg.norm(residual) < 1e-3 * np.linalg.norm(wanted[name], 2)
        tops = [np.linalg.eigh(wanted[name])[1][:, -1] for name in ("hessian", "gradient_covariance")]
        assert found["cos_hk"][place] == pytest.approx(abs(tops[0] @ tops[1]), abs=5e-3)
        assert found["lambda_h1"][place] == found["hessian_values"][place][0]
        assert found["lambda_k1"][place] == found["gradient_covariance_values"][place][0]


@pytest.mark.slow
def test_all_six_matrices_are_the_dense_ones_under_the_direct_engine_with_adam():
    block = after_one_chunk(config("direct", **ADAM))
    made, state, _ = block
    wanted, found = dense(made, state, 0), measure(block)[0]
    moments = lane(state.opt_state, 0)[0]
    scale = np.sqrt(moments.nu["filters"].astype(np.float64) / (1 - 0.9**10)).ravel() + 1e-8
    wanted["preconditioned_hessian"] = wanted["hessian"] / np.sqrt(np.outer(scale, scale))
    for name in SIX:
        agree(
            found[f"{name}_values"][0] / np.linalg.norm(wanted[name], 2), wanted[name] / np.linalg.norm(wanted[name], 2)
        )


@pytest.mark.slow
def test_before_the_first_step_of_adam_only_the_preconditioned_hessian_is_missing():
    made, state, _ = first_block(config("direct", **ADAM))
    found, memory = measure((made, state, made.start().memory))
    assert np.isnan(found["preconditioned_hessian_values"]).all()
    assert found["preconditioned_hessian_products"][0] == 0
    assert not memory["vectors"]["preconditioned_hessian"].any()
    assert np.isfinite(found["hessian_values"]).all()


def test_a_warm_start_needs_fewer_products_than_a_cold_one_at_the_same_state(gram):
    made, state, memory = gram
    cold, after = measure(gram)
    assert measure((made, state, {"spectrum": after}))[0]["hessian_products"].tolist() == [0, 0, 0]  # has not moved
    again = {"spectrum": after | {"step": np.full_like(after["step"], -1)}}
    warm = measure((made, state, again))[0]
    for name in ("hessian", "gradient_covariance"):
        assert (warm[f"{name}_products"] < cold[f"{name}_products"]).all()
        assert np.allclose(warm[f"{name}_values"], cold[f"{name}_values"], rtol=1e-3, atol=1e-6)


def test_the_second_measurement_compiles_nothing(gram):
    made, state, memory = gram
    after = measure(gram)[1] | {"step": memory["spectrum"]["step"]}
    compiled = []

    def listen(event, *_, **__):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    measure((made, state, {"spectrum": after}))
    jax.monitoring.unregister_event_duration_listener(listen)
    assert not compiled


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return lrjax.run(config(), tmp_path_factory.mktemp("run"))


def test_measurements_are_dense_early_and_sparse_late_and_at_the_end_of_each_lane(run):
    for arrays, steps in zip(run.arrays, ([0, 10, 20, 30, 60], [0, 10, 20, 30, 60], [0, 10, 20, 30]), strict=True):
        assert arrays["spectrum/step"].tolist() == steps
        assert arrays["noise/step"].tolist() == [0, *(at for at in (30, 60) if at <= steps[-1])]
        for name in ("spectrum/hessian_values", "spectrum/cos_hk", "noise/lambda_k1_raw"):
            assert np.isfinite(arrays[name]).all()
        assert (arrays["spectrum/cos_hk"] <= 1).all()
        assert (arrays["spectrum/hessian_products"] > 0).all()
    measured = [(row["lane"], row["step"]) for row in run.metrics if "spectrum/lambda_h1" in row]
    assert sorted(measured) == [(i, at) for i, end in enumerate((60, 60, 30)) for at in (10, 20, 30, 60) if at <= end]


def test_a_diverged_lane_gives_nan_and_the_others_their_own_bits(run, tmp_path):
    spoilt = lrjax.run(config(**{"sweep.e": (0.5, 1e12, 1e38), "arms.small_rate": None}), tmp_path)
    for name in ("hessian_values", "gradient_covariance_residuals", "cos_hk", "lambda_k1", "hessian_products"):
        assert np.array_equal(spoilt.arrays[0][f"spectrum/{name}"], run.arrays[0][f"spectrum/{name}"])
    assert np.array_equal(spoilt.arrays[0]["noise/lambda_k1_low"], run.arrays[0]["noise/lambda_k1_low"])
    for lane_number in (1, 2):
        arrays = spoilt.arrays[lane_number]
        assert spoilt.lanes[lane_number]["diverged_at"] is not None
        assert np.isfinite(arrays["spectrum/hessian_values"][0]).all()
        # Parameters that have exploded but are finite have a curvature, which a matrix of any scale shows.
        for name in ("spectrum/hessian_values", "spectrum/lambda_h1"):
            last = np.asarray(arrays[name][-1])
            assert (np.isnan(last) | (np.abs(last) > 1e12)).all(), name
    for name in ("spectrum/hessian_values", "spectrum/lambda_h1", "spectrum/cos_hk", "noise/trace_over_lambda"):
        assert np.isnan(spoilt.arrays[2][name][-1]).all(), name


def test_parameters_that_are_not_finite_give_nan_and_leave_the_memory(gram):
    made, state, memory = gram
    spoilt = state._replace(params=jax.tree.map(lambda a: a.at[1].set(np.inf), state.params))
    for name in ("spectrum", "noise"):
        clean, kept = measure(gram, name)
        found, after = measure((made, spoilt, memory), name)
        for array in clean:
            assert np.array_equal(found[array][[0, 2]], clean[array][[0, 2]])
            assert array.endswith("products") or np.isnan(found[array][1]).all()
        wanted = jax.tree.map(lambda old, new: np.stack([new[0], old[1], new[2], new[3]]), memory[name], kept)
        assert equal_trees(after, wanted)


def test_gradients_one_by_one_are_the_exact_covariance(gram):
    """16 examples make 16 batches of one, so that both probes speak of one matrix."""
    made, state, _ = gram
    found = measure(gram, "noise")[0]
    for place in range(len(made.lanes)):
        values = np.linalg.eigvalsh(dense(made, state, place)["gradient_covariance"])[::-1]
        close = {"lambda_k1_raw": values[0], "lambda_k1_per_example": values[0], "trace_k_raw": values.sum()}
        close |= {"trace_over_lambda": values.sum() / values[0], "lambda_star_over_lambda": values[14] / values[0]}
        for name, wanted in close.items():
            assert found[name][place] == pytest.approx(wanted, rel=1e-3, abs=1e-6), name
        assert found["lambda_k1_low"][place] < found["lambda_k1_high"][place]


class TinyNet(nn.Module):
    """A convolution, BatchNorm and a dense layer: it compiles fast."""

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.relu(batch_norm(nn.Conv(2, (3, 3), strides=4)(x), "norm", train=train))
        return nn.Dense(10)(x.reshape(x.shape[0], -1))


def images(**overrides):
    settings = image_config(**{"model.name": "tiny", "spectra.k": 1, "spectra.max_steps": 8} | overrides)
    with settings.unlocked():
        settings.probes = type(settings)({"spectrum": "end", "noise": 10})
    return settings


@pytest.mark.slow
def test_an_image_model_with_batch_norm_is_measured_on_its_shared_data(monkeypatch):
    monkeypatch.setitem(data_registry.DATASETS, "random_images", Source(random_images, shapes))
    monkeypatch.setitem(models.MODELS, "tiny", lambda settings, num_classes: from_linen(TinyNet()))
    made, state, _ = first_block(images(**{"spectra.noise_batches": 4, "spectra.batch_size": 16}))
    memory = made.start().memory
    spectrum, after = measure((made, state, memory))
    assert np.isfinite(spectrum["hessian_values"]).all()
    assert np.linalg.norm(after["vectors"]["hessian"], axis=-1) == pytest.approx(1, rel=1e-4)
    noise = measure((made, state, memory), "noise")[0]
    assert 1 <= noise["trace_over_lambda"][0] <= 3


REFUSED = {
    "unknown matrix 'hesian' in spectra.matrices; did you mean 'hessian'": {"spectra.matrices": ("hesian",)},
    "spectra.matrices is empty": {"spectra.matrices": ()},
    "repeats one": {"spectra.matrices": ("ggn", "ggn")},
    "spectra.k=0 must be 1 or more": {"spectra.k": 0},
    "spectra.max_steps=4 is fewer than the spectra.k=5": {"spectra.k": 5, "spectra.max_steps": 4},
    "spectra.tol=0.0 must lie between 0 and 1": {"spectra.tol": 0},
    "spectra.noise_batches=1 must be 2 or more": {"spectra.noise_batches": 1},
    "spectra.seed=-1 must lie in": {"spectra.seed": -1},
    "the noise probe needs two batches or more": {"spectra.examples": 1},
    "gradient_covariance is made of per-example gradients": {"spectra.batch_statistics": True},
    "Fisher needs a likelihood loss, not 'square'": {"spectra.matrices": ("fisher",)},
    "preconditioned_hessian needs one of adam": {"spectra.matrices": ("preconditioned_hessian",)},
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_cannot_be_measured_is_refused_before_the_run(sentence):
    with pytest.raises(LrjaxError, match=sentence.replace("(", r"\(")):
        resolve(config(**REFUSED[sentence]))


def test_a_small_subset_is_warned_of_once():
    curvature_losses.examples.cache_clear()
    with pytest.warns(SmallSubsetWarning, match="measured on 100 of 1000 examples"):
        few = curvature_losses.examples(1000, 100, 0)
    assert curvature_losses.examples(1000, 100, 0) is few
    assert curvature_losses.examples(30, 100, 0).tolist() == list(range(30))
