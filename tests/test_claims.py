import io
from types import SimpleNamespace

import pytest

from lrjax.papers.claim import (
    NOT_PUBLISHED,
    OURS,
    VERDICTS,
    Claim,
    Finding,
    NotMeasured,
    judge,
    reported,
    summary,
)
from lrjax.papers.premise import Held, Premise
from lrjax.papers.terminal import print_table, table


def claim(check, **changes):
    fields = {
        "id": "c1",
        "paper": "benign_osc",
        "experiments": ("CLEAR", "E2"),
        "statement": "The weak feature is learned for e > 1 only.",
        "source": "section 4, theorem 5",
        "expected": "accuracy >= 0.995",
        "check": check,
    }
    return Claim(**{**fields, **changes})


def finds(verdict, measured="accuracy 0.998"):
    return lambda run: Finding(verdict, measured)


@pytest.fixture
def run():
    return SimpleNamespace(
        config={"paper": "benign_osc", "experiment": "CLEAR", "scale": "small"},
        status={"state": "done", "command": "python -m lrjax.main", "wall_time_s": 38.4, "version": "0.1.0"},
        lanes=[],
    )


def test_an_entry_carries_the_claim_the_finding_and_the_run(run):
    (entry,) = judge([claim(finds("supported"), paper_reports="0.99")], run)
    assert entry == {
        "id": "c1",
        "paper": "benign_osc",
        "experiment": "CLEAR",
        "statement": "The weak feature is learned for e > 1 only.",
        "source": "section 4, theorem 5",
        "verdict": "supported",
        "measured": "accuracy 0.998",
        "expected": "accuracy >= 0.995",
        "paper_reports": "0.99",
        "command": "python -m lrjax.main",
        "wall_time_s": 38.4,
        "version": "0.1.0",
        "scale": "small",
        "from": "paper",
        "premises": [],
    }


@pytest.mark.parametrize("verdict", VERDICTS)
def test_every_verdict_is_kept_also_a_contradicted_one(run, verdict):
    assert [entry["verdict"] for entry in judge([claim(finds(verdict))], run)] == [verdict]


def test_claims_of_other_experiments_are_left_out_and_their_checks_not_called(run):
    def never(run):
        raise AssertionError("called")

    entries = judge([claim(never, id="other", experiments=("E0",)), claim(finds("supported"))], run)
    assert [entry["id"] for entry in entries] == ["c1"]


def test_an_experiment_whose_name_contains_another_is_not_taken_for_it(run):
    run.config["experiment"] = "E0"
    assert judge([claim(finds("supported"), experiments=("E0_planted",))], run) == []


def test_what_was_not_measured_is_inconclusive_with_the_reason_and_the_rest_goes_on(run):
    def diverged(run):
        raise NotMeasured("lane 3 (e = 1.5) diverged at step 120")

    first, second = judge([claim(diverged), claim(finds("contradicted"), id="c2")], run)
    assert first["verdict"] == "inconclusive"
    assert "lane 3 (e = 1.5) diverged at step 120" in first["measured"]
    assert second["verdict"] == "contradicted"


def test_a_fault_in_a_check_is_not_hidden(run):
    with pytest.raises(KeyError, match="no_such_array"):
        judge([claim(lambda run: run.config["no_such_array"])], run)


def test_a_check_that_fails_on_a_diverged_lane_is_not_judged():
    def check(run):
        raise KeyError("step/loss")

    claims = [Claim("c1", "p", ("E2",), "Loss falls.", "eq. 1", "ratio < 1", check)]
    run = SimpleNamespace(config={"experiment": "E2"}, status={}, lanes=[{"lane": 0, "diverged_at": 42}])
    (entry,) = judge(claims, run)
    assert entry["measured"] == "not judged: lane 0 diverged at step 42 (KeyError in the check)"
    with pytest.raises(KeyError):
        judge(claims, SimpleNamespace(config={"experiment": "E2"}, status={}, lanes=[{"lane": 0, "diverged_at": None}]))


@pytest.mark.parametrize("verdict", ["Supported", "true", "", None])
def test_an_unknown_verdict_is_refused(run, verdict):
    with pytest.raises(ValueError, match="c1.*verdict is one of"):
        judge([claim(finds(verdict))], run)


