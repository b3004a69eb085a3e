"""Probes measure what they say, and change nothing."""

import numpy as np
import pytest

import lrjax
from tests.runs import equal_trees, final_states
from tests.test_inner_product import small_config

SPECTRA = {"probes.spectrum": "100 until 200, end", "probes.noise": 200, "spectra.k": 1, "spectra.max_steps": 4}


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    config = small_config(
        engine="direct", **SPECTRA, **{"probes.curvature": "end", "data.num_test": 200, "sweep.e": (0.5,)}
    )
    return lrjax.run(config, tmp_path_factory.mktemp("probed"))


def test_a_run_with_probes_and_one_without_have_equal_bits(probed, tmp_path):
    off = {"probes.features": None, "probes.test_accuracy": None}
    bare = small_config(engine="direct", **off, **{"sweep.e": (0.5,), "data.num_test": 200})
    without = lrjax.run(bare, tmp_path)
    for a, b in zip(probed.arrays, without.arrays, strict=True):
        for name in ("step/loss", "step/margin"):
            assert np.array_equal(a[name], b[name])
        assert len(a["spectrum/lambda_h1"]) == 4
        assert not any(name.startswith(("features", "spectrum", "noise")) for name in b)
    for name, block in final_states(probed.workdir).items():
        assert equal_trees(block["state"], final_states(without.workdir)[name]["state"])


def test_features_decompose_the_output(probed):
    for arrays in probed.arrays:
        own = np.where(arrays["data/y"] > 0, 0, 1)
        strong, weak = arrays["features/strong"][-1][own], arrays["features/weak"][-1][own]
        against = arrays["features/strong_opposite"][-1][own]
        mask = arrays["data/strong"]
        total = mask * (strong - against) + weak - arrays["features/weak_opposite"][-1][own]
        total = total + arrays["features/noise"][-1] - arrays["features/noise_opposite"][-1]
        assert np.allclose(arrays["features/output"][-1] * arrays["data/y"], total, atol=1e-5)


def test_recorded_loss_is_that_of_the_recorded_outputs(probed):
    for arrays in probed.arrays:
        squares = (arrays["features/output"] - arrays["data/y"][None]) ** 2
        assert np.allclose(arrays["features/loss"], squares.mean(axis=1), rtol=1e-5)


def test_curvature_formula_is_the_spec_s_and_power_iteration_agrees_where_fitted(probed):
    compared = 0
    for arrays in probed.arrays:
        example = arrays["curvature/example"][-1]
        own = np.where(arrays["data/y"][example] > 0, 0, 1)
        components = [arrays[f"features/{name}"][-1] for name in ("strong", "weak", "strong_opposite", "weak_opposite")]
        strong, weak, strong_opposite, weak_opposite = (c[own] for c in components)
        noise = (arrays["features/noise"] + arrays["features/noise_opposite"])[-1][example]
        lengths = arrays["data/u_norm"] ** 2, arrays["data/v_norm"] ** 2, arrays["data/noise_norm2"][example]
        terms = (strong + strong_opposite) * lengths[0], (weak + weak_opposite) * lengths[1], noise * lengths[2]
        formula = arrays["curvature/formula"][-1]
        assert np.allclose(formula, 8.0 / 16 * sum(terms), rtol=1e-4)
        residual = np.abs(1.0 - arrays["curvature/output"][-1] * arrays["data/y"][example])
        fitted = residual < 0.01
        compared += fitted.sum()
        assert np.all(np.abs(arrays["curvature/power"][-1][fitted] / formula[fitted] - 1.0) < 0.01)
    assert compared > 0


def test_test_accuracy_counts_points_of_both_labels(probed):
    for arrays in probed.arrays:
        weak, strong = (arrays[f"test_accuracy/{name}_accuracy"] for name in ("weak", "strong"))
        assert np.all((weak >= 0) & (weak <= 1))
        assert np.allclose(arrays["test_accuracy/mixture_accuracy"], (28 * strong + 4 * weak) / 32, atol=1e-6)
        assert np.max(np.abs(weak * 400 - np.round(weak * 400))) < 1e-3
