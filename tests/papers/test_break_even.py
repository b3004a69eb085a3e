"""The claims of the break-even paper decide what series say, either way; a real run of smoke scale fills the report."""

import json
from pathlib import Path

import numpy as np
import pytest

import lrjax
from lrjax.experiment.config.listing import list_experiments
from lrjax.experiment.loop.sweep import expand
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.break_even import CLAIMS, figures, observations
from lrjax.papers.break_even.cost import measuring
from lrjax.papers.break_even.predictions import before
from lrjax.papers.break_even.recorded import detections, sizes
from lrjax.papers.break_even.trajectory_figures import pca
from lrjax.papers.claim import judge
from lrjax.papers.error_rates import rates_of, synthetic_of
from lrjax.report import write_report

STEPS = np.arange(0, 2000, 100)


def hill(top, at, end=0.3):
    """A series that rises to `top` at a step and falls to a share of it."""
    return top * np.interp(STEPS, [0, at, 2000], [0.05, 1.0, end])


def lane(index, rate, noise_top, sharp_top, ratio, seed=0, peak=800, **more):
    """A lane and what its probes recorded."""
    noise = hill(noise_top, peak)
    arrays = {
        "break_even/lambda_k1_raw": noise,
        "break_even/lambda_k1_per_example": 128 * noise,
        "break_even/lambda_h1": hill(sharp_top, peak, 0.9),
        "break_even/curvature_std": np.zeros(STEPS.size),
        "break_even/trace_k_raw": noise * 8,
        "break_even/trace_over_lambda": hill(ratio, 300, 0.9),
        "break_even/lambda_star_over_lambda": hill(ratio / 100, 300, 0.9),
        "break_even/train_accuracy": np.linspace(0.1, 0.95, STEPS.size),
        "break_even/hessian_residuals": np.full((STEPS.size, 1), 0.01),
        "predictions/probabilities": np.stack([STEPS / 2000 * (1 + 0.01 * noise), noise], axis=1)[:, None],
        **more,
    }
    streams = {name.split("/")[0] for name in arrays}
    arrays |= {f"{stream}/step": STEPS for stream in streams} | {"step/learning_rate": np.full(2000, rate)}
    record = dict(lane=index, arm="main", seed=seed, values={}, steps=2000, learning_rate=rate, diverged_at=None)
    return record, arrays


def run_of(*lanes, experiment="E3"):
    config = json.loads(json.dumps(json.loads(lrjax.load_config("configs/break_even.py:E3,scale=smoke").to_json())))
    config |= {"experiment": experiment, "scale": "small", "arms": {}, "batch_size": 128}
    config["data"]["num_train"] = 10_000
    return RunResult([], [arrays for _, arrays in lanes], {}, Path(), config, [record for record, _ in lanes])


def verdicts(run):
    return {entry["id"]: entry["verdict"] for entry in judge(CLAIMS, run)}


def conjectures(large_top, small_top, large_ratio=14.0, small_ratio=10.0):
    lanes = []
    for seed in range(3):
        lanes.append(lane(2 * seed, 0.1, large_top, 25.0, large_ratio, seed, peak=600))
        lanes.append(lane(2 * seed + 1, 0.01, small_top, 250.0, small_ratio, seed, peak=1200))
    return run_of(*lanes)


def test_series_as_in_the_paper_support_both_conjectures_and_their_mirror_image_contradicts_them():
    told = verdicts(conjectures(0.87, 3.01))
    for claim in ("conjecture_1_rate", "conjecture_1_rate_hessian", "conjecture_2_rate", "conjecture_2_rate_trace"):
        assert told[claim] == "supported", claim
    assert verdicts(conjectures(3.01, 0.87))["conjecture_1_rate"] == "contradicted"
    assert verdicts(conjectures(0.87, 3.01, 10.0, 14.0))["conjecture_2_rate"] == "contradicted"


def test_what_differs_between_seeds_widens_the_interval_and_seeds_that_agree_narrow_it():
    run = conjectures(0.87, 3.01)
    assert "ratio of eta 0.01 to 0.1: 3.43 [3.43, 3.43]" in entry_of(run, "conjecture_1_rate")["measured"]
    run.arrays[1]["break_even/lambda_k1_raw"] = 1.5 * run.arrays[1]["break_even/lambda_k1_raw"]
    low, high = np.exp(np.log(3.4275) + np.log(1.5) / 3 + np.array([-1, 1]) * 4.3027 * np.log(1.5) / 3)
    assert f"[{low:.2f}, {high:.2f}]" in entry_of(run, "conjecture_1_rate")["measured"]