def test_a_number_missing_in_the_paper_is_said_in_words(run):
    (entry,) = judge([claim(finds("supported"))], run)
    assert entry["paper_reports"] == NOT_PUBLISHED == "not published in a form we could read"


@pytest.mark.parametrize(
    ("source", "ours"),
    [
        ("section 4.2", False),
        ("section 3; constants ours", False),
        ("abstract, in words; ours as a comparison", False),
        ("ours", True),
        ("ours, an analogue of the data model on real images", True),
        ("derived here from theorem 2.12", True),
        ("Kalimeris et al. 2019, by stages: ours", True),
    ],
)
def test_only_a_claim_of_the_paper_speaks_of_the_paper_s_number(source, ours):
    assert (reported(source, None) == OURS) == ours
    assert reported(source, NOT_PUBLISHED) == reported(source, None)  # of a record of an earlier version
    assert reported(source, "0.97") == "0.97"


def test_a_claim_cannot_be_changed():
    with pytest.raises(AttributeError):
        setattr(claim(finds("supported")), "expected", "anything")  # noqa: B010


def test_the_table_shows_verdict_measured_expected_and_the_papers_number(run):
    text = table(judge([claim(finds("contradicted", "accuracy 0.41"), paper_reports="0.97")], run))
    for shown in ("contradicted", "c1", "accuracy 0.41", "accuracy >= 0.995", "0.97", "1 contradicted"):
        assert shown in text


@pytest.mark.parametrize("width", [40, 72, 120])
def test_no_line_of_the_table_is_wider_than_asked(run, width):
    entries = judge([claim(finds("supported", "word " * 60), statement="statement " * 40)], run)
    lines = table(entries, width=width).splitlines()
    assert max(map(len, lines)) <= width
    assert sum(line.count("word") for line in lines) == 60


def test_colour_adds_codes_and_changes_no_letter(run):
    entries = judge([claim(finds(verdict), id=verdict) for verdict in VERDICTS], run)
    plain, painted = table(entries), table(entries, color=True)
    assert "\x1b" not in plain
    for code in ("\x1b[1;32m", "\x1b[1;31m", "\x1b[1;33m", "\x1b[0m"):
        assert code in painted
        painted = painted.replace(code, "")
    assert painted == plain


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "no_color", "painted"), [(Terminal, "", True), (Terminal, "1", False), (io.StringIO, "", False)]
)
def test_colours_appear_on_a_terminal_only(run, monkeypatch, stream, no_color, painted):
    monkeypatch.setenv("NO_COLOR", no_color)
    out = stream()
    print_table(judge([claim(finds("supported"))], run), out)
    assert ("\x1b" in out.getvalue()) is painted
    assert "supported" in out.getvalue()


def test_a_run_without_claims_says_so():
    assert table([]) == "This experiment judges no claim."
    assert summary([]).startswith("0 claims")


def test_a_smoke_run_decides_nothing_but_shows_its_numbers():
    claim = Claim(
        "c1", "p", ("E2",), "Loss falls.", "eq. 1", "ratio < 1", lambda run: Finding("contradicted", "ratio 2")
    )
    runs = [SimpleNamespace(config={"experiment": "E2", "scale": scale}, status={}) for scale in ("smoke", "small")]
    smoke, small = (judge([claim], run)[0] for run in runs)
    assert smoke["verdict"] == "not judged"
    assert "ratio 2" in smoke["measured"]
    assert small["verdict"] == "contradicted"


def test_the_terminal_and_the_page_show_premises_whether_they_hold_or_not(run):
    good = Premise("seeds(1)", "there is a seed", lambda run: Held(True, "1 seed"))
    bad = Premise("peaked", "the maximum is past", lambda run: Held(False, "at 95% of the run"))
    (entry,) = judge([claim(finds("supported"), premises=(good, bad))], run)
    printed = table([entry])
    assert "premise   seeds(1) holds: 1 seed" in printed
    assert "premise   peaked DOES NOT HOLD: at 95% of the run" in printed
    assert "not judged: peaked does not hold: at 95% of the run" in printed


def test_a_claim_that_is_not_the_papers_reports_no_number_of_it(run):
    entries = judge([claim(finds("supported"), origin=origin) for origin in ("paper", "implied", "ours")], run)
    assert [entry["paper_reports"] for entry in entries] == [NOT_PUBLISHED, OURS, OURS]
