"""The exponential learning rate: the toy's verdicts, what each check would refuse, every config, twins on real images."""

from pathlib import Path

import numpy as np
import pytest

import lrjax
from lrjax.experiment.loop.dry_run import describe
from lrjax.experiment.loop.sweep import expand
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers import exp_lr
from lrjax.papers.claim import NotMeasured, judge
from lrjax.papers.exp_lr import checks, toy_checks
from lrjax.papers.exp_lr.observe import arms_of, logit_distance, observations
from lrjax.report import write_report

FILE = "configs/exp_lr.py"
IMAGES = ("E1", "E2", "E3", "E4", "E5", "E6", "twins")


def lane(arm, seed=0, **more):
    return {"arm": arm, "seed": seed, "values": {}, "diverged_at": None, "steps": 0, **more}


def result(lanes, arrays, **config):
    config = {"arms": {}, "optimizer": {"learning_rate": 0.1, "l2": 5e-4, "momentum": 0.9}, **config}
    return RunResult([], arrays, {}, Path(), config, [entry | {"lane": i} for i, entry in enumerate(lanes)])


def accuracies(**arms):
    lanes = [lane(arm, seed) for arm, values in arms.items() for seed in range(len(values))]
    arrays = [{"accuracy/test_accuracy": np.array([0.1, value / 100])} for values in arms.values() for value in values]
    return result(lanes, arrays)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    arms = {f"arms.{name}": None for name in ("noisy_decay", "noisy_norm", "noisy_both")}
    config = lrjax.load_config(f"{FILE}:E7", arms | {"sweep.seed": (0,), "lane_loop": "vmap"})
    return lrjax.run(config, tmp_path_factory.mktemp("toy"))


def test_both_together_leave_the_minimum_more_than_50_times_and_norm_alone_stays(toy):
    assert toy_checks.exact(toy).verdict == "supported"
    swapped = toy._replace(arrays=toy.arrays[::-1])
    assert toy_checks.exact(swapped).verdict == "contradicted"


def test_norm_grows_by_2_percent_alone_and_is_lost_under_decay(toy):
    arms = {name: own[0][1] for name, own in arms_of(toy).items()}
    assert 0 < arms["exact_norm"]["step/log10_norm"][-1] < 0.05
    assert arms["exact_both"]["step/log10_norm"].min() < -0.3


def test_arms_count_as_equal_within_a_point_and_a_gap_beyond_noise_contradicts():
    check = checks.same_accuracy("a", "b")
    assert check(accuracies(a=(60, 61, 62), b=(60.5, 61, 61))).verdict == "supported"
    assert check(accuracies(a=(60, 61, 62), b=(57, 60, 60))).verdict == "inconclusive"
    assert check(accuracies(a=(60, 61, 62), b=(50, 51, 50))).verdict == "contradicted"


def test_an_arm_that_diverged_leaves_a_claim_open_with_its_step():
    run = accuracies(a=(60,), b=(61,))
    run.lanes[1]["diverged_at"] = 7
    with pytest.raises(NotMeasured, match=r"\(b, seed = 0\) diverged at step 7"):
        checks.same_accuracy("a", "b")(run)


def test_a_lane_that_is_still_running_leaves_its_claims_open_and_is_not_drawn():
    run = accuracies(a=(60,), b=(61,))
    run.lanes[1]["steps"] = 10
    with pytest.raises(NotMeasured, match="b, seed 0, has not run to its end"):
        checks.same_accuracy("a", "b")(run)
    assert exp_lr.figures(run) == []


@pytest.mark.parametrize(
    ("early", "late", "verdict"), [(4, 0, "supported"), (4, 4, "contradicted"), (0, 0, "inconclusive")]
)
def test_a_drop_passes_if_its_gain_is_gone_at_the_end_of_the_phase(early, late, verdict):
    rates = np.repeat([0.1, 0.01], 100)
    gain = np.concatenate([np.zeros(100), np.linspace(early, late, 100)]) / 100
    drops = {"step/learning_rate": rates, "step/accuracy": 0.5 + gain}
    constant = {"step/learning_rate": np.full(200, 0.1), "step/accuracy": np.full(200, 0.5)}
    assert checks.drop_passes(result([lane("drops"), lane("no_drops")], [drops, constant])).verdict == verdict


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ((1.0, 1.2, 0.9), "supported"),
        ((0.1, 3.0, 0.2), "inconclusive"),  # every seed agrees, but their mean is less than two standard errors
        ((1.0, 1.2, -0.1), "inconclusive"),
        ((-1.0, -1.2, -0.9), "contradicted"),
        ((1.0,), "inconclusive"),
    ],
)
def test_one_arm_is_higher_where_every_seed_and_two_standard_errors_say_so(gains, verdict):
    base = np.array([40.0, 42.0, 41.0])[: len(gains)]
    for check, above, below in (
        (checks.drop_needed, "texp", "texp_no_drop"),
        (checks.cosine_wins, "cosine", "step_decay"),
    ):
        assert check(accuracies(**{above: base + gains, below: base})).verdict == verdict


@pytest.mark.parametrize(
    ("slope", "drift", "verdict"), [(1.0, 0.0, "supported"), (1.02, 0.0, "contradicted"), (1.02, 0.02, "inconclusive")]
)
def test_norm_follows_rate_within_one_percent_where_weight_decay_holds_it(slope, drift, verdict):
    steps = np.arange(400)
    arrays = {"step/log10_norm": slope * 0.005 * steps, "step/log10_learning_rate": 0.01 * steps}
    reference = {"step/log10_norm": drift * 0.005 * steps}
    run = result([lane("weight_decay"), lane("texp")], [reference, arrays])
    assert checks.norm_follows_rate(run).verdict == verdict


