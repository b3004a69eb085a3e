"""Figures of benign oscillation: what they plot is what was recorded, and no run is too broken to be drawn."""

from pathlib import Path

import numpy as np
import pytest

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.benign_osc import cubic_map
from lrjax.papers.benign_osc.accuracy_figures import accuracy_against_e, phase_tables
from lrjax.papers.benign_osc.drawing import rate_colours
from lrjax.papers.benign_osc.dynamics_figures import edge_of_stability, weak_feature
from lrjax.papers.benign_osc.image_figures import training
from lrjax.papers.benign_osc.inner_figures import inner_dynamics
from lrjax.papers.benign_osc.map_figures import map_diagram
from lrjax.papers.benign_osc.report_figures import FIGURES, figures
from lrjax.papers.benign_osc.theory import logistic_weak
from lrjax.papers.benign_osc.variation_figures import ablations, laws
from lrjax.plots.drawing import MOST_POINTS, envelope, sample

N, WIDTH, STEPS = 8, 3, 400
ARMS = ("reference", "decay_8k", "averaged", "an_arm_of_tomorrow")
IMAGE_ARMS = ("simple_cnn_large", "simple_cnn_small", "resnet18_large", "resnet18_small")


def synthetic(e, seed=0, steps=STEPS, n=N):
    """Arrays of one lane on the synthetic data, with the shapes of a real run; V follows the logistic law above e = 1."""
    rng = np.random.default_rng(seed)
    measured = np.arange(0, steps + 1, 50)
    t, labels = measured.size, np.where(np.arange(n) % 2 == 0, 1.0, -1.0)
    weak = logistic_weak(measured, 1e-4, e, 1.0) if e > 1 else np.full(t, 1e-4)
    found = {
        "data/y": labels, "data/strong": np.arange(n) >= min(2, n - 1), "data/noise_norm2": np.full(n, 0.12),
        "data/u_norm": np.float32(1.0), "data/v_norm": np.float32(0.1),
        "step/example": rng.integers(n, size=steps), "step/loss": rng.random(steps),
        "step/margin": cubic_map.orbit(min(e, 1.55), steps=steps), "step/learning_rate": np.full(steps, 4.0 * e),
        "features/step": measured, "features/inner_u": np.abs(rng.normal(size=(t, 2, WIDTH))) * [[[1.0], [-1.0]]],
        "features/inner_v": rng.normal(size=(t, 2, WIDTH)), "features/inner_xi": rng.normal(size=(t, 2, WIDTH, n)),
        "features/strong": np.stack([1.0 - weak] * 2, axis=1), "features/weak": np.stack([weak, 2.0 * weak], axis=1),
        "features/loss": 1.0 / (1.0 + measured), "features/train_accuracy": np.ones(t),
        "test_accuracy/step": measured, "test_accuracy/weak_accuracy": np.linspace(0.5, 0.51 + 0.3 * e, t) + 0.01 * seed,
        "test_accuracy/strong_accuracy": np.ones(t), "test_accuracy/mixture_accuracy": np.linspace(0.5, 0.98, t),
        "curvature/step": np.array([steps]), "curvature/power": np.full((1, 4), min(e, 1.0) / (2.0 * e)),
    }  # fmt: skip
    return {name: np.asarray(array, array.dtype if array.ndim == 0 else None) for name, array in found.items()}


def image_arrays(steps=300):
    measured = np.arange(0, steps + 1, 50)
    tests = {
        f"accuracy/{name}_accuracy": np.linspace(0.1, 0.6, measured.size) for name in ("test", "patched", "conflict")
    }
    return {"step/loss": np.ones(steps), "step/learning_rate": np.full(steps, 0.1), "accuracy/step": measured} | tests


def lane(arm, e=None, seed=0, steps=STEPS, diverged_at=None, **values):
    values = {"seed": seed} | ({} if e is None else {"e": e}) | values
    entry = dict(arm=arm, seed=seed, values=values, steps=steps, learning_rate=1.0, diverged_at=diverged_at)
    return entry | dict(last_finite_loss=0.1) | ({} if e is None else {"e": e})


def result(experiment, pairs):
    data = dict(n=N, n_weak=2, dim=50, u_norm=1.0, v_norm=0.1, kn=3.0, sigma_p=None, classes=None, name="signal_noise")
    config = {"experiment": experiment, "data": data, "model": {"init_scale": 0.01, "width": WIDTH}, "loss": "square"}
    lanes = [entry | {"lane": i} for i, (entry, _) in enumerate(pairs)]
    return RunResult([], [arrays for _, arrays in pairs], {"state": "done"}, Path(), config, lanes)


