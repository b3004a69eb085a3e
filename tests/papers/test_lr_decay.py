"""Learning-rate decay: what the claims read, its configs, and real runs against the acceptance numbers."""

import numpy as np
import pytest

import lrjax
from lrjax.experiment.loop.dry_run import describe
from lrjax.experiment.loop.sweep import expand
from lrjax.experiment.rundir.lanes import end, lanes
from lrjax.papers.claim import NotMeasured
from lrjax.papers.lr_decay import CLAIMS, checks
from lrjax.papers.lr_decay.observe import decays, matched, paired, ratio_of, stage_table, transferability
from lrjax.report import write_report

SPEC = "configs/lr_decay.py"
EXPERIMENTS = ("L1", "L2", "L3", "L4", "L5", "L6", "L7", "L7_ps10", "L8", "L9", "L10", "L11", "L12")


def test_stages_end_at_the_measurement_made_before_the_first_lower_rate():
    rates = np.array([0.1] * 4 + [0.01] * 4 + [0.001] * 4)
    assert decays({"step/learning_rate": rates}) == [4, 8]
    table = stage_table([0, 2, 4, 6, 8, 10, 12], [0.0, 0.5, 0.4, 0.9, 0.8, 0.95, 1.0], [4, 8])
    assert [(s.first, s.last, s.best, s.end) for s in table] == [(0, 4, 0.5, 0.4), (4, 8, 0.9, 0.8), (8, 12, 1.0, 1.0)]


def test_a_growing_rate_is_no_decay():
    assert decays({"step/learning_rate": np.array([0.1, 0.2, 0.2, 0.1])}) == [3]


def test_matched_level_takes_the_first_time_it_is_reached():
    assert matched([0.2, 0.6, 0.4, 1.0], [0.0, 0.2, 0.5, 0.9], 0.4) == pytest.approx(0.1)
    with pytest.raises(NotMeasured):
        matched([0.2, 0.6], [0.0, 0.2], 0.7)


def test_arms_are_paired_by_seed_and_not_by_their_order():
    one = [({"seed": seed}, {}) for seed in (2, 0, 1)]
    other = [({"seed": seed}, {}) for seed in (1, 2, 5)]
    assert [[lane["seed"] for lane, _ in own] for own in paired(one, other)] == [[1, 2], [1, 2]]
    with pytest.raises(NotMeasured, match="no seed in common"):
        paired(one, [({"seed": 9}, {})])


def test_transfer_of_the_source_to_itself_is_one():
    source = np.array([[0.5, 0.7, 0.75], [0.52, 0.7, 0.74]])
    assert [r.value for r in transferability(source, source)] == pytest.approx([1.0, 1.0])


def test_interval_of_a_ratio_covers_it_in_95_of_100_draws_and_has_no_end_where_the_gain_may_be_zero():
    generator = np.random.default_rng(3)
    draws = [ratio_of(0.1 + 0.02 * generator.normal(size=4), 0.2 + 0.02 * generator.normal(size=4)) for _ in range(400)]
    assert 370 <= sum(r.low <= 0.5 <= r.high for r in draws) <= 392
    assert ratio_of([0.1, 0.1, 0.2], [0.01, -0.01, 0.005]).high == np.inf
    assert ratio_of([0.1], [0.2]).low == -np.inf


def test_every_experiment_has_claims_and_every_claim_an_experiment():
    judged = {experiment for claim in CLAIMS for experiment in claim.experiments}
    assert judged == set(EXPERIMENTS)
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)
    assert all(claim.paper_reports is None for claim in CLAIMS)  # no number of the paper is known


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["L2", "L3"])
def test_paper_scale_passes_the_dry_run(experiment):
    text = describe(lrjax.load_config(f"{SPEC}:{experiment},scale=paper"), compiled=False)
    assert "FLOPs" in text
    assert {"L2": "36,479,194", "L3": "36,479,"}[experiment] in text


