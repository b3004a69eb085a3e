"""Learning-rate decay: what the claims read, each verdict on made-up runs, and real runs against the acceptance numbers."""

from pathlib import Path

import numpy as np
import pytest

import lrjax
from lrjax.experiment.loop.dry_run import describe
from lrjax.experiment.loop.sweep import expand
from lrjax.experiment.rundir.lanes import end, lanes
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.claim import NotMeasured, judge
from lrjax.papers.lr_decay import CLAIMS, checks, image_checks, noise_checks
from lrjax.papers.lr_decay.observe import decays, matched, stage_table, transferability
from lrjax.report import write_report

SPEC = "configs/lr_decay.py"
EXPERIMENTS = ("L1", "L2", "L3", "L4", "L5", "L6", "L7", "L7_ps10", "L8", "L9", "L10")


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


def test_transfer_of_the_source_to_itself_is_one_and_small_gains_are_undefined():
    source = np.array([[0.5, 0.7, 0.75], [0.52, 0.7, 0.74]])
    assert [r.value for r in transferability(source, source, examples=(1000, 1000))] == pytest.approx([1.0, 1.0])
    flat = np.array([[0.5, 0.7, 0.703]])
    found = transferability(flat, [[0.4, 0.5, 0.3]], examples=(1000, 1000))
    assert found[0].value == pytest.approx(0.5)
    assert np.isnan(found[1].value)


def test_transferability_interval_covers_the_ratio_and_narrows_with_test_examples():
    source, target = [[0.5, 0.7, 0.8]], [[0.4, 0.5, 0.45]]
    few, many = (transferability(source, target, examples=(n, n)) for n in (500, 50_000))
    for i in range(2):
        assert few[i].low < few[i].value < few[i].high
        assert many[i].high - many[i].low < 0.3 * (few[i].high - few[i].low)
    assert many[1].high < 0


def run_of(experiment, arms, rates=None, **lane):
    """A run from arms -> a list of seeds' arrays."""
    lanes, arrays = [], []
    for arm, seeds in arms.items():
        for seed, own in enumerate(seeds):
            lanes.append(
                dict(lane=len(lanes), arm=arm, seed=seed, steps=12, diverged_at=None, learning_rate=0.1, values={})
                | lane
            )
            known = {"step/learning_rate": (rates or {}).get(arm, np.full(12, 0.1))}
            arrays.append(known | {name: np.asarray(value, float) for name, value in own.items()})
    config = {"experiment": experiment, "scale": "small", "data": {"num_test": 1000}}
    return RunResult([], arrays, {}, Path(), config, lanes)


STEPS = np.arange(0, 13, 2)
DECAYED = np.repeat([0.1, 0.01, 0.001], 4)


def subsets(simple, hard):
    simple, hard = np.asarray(simple, float), np.asarray(hard, float)
    names = {"test_simple": simple, "test_complex": hard, "test_all": (simple + hard) / 2}
    return {"subsets/step": STEPS} | {f"subsets/{name}": value for name, value in names.items()}


def stages_run(after=0.98, simple_late=0.99, shift=0.0):
    easy = [0.1, 0.9, simple_late, 1.0, 1.0, 1.0, 1.0]
    arms = {
        "decay": [subsets(easy, [0.1, 0.5, 0.6 + s, min(0.9, after), after, after, after + s]) for s in (0.0, 0.01)],
        "constant_0": [subsets(easy, [0.1, 0.5, 0.6 + s, 0.62, 0.65, 0.66, 0.7 + s]) for s in (0.0, 0.01)],
        "constant_1": [subsets(easy, [0.1, 0.5, 0.6, 0.7, 0.8, 0.9, 0.93 + s]) for s in (0.0, 0.01)],
        "constant_2": [subsets(easy, [0.1, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8 + shift + s]) for s in (0.0, 0.01)],
    }
    return run_of("L3", arms, rates={"decay": DECAYED})


def verdicts(run):
    return {entry["id"]: entry["verdict"] for entry in judge(CLAIMS, run)}


def test_claims_of_the_stages_come_out_both_ways():
    found = verdicts(stages_run())
    assert found["simple_first"] == found["gain_is_complex"] == found["decay_is_best"] == "supported"
    assert found["gap_on_patterns"] == "supported"
    assert found["smaller_rate_more_complex"] == found["smallest_rate_reaches"] == "contradicted"
    other = verdicts(stages_run(after=0.7, simple_late=0.3, shift=0.17))
    assert other["simple_first"] == other["gain_is_complex"] == other["decay_is_best"] == "contradicted"
    assert other["gap_on_patterns"] == "contradicted"
    assert other["smallest_rate_reaches"] == other["smaller_rate_more_complex"] == "supported"