def full(experiment):
    """A small run of an experiment with every arm."""
    if experiment in ("CLEAR", "E2"):
        pairs = [(lane("main", e, seed), synthetic(e, seed)) for e in (0.9, 1.1, 1.25) for seed in (0, 1)]
        pairs += [
            (lane("small_rate", 0.2), synthetic(0.2)),
            (lane("time_matched", 0.2, steps=800), synthetic(0.2, steps=800)),
        ]
    elif experiment == "E1":
        pairs = [(lane("main", e), synthetic(e, n=1)) for e in (0.5, 1.1, 1.5)]
    elif experiment == "phase":
        keys = (("noise", "data.kn", (1.0, 4.0)), ("n_weak", "data.n_weak", (0, 4)))
        pairs = [
            (lane(arm, e, seed, **{key: value}), synthetic(e, seed))
            for arm, key, values in keys for value in values for e in (0.5, 1.25) for seed in (0, 1)
        ]  # fmt: skip
    elif experiment == "ablate":
        pairs = [(lane(arm, 1.25, seed), synthetic(1.25, seed)) for arm in ARMS for seed in (0, 1)]
        for entry, arrays in pairs:
            if entry["arm"] == "averaged":
                arrays["test_accuracy/averaged_weak_accuracy"] = arrays["test_accuracy/weak_accuracy"] - 0.1
    elif experiment == "map":
        keys = ("step/margin", "data/y", "data/strong")
        pairs = [(lane("main", e), {key: synthetic(e, n=1)[key] for key in keys}) for e in np.linspace(0.1, 1.5, 8)]
    else:
        pairs = [(lane(arm, steps=300), image_arrays()) for arm in IMAGE_ARMS]
        if experiment == "E0":
            for _, arrays in pairs:
                del arrays["accuracy/patched_accuracy"], arrays["accuracy/conflict_accuracy"]
    return result(experiment, pairs)


def plotted(axis, marker=None, colour=None):
    """Every (x, y) of the lines of an axis, of one marker or colour only."""
    lines = [
        line for line in axis.get_lines() if marker in (None, line.get_marker()) and colour in (None, line.get_color())
    ]
    return {(round(float(x), 6), round(float(y), 6)) for line in lines for x, y in zip(*line.get_data(), strict=True)}


EXPECTED = {
    "CLEAR": ("accuracy_against_e", "inner_dynamics", "residual_bifurcation", "weak_feature", "edge_of_stability"),
    "E1": ("weak_feature", "drift", "edge_of_stability"),
    "E2": ("accuracy_against_e", "inner_dynamics", "residual_bifurcation", "weak_feature", "edge_of_stability"),
    "phase": ("phase_tables",),
    "ablate": ("ablations",),
    "map": ("map_diagram",),
    "E0": ("training",),
    "E0_planted": ("training", "planted_accuracy"),
}


@pytest.mark.parametrize("experiment", EXPECTED)
def test_a_whole_run_gives_every_figure_with_labels_and_caption(experiment):
    found = figures(full(experiment))
    assert tuple(figure.name for figure in found) == EXPECTED[experiment]
    for figure in found:
        figure.fig.draw_without_rendering()  # the layout can be worked out
        assert figure.title
        assert figure.caption.endswith(".")
        assert any(axis.get_xlabel() for axis in figure.fig.axes)
        assert any(axis.get_ylabel() or len(axis.get_yticklabels()) == len(ARMS) + 1 for axis in figure.fig.axes)


@pytest.mark.parametrize("experiment", ["CLEAR", "E1", "phase", "ablate", "map", "E0_planted"])
def test_any_single_lane_is_drawn_without_the_others(experiment):
    run = full(experiment)
    different = {(entry["arm"], entry.get("e", 0.0) > 1.0): i for i, entry in enumerate(run.lanes)}
    for i in different.values():
        found = figures(run._replace(lanes=run.lanes[i : i + 1], arrays=run.arrays[i : i + 1]))
        assert {figure.name for figure in found} <= set(EXPECTED[experiment])
        assert all(figure.fig.axes for figure in found)


@pytest.mark.parametrize("experiment", EXPECTED)
def test_lanes_that_diverged_at_once_or_have_no_arrays_yet_do_not_stop_the_report(experiment):
    run = full(experiment)
    cut = []
    for i, arrays in enumerate(run.arrays):
        entries = {0: 1, 1: 0}.get(i)  # the first lane diverges at its first step, the second has not begun
        if entries is not None:
            arrays = {k: v if k.startswith("data/") else v[:entries] for k, v in arrays.items()}
            if "step/loss" in arrays:
                arrays["step/loss"] = np.full(entries, np.nan)
        cut.append(arrays)
    lanes = [entry | {"diverged_at": 0} if i == 0 else entry for i, entry in enumerate(run.lanes)]
    broken = run._replace(lanes=lanes, arrays=cut)
    assert len(figures(broken)) == len(EXPECTED[experiment])
    assert figures(run._replace(lanes=lanes, arrays=[{} for _ in lanes])) == []


