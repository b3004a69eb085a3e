"""scale_invariance: groups, obstacles and reasons, on residual nets of dense layers whose answer is known by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrjax.errors import LrjaxError
from lrjax.transforms.invariance import scale_invariance
from lrjax.transforms.scale_groups import finest_groups, largest_group, relations

X = np.random.default_rng(0).normal(size=(16, 5))
Y = np.arange(16) % 3
HEAD = np.random.default_rng(1).normal(size=(4, 3))
WIDTH, BLOCKS = 4, 2


def norm(h, affine=None):
    h = (h - h.mean(0, keepdims=True)) / h.std(0, keepdims=True)
    return h if affine is None else h * affine["scale"][None] + affine["bias"][None]


def residual_logits(params):
    """A pre-activation residual net: affine where params has it, a projection where params has it, raw or normed."""
    h = X @ params["stem"]
    for number in range(BLOCKS):
        p = params[f"block{number}"]
        branch = jax.nn.relu(norm(h, p.get("norm1"))) @ p["conv1"]
        branch = jax.nn.relu(norm(branch, p.get("norm2"))) @ p["conv2"]
        if "projection" in p:
            h = norm(h, p.get("projection_norm")) @ p["projection"]
        elif "raw" in p:
            h = h @ p["raw"]
        h = h + branch
    return jax.nn.relu(norm(h, params.get("final"))) @ params.get("head", HEAD)


def cross_entropy(logits):
    return optax.softmax_cross_entropy_with_integer_labels(logits, Y).mean()


def residual_params(affine=False, shortcuts=("identity", "projection"), **extra):
    rng = np.random.default_rng(2)
    layer = lambda a=WIDTH: jnp.asarray(rng.normal(size=(a, WIDTH)), float)  # noqa: E731
    params: dict = {"stem": layer(5), **extra}
    for number, shortcut in enumerate(shortcuts):
        block: dict = {"conv1": layer(), "conv2": layer()}
        if shortcut != "identity":
            block[shortcut] = layer()
        if affine:
            names = ["norm1", "norm2"] + ["projection_norm"] * (shortcut == "projection")
            block |= {name: {"scale": jnp.ones(WIDTH, float), "bias": jnp.zeros(WIDTH, float)} for name in names}
        params[f"block{number}"] = block
    return params


def report_of(params):
    return scale_invariance(lambda p: cross_entropy(residual_logits(p)), params, outputs=residual_logits)


def groups_of(report):
    return {group.paths for group in report.groups}


@pytest.mark.x64
def test_kernels_before_a_norm_are_invariant_alone_and_those_of_a_stream_jointly():
    report = report_of(residual_params())
    assert report.invariant
    report.require()
    assert groups_of(report) == {
        ("block0/conv1",),
        ("block0/conv2", "stem"),
        ("block1/conv1",),
        ("block1/conv2", "block1/projection"),
    }
    assert all(group.angle < 1e-12 and group.change < 1e-12 for group in report.groups)


@pytest.mark.x64
def test_raw_shortcut_is_named_with_the_degrees_that_do_not_agree():
    report = report_of(residual_params(shortcuts=("identity", "raw")))
    assert [obstacle.path for obstacle in report.obstacles] == ["block1/raw"]
    assert "block1/conv2 by c^2" in report.obstacles[0].reason or "stem by c^0" in report.obstacles[0].reason
    assert report.obstacles[0].change > 1e-2
    with pytest.raises(LrjaxError, match="scale of block1/raw: terms of different degree"):
        report.require()
    assert ("block0/conv2", "block1/conv2", "stem") in groups_of(report)
    report.require(only=lambda path: "raw" not in path)


@pytest.mark.slow
@pytest.mark.x64
def test_affine_with_identity_shortcut_is_broken_and_with_projections_everywhere_is_not():
    broken = report_of(residual_params(affine=True))
    assert not broken.invariant
    assert {o.path for o in broken.obstacles} <= {"block0/norm2/scale", "block0/norm2/bias", "block0/conv2"}
    with pytest.raises(LrjaxError, match="block0/norm2"):
        broken.require()
    mended = report_of(residual_params(affine=True, shortcuts=("projection", "projection")))
    assert mended.invariant
    assert ("block0/norm1/bias", "block0/norm1/scale") in groups_of(mended)
    assert ("stem",) in groups_of(mended)


@pytest.mark.slow
@pytest.mark.x64
def test_affine_of_the_last_norm_and_a_free_head_are_refused_with_the_degree_of_the_logits():
    affine = {"scale": jnp.ones(WIDTH, float), "bias": jnp.zeros(WIDTH, float)}
    report = report_of(residual_params(final=affine))
    assert {obstacle.path for obstacle in report.obstacles} == {"final/scale", "final/bias"}
    head = report_of(residual_params(head=jnp.asarray(HEAD)))
    assert [obstacle.path for obstacle in head.obstacles] == ["head"]
    assert "degree 1 in the invariant arrays" in head.obstacles[0].reason
    with pytest.raises(LrjaxError, match="scale of head: the output has degree 1"):
        head.require()
    head.require(only=lambda path: path != "head")


@pytest.mark.x64
def test_restriction_to_a_part_of_a_joint_group_is_refused_with_the_missing_layer():
    report = report_of(residual_params())
    report.require(only=lambda path: path.endswith("conv1"))
    with pytest.raises(LrjaxError, match="stem may only be converted together with block0/conv2"):
        report.require(only=lambda path: path == "stem")
    with pytest.raises(LrjaxError, match="chooses none"):
        report.require(only=lambda path: False)


@pytest.mark.x64
def test_labels_split_parameters_for_partition():
    params = residual_params(head=jnp.asarray(HEAD))
    labels = report_of(params).labels(params, group="free", other="kept")
    assert labels["head"] == "kept"
    assert set(jax.tree.leaves({k: v for k, v in labels.items() if k != "head"})) == {"free"}


@pytest.mark.x64
def test_opposite_scales_are_not_a_group():
    # relu(x W) V is invariant to (c W, V / c), which no common weight decay keeps.
    params = {"w": jnp.asarray(HEAD[:, :2]), "v": jnp.asarray(HEAD[:2])}
    x = jnp.asarray(X[:, :4])
    report = scale_invariance(lambda p: jnp.mean((jax.nn.relu(x @ p["w"]) @ p["v"] - 1) ** 2), params)
    assert report.groups == ()
    assert report.relations.basis.shape == (1, 2)
    np.testing.assert_allclose(np.abs(report.relations.basis), 1.0)
    assert {o.path for o in report.obstacles} == {"w", "v"}
    assert all("c^-1" in o.reason for o in report.obstacles)


@pytest.mark.slow
def test_float32_gives_the_same_verdict():
    params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), residual_params())
    report = report_of(params)
    assert report.invariant
    assert len(report.groups) == 4
    assert not report_of({**params, "head": jnp.asarray(HEAD, jnp.float32)}).invariant


@pytest.mark.x64
def test_zero_bias_and_eps_are_not_taken_for_invariant():
    # At its initial value a zero bias has <grad, b> = 0, and c * 0 = 0.
    params = {"w": jnp.asarray(X[:5, :3]), "b": jnp.zeros(3, float)}
    report = scale_invariance(lambda p: cross_entropy(norm(X @ p["w"]) + p["b"][None]), params)
    assert [o.path for o in report.obstacles] == ["b"]

    def with_eps(p):
        h = X @ p["w"]
        return cross_entropy((h - h.mean(0, keepdims=True)) / jnp.sqrt(h.var(0, keepdims=True) + 1e-5))

    assert [o.path for o in scale_invariance(with_eps, {"w": params["w"]}).obstacles] == ["w"]


def test_loss_that_is_not_finite_is_refused():
    with pytest.raises(LrjaxError, match="not finite"):
        scale_invariance(lambda p: jnp.log(-jnp.sum(p**2)), jnp.ones(3))


def test_losses_gradients_and_outputs_are_computed_in_full_precision():
    # On a GPU the default is TF32: its rounding changed the loss of a scale-invariant ResNet-32 by 4e-3.
    x, seen = jnp.asarray(X, jnp.float32), []

    def logits(params):
        seen.append(jax.config.jax_default_matmul_precision)
        return norm(x @ params["hidden"]) @ params["head"]

    with jax.default_matmul_precision("tensorfloat32"):
        report = scale_invariance(lambda p: jnp.mean(logits(p) ** 2), {"hidden": x[:5], "head": x[:5]}, outputs=logits)
        assert jax.config.jax_default_matmul_precision == "tensorfloat32"
    assert groups_of(report) == {("hidden",)}
    assert len(seen) >= 3  # the loss and its gradient, the scaled loss, the scaled outputs
    assert set(seen) == {"highest"}


def test_report_prints_a_line_a_group_and_obstacle():
    lines = str(report_of(jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), residual_params()))).splitlines()
    assert lines[0] == "scale invariant"
    assert len(lines) == 5
    assert any("jointly block0/conv2, stem" in line for line in lines)


@pytest.mark.parametrize("seed", range(5))
def test_planted_groups_of_very_different_size_are_found(seed):
    # Products of groups that add up to zero; columns ten orders apart, and a column that belongs to none.
    rng = np.random.default_rng(seed)
    parts = [[0, 3], [1], [2, 4, 6]]
    products = rng.normal(size=(14, 8))
    for part in parts:
        products[:, part[-1]] = -products[:, part[:-1]].sum(1)
    magnitudes = 10.0 ** rng.uniform(-5, 5, size=3)
    for part, magnitude in zip(parts, magnitudes, strict=True):
        products[:, part] *= magnitude
    sizes = np.maximum(np.abs(products), np.abs(products).mean(0))
    found = relations(products, sizes, 1e-9)
    members = largest_group(found, np.ones(8))
    np.testing.assert_array_equal(np.flatnonzero(~members), [5, 7])
    assert [np.flatnonzero(group).tolist() for group in finest_groups(found, members)] == parts
