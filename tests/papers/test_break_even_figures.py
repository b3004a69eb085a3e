"""Figures of the break-even paper: what is drawn of which arrays, what is marked, and that a record draws them again."""

import numpy as np
import pytest

import lrjax
from lrjax.papers.break_even import edge_figures, figures, series_figures
from lrjax.papers.break_even.drawing import Drawn, label, on_one_grid
from lrjax.papers.break_even.recorded import rates_at
from lrjax.report.record import MOST_BYTES, make
from tests.papers.test_break_even import STEPS, conjectures, hill, lane, run_of

NOISE = {
    f"break_even/noise_scale{end}": factor * hill(100.0, 800) for end, factor in (("", 1), ("_low", 0.5), ("_high", 2))
}
BATCH = {"batch_sharpness/value": hill(18.0, 800), "batch_sharpness/stderr": np.ones(STEPS.size)}
ALIGNED = {"break_even/cos_hk": np.linspace(0.9, 0.3, STEPS.size)}


def measured(**more):
    """Two rates, three seeds, with arrays of some instruments."""
    lanes = [
        lane(2 * seed + small, rate, top, sharp, 10.0, seed, **more)
        for seed in range(3)
        for small, (rate, top, sharp) in enumerate(((0.1, 0.9, 25.0), (0.01, 3.0, 250.0)))
    ]
    return run_of(*lanes)


def names(run):
    return {figure.name for figure in figures(run)}


@pytest.mark.parametrize(("arrays", "name"), [(NOISE, "noise_scale"), (BATCH, "edge"), (ALIGNED, "alignment")])
def test_a_figure_of_an_instrument_is_drawn_where_its_arrays_are_and_only_there(arrays, name):
    assert name in names(measured(**arrays))
    assert name not in names(measured())


def test_the_edge_is_at_one_for_both_curvatures_times_half_the_rate():
    run = measured(**BATCH)
    axis = edge_figures.edge(run).fig.axes[0]
    tops = {line.get_label(): line.get_ydata().max() for line in axis.lines if ":" in str(line.get_label())}
    assert tops[r"$\eta=0.1$: $\eta\lambda_H^1/2$"] == pytest.approx(0.1 * 25 / 2)
    assert tops[r"$\eta=0.1$: $\eta\,$batch sharpness$/2$"] == pytest.approx(0.1 * 18 / 2)
    assert any(line.get_label() == "edge of stability" and set(line.get_ydata()) == {1.0} for line in axis.lines)


def test_with_momentum_no_edge_of_plain_sgd_is_drawn():
    run = measured(**BATCH)
    for record in run.lanes:
        record["values"] = {"optimizer.momentum": 0.9}
    assert edge_figures.edge(run) is None


def test_seeds_are_thin_their_mean_is_thick_and_the_judged_maxima_are_marked():
    axis = series_figures.conditioning(conjectures(0.87, 3.01)).fig.axes[0]
    widths = [line.get_linewidth() for line in axis.lines if line.get_marker() in ("None", "o")]
    assert widths.count(0.6) == 6
    assert widths.count(1.8) == 2
    assert sum(line.get_marker() == "v" and line.get_xdata().size > 0 for line in axis.lines) == 6
    assert len(axis.collections) == 2  # a band a rate


def test_the_papers_maxima_are_drawn_in_its_own_setting_alone():
    run = conjectures(0.87, 3.01)
    assert "paper: maximum" not in _labels(series_figures.conditioning(run))
    data, model = run.config["data"] | {"num_train": 50_000}, run.config["model"] | {"width": 32}
    spectra = run.config["spectra"] | {"noise_batch_size": 128}
    same = run._replace(config=run.config | {"data": data, "model": model, "spectra": spectra})
    assert "paper: maximum" in _labels(series_figures.conditioning(same))


def _labels(figure):
    return {line.get_label() for axis in figure.fig.axes for line in axis.lines}


def test_infinite_ends_of_intervals_and_rates_that_change_are_drawn():
    run = measured(**NOISE | {"break_even/noise_scale_high": np.full(STEPS.size, np.inf)})
    axis = edge_figures.noise_scale(run).fig.axes[0]
    ends = np.concatenate(
        [segment[:, 1] for bars in axis.collections if hasattr(bars, "get_segments") for segment in bars.get_segments()]
    )
    assert np.isfinite(ends).all()
    used = {"step/learning_rate": np.repeat([0.1, 0.02], 1000)}
    assert rates_at({"learning_rate": 0.1}, used, np.array([0.0, 999.0, 1000.0, 2500.0])).tolist() == [
        0.1,
        0.1,
        0.02,
        0.02,
    ]


def test_curves_over_accuracy_are_averaged_where_all_seeds_are():
    short, long = Drawn(np.arange(3.0), np.zeros(3)), Drawn(np.arange(5.0), np.ones(5))
    found = on_one_grid([short, long])
    assert all(each.at[0] == 0.0 and each.at[-1] == 2.0 for each in found)
    assert found[0].at.tolist() == found[1].at.tolist()
    assert (found[0].values.max(), found[1].values.min()) == (0.0, 1.0)


def test_a_figure_marks_what_its_experiment_judges_and_nothing_else():
    run = measured()
    caption = {}
    for experiment in ("E3", "E9", "E10"):
        found = series_figures.conditioning(run._replace(config=run.config | {"experiment": experiment}))
        marks = [line for axis in found.fig.axes for line in axis.lines if line.get_marker() == "v"]
        caption[experiment] = found.caption
        assert bool(marks) is (experiment == "E3")
    assert "Triangles" in caption["E3"]
    assert "last 20%" in caption["E10"]
    assert "judged" not in caption["E9"].lower()


def test_lanes_of_another_order_of_batches_have_a_label_of_their_own():
    config = lrjax.load_config("configs/break_even.py:E1,scale=small")
    from lrjax.papers.synthetic import blank

    run = blank("break_even", "E1")
    assert config.arms.again.order == "iid"
    assert len({label(run, record) for record in run.lanes}) == 3


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["E1", "E2"])
def test_a_smoke_run_is_judged_and_drawn_equally_from_its_record(experiment, tmp_path, tfds_dir):
    config = lrjax.load_config(f"configs/break_even.py:{experiment},scale=smoke", {"data_dir": str(tfds_dir)})
    run = lrjax.run(config, tmp_path / "run")
    entries = make(tmp_path / "run", tmp_path / "record")  # refuses a record that says or draws something else
    assert {entry["verdict"] for entry in entries} == {"not judged"}
    files = {path.name: path.stat().st_size for path in (tmp_path / "record").iterdir()}
    assert sum(files.values()) <= MOST_BYTES
    with np.load(tmp_path / "record" / "record.npz") as kept:
        assert not any(name.startswith(("step__", "predictions__probabilities")) for name in kept.files)
    assert "predictions/probabilities" in run.arrays[0]