def test_one_seed_the_other_way_makes_a_conjecture_inconclusive():
    run = conjectures(0.87, 3.01)
    run.arrays[1]["break_even/lambda_k1_raw"] = 0.1 * run.arrays[1]["break_even/lambda_k1_raw"]
    assert verdicts(run)["conjecture_1_rate"] == "inconclusive"


def entry_of(run, claim):
    return next(entry for entry in judge(CLAIMS, run) if entry["id"] == claim)


@pytest.mark.parametrize("late", [0, 1])
def test_a_maximum_that_may_still_grow_decides_nothing_on_either_side(late):
    run = conjectures(0.87, 3.01)
    arrays = run.arrays[late]
    arrays["break_even/lambda_k1_raw"] = arrays["break_even/lambda_k1_raw"].max() * np.linspace(0.1, 1, STEPS.size)
    entry = entry_of(run, "conjecture_1_rate")
    assert entry["verdict"] == "not judged"
    assert "peaked(break_even/lambda_k1_raw) does not hold: the maximum" in entry["measured"]


def test_one_seed_decides_nothing():
    told = verdicts(run_of(lane(0, 0.1, 0.87, 25.0, 14.0), lane(1, 0.01, 3.01, 250.0, 10.0)))
    assert set(told.values()) == {"not judged"}


def test_curvature_by_a_lanczos_that_was_stopped_early_decides_nothing():
    run = conjectures(0.87, 3.01)
    for arrays in run.arrays:
        arrays["break_even/hessian_residuals"] = 0.2 * arrays["break_even/lambda_h1"][:, None]
    assert verdicts(run)["conjecture_1_rate_hessian"] == "not judged"
    assert verdicts(run)["conjecture_1_rate"] == "supported"


def test_measured_text_gives_the_ratio_that_stands_beside_the_papers():
    entry = entry_of(conjectures(0.87, 3.01), "conjecture_1_rate")
    assert "0.01: 2.71 (n = 3)" in entry["measured"]
    assert "3.46" in entry["paper_reports"]


def test_break_even_comes_earlier_and_lower_for_the_larger_rate():
    run = conjectures(0.87, 3.01)
    assert verdicts(run)["break_even_order"] == "supported"
    assert verdicts(run)["stays_at_break_even"] == "supported"
    found = detections(run, run.lanes[0], run.arrays[0])
    assert np.interp(found["D1"].step, STEPS, run.arrays[0]["break_even/lambda_h1"]) == pytest.approx(
        20.0, rel=0.02
    )  # between two measurements


@pytest.mark.parametrize("factor", [0.5, 40.0])
def test_a_run_that_never_breaks_even_or_starts_beyond_it_is_outside_the_theorem(factor):
    run = conjectures(0.87, 3.01)
    for arrays in run.arrays:
        arrays["break_even/lambda_h1"] = factor * arrays["break_even/lambda_h1"]
    entry = entry_of(run, "break_even_order")
    assert entry["verdict"] == "not judged"
    assert "breaks_even does not hold" in entry["measured"]


def test_at_equal_accuracy_the_smaller_rate_has_the_larger_noise():
    entry = entry_of(conjectures(0.87, 3.01), "equal_accuracy")
    assert entry["verdict"] == "supported"
    assert entry_of(conjectures(3.01, 0.87), "equal_accuracy")["verdict"] == "contradicted"


def test_growth_of_noise_without_growth_of_curvature_is_no_correlation():
    run = conjectures(0.87, 3.01)
    for arrays in run.arrays:
        arrays["break_even/lambda_h1"] = 1 + hill(1.0, 1200, 0.9)
    assert verdicts(run)["correlated_growth"] == "supported"
    for arrays in run.arrays:
        arrays["break_even/lambda_k1_raw"] = hill(1.0, 0, 0.1)
    assert verdicts(run)["correlated_growth"] == "contradicted"


@pytest.mark.parametrize("claim", CLAIMS, ids=[claim.id for claim in CLAIMS])
def test_each_claim_comes_out_as_its_synthetic_runs_were_drawn(claim):
    rates = rates_of(claim, synthetic_of("break_even")[claim.id], draws=5)
    assert rates.false <= 0.4
    assert rates.right >= 0.6
    assert rates.reached >= {"supported", "contradicted", "not judged"}
    assert not rates.unbroken


