"""PS10: pattern counts, complexity, subsets, noise with both labels, the two forms of the input."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrjax import LrjaxError
from lrjax.data import ps10
from lrjax.experiment.loop import sweep
from tests.papers.patterns import config

DEFAULTS = dict(
    n=4000, num_test=4000, classes=10, k_simple=10, k_complex=100, layout="grid", jitter=0.1, noise="none",
    noise_fraction=0.1, image_size=0, complex_draw=0,
)  # fmt: skip


@functools.cache
def generator(**overrides):
    settings = SimpleNamespace(**(DEFAULTS | overrides))
    return jax.jit(lambda h: ps10.generate(SimpleNamespace(data=settings), h))


def made(seed=0, **overrides):
    hparams = {"seed": jnp.uint32(seed), "data.jitter": jnp.float32(overrides.get("jitter", DEFAULTS["jitter"]))}
    # Jitter is a number of the lane, not of the program.
    program = generator(**{name: value for name, value in overrides.items() if name != "jitter"})
    return jax.tree.map(np.asarray, program(hparams))


def of_kind(split, kind):
    return {name: array[split["kind"] == kind] for name, array in split.items()}


@pytest.fixture(scope="module")
def clean():
    return made()


@pytest.mark.parametrize(("kind", "bits"), [(ps10.SIMPLE, 3.3219), (ps10.COMPLEX, 6.6439)])
def test_complexity_of_simple_and_complex_patterns_is_log2_of_their_number_a_class(clean, kind, bits):
    for split in (clean["train"], clean["tests"]["test"]):
        own = of_kind(split, kind)
        complexity = ps10.pattern_complexity(own["pattern"], own["y"])
        assert complexity == pytest.approx(np.log2((10, 100)[kind]), abs=1e-6)
        assert complexity == pytest.approx(bits, abs=5e-5)


def test_complexity_of_the_merge_is_one_bit_above_the_mean_of_both(clean):
    train = clean["train"]
    assert ps10.pattern_complexity(train["pattern"], train["y"]) == pytest.approx(5.9829, abs=5e-5)


def test_complexity_counts_how_often_a_pattern_occurs():
    assert ps10.pattern_complexity([0, 0, 0, 1], [0, 0, 0, 0]) == pytest.approx(0.8113, abs=1e-4)
    assert ps10.pattern_complexity([0, 1], [0, 1]) == 0.0


def test_half_of_the_examples_have_simple_channels_only_and_half_complex_ones(clean):
    train = clean["train"]
    assert np.array_equal(np.bincount(train["kind"]), [2000, 2000])
    assert np.all(of_kind(train, ps10.SIMPLE)["x"][:, 3:] == 0)
    assert np.all(of_kind(train, ps10.COMPLEX)["x"][:, :3] == 0)


def test_every_pattern_is_equally_frequent_and_has_one_label_in_both_splits(clean):
    label = {}
    for split in (clean["train"], clean["tests"]["test"]):
        for kind, times in ((ps10.SIMPLE, 20), (ps10.COMPLEX, 2)):
            own = of_kind(split, kind)
            _, counts = np.unique(own["pattern"], return_counts=True)
            assert set(counts) == {times}
            for pattern, y in zip(own["pattern"], own["y"], strict=True):
                assert label.setdefault(int(pattern), int(y)) == y
    assert len(label) == 1100
    assert np.array_equal(np.bincount(list(label.values())), [110] * 10)


def test_without_jitter_samples_are_different_nodes_of_the_grids():
    split = made(jitter=0.0)["train"]
    for kind, spacing, channels in ((ps10.SIMPLE, 0.5, slice(0, 3)), (ps10.COMPLEX, 2 / 9, slice(3, 6))):
        own = of_kind(split, kind)
        place = (own["x"][:, channels] + 1) / spacing
        assert np.max(np.abs(place - np.round(place))) < 1e-5
        assert len(np.unique(np.round(place), axis=0)) == len(np.unique(own["pattern"]))


def test_jitter_is_a_share_of_the_spacing_of_each_grid():
    exact, jittered = made(jitter=0.0)["train"], made(jitter=0.2)["train"]
    for kind, spacing in ((ps10.SIMPLE, 0.5), (ps10.COMPLEX, 2 / 9)):
        moved = of_kind(jittered, kind)["x"] - of_kind(exact, kind)["x"]
        assert np.std(moved[moved != 0]) == pytest.approx(0.2 * spacing, rel=0.05)


def test_test_samples_are_fresh(clean):
    assert not np.isin(
        clean["tests"]["test"]["x"][:, 0][:50], clean["train"]["x"][:, 0][clean["train"]["kind"] == 0]
    ).all()


def test_random_layout_puts_points_off_the_grid():
    split = made(layout="random", jitter=0.0)["train"]
    place = (of_kind(split, ps10.SIMPLE)["x"][:, :3] + 1) / 0.5
    assert np.max(np.abs(place - np.round(place))) > 0.1


def test_wrong_labels_keep_input_pattern_and_true_label(clean):
    noisy = made(noise="label")["train"]
    own = noisy["kind"] == ps10.NOISE
    assert np.sum(own) == 400
    assert np.array_equal(noisy["x"], clean["train"]["x"])
    assert np.array_equal(noisy["true_y"], clean["train"]["y"])
    assert np.all(noisy["y"][own] != noisy["true_y"][own])
    assert np.array_equal(noisy["y"][~own], noisy["true_y"][~own])
    assert len(np.unique((noisy["y"] - noisy["true_y"])[own] % 10)) == 9


@pytest.mark.parametrize(("kind", "simple_channels"), [("point", False), ("joint", True)])
def test_random_points_have_no_true_label_and_lie_in_their_channels(kind, simple_channels):
    noisy = made(noise=kind)["train"]
    own = of_kind(noisy, ps10.NOISE)
    assert len(own["y"]) == 400
    assert set(own["true_y"]) == {ps10.NO_LABEL}
    assert np.any(own["x"][:, :3] != 0) == simple_channels
    assert np.all(own["x"][:, 3:] != 0)
    assert len(np.unique(own["y"])) == 10
    rest = noisy["kind"] != ps10.NOISE
    assert np.array_equal(noisy["y"][rest], noisy["true_y"][rest])


def test_the_test_set_never_has_noise(clean):
    assert np.array_equal(made(noise="joint")["tests"]["test"]["x"], clean["tests"]["test"]["x"])


def test_image_form_repeats_the_vector_at_every_position(clean):
    images = made(image_size=4)
    assert images["train"]["x"].shape == (4000, 4, 4, 6)
    assert np.array_equal(images["train"]["x"][:, 2, 3], clean["train"]["x"])
    assert np.array_equal(images["train"]["x"][:, 0, 0], clean["train"]["x"])


def test_another_draw_changes_complex_points_alone(clean):
    other = made(complex_draw=1)["train"]
    simple = clean["train"]["kind"] == ps10.SIMPLE
    assert np.array_equal(other["x"][simple], clean["train"]["x"][simple])
    assert not np.array_equal(other["x"][~simple], clean["train"]["x"][~simple])


def test_the_seed_changes_patterns_and_samples(clean):
    other = made(seed=1)["train"]
    assert not np.array_equal(other["x"][:10], clean["train"]["x"][:10])


def test_shapes_are_those_of_the_data():
    for size in (0, 3):
        settings = SimpleNamespace(data=SimpleNamespace(**(DEFAULTS | {"image_size": size, "noise": "label"})))
        promised, found = ps10.spec(settings), made(image_size=size, noise="label")
        for want, have in ((promised.train, found["train"]), (promised.tests["test"], found["tests"]["test"])):
            kept = {name: array for name, array in have.items() if name in want}
            assert {n: (a.shape, a.dtype) for n, a in want.items()} == {n: (a.shape, a.dtype) for n, a in kept.items()}


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("layout", "hexagonal", "data.layout"),
        ("noise", "some", "data.noise"),
        ("jitter", -1.0, "data.jitter"),
        ("n", 1, "data.n"),
    ],
)
def test_wrong_settings_are_refused_by_name(key, value, said):
    with pytest.raises(LrjaxError, match=said):
        sweep.expand(config("L3", {f"data.{key}": value}))
