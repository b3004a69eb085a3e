"""Accuracy by kind of example, in batches that do not divide, for one lane and for several."""

import importlib

import jax
import numpy as np
import pytest

from lrjax import models
from lrjax.devices import parallel
from lrjax.probes.subsets import subset_accuracies
from tests.on_devices import first_block
from tests.papers.patterns import config

SPLIT = {
    "y": np.array([0, 1, 2, 3, 4, 5]),
    "true_y": np.array([0, 1, 2, 3, 9, -1]),
    "kind": np.array([0, 0, 1, 1, 2, 2]),
}
KINDS = ("simple", "complex", "noise")


def test_noise_counts_against_both_labels_and_in_no_other_subset():
    found = subset_accuracies(np.array([0, 0, 2, 3, 9, 5]), SPLIT, KINDS)
    assert found == {"all": 0.75, "simple": 0.5, "complex": 1.0, "noise_given": 0.5, "noise_true": 1.0}


def test_a_kind_that_does_not_occur_is_nan():
    clean = {name: array[:4] for name, array in SPLIT.items()}
    found = subset_accuracies(np.array([0, 1, 2, 3]), clean, KINDS)
    assert np.isnan(found["noise_given"])
    assert found["all"] == 1.0


@pytest.mark.parametrize("batch", [pytest.param(2000, marks=pytest.mark.slow), 50])
def test_probe_equals_predictions_made_one_lane_at_a_time(batch, monkeypatch):
    module = importlib.import_module("lrjax.probes.subsets")  # the package has a function of that name
    monkeypatch.setattr(module, "EVAL_BATCH", batch)  # 50 does not divide 256
    settings = config("L4", {"sweep.seed": (0, 1), "lanes_per_device": 2})
    with settings.unlocked():
        for arm in list(settings.arms):
            if arm != "label_decay":
                del settings.arms[arm]
        settings.probes.update(accuracy=settings.probes.subsets, predictions=settings.probes.subsets)
    made, state, _ = first_block(settings)
    found, _ = made.measure(state, dict.fromkeys(settings.probes, ()), made.length)
    test = parallel.fetch(made.data)["tests"]["test"]
    np.testing.assert_allclose(found["accuracy"]["test_accuracy"], found["subsets"]["test_all"])
    probabilities = found["predictions"]["probabilities"]
    few = test["y"][:, : probabilities.shape[1]]
    right = np.mean(np.argmax(probabilities, axis=-1) == few, axis=1)
    assert right[0] != right[1]  # each lane has its own weights and its own examples
    if few.shape == test["y"].shape:
        np.testing.assert_allclose(right, found["accuracy"]["test_accuracy"])
    data = parallel.fetch(made.data)
    model = models.build_model(made.static.model, 10)
    for lane in range(2):
        train = {k: v[lane] for k, v in data["train"].items()}
        params, model_state = (parallel.fetch(tree) for tree in (state.params, state.model_state))
        own = [jax.tree.map(lambda a, lane=lane: a[lane], tree) for tree in (params, model_state)]
        output, _ = model.apply(*own, train["x"], train=False)
        predicted = np.argmax(output, axis=-1)
        noisy = train["kind"] == 2
        assert found["subsets"]["train_noise_given"][lane] == np.mean(predicted[noisy] == train["y"][noisy])
        assert found["subsets"]["train_simple"][lane] == np.mean((predicted == train["y"])[train["kind"] == 0])
