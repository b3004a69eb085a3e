"""Loss landscapes and linear paths: quadratic losses in closed form, filter norms, and what is refused."""

import collections

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lrjax.errors import LrjaxError
from lrjax.plots.drawing import png
from lrjax.plots.landscape import landscape_figure, path_figure
from lrjax.spectra import Landscape, LinearPath, hessian, lanczos, linear_path, loss_landscape

A = np.array([[3.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, 1.0]])
W = np.array([0.5, -1.0, 2.0])
X = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
KERNELS = {
    "conv": {
        "kernel": jnp.asarray(np.random.default_rng(1).normal(size=(2, 2, 3, 4)), jnp.float32),
        "bias": jnp.ones(4),
    },
    "dense": {"kernel": jnp.asarray(np.random.default_rng(2).normal(size=(4, 5)), jnp.float32), "bias": jnp.ones(5)},
    "norm": {"scale": jnp.full(5, 2.0)},
}


def quadratic(w, batch):
    return jnp.mean(batch) * (w @ jnp.asarray(A, w.dtype) @ w) / 2


def least_squares(w, x):
    return jnp.mean((x @ w) ** 2)


def squares(params, batch):
    return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params)) * jnp.mean(batch)


def value(w):
    return w @ A @ w / 2


def test_the_surface_of_a_quadratic_is_the_quadratic_at_every_point_of_the_grid():
    d, e = np.array([1.0, 2.0, 0.0]), np.array([0.0, 1.0, -1.0])
    grids = np.array([-1.0, 0.5, 2.0]), np.array([0.0, 3.0])
    surface = loss_landscape(quadratic, W, [np.ones(4)], (d, e), grid=grids, normalise=None)
    right = [[value(W + a * d + b * e) for b in grids[1]] for a in grids[0]]
    np.testing.assert_allclose(surface.losses, right, rtol=1e-5)
    assert not np.allclose(surface.losses[:2].T, np.array(right)[:2])  # the axes exchanged
    assert surface.center == pytest.approx(value(W), rel=1e-6)


def test_along_an_eigenvector_the_loss_is_a_parabola_of_its_eigenvalue():
    top = lanczos(hessian(quadratic).bind(W, [np.ones(4)]), 2)
    zero = np.zeros(3, np.float32)
    plane = loss_landscape(quadratic, zero, [np.ones(4)], top.vectors, num_points=5, normalise=None)
    t = plane.grids[0]
    np.testing.assert_allclose(plane.losses, (top.values[0] * t[:, None] ** 2 + top.values[1] * t**2) / 2, atol=1e-5)


def test_losses_are_means_over_examples_whatever_the_batches_and_chunks():
    options = dict(directions=np.ones(3), num_points=7, normalise=None)
    whole = loss_landscape(least_squares, W, [X], **options)
    for batches in ([X[:7], X[7:]], lambda: iter([X[:1], X[1:8], X[8:]])):
        for chunk in (1, 3, 100):
            parts = loss_landscape(least_squares, W, batches, chunk=chunk, **options)
            np.testing.assert_allclose(parts.losses, whole.losses, rtol=1e-5)
            assert parts.center == pytest.approx(whole.center, rel=1e-5)
    right = [np.mean((X @ (W + t)) ** 2) for t in whole.grids[0]]
    np.testing.assert_allclose(whole.losses, right, rtol=1e-5)


def test_weights_are_those_that_are_given():
    def masked(w, batch):
        return jnp.sum(batch["m"] * (batch["x"] @ w) ** 2) / jnp.sum(batch["m"])

    m = np.array([1, 1, 1, 1, 1, 1, 0, 0, 0, 0], np.float32)
    batches = [{"x": X[:5], "m": m[:5]}, {"x": X[5:], "m": m[5:]}]
    right = [np.mean((X[:6] @ (W + t)) ** 2) for t in (-1.0, 0.0, 1.0)]
    options = dict(directions=np.ones(3), num_points=3, normalise=None)
    weighted = loss_landscape(masked, W, batches, weight=lambda b: b["m"].sum(), **options)
    np.testing.assert_allclose(weighted.losses, right, rtol=1e-5)
    with pytest.raises(LrjaxError, match="weight="):
        loss_landscape(masked, W, batches, **options)
    assert not np.allclose(loss_landscape(masked, W, batches, checks=False, **options).losses, right, rtol=1e-2)
    summed = loss_landscape(
        lambda w, b: jnp.sum((b @ w) ** 2), W, [X[:4], X[4:]], weight=lambda b: 1, num_examples=10, **options
    )
    np.testing.assert_allclose(summed.losses, loss_landscape(least_squares, W, [X], **options).losses, rtol=1e-5)