def noise_run(decay, small):
    def arm(complex_, given):
        return {"subsets/step": STEPS[:3], "subsets/test_simple": [0.1, 1, 1]} | {
            "subsets/test_complex": complex_, "subsets/train_noise_given": given
        }  # fmt: skip

    arms = {
        "label_decay": [arm([0.1, 0.7, 0.9], [0.0, 0.1, decay + s]) for s in (0.0, 0.01)],
        "label_constant_1": [arm([0.1, 0.6, 0.8], [0.0, 0.1, small + s]) for s in (0.0, 0.01)],
        "label_constant_2": [arm([0.1, 0.5, 0.7], [0.0, 0.1, small + s]) for s in (0.0, 0.01)],
    }
    return run_of("L4", arms)


def test_noise_at_the_end_and_at_matched_accuracy_can_disagree():
    run = noise_run(decay=0.4, small=0.35)
    assert noise_checks.memorised("label")(run).verdict == "contradicted"
    assert noise_checks.memorised_at_matched("label")(run).verdict == "supported"
    assert noise_checks.memorised("label")(noise_run(decay=0.2, small=0.35)).verdict == "supported"
    assert noise_checks.memorised("label")(noise_run(decay=0.35, small=0.35)).verdict == "inconclusive"
    assert noise_checks.complex_("label")(run).verdict == "supported"
    assert noise_checks.simple("label")(run).verdict == "supported"


def test_a_kind_of_noise_that_was_not_run_is_inconclusive():
    assert verdicts(noise_run(0.3, 0.2))["noise_joint_memorised"] == "inconclusive"


@pytest.mark.parametrize(("full", "wanted"), [(1.0, "supported"), (0.8, "contradicted")])
def test_root_cause_needs_a_gain_with_mini_batches_only(full, wanted):
    def arm(value):
        return [{"subsets/step": STEPS[:2], "subsets/train_complex": [0.1, value]}]

    arms = {"sgd": arm(0.7), "sgd_decay": arm(0.98), "full_batch": arm(full), "full_batch_decay": arm(1.0)}
    assert checks.noise_is_the_cause(run_of("L5", arms | {"gradient_descent": arm(1.0)})).verdict == wanted


def transfer_run(later):
    source = {"accuracy/step": np.array([4, 8, 12]), "accuracy/test_accuracy": [0.5, 0.7, 0.8]}
    arms = {"source": [source]}
    for mode in ("fix", "finetune"):
        for number, value in enumerate((0.4, 0.5, later), start=1):
            arms[f"pets_{mode}_{number}"] = [{"accuracy/step": np.array([12]), "accuracy/test_accuracy": [value]}]
    run = run_of("L7", arms, rates={"source": DECAYED})
    run.config["data"]["num_test"] = 50_000
    return run


@pytest.mark.parametrize(("later", "wanted"), [(0.45, "supported"), (0.55, "inconclusive"), (0.7, "contradicted")])
def test_transfer_claim_is_decided_where_the_intervals_are_apart(later, wanted):
    finding = image_checks.later_stages_transfer_less(transfer_run(later))
    assert finding.verdict == wanted
    assert "pets fix" in finding.measured


def test_a_diverged_lane_leaves_its_claims_open():
    run = stages_run()
    run.lanes[0]["diverged_at"] = 5
    assert verdicts(run)["simple_first"] == "inconclusive"


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
@pytest.mark.parametrize("experiment", ["L3", "L6", "L7_ps10"])
def test_smoke_run_on_patterns_ends_with_a_report(experiment, tmp_path):
    lrjax.run(lrjax.load_config(f"{SPEC}:{experiment},scale=smoke"), tmp_path / "run")
    entries = write_report(tmp_path / "run")
    assert entries
    assert all("is not recorded" not in entry["measured"] for entry in entries)
    assert list((tmp_path / "run" / "figures").glob("*.png"))


@pytest.fixture(scope="module")
def main_run(tmp_path_factory):
    overrides = {"sweep.seed": (0,), "lanes_per_device": 1, "arms.constant_1": None, "arms.constant_2": None}
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
