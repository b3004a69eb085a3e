"""What the figures of all papers share: thinned series, seeds with mean and band, curves that coincide."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from lrjax.experiment.rundir.reading import Notes, Watched
from lrjax.papers.drawn import averaged, look, seeds_and_mean, thinned
from lrjax.papers.exp_lr.twin_figures import COLOURS


def pixels(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].reshape(-1, 3) / 255


def visible(image, colour):
    """How many pixels have a colour up to the smoothing of edges."""
    return int(np.sum(np.abs(image - np.array(to_rgb(colour))).max(axis=1) < 0.06))


@pytest.mark.parametrize("count", [3, 5])
def test_curves_that_coincide_are_all_visible(count):
    figure = Figure(figsize=(5, 3), dpi=130)
    axis = figure.subplots()
    axis.set_axis_off()
    for place, colour in enumerate(COLOURS[:count]):
        seeds_and_mean(axis, [(np.arange(9), np.linspace(0, 1, 9))], colour, colour, place)
    image = pixels(figure)
    assert all(visible(image, colour) > 60 for colour in COLOURS[:count])


def test_lines_of_one_width_hide_each_other():
    """What `look` is for: the same curves without it."""
    figure = Figure(figsize=(5, 3), dpi=130)
    axis = figure.subplots()
    axis.set_axis_off()
    for colour in COLOURS[:3]:
        axis.plot(np.arange(9), np.linspace(0, 1, 9), color=colour, linewidth=2)
    assert visible(pixels(figure), COLOURS[0]) < 10


def test_each_of_five_curves_has_dashes_and_a_width_of_its_own():
    styles = [look(place) for place in range(5)]
    assert len({style["linestyle"] for style in styles}) == len({style["linewidth"] for style in styles}) == 5


def test_a_spike_of_one_step_and_the_last_value_stay_in_500_points():
    values = np.zeros(40_000, np.float32)
    values[12_345], values[-1] = 7.0, 3.0
    steps, kept = thinned({"step/loss": values}, "step/loss")
    assert len(steps) == len(kept) <= 500
    assert kept.max() == 7.0
    assert steps[kept.argmax()] == 12_345
    assert (steps[-1], kept[-1]) == (39_999, 3.0)
    assert kept.dtype == np.float32


def test_a_probe_is_thinned_at_its_own_steps():
    arrays = {"probe/step": np.arange(0, 5000, 5), "probe/x": np.arange(1000.0)}
    steps, values = thinned(arrays, "probe/x", most=10)
    np.testing.assert_array_equal(steps, 5 * values)


def test_a_record_keeps_the_points_and_not_the_series():
    lane = Watched({"step/loss": np.arange(10_000.0)}, Notes())
    thinned(lane, "step/loss")
    averaged(lane, "step/loss")
    assert not lane.read
    assert sum(array.nbytes for array in lane.made.values()) < 8000


def test_seeds_of_another_length_are_drawn_and_left_out_of_mean_and_band():
    axis = Figure().subplots()
    axis.set_yscale("log")
    long = np.arange(4)
    seeds_and_mean(axis, [(long, np.full(4, 1.0)), (long, np.full(4, 100.0)), ([0, 1], [5.0, 5.0])], "black", "a")
    np.testing.assert_allclose(axis.lines[-1].get_ydata(), 10.0)  # the mean of the logarithms
    assert len(axis.lines) == 4