def test_each_filter_of_a_direction_has_the_norm_of_that_filter_and_biases_are_left_out():
    line = loss_landscape(squares, KERNELS, [np.ones(2)], (jax.random.key(0),), num_points=3)
    (direction,) = (hessian(squares).bind(KERNELS, [np.ones(2)], checks=False).unravel(row) for row in line.directions)
    for name in ("conv", "dense"):
        kernel, given = KERNELS[name]["kernel"], direction[name]["kernel"]
        axes = tuple(range(kernel.ndim - 1))
        np.testing.assert_allclose(jnp.sum(given**2, axes), jnp.sum(kernel**2, axes), rtol=1e-5)
        assert not np.allclose(jnp.sum(given**2, -1), jnp.sum(kernel**2, -1), rtol=1e-2)  # inputs instead of filters
        assert not np.any(direction[name]["bias"])
    assert not np.any(direction["norm"]["scale"])


def test_filters_are_numbered_by_the_axis_that_is_given_and_biases_kept_on_request():
    random = jnp.asarray(np.random.default_rng(3).normal(size=_size(KERNELS)), jnp.float32)
    unravel = jax.flatten_util.ravel_pytree(KERNELS)[1]
    line = loss_landscape(squares, KERNELS, [np.ones(2)], random, num_points=3, filter_axis=lambda path: 0, biases=True)
    direction = unravel(line.directions[0])
    kernel = KERNELS["dense"]["kernel"]
    np.testing.assert_allclose(jnp.sum(direction["dense"]["kernel"] ** 2, 1), jnp.sum(kernel**2, 1), rtol=1e-5)
    np.testing.assert_allclose(jnp.sum(direction["dense"]["bias"] ** 2), 5.0, rtol=1e-5)
    layers = loss_landscape(squares, KERNELS, [np.ones(2)], random, num_points=3, normalise="layer")
    given = unravel(layers.directions[0])["dense"]["kernel"]
    np.testing.assert_allclose(jnp.sum(given**2), jnp.sum(kernel**2), rtol=1e-5)
    plain = unravel(random)["dense"]["kernel"]
    np.testing.assert_allclose(given / given[0, 0], plain / plain[0, 0], rtol=1e-4)


def _size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_filter_norms_neither_underflow_nor_overflow(scale):
    w = np.full((3, 2), scale, np.float32)
    line = loss_landscape(lambda w, b: jnp.mean(b) + 0 * w[0, 0], w, [np.ones(2)], 1e-25 * np.ones(6), num_points=3)
    np.testing.assert_allclose(line.directions, scale, rtol=1e-5)


def test_a_direction_may_be_a_tree_flat_a_row_or_a_key_and_they_agree():
    def cut(directions, params=KERNELS):
        return loss_landscape(squares, params, [np.ones(2)], directions, num_points=3, normalise=None)

    flat = jax.random.normal(jax.random.key(1), (_size(KERNELS),))
    tree = jax.flatten_util.ravel_pytree(KERNELS)[1](flat)
    ordered = collections.OrderedDict((name, tree[name]) for name in reversed(tree))
    lines = [cut(d) for d in (flat, tree, ordered, flat[None], (flat,), np.asarray(flat), (jax.random.key(1),), (1,))]
    for line in lines:
        assert line.losses.shape == (3,)
        np.testing.assert_array_equal(line.directions[0], flat)
    for key in (7, jax.random.key(7), jax.random.PRNGKey(7), np.int32(7)):
        plane = cut(key)
        assert plane.losses.shape == (3, 3)
        np.testing.assert_array_equal(plane.directions, cut(jax.random.key(7)).directions)
    pair = (KERNELS["dense"]["kernel"], KERNELS["dense"]["bias"])
    ones = jax.tree.map(jnp.ones_like, pair)
    assert cut(ones, pair).losses.shape == (3,)  # one direction for parameters that are a tuple themselves
    assert cut((ones, jax.tree.map(jnp.cos, pair)), pair).losses.shape == (3, 3)