@pytest.mark.parametrize("experiment", ["CLEAR", "phase", "E0"])
def test_a_run_of_which_every_lane_diverged_is_laid_out_too(experiment):
    run = full(experiment)
    for arrays in run.arrays:
        arrays["step/loss"] = np.where(np.arange(len(arrays.get("step/loss", ""))) % 7, 1.0, np.inf)
    found = figures(run._replace(lanes=[entry | {"diverged_at": STEPS - 1} for entry in run.lanes]))
    assert found
    for figure in found:
        figure.fig.draw_without_rendering()
        assert all(np.all(np.isfinite([*axis.get_xlim(), *axis.get_ylim()])) for axis in figure.fig.axes)


def test_experiments_without_figures_give_none():
    assert figures(result("something_else", [])) == []
    assert set(FIGURES) == set(EXPECTED)


def test_plotted_accuracy_is_the_recorded_one_and_a_diverged_lane_has_no_dot():
    run = full("CLEAR")
    run.lanes[0]["diverged_at"] = 7
    axis = accuracy_against_e(run).fig.axes[0]
    dots = plotted(axis, marker="o")
    ends = [float(arrays["test_accuracy/weak_accuracy"][-1]) for arrays in run.arrays]
    swept = [i for i, entry in enumerate(run.lanes) if entry["arm"] != "time_matched"]
    assert dots == {(run.lanes[i]["e"], round(ends[i], 6)) for i in swept if i != 0}
    star = plotted(axis, marker="*")
    assert {y for _, y in star} == {round(ends[-1], 6)}
    assert len(plotted(axis, marker="x")) == 1


def test_the_line_joins_the_means_over_seeds():
    run = full("CLEAR")
    axis = accuracy_against_e(run).fig.axes[0]
    ends = [arrays["test_accuracy/weak_accuracy"][-1] for entry, arrays in zip(run.lanes, run.arrays, strict=True)
            if entry["e"] == 1.25]  # fmt: skip
    assert (1.25, round(float(np.mean(ends)), 6)) in plotted(axis, marker="None")


def test_e2_shows_the_papers_numbers_as_second_hand():
    figure = accuracy_against_e(full("E2"))
    levels = {y for _, y in plotted(figure.fig.axes[1])}
    assert {0.9938, 0.9375} <= levels
    assert "second-hand" in figure.caption
    assert "second-hand" not in accuracy_against_e(full("CLEAR")).caption


def test_inner_dynamics_takes_one_rate_on_each_side_of_the_switch():
    figure = inner_dynamics(full("CLEAR"))
    titles = [axis.get_title() for axis in figure.fig.axes[:2]]
    assert [("0.2" in titles[0]), ("1.25" in titles[1])] == [True, True]
    assert len(figure.fig.axes) == 12


def test_logistic_curve_of_a_noise_free_run_lies_on_the_law_it_was_made_with():
    pairs = [
        (lane("main", 1.1), synthetic(1.1, n=1) | {"data/v_norm": np.float32(1.0), "data/noise_norm2": np.zeros(1)})
    ]
    axis = weak_feature(result("E1", pairs)).fig.axes[0]
    dashed = next(line for line in axis.get_lines() if line.get_linestyle() == "--" and len(line.get_xdata()) > 2)
    np.testing.assert_allclose(dashed.get_ydata(), pairs[0][1]["features/weak"][:, 0], rtol=1e-5)


def test_edge_of_stability_plots_rate_times_curvature():
    axis = edge_of_stability(full("E1")).fig.axes[0]
    assert plotted(axis, marker="o") == {(0.5, 0.5), (1.1, 1.0), (1.5, 1.0)}


def test_phase_table_writes_means_and_div_where_any_seed_diverged():
    run = full("phase")
    run.lanes[0]["diverged_at"] = 3  # noise, kn = 1, e = 0.5, seed 0
    axis = phase_tables(run).fig.axes[0]
    texts = {text.get_position(): text.get_text() for text in axis.texts if "R" not in text.get_text()}
    mean = np.mean([run.arrays[i]["test_accuracy/weak_accuracy"][-1] for i in (2, 3)])
    assert texts[0, 0] == "div"
    assert texts[1, 0] == f"{mean:.2f}"


