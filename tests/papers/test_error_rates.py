"""The error rates of the referee: every claim of every paper on 400 synthetic runs of each kind."""

import numpy as np
import pytest

from lrjax.papers import PAPERS, error_rates
from lrjax.papers.claim import Claim, Finding
from lrjax.papers.error_rates import Rates, rates_of, synthetic_of
from lrjax.papers.premises import seeds
from lrjax.papers.statistics import positive
from lrjax.papers.synthetic import Synthetic, blank, filled, one_seed

CLAIMS = [claim for paper in PAPERS.values() for claim in paper.CLAIMS]


def draw(effect, generator):
    run = blank("break_even", "E3", sweep__seed=(0, 1, 2))
    return filled(run, lambda lane: {"probe/x": np.array([3 * effect + generator.normal()])})


SYNTHETIC = Synthetic(draw, "three deviations", {"seeds(3)": lambda generator: one_seed(draw(1.0, generator))})


def claim_by(check):
    return Claim("c", "p", ("E3",), "", "", "", check, premises=(seeds(3),))


def values(run):
    return [arrays["probe/x"][-1] for arrays in run.arrays]


def by_t(run):
    return Finding(positive(values(run)), "")


def by_two_errors_of_two(run):
    own = np.array(values(run))[:2]
    clear = abs(own.mean()) > 2 * own.std(ddof=1) / np.sqrt(2)
    return Finding(("supported" if own.mean() > 0 else "contradicted") if clear else "inconclusive", "")


def test_a_t_interval_keeps_its_level_and_two_errors_of_two_seeds_do_not():
    assert rates_of(claim_by(by_t), SYNTHETIC, 200).good
    assert rates_of(claim_by(by_two_errors_of_two), SYNTHETIC, 200).false > 2 * error_rates.MOST_FALSE


def test_a_check_that_always_agrees_and_a_premise_that_never_breaks_are_found():
    rates = rates_of(claim_by(lambda run: Finding("supported", "")), SYNTHETIC, 20)
    assert rates.false == rates.right == 1.0
    assert not rates.good
    unbroken = Synthetic(draw, "", {"seeds(3)": lambda generator: draw(1.0, generator)})
    assert rates_of(claim_by(by_t), unbroken, 20).unbroken == ("seeds(3)",)


def test_the_same_rates_come_out_each_time():
    assert rates_of(claim_by(by_t), SYNTHETIC, 30) == rates_of(claim_by(by_t), SYNTHETIC, 30)._replace(claim=ANY)


class _Any:
    def __eq__(self, other):
        return True

    __hash__ = None


ANY = _Any()


def test_the_command_prints_a_line_a_claim_and_fails_where_a_bound_does_not_hold(capsys, monkeypatch):
    good = rates_of(claim_by(by_t), SYNTHETIC, 200)
    monkeypatch.setattr(error_rates, "every", lambda papers, draws: iter([good]))
    assert error_rates.main([]) == 0
    assert "ok" in capsys.readouterr().out
    monkeypatch.setattr(error_rates, "every", lambda papers, draws: iter([good._replace(false=0.2), good.claim]))
    assert error_rates.main([]) == 1
    out = capsys.readouterr().out
    assert "OUT OF BOUNDS" in out
    assert "without synthetic runs: p c" in out


def test_every_claim_has_synthetic_runs_and_breaks_each_of_its_premises():
    for claim in CLAIMS:
        found = synthetic_of(claim.paper).get(claim.id)
        assert found is not None, claim.id
        assert {premise.name for premise in claim.premises} <= set(found.broken), claim.id


def test_no_claim_is_decided_by_one_seed_unless_it_is_exact():
    for claim in CLAIMS:
        found = synthetic_of(claim.paper)[claim.id]
        assert found.exact or any(premise.name.startswith("seeds(") for premise in claim.premises), claim.id


@pytest.mark.slow
@pytest.mark.parametrize("claim", CLAIMS, ids=[f"{claim.paper}-{claim.id}" for claim in CLAIMS])
def test_a_claim_is_seldom_wrong_without_an_effect_and_mostly_right_with_it(claim):
    rates = rates_of(claim, synthetic_of(claim.paper)[claim.id])
    assert isinstance(rates, Rates)
    assert rates.good, error_rates.row(rates)