def test_only_the_chosen_parameters_move_and_a_direction_may_be_of_them_or_of_all():
    chosen = {"conv": {"kernel": None, "bias": None}, "dense": KERNELS["dense"], "norm": {"scale": None}}
    lines = [
        loss_landscape(squares, KERNELS, [np.ones(2)], d, num_points=3, normalise=None, where="dense")
        for d in (np.concatenate([np.ones(5), np.ravel(KERNELS["dense"]["kernel"])]), chosen, KERNELS)
    ]
    dense, rest = _squares(KERNELS["dense"]), _squares(KERNELS) - _squares(KERNELS["dense"])
    for line in lines:
        np.testing.assert_allclose(line.losses, rest + dense * (1 + line.grids[0]) ** 2, rtol=1e-5, atol=1e-5)


def _squares(tree):
    return float(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)))


REFUSED = {
    "size": (np.ones(4), {}, "a direction has no leaf|4 numbers|shape"),
    "transposed": (
        {"a": np.ones((2, 3))},
        {"params": {"a": np.ones((3, 2))}},
        r"leaf a of a direction has shape \(2, 3\)",
    ),
    "path": ({"b": np.ones(3)}, {"params": {"a": np.ones(3)}}, "a direction has no leaf a"),
    "three": (np.eye(3), {}, "one or two directions, not 3"),
    "none": ((), {}, "one or two directions, not 0"),
    "zero": (np.zeros(3), {}, "a direction is zero"),
    "NaN": (np.array([1.0, np.nan, 0.0]), {}, "holds NaN"),
    "parallel": ((np.ones(3), -2 * np.ones(3)), {}, "parallel"),
    "bias": (np.ones(3), {"normalise": "filter"}, "biases=True"),
    "normalise": (np.ones(3), {"normalise": "weight"}, "'filter', 'layer' or None"),
    "parameters": (np.ones(3), {"params": np.array([1.0, np.inf, 0.0])}, "NaN or infinity"),
    "loss": (np.ones(3), {"loss_fn": lambda w, b: jnp.log(-jnp.sum(w**2))}, "the loss is NaN"),
    "unchecked loss": (
        np.ones(3),
        {"loss_fn": lambda w, b: jnp.log(-jnp.sum(w**2)), "checks": False},
        "the loss at the parameters",
    ),
    "vector": (np.ones(3), {"loss_fn": lambda w, b: b @ w}, "must be a scalar"),
    "aux": (np.ones(3), {"loss_fn": lambda w, b: (jnp.sum(w), b)}, "has_aux=True"),
    "grids": (np.ones(3), {"grid": (np.ones(2), np.ones(2))}, "1 directions and 2 grids"),
    "grid": (np.ones(3), {"grid": np.ones((2, 2))}, r"a grid is an array \[n\]"),
    "radius": (np.ones(3), {"radius": 0.0}, "radius must be > 0"),
    "chunk": (np.ones(3), {"chunk": 0}, "chunk must be >= 1"),
    "weight": (np.ones(3), {"weight": lambda b: b}, "weight must give a number"),
    "weights": (np.ones(3), {"weight": lambda b: 0}, "add up to zero"),
    "empty": (np.ones(3), {"batches": lambda: iter(())}, "no batches"),
    "empty sum": (np.ones(3), {"batches": lambda: iter(()), "num_examples": 3}, "no batches"),
}


