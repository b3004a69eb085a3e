"""The checks of exp_lr on synthetic runs: right with the effect, seldom wrong without, not judged without a premise."""

import numpy as np
import pytest

from lrjax.papers import exp_lr
from lrjax.papers.claim import judge
from lrjax.papers.error_rates import rates_of
from lrjax.papers.exp_lr.synthetic import SYNTHETIC

CLAIMS = {claim.id: claim for claim in exp_lr.CLAIMS}
DRAWS = 6  # the slow test of all papers takes 400


def test_each_claim_has_synthetic_runs():
    assert set(SYNTHETIC) == set(CLAIMS)


@pytest.mark.parametrize("name", CLAIMS)
def test_checks_are_right_with_the_effect_and_seldom_wrong_without(name):
    rates = rates_of(CLAIMS[name], SYNTHETIC[name], draws=DRAWS)
    assert rates.false <= 0.35
    assert rates.right >= 0.6
    assert rates.unbroken == ()
    assert "contradicted" in rates.reached


@pytest.mark.parametrize("name", CLAIMS)
def test_a_broken_premise_is_the_only_one_that_does_not_hold(name):
    for premise, make in SYNTHETIC[name].broken.items():
        entry = judge([CLAIMS[name]], make(np.random.default_rng(3)))[0]
        failed = [held["premise"] for held in entry["premises"] if not held["holds"]]
        assert failed[0] == premise
        if premise == "seeds(3)":  # one seed has no interval either
            assert all(other.startswith("resolved") for other in failed[1:])
        elif premise != "seeds(1)":  # an arm that is missing
            assert len(failed) == 1


@pytest.mark.parametrize("name", CLAIMS)
def test_arms_that_did_not_run_make_a_claim_not_judged(name):
    run = SYNTHETIC[name].draw(1.0, np.random.default_rng(5))
    arms = {lane["arm"] for lane in run.lanes}
    judged = 0
    for arm in arms:
        kept = [(lane, own) for lane, own in zip(run.lanes, run.arrays, strict=True) if lane["arm"] != arm]
        lanes, arrays = zip(*kept, strict=True)
        entry = judge([CLAIMS[name]], run._replace(lanes=list(lanes), arrays=list(arrays)))[0]
        assert entry["verdict"] in ("supported", "not judged")
        judged += entry["verdict"] == "not judged"
    assert judged