@pytest.mark.parametrize(("factor", "verdict"), [(1.05, "supported"), (1.15, "contradicted"), (0.85, "contradicted")])
def test_equilibrium_angle_is_that_of_the_formula(factor, verdict):
    arrays = {"step/learning_rate": np.full(100, 0.1), "step/angle": np.full(100, factor * np.sqrt(2 * 5e-5 / 1.9))}
    assert checks.equilibrium_angle(result([lane("weight_decay")], [arrays])).verdict == verdict


@pytest.mark.parametrize(("apart", "verdict"), [(1e-4, "supported"), (1e-2, "contradicted")])
def test_early_logits_are_those_of_the_first_20_steps_alone(apart, verdict):
    one = {"outputs/step": np.array([0, 20, 40]), "outputs/logits": np.zeros((3, 2, 3))}
    other = one | {"outputs/logits": np.array([0, apart, 5.0])[:, None, None] * np.ones((3, 2, 3))}
    run = result([lane("weight_decay"), lane("texp")], [one, other])
    assert checks.early_logits(run).verdict == verdict


@pytest.mark.slow
@pytest.mark.parametrize("experiment", [*IMAGES, "E7"])
def test_paper_scale_is_planned_in_full(experiment):
    config = lrjax.load_config(f"{FILE}:{experiment},scale=paper")
    groups = expand(config)
    assert exp_lr.before(groups).count("\n") == len(config.arms)
    if experiment == "E2":
        lanes = {own.arm: own for group in groups for own in group.lanes}
        assert {own.config.steps for own in lanes.values()} == {300 * 391}
        tables = lanes["texp"].coefficients().tables
        rates = np.log10(tables.mantissa.astype(np.float64)) + tables.exponent * np.log10(2)
        epochs = (79 * 391, 80 * 391 - 1, 80 * 391, 120 * 391 - 1, 120 * 391, 300 * 391 - 1)
        np.testing.assert_allclose(rates[list(epochs)], [12.48, 12.65, 11.65, 12.33, 11.33, 11.64], atol=0.01)


@pytest.mark.slow
def test_dry_run_says_what_the_paper_scale_takes():
    text = describe(lrjax.load_config(f"{FILE}:E2,scale=paper"), compiled=False)
    assert "463,792 a lane" in text
    assert text.count("703800 over all lanes") == 1


@pytest.mark.slow
@pytest.mark.parametrize("experiment", IMAGES[:-1])  # a run of the twins is below
def test_every_smoke_run_ends_in_a_report_that_decides_nothing(experiment, tmp_path, tfds_dir):
    config = lrjax.load_config(f"{FILE}:{experiment},scale=smoke", {"data_dir": str(tfds_dir)})
    run = lrjax.run(config, tmp_path)
    assert run.status["state"] == "done"
    entries = write_report(tmp_path)
    assert {entry["verdict"] for entry in entries} <= {"inconclusive"}
    assert [entry["id"] for entry in entries] == [
        claim.id for claim in exp_lr.CLAIMS if experiment in claim.experiments
    ]
    drawn = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert {"accuracy", "learning_rate", "norm", "angle"} <= drawn
    assert len(observations(run)) == len(run.lanes)


@pytest.mark.slow
def test_on_cifar10_twins_agree_for_20_float32_steps_and_an_uncorrected_one_does_not(tmp_path, tfds_dir):
    config = lrjax.load_config(f"{FILE}:twins", {"data_dir": str(tfds_dir), "sweep.seed": (0,), "data.num_test": 256})
    run = lrjax.run(config, tmp_path)
    assert checks.early_logits(run).verdict == "supported"
    assert checks.correction_matters(run).verdict == "supported"
    arms = {name: own[0][1] for name, own in arms_of(run).items()}
    assert logit_distance(arms["weight_decay"], arms["wd_free"])[1].max() <= 1e-3


def test_angles_agree_by_phase_and_a_deviation_within_the_spread_of_seeds_decides_nothing():
    def arms(*ratios):
        base = {"step/learning_rate": np.repeat([0.1, 0.01], 4), "direction/step": np.array([0, 2, 4, 6, 8])}
        angle = np.array([0, 1.0, 1.0, 0.1, 0.1])
        lanes = [lane(arm, seed) for arm in ("weight_decay", "texp") for seed in range(len(ratios))]
        arrays = [base | {"direction/angle": angle}] * len(ratios)
        return result(lanes, arrays + [base | {"direction/angle": ratio * angle} for ratio in ratios])

    assert checks.angles_agree(arms(1.02, 0.95, 1.0)).verdict == "supported"
    assert checks.angles_agree(arms(1.3, 1.0, 1.2)).verdict == "inconclusive"
    assert checks.angles_agree(arms(1.3, 1.31, 1.3)).verdict == "contradicted"


def test_claims_are_judged_in_order_and_say_what_the_paper_reports(toy):
    entries = judge(exp_lr.CLAIMS, toy._replace(config=toy.config | {"experiment": "E7"}))
    assert [entry["id"] for entry in entries] == ["toy_exact", "toy_noisy"]
    assert entries[1]["verdict"] == "inconclusive"
    assert "this run has no lane noisy_decay" in entries[1]["measured"]


def test_one_seed_has_no_standard_error_and_none_is_called_infinite():
    verdict, measured = checks.same_accuracy("a", "b")(accuracies(a=(60,), b=(60,)))
    assert verdict == "inconclusive"
    assert "one seed, so no standard error" in measured
    assert "inf" not in measured