@pytest.mark.parametrize(("directions", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_landscape_is_refused_in_a_sentence(directions, options, message):
    arguments = {"loss_fn": least_squares, "params": W, "batches": [X], "normalise": None} | options
    if isinstance(arguments["params"], dict):
        arguments["loss_fn"] = squares
    with pytest.raises(LrjaxError, match=message):
        loss_landscape(directions=directions, **arguments)


def test_the_auxiliary_output_is_left_out():
    line = loss_landscape(
        lambda w, x: (least_squares(w, x), {"x": x}), W, [X], np.ones(3), num_points=3, normalise=None, has_aux=True
    )
    np.testing.assert_allclose(
        line.losses, loss_landscape(least_squares, W, [X], np.ones(3), num_points=3, normalise=None).losses
    )


def test_statistics_are_recomputed_at_each_point_where_asked():
    def loss(params, x):
        return jnp.mean((x @ params["w"] - params["mean"]) ** 2)

    params = {"w": jnp.asarray(W, jnp.float32), "mean": jnp.asarray(0.0)}
    centred = lambda p: p | {"mean": jnp.mean(X @ p["w"])}  # noqa: E731
    options = dict(num_points=3, normalise=None, where="w")
    line = loss_landscape(loss, params, [X[:4], X[4:]], np.ones(3), recompute=centred, **options)
    np.testing.assert_allclose(line.losses, [np.var(X @ (W + t)) for t in (-1, 0, 1)], rtol=1e-5)
    stale = loss_landscape(loss, params, [X[:4], X[4:]], np.ones(3), **options)
    assert not np.allclose(stale.losses, line.losses, rtol=1e-3)


def test_a_path_between_the_wells_of_a_double_well_has_its_barrier():
    path = linear_path(lambda w, b: jnp.mean((w**2 - b) ** 2), np.ones(1), -np.ones(1), [np.ones(4)], num_points=11)
    np.testing.assert_allclose(path.losses, ((1 - 2 * path.grid) ** 2 - 1) ** 2, atol=1e-6)
    assert (path.barrier, path.barrier_at, path.distance) == (pytest.approx(1.0), 0.5, 2.0)


def test_the_barrier_is_over_the_line_between_the_ends_and_not_over_the_lower_of_them():
    path = linear_path(lambda w, b: jnp.sum(jnp.mean(b) * w), np.zeros(1), 3 * np.ones(1), [np.ones(4)], num_points=5)
    np.testing.assert_allclose(path.losses, 3 * path.grid, rtol=1e-6)
    assert path.barrier == pytest.approx(0.0, abs=1e-6)
    convex = linear_path(quadratic, W, -2 * W, [np.ones(2)])
    assert convex.barrier == 0.0
    np.testing.assert_allclose(convex.losses, value(W) * (1 - 3 * convex.grid) ** 2, rtol=1e-4, atol=1e-5)


def test_the_ends_of_a_path_are_the_losses_of_the_two_networks():
    a, b = KERNELS, jax.tree.map(lambda leaf: -0.3 * leaf, KERNELS)
    path = linear_path(squares, a, b, [np.ones(2)], num_points=3, chunk=2)
    np.testing.assert_allclose(path.losses[[0, -1]], [_squares(a), _squares(b)], rtol=1e-6)


def test_trees_that_do_not_fit_and_what_differs_outside_of_the_path_are_refused():
    a = {"w": np.ones((3, 2)), "steps": np.array(3)}

    def refuse(b, message, **options):
        with pytest.raises(LrjaxError, match=message):
            linear_path(squares, a, b, [np.ones(2)], **options)

    refuse({"w": np.ones((2, 3)), "steps": np.array(3)}, r"leaf w of params_b has shape \(2, 3\)")
    refuse({"v": np.ones((3, 2)), "steps": np.array(3)}, "params_b has no leaf w")
    refuse(a | {"v": np.ones(2)}, "params_b has more parameters")
    refuse(a | {"w": np.full((3, 2), np.nan)}, "NaN or infinity")
    refuse(a | {"steps": np.array(4)}, "steps differs between the ends")
    refuse(a | {"w": np.full((3, 2), 1e30)}, "the loss at an end")
    refuse(a, "num_points must be >= 2", num_points=1)
    same = linear_path(squares, a, a | {"steps": np.array(4)}, [np.ones(2)], num_points=2, recompute=lambda p: p)
    assert same.distance == 0.0


def test_statistics_between_two_networks_are_recomputed_where_asked():
    def loss(params, x):
        return jnp.mean((x @ params["w"] - params["mean"]) ** 2)

    recompute = lambda p: p | {"mean": jnp.mean(X @ p["w"])}  # noqa: E731
    a, b = (recompute({"w": jnp.asarray(w, jnp.float32), "mean": 0.0}) for w in (W, -2 * W))
    path = linear_path(loss, a, b, [X], num_points=3, where="w", recompute=recompute)
    np.testing.assert_allclose(path.losses, [np.var(X @ W) * (1 - 3 * t) ** 2 for t in path.grid], rtol=1e-4, atol=1e-6)
    with pytest.raises(LrjaxError, match="mean differs between the ends"):
        linear_path(loss, a, b, [X], where="w")


def test_a_surface_of_wide_range_is_drawn_in_logarithms_and_one_of_narrow_range_is_not():
    axis = np.linspace(-1, 1, 9)
    bowl = 1e-3 + axis[:, None] ** 2 + 4 * axis**2
    wide = landscape_figure(Landscape(bowl, (axis, axis), 1e-3, np.eye(2), "filter"))
    assert "logarithmic scale" in wide.caption
    assert "filters scaled" in wide.caption
    narrow = landscape_figure(Landscape(10 + bowl, (axis, axis), 10.0, np.eye(2), None))
    assert "linear scale" in narrow.caption
    signed = landscape_figure(Landscape(bowl - 1, (axis, axis), -1.0, np.eye(2), None))
    assert "linear scale" in signed.caption
    for figure in (wide, narrow, signed):
        assert png(figure.fig).startswith(b"\x89PNG")


def test_the_first_direction_is_drawn_along_x():
    x, y = np.linspace(-1, 1, 9), np.linspace(-2, 2, 5)
    axis = landscape_figure(Landscape(x[:, None] ** 2 + 0 * y, (x, y), 0.0, np.eye(2), None)).fig.axes[0]
    assert axis.get_xlim() == pytest.approx((-1, 1), abs=0.2)
    assert axis.get_ylim() == pytest.approx((-2, 2), abs=0.4)


@pytest.mark.parametrize(
    "losses", [np.full(5, 2.0), np.array([np.inf, 1.0, 0.5, 1.0, np.nan]), np.geomspace(1, 1e4, 5)]
)
def test_lines_of_any_losses_are_drawn_and_holes_are_counted(losses):
    axis = np.linspace(-1, 1, 5)
    figure = landscape_figure(Landscape(losses, (axis,), 0.5, np.eye(2)[:1], None))
    assert ("2 of 5 points" in figure.caption) == (not np.isfinite(losses).all())
    assert png(figure.fig).startswith(b"\x89PNG")
    flat = landscape_figure(Landscape(np.outer(losses, np.ones(4)), (axis, axis[:4]), 0.5, np.eye(2), None))
    assert png(flat.fig).startswith(b"\x89PNG")


def test_a_path_is_drawn_with_its_barrier():
    grid = np.linspace(0, 1, 5)
    path = LinearPath(grid, np.array([0.1, 0.5, 0.9, 0.4, 0.3]), 0.7, 0.5, 2.0)
    figure = path_figure(path)
    lines = {line.get_label(): line.get_xydata().tolist() for line in figure.fig.axes[0].get_lines()}
    assert lines["barrier 0.7"] == [[0.5, pytest.approx(0.2)], [0.5, pytest.approx(0.9)]]
    assert "0.7 at t = 0.5" in figure.caption
    assert png(figure.fig).startswith(b"\x89PNG")
    broken = path_figure(path._replace(losses=np.array([0.1, np.inf, 0.9, np.nan, 0.3]), barrier=np.nan))
    assert "2 of 5 points" in broken.caption
    assert png(broken.fig).startswith(b"\x89PNG")


def test_time_major_batches_keys_and_streams_are_taken_as_by_bind():
    def loss(w, batch):
        return jnp.mean((jnp.einsum("fn,f->n", batch["x"], w) + jax.random.normal(batch["key"])) ** 2)

    options = dict(directions=np.ones(3), num_points=3, normalise=None)
    batches = [{"x": x.T, "key": jax.random.key(0)} for x in (X[:7], X[7:])]
    noise = float(jax.random.normal(jax.random.key(0)))
    right = [np.mean((X @ (W + t) + noise) ** 2) for t in (-1, 0, 1)]
    line = loss_landscape(loss, W, batches, in_axes={"x": 1, "key": None}, **options)
    np.testing.assert_allclose(line.losses, right, rtol=1e-5)
    passes = iter(range(100))
    with pytest.raises(LrjaxError, match="another batch 0 at its second pass"):
        loss_landscape(least_squares, W, lambda: iter([X + next(passes)]), **options)


class Eqx(eqx.Module):
    w: jax.Array
    activation: object = jnp.tanh

    def __call__(self, x):
        return self.activation(x @ self.w)


class Nnx(nnx.Module):
    def __init__(self, w):
        self.w = nnx.Param(w)
        self.count = nnx.BatchStat(jnp.zeros(()))

    def __call__(self, x):
        return jnp.tanh(x @ self.w[...])


@pytest.mark.parametrize("kind", [Eqx, Nnx])
def test_modules_are_moved_as_they_are(kind):
    w = jnp.asarray(W, jnp.float32)
    loss = lambda module, x: jnp.mean(module(x) ** 2)  # noqa: E731
    right = lambda w: np.mean(np.tanh(X @ w) ** 2)  # noqa: E731
    line = loss_landscape(loss, kind(w), [X], np.ones(3), num_points=3, normalise=None)
    np.testing.assert_allclose(line.losses, [right(W + t) for t in (-1, 0, 1)], rtol=1e-5)
    towards = loss_landscape(loss, kind(w), [X], kind(jnp.ones(3)), num_points=3, normalise=None)
    np.testing.assert_array_equal(towards.losses, line.losses)
    path = linear_path(loss, kind(w), kind(-3 * w), [X], num_points=3)
    np.testing.assert_allclose(path.losses, [right(W), right(-W), right(-3 * W)], rtol=1e-5)