def test_phase_edges_lie_where_noise_equals_the_number_of_examples():
    # n = 8 with 2 weak: n_sy = 3 and n_wy = 1, so between kn = 1 (row 0) and kn = 4 (row 1) R1 lies at log 3 / log 4.
    axis = phase_tables(full("phase")).fig.axes[0]
    places = {text.get_text(): text.xy[1] for text in axis.texts if text.get_text() in ("R1", "R2")}
    assert places["R1"] == pytest.approx(np.log(3) / np.log(4), abs=0.01)
    assert places["R2"] == pytest.approx(0.0, abs=0.01)


def test_ablations_show_the_averaged_iterates_in_a_row_of_their_own():
    axis = ablations(full("ablate")).fig.axes[0]
    labels = [label.get_text() for label in axis.get_yticklabels()]
    row = next(i for i, label in enumerate(labels) if label.startswith("average of iterates"))
    last = synthetic(1.25, 0)["test_accuracy/weak_accuracy"][-1]
    assert (round(float(last) - 0.1, 6), float(row)) in plotted(axis, marker="o")
    assert any("an_arm_of_tomorrow" in label for label in labels)
    assert len(labels) == len(ARMS) + 1


def test_laws_of_the_ablations_lie_on_the_line_of_power_one_that_they_were_made_with():
    pairs = []
    for seed in (0, 1):
        for start in (0.005, 0.02):
            inner = {"features/inner_v": np.full((1, 2, WIDTH), start * (1 + seed)), "data/v_norm": np.float32(0.1)}
            pairs.append((lane("start", 0.5, seed, **{"model.init_scale": start}), inner))
    (axis,) = laws(result("ablate", pairs)).fig.axes
    mean, power_one = (next(one for one in axis.get_lines() if one.get_label() == label).get_ydata()
                       for label in ("$e=0.5$, judged", "power 1"))  # fmt: skip
    np.testing.assert_allclose(mean, power_one, rtol=1e-6)
    assert laws(full("map")) is None


def test_what_a_claim_judges_is_ringed_at_the_mean_over_its_seeds():
    run = full("CLEAR")
    rings = plotted(accuracy_against_e(run).fig.axes[0], marker="8")
    ends = [arrays["test_accuracy/weak_accuracy"][-1] for entry, arrays in zip(run.lanes, run.arrays, strict=True)
            if entry["e"] == 1.25]  # fmt: skip
    assert (1.25, round(float(np.mean(ends)), 6)) in rings
    assert {e for e, _ in rings} == {0.2, 0.9, 1.1, 1.25}


def test_map_diagram_plots_the_recorded_margins_and_exponents_of_the_map():
    run = full("map")
    top, _, bottom = map_diagram(run).fig.axes
    e, margin = run.lanes[-1]["e"], run.arrays[-1]["step/margin"]
    assert (round(float(e), 6), round(float(np.float16(margin[-1])), 6)) in plotted(top, marker=".")  # as drawn
    dots = dict(plotted(bottom, marker="."))
    assert dots[1.1] == pytest.approx(float(cubic_map.lyapunov(1.1)), abs=0.05)
    assert dots[1.5] == pytest.approx(float(cubic_map.lyapunov(1.5)), abs=0.15)


def test_training_keeps_a_spike_of_one_step_of_a_long_run():
    run = full("E0")
    for arrays in run.arrays:
        arrays["step/loss"], arrays["step/learning_rate"] = np.ones(50_000), np.full(50_000, 0.1)
    run.arrays[0]["step/loss"][31_234] = 55.0
    axis = training(run).fig.axes[0]
    assert (31_234.0, 55.0) in plotted(axis)
    assert all(len(line.get_xdata()) <= MOST_POINTS for line in axis.get_lines())


def test_sample_sees_both_branches_of_a_two_cycle():
    two_cycle = np.arange(100_000) % 2
    assert 0.4 < two_cycle[sample(two_cycle.size)].mean() < 0.6
    assert two_cycle[:: 100_000 // MOST_POINTS].mean() == 0.0  # an even stride would not


def test_envelope_leaves_out_what_is_not_finite():
    x, y = envelope(np.arange(5), [1.0, np.nan, 2.0, np.inf, 3.0])
    assert x.tolist() == [0, 2, 4]
    assert y.tolist() == [1.0, 2.0, 3.0]


def test_rate_colours_are_all_different():
    es = (0.2, 0.5, 0.9, 1.0, 1.1, 1.25, 1.4, 1.5)
    assert len(set(rate_colours(es).values())) == len(es)