@pytest.mark.parametrize("experiment", ["L5", "L6"])
def test_no_network_of_paper_scale_holds_a_large_batch_at_once(experiment):
    for group in expand(lrjax.load_config(f"{SPEC}:{experiment},scale=paper")):
        own = group.static
        assert own.batch_size == 128 or own.batch_statistics == "micro_batch" and own.micro_batch <= 128


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["L3", "L4", "L5", "L6", "L7_ps10", "L10"])
def test_smoke_run_on_patterns_ends_with_a_report(experiment, tmp_path):
    lrjax.run(lrjax.load_config(f"{SPEC}:{experiment},scale=smoke"), tmp_path / "run")
    entries = write_report(tmp_path / "run")
    assert entries
    assert all("is not recorded" not in entry["measured"] for entry in entries)
    assert list((tmp_path / "run" / "figures").glob("*.png"))


@pytest.fixture(scope="module")
def main_run(tmp_path_factory):
    overrides = {
        "sweep.seed": (0,),
        "steps": 9360,
        "lanes_per_device": 1,
        "arms.constant_1": None,
        "arms.constant_2": None,
    }
    return lrjax.run(lrjax.load_config(f"{SPEC}:L3", overrides), tmp_path_factory.mktemp("L3"))


@pytest.mark.slow
def test_stages_of_the_main_run_meet_the_acceptance_numbers(main_run):
    found = lanes(main_run, "decay")
    simple, hard = checks.by_stage(found, checks.SIMPLE)[0], checks.by_stage(found, checks.COMPLEX)[0]
    assert simple[0] >= 0.95
    assert hard[0] <= 0.75
    assert hard[2] >= 0.97
    assert hard[1] - hard[0] >= 0.20
    assert end(lanes(main_run, "constant_0"), checks.COMPLEX)[0] <= 0.85


@pytest.mark.slow
def test_full_batch_descent_learns_all_complex_patterns_without_decay(tmp_path):
    others = {f"arms.{arm}": None for arm in lrjax.load_config(f"{SPEC}:L5").arms if arm != "full_batch"}
    config = lrjax.load_config(f"{SPEC}:L5", {**others, "steps": 750, "log_every": 150, "probes.subsets": 150})
    run = lrjax.run(config, tmp_path)
    assert run.arrays[0]["subsets/train_complex"][-1] >= 0.99


@pytest.fixture(scope="module")
def average_run(tmp_path_factory):
    return lrjax.run(lrjax.load_config(f"{SPEC}:L10,scale=smoke"), tmp_path_factory.mktemp("L10"))


@pytest.mark.slow
def test_the_line_begins_at_the_average_of_the_undecayed_run_which_decay_leaves_as_it_is(average_run):
    (_, constant), (_, after) = (lanes(average_run, arm)[0] for arm in ("constant", "decay_after"))
    losses = after["path_to_average/losses"]
    np.testing.assert_allclose(losses[:, 0], constant["subsets/averaged_train_loss"][-1], rtol=1e-5)
    np.testing.assert_allclose(losses[-1, 0], after["subsets/averaged_train_loss"][-1], rtol=1e-5)
    assert losses.shape == (3, 11)
    assert abs(losses[-1, -1] - losses[0, -1]) > 1e-4


@pytest.mark.slow
def test_top_eigenvalue_of_gradient_descent_is_of_the_loss_with_the_statistics_of_the_whole_batch(tmp_path):
    others = {f"arms.{arm}": None for arm in lrjax.load_config(f"{SPEC}:L5").arms if arm != "gradient_descent"}
    run = lrjax.run(lrjax.load_config(f"{SPEC}:L5,scale=smoke", others), tmp_path)
    assert np.all(run.arrays[0]["spectrum/hessian_residuals"] < 0.05)
    assert np.all(run.arrays[0]["spectrum/lambda_h1"] > 0)
