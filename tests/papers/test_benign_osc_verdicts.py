"""Verdicts of benign oscillation: each premise, and what no check may pass."""

import numpy as np
import pytest

import lrjax
from lrjax.papers.benign_osc import CLAIMS, SHOWN_IN, image_checks, synthetic_series
from lrjax.papers.benign_osc import variation_checks as varied
from lrjax.papers.benign_osc.compared import cell
from lrjax.papers.benign_osc.synthetic import SYNTHETIC
from lrjax.papers.benign_osc.synthetic_accuracy import placed, some
from lrjax.papers.claim import NOT_JUDGED, ORIGINS, judge
from lrjax.papers.synthetic import blank, one_seed

BY_ID = {claim.id: claim for claim in CLAIMS}
EXACT = {name for name, found in SYNTHETIC.items() if found.exact}


def generator():
    return np.random.default_rng(11)


def stated(claim):
    return SYNTHETIC[claim].draw(1.0, generator())


def outcome(claim, run):
    return judge([BY_ID[claim]], run)[0]


@pytest.mark.parametrize("claim", BY_ID)
def test_each_broken_run_breaks_its_own_premise_alone(claim):
    for premise, make in SYNTHETIC[claim].broken.items():
        failed = [found["premise"] for found in outcome(claim, make(generator()))["premises"] if not found["holds"]]
        if premise in {found.name for found in BY_ID[claim].premises}:
            assert failed == [premise]


def test_every_claim_has_an_origin_premises_synthetic_runs_and_a_figure():
    assert set(SYNTHETIC) == set(BY_ID)
    assert set(BY_ID) - set(SHOWN_IN) <= {"paper_accuracy"}
    for claim in CLAIMS:
        names = {premise.name for premise in claim.premises}
        assert claim.origin in ORIGINS
        assert names & {"exact"} if claim.id in EXACT else "seeds(3)" in names


def test_a_sum_that_stops_contradicts_linear_growth_though_its_lower_bound_holds():
    run = stated("accumulation")

    def stops(lane, arrays):
        side = np.where(np.arange(len(arrays["step/margin"])) // 2 % 2 == 0, 1.0, -1.0)
        arrays["step/margin"][1000:] = 1.0 + synthetic_series.SWING * side[1000:]

    assert outcome("accumulation", run)["verdict"] == "supported"
    stopped = some(run, cell("main", 1.25), stops)
    assert outcome("accumulation", stopped)["verdict"] == "contradicted"


def test_a_component_that_grows_as_a_root_of_its_start_contradicts_proposition_6():
    def arrays(lane):
        power = 0.5 if lane["arm"] == "start" else 0.0
        inner = 0.1 * lane["values"]["model.init_scale"] ** power
        trained = {"features/train_accuracy": np.ones(1), "data/v_norm": np.float64(0.1)}
        return trained | {"features/inner_v": np.full((1, 2, 16), inner)}

    cells = [cell(arm, model__init_scale=s) for arm in ("start", "start_oscillating") for s in varied.STARTS]
    run = placed(blank("benign_osc", "ablate"), dict.fromkeys(cells, arrays))
    assert outcome("proposition_6", run)["verdict"] == "contradicted"


def test_a_theorem_is_not_judged_where_its_assumption_holds_in_one_lane_of_five():
    run = stated("theorem_5")

    def still(lane, arrays):
        if lane["seed"] > 0:
            arrays["step/margin"] = 1.0 + (arrays["step/margin"] - 1.0) / 3

    entry = outcome("theorem_5", some(run, cell("main", 1.25), still))
    assert entry["verdict"] == NOT_JUDGED
    assert "1 of 5 lanes" in entry["measured"]


def test_noise_that_makes_a_lane_diverge_supports_nothing():
    run = stated("noise_conditions")
    loud = {lane["lane"] for lane, _ in cell("noise", 1.1, data__kn=40)(run)}
    lanes = [dict(lane, diverged_at=90) if lane["lane"] in loud else lane for lane in run.lanes]
    entry = outcome("noise_conditions", run._replace(lanes=lanes))
    assert entry["verdict"] == NOT_JUDGED
    assert "diverged at step 90" in entry["measured"]


def test_patches_of_several_kinds_are_not_seeds():
    run = one_seed(stated("planted_patch"))
    assert len(run.lanes) == 6 * 9
    assert {own.size for own in image_checks.ahead(run, lambda lane, arrays: 1.0).values()} == {1}
    assert outcome("planted_patch", run)["verdict"] == NOT_JUDGED


def test_spikes_are_weighed_by_their_height_whatever_the_level_of_the_loss():
    smooth, rough = np.ones(40), np.ones(40)
    rough[20] = 2.0
    found = [image_checks.spikiness({}, {"step/loss": loss}) for loss in (smooth, rough, 3.0 * rough)]
    assert found == pytest.approx([0.0, np.log(2.0), np.log(2.0)])
    rough[20] = 2.5
    assert image_checks.spikiness({}, {"step/loss": rough}) > found[1]


def test_agreement_on_no_fitted_example_supports_nothing():
    def unfitted(lane, arrays):
        arrays["curvature/output"] = np.full((1, 8), 0.5)

    run = some(stated("edge_of_stability"), cell("main"), unfitted)
    entry = outcome("edge_of_stability", run)
    assert entry["verdict"] == NOT_JUDGED
    assert "on 0 fitted examples" in entry["measured"]


@pytest.mark.parametrize("experiment", ["E0", "E0_planted"])
@pytest.mark.parametrize("model", ["simple_cnn", "resnet18"])
def test_a_small_rate_drops_as_the_large_one_does_and_is_five_times_smaller(experiment, model):
    arms = lrjax.load_config(f"configs/benign_osc.py:{experiment},scale=paper").arms
    large, decayed = arms[f"{model}_large"], arms[f"{model}_decayed"]
    assert decayed.schedule.name == large.schedule.name
    assert decayed.model == large.model
    assert large.optimizer.learning_rate >= 5 * decayed.optimizer.learning_rate
    assert "schedule" not in arms[f"{model}_small"]


def test_the_default_experiment_has_three_seeds_or_more_in_every_setting():
    run = blank("benign_osc", "CLEAR")
    for claim in CLAIMS:
        if "CLEAR" in claim.experiments:
            seeds = next(premise for premise in claim.premises if premise.name == "seeds(3)")
            marked = run._replace(arrays=[{"step/loss": np.zeros(1)} for _ in run.lanes])
            assert seeds.evaluate(marked).holds
