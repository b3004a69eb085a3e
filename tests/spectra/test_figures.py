"""Figures of curvature: what they plot is what they were given, and a run without such arrays has none."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lrjax.errors import LrjaxError
from lrjax.experiment.rundir.lanes import lane_config
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.plots.drawing import STYLE
from lrjax.probes.figures import (
    MOST_PANELS,
    Course,
    cosine_figure,
    density_figure,
    eigenvalues_figure,
    figures,
    label,
)
from lrjax.report import write_files
from lrjax.spectra.density import Density
from lrjax.spectra.training_edge import training_edge

STEPS = np.arange(0, 500, 50)


def lines(axis, style=None):
    """(x, y) arrays of the lines of an axis, those of one style only."""
    found = [line for line in axis.get_lines() if line.get_transform() == axis.transData]
    return [np.array(line.get_data(), float) for line in found if style in (None, line.get_linestyle())]


def texts(figure):
    figure.fig.draw_without_rendering()
    return [text.get_text() for text in figure.fig.legends[0].get_texts()]


def values(rate, k=3, seed=0):
    """lambda_1 rises to 2 / rate; the last of k is negative."""
    top = 2 / rate * (1 - np.exp(-STEPS / 100)) + 0.05 / rate
    return np.stack([top, *(top * 0.3**place for place in range(1, k - 1)), -0.1 * top], axis=1)


def pairs(count, **optimizer):
    rates = (0.05, 0.2, 0.01)
    for i in range(count):
        rate = rates[i % 3]
        used = np.where(np.arange(450) < 300, rate, rate / 10)
        arrays = {
            "spectrum/step": STEPS, "spectrum/hessian_values": values(rate), "spectrum/hessian_residuals": values(rate),
            "spectrum/gradient_covariance_values": np.abs(values(rate)), "spectrum/cos_hk": np.linspace(0.1, 0.9, STEPS.size),
            "step/learning_rate": used, "step/loss": np.ones(450),
        }  # fmt: skip
        entry = {"lane": i, "arm": "main", "seed": i, "values": {"seed": i} | optimizer, "steps": 450}
        yield entry | {"learning_rate": rate, "diverged_at": None, "last_finite_loss": 0.1}, arrays


def run(count, name="sgd", **optimizer):
    made = list(pairs(count, **optimizer))
    config = {"paper": "benign_osc", "experiment": "X", "optimizer": {"name": name}, "arms": {}}
    return RunResult([], [a for _, a in made], {"state": "done"}, Path(), config, [lane for lane, _ in made])


def test_a_run_without_curvature_has_no_figures():
    plain = run(2)
    for arrays in plain.arrays:
        for name in [name for name in arrays if name.startswith("spectrum/")]:
            del arrays[name]
    assert figures(plain) == []


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 15])
def test_every_matrix_has_a_panel_a_lane_with_what_was_recorded(count):
    made = run(count)
    found = {figure.name: figure for figure in figures(made)}
    assert list(found) == ["eigenvalues_hessian", "eigenvalues_gradient_covariance", "cos_hk"]
    shown = np.linspace(0, count - 1, min(count, MOST_PANELS)).round().astype(int)
    for figure in found.values():
        assert len(figure.fig.axes) == len(shown)
        assert figure.caption.endswith(".")
        assert ("12 of 15 lanes are shown" in figure.caption) == (count == 15)
        figure.fig.draw_without_rendering()
    for place, axis in zip(shown, found["eigenvalues_hessian"].fig.axes, strict=True):
        given = made.arrays[place]["spectrum/hessian_values"]
        solid = lines(axis, "-")
        for column in given.T:
            assert any(np.array_equal(line, [STEPS, column]) for line in solid)
        low, high = axis.get_ylim()
        assert low < given.min()
        assert high > given.max()
    for place, axis in zip(shown, found["cos_hk"].fig.axes, strict=True):
        assert any(np.array_equal(line[1], made.arrays[place]["spectrum/cos_hk"]) for line in lines(axis))
    titles = [axis.get_title() for axis in found["cos_hk"].fig.axes]
    assert titles == ([""] if count == 1 else [f"seed={place}" for place in shown])


def test_the_edge_follows_the_learning_rate_that_each_step_used():
    figure = figures(run(1))[0]
    (edge,) = lines(figure.fig.axes[0], "--")
    rates = np.where(STEPS < 300, 0.05, 0.005)  # the last measurement is after the last step: the rate of step 449
    np.testing.assert_allclose(edge, [STEPS, 2 / rates])
    assert r"$2/\eta$" in texts(figure)
    assert not lines(figures(run(1))[1].fig.axes[0], "--")  # the edge is one of the Hessian


def test_the_edge_is_that_of_the_lane_s_own_optimizer():
    figure = figures(run(2, **{"optimizer.momentum": 0.9}))[0]
    (edge,) = lines(figure.fig.axes[0], "--")
    assert edge[1][0] == pytest.approx(2 * 1.9 / 0.05)
    assert r"$2(1+\beta)/\eta$" in texts(figure)


def test_an_edge_far_above_is_said_instead_of_squeezing_the_eigenvalues():
    course = Course(STEPS, values(1.0), edges={r"$2/\eta$": np.full(STEPS.size, 700.0)})
    axis = eigenvalues_figure([course]).fig.axes[0]
    assert not lines(axis, "--")
    assert any("700" in text.get_text() for text in axis.texts)
    assert axis.get_ylim()[1] < 10


def test_a_spike_makes_the_axis_logarithmic_and_the_caption_says_so():
    spiked = values(0.1)
    spiked[4, 0] = 1e5
    figure = eigenvalues_figure([Course(STEPS, spiked)])
    assert figure.fig.axes[0].get_yscale() == "log"
    assert "not on the logarithmic axis" in figure.caption
    usual = eigenvalues_figure([Course(STEPS, values(0.1))])
    assert usual.fig.axes[0].get_yscale() == "linear"


def test_measurements_that_a_lane_lacks_leave_a_gap():
    broken = values(0.1)
    broken[3:] = np.nan
    figure = eigenvalues_figure([Course(STEPS, broken), Course(STEPS, np.full_like(broken, np.nan))])
    figure.fig.draw_without_rendering()
    assert all(np.all(np.isfinite(axis.get_ylim())) for axis in figure.fig.axes)


def test_one_measurement_is_a_dot():
    axis = eigenvalues_figure([Course([100], [[2.0, 1.0]])]).fig.axes[0]
    assert axis.get_lines()[-1].get_marker() == "o"


def test_nothing_to_draw_is_refused():
    for draw in (eigenvalues_figure, cosine_figure):
        with pytest.raises(LrjaxError, match="give one course or more"):
            draw([])


def density(atoms):
    nodes = np.array([[-3.0, -1e-3, 0.0, 1e-3, 5.0], [-3.0, -1e-3, 0.0, 2e-3, 5.0]])
    share = 1 - len(atoms) / 100
    weights = np.array([[0.01, 0.2, 0.3, 0.4, 0.09]] * 2) * share
    return Density(nodes, weights, np.array(atoms), 100, 10)


def test_a_density_is_drawn_on_both_scales_with_its_outliers_marked():
    figure = density_figure(density([20.0, 8.0]))
    linear, logarithmic = figure.fig.axes
    curve = density([20.0, 8.0]).on(sigma=0.23)
    np.testing.assert_allclose(lines(linear, "-")[0], [curve.grid, curve.density])
    heights = density([20.0, 8.0]).on_log()
    positive, negative = lines(logarithmic, "-")
    np.testing.assert_allclose(positive[1], heights.positive)
    np.testing.assert_allclose(negative[1], heights.negative)
    marks = [line.get_xdata() for line in linear.get_lines() if line.get_marker() == "v"]
    assert [mark.tolist() for mark in marks] == [[20.0, 8.0]]
    marks = [line.get_xdata() for line in logarithmic.get_lines() if line.get_marker() == "v"]
    np.testing.assert_allclose(marks[0], np.log10([20.0, 8.0]))
    assert "eigenvalues 20, 8." in figure.caption
    assert "29% of the eigenvalues are too small" in figure.caption
    figure.fig.draw_without_rendering()


def test_negative_outliers_stand_apart_from_positive_ones():
    figure = density_figure(density([]), outliers=[-3.0, 5.0])
    found = {line.get_label(): list(line.get_xdata()) for line in figure.fig.axes[0].get_lines()}
    assert found["positive outlier"] == [5.0]
    assert found["negative outlier"] == [-3.0]
    assert {"positive outlier", "negative outlier", r"$\lambda>0$", r"$\lambda<0$"} == set(texts(figure))


def test_a_density_of_one_point_is_drawn():
    figure = density_figure(Density(np.full((1, 3), 2.0), np.array([[1.0, 0.0, 0.0]]), np.zeros(0), 10, 3))
    figure.fig.draw_without_rendering()


EDGES = {
    "sgd": ({"name": "sgd", "momentum": None}, 2 / 0.1),
    "heavy ball": ({"name": "sgd", "momentum": 0.9}, 2 * 1.9 / 0.1),
    "Nesterov": ({"name": "sgd", "momentum": 0.9, "nesterov": True}, 2 * 1.9 / (0.1 * 2.8)),
    "Nesterov without momentum": ({"name": "sgd", "nesterov": True}, 2 / 0.1),
    "penalty": ({"name": "sgd", "l2": 0.5}, 2 / 0.1 - 0.5),
}


@pytest.mark.parametrize(("optimizer", "value"), EDGES.values(), ids=EDGES)
def test_the_edge_of_sgd_is_that_of_its_settings(optimizer, value):
    assert training_edge(optimizer, 0.1).values == pytest.approx(value)
    assert training_edge(optimizer, 0.1, "gradient_covariance") is None


def test_adam_holds_the_preconditioned_hessian_at_its_edge_and_adamw_decays_by_optax_s_default():
    assert training_edge({"name": "adam"}, 0.1, "preconditioned_hessian").values == pytest.approx(38 / 0.1)
    decayed = training_edge({"name": "adamw", "b1": 0.8}, 0.1, "preconditioned_hessian").values
    assert decayed == pytest.approx((2 - 0.1 * 1e-4) * 1.8 / (0.2 * 0.1))
    assert training_edge({"name": "adam"}, 0.1, "hessian") is None
    assert training_edge({"name": "adam", "l2": 0.1}, 0.1, "preconditioned_hessian") is None
    assert training_edge({"name": "lion"}, 0.1, "hessian") is None


def test_without_a_learning_rate_there_is_no_edge():
    assert training_edge({"name": "sgd"}, np.array([0.0, 1.0])).values.tolist() == [np.inf, 2.0]


def test_an_arm_s_optimizer_stands_above_the_sweep_and_the_config():
    config = {"optimizer": {"name": "sgd", "momentum": 0.1, "l2": 0.3}}
    config["arms"] = {"one": {"optimizer": {"momentum": 0.9}}, "two": {"optimizer.momentum": 0.8}}
    lane = {"arm": "one", "values": {"optimizer.momentum": 0.5, "optimizer.l2": 0.7, "seed": 1}}
    run = SimpleNamespace(config=config)
    assert lane_config(run, lane).optimizer.to_dict() == {"name": "sgd", "momentum": 0.9, "l2": 0.7}
    assert lane_config(run, lane | {"arm": "two"}).optimizer.momentum == 0.8
    stored = lane_config(run, lane | {"config": {"optimizer.momentum": 0.6}})
    assert stored.optimizer.to_dict() == {"name": "sgd", "momentum": 0.6, "l2": 0.3}


def test_a_label_names_what_varies():
    def lane(number, arm, e, seed):
        return {"lane": number, "arm": arm, "values": {"data.e": e, "seed": seed}}

    two = SimpleNamespace(lanes=[lane(0, "large_rate", 0.5, 7), lane(1, "main", 1.5, 7)])
    assert [label(two, entry) for entry in two.lanes] == ["large rate, e=0.5", "main, e=1.5"]
    assert label(SimpleNamespace(lanes=two.lanes[:1]), two.lanes[0]) == ""


def test_the_report_shows_the_curvature_of_any_run_after_the_figures_of_its_paper(tmp_path):
    paper = SimpleNamespace(CLAIMS=[], figures=lambda run: [])
    write_files(run(1), paper, tmp_path)
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert names == {"cos_hk.png", "eigenvalues_hessian.png", "eigenvalues_gradient_covariance.png"}
    page = (tmp_path / "report.html").read_text()
    assert "Hessian: largest eigenvalues through training" in page
    assert page.count("<figure") == 3


def test_the_style_of_the_caller_is_left_as_it_was():
    import matplotlib

    before = dict(matplotlib.rcParams)
    figures(run(1))
    assert dict(matplotlib.rcParams) == before
    assert STYLE["font.size"] == 10