def test_after_a_switch_a_run_is_compared_with_both_rates_it_has_had():
    generator = np.random.default_rng(0)
    draw = synthetic_of("break_even")["early_rate_decides_lambda_k"].draw
    assert (
        "after break-even, large to small: 0.9"
        in entry_of(draw(1.0, generator), "early_rate_decides_lambda_k")["measured"]
    )
    assert (
        "after break-even, large to small: 0.1"
        in entry_of(draw(-1.0, generator), "early_rate_decides_lambda_k")["measured"]
    )


def test_lanes_of_one_rate_differ_from_the_config_by_arm_and_sweep():
    record, arrays = lane(0, 0.1, 0.9, 25.0, 14.0)
    run = run_of((record | {"values": {"batch_size": 100, "data.num_train": 1000}}, arrays))
    assert sizes(run, run.lanes[0]) == (1000, 100, 10)


def test_without_probes_no_claim_is_judged_and_no_figure_is_drawn():
    record, arrays = lane(0, 0.1, 0.9, 25.0, 14.0)
    run = run_of((record, {name: array for name, array in arrays.items() if name.startswith("step/")}))
    assert set(verdicts(run).values()) == {"not judged"}
    assert figures(run) == []
    assert all("not measured" in told["note"] for told in observations(run)[0]["detectors"].values())


def test_a_run_that_is_not_finished_can_be_reported():
    run = conjectures(0.87, 3.01)
    for record in run.lanes:
        del record["diverged_at"]
    assert verdicts(run)["conjecture_1_rate"] == "supported"
    waiting = run._replace(arrays=[run.arrays[0], *[{}] * 5])
    assert verdicts(waiting)["conjecture_1_rate"] == "not judged"
    assert observations(waiting)[1]["diverged_at"] is None
    assert figures(waiting)


def test_observations_give_each_detector_with_step_epoch_and_accuracy():
    run = conjectures(0.87, 3.01)
    seen = observations(run)[0]["detectors"]
    assert set(seen["D1"]) == {"step", "epoch", "train_accuracy", "note"}
    assert seen["D1"]["epoch"] == pytest.approx(seen["D1"]["step"] / 78)
    assert seen["D2 K"]["step"] == pytest.approx(600, abs=100)
    assert seen["D3"]["step"] is None
    assert observations(run)[1]["detectors"]["D5"]["step"] is not None


def test_pca_keeps_distances_of_points_in_a_plane():
    points = (
        np.random.default_rng(0).normal(size=(7, 2)) @ np.linalg.qr(np.random.default_rng(1).normal(size=(5, 2)))[0].T
    )
    placed = pca(points)
    own = np.linalg.norm(points[:, None] - points[None], axis=2)
    assert np.allclose(np.linalg.norm(placed[:, None] - placed[None], axis=2), own)


EXPERIMENTS = [row["experiment"] for row in list_experiments() if Path(row["config"]).stem == "break_even"]


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("scale", ["small", "paper"])
def test_measuring_costs_less_than_training_but_in_two_small_runs_that_say_so(experiment, scale):
    groups = expand(lrjax.load_config(f"configs/break_even.py:{experiment},scale={scale}"))
    costs = [measuring(group.static, lane.config) for group in groups for lane in group.lanes]
    share = sum(cost.probing for cost in costs) / sum(cost.training for cost in costs)
    # E2 looks every 50 steps, on as many examples as H is judged beside K on; E10 has short branches, each looked at as often.
    if most := {"E2": 10, "E10": 2}.get(experiment if scale == "small" else ""):
        assert 1 < share < most
        assert "of the FLOPs of training" in before(groups) or "times the FLOPs of training" in before(groups)
    else:
        assert share < 1
        assert "% of the FLOPs of training" in before(groups)


@pytest.mark.slow
def test_a_run_of_smoke_scale_fills_the_report(tmp_path, tfds_dir):
    config = lrjax.load_config("configs/break_even.py:E2,scale=smoke", {"data_dir": str(tfds_dir)})
    result = lrjax.run(config, tmp_path)
    entries = write_report(tmp_path)
    assert {entry["verdict"] for entry in entries} == {"not judged"}  # too short
    names = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert {"early_phase", "conditioning", "sharpness", "stability", "trajectory", "detectors"} <= names
    assert {"edge", "noise_scale", "alignment"} <= names
    seen = json.loads((tmp_path / "observations.json").read_text())
    assert list(seen[0]["detectors"]) == ["D1", "D2 K", "D2 H", "D3", "D4", "D5"]
    for name in (
        "break_even/cos_hk",
        "next_step/alpha_star",
        "batch_sharpness/value",
        "fisher_trace/value",
        "hessian_trace/value",
    ):
        assert np.isfinite(result.arrays[0][name]).all(), name
