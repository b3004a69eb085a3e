"""The fuzz finds nothing: 60 cases in `.ci/run`, ten in every run, 500 by `python -m tests.spectra.fuzz --cases 500`."""

import collections

import pytest

from tests.spectra import fuzz, problems
from tests.spectra.fuzz_cases import Case, drawn


@pytest.fixture(scope="module", autouse=True)
def _quickly_compiled():
    with problems.quick_compilation():
        yield


@pytest.mark.parametrize(("count", "seed"), [(4, 1), pytest.param(60, 0, marks=pytest.mark.slow)])
def test_every_case_is_right_or_refused_in_a_sentence(count, seed):
    outcomes = fuzz.run(count, seed)
    assert len(outcomes) == count
    failed = [f"{case.to_json()}: {outcome.message}" for case, outcome in outcomes.items() if outcome.word == "failed"]
    assert not failed, "\n".join([f"{len(failed)} of {count}; python -m tests.spectra.fuzz --case 'JSON'", *failed])
    words = collections.Counter(outcome.word for outcome in outcomes.values())
    assert words["right"] > count // 3, f"almost everything was refused: {words}"


def test_a_case_repeats_from_what_it_prints():
    for seed in range(20):
        case = drawn(seed)
        assert Case.from_json(case.to_json()) == case


def test_a_wrong_number_is_a_failure(monkeypatch):
    right = fuzz.exact_matrix
    monkeypatch.setattr(fuzz, "exact_matrix", lambda task: 1.1 * right(task))
    assert fuzz.attempt(Case()).word == "failed"
    monkeypatch.setattr(fuzz, "exact_matrix", right)
    assert fuzz.attempt(Case()) == fuzz.Outcome("right")
