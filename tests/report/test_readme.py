import json
from pathlib import Path

import pytest

from lrjax.errors import LrjaxError
from lrjax.papers import PAPERS
from lrjax.report.readme import ARXIV, END, START, TITLES, claims_tables, main, rewrite, summary_table


def entry(**changes):
    fields = {
        "id": "theorem_5",
        "paper": "benign_osc",
        "experiment": "CLEAR",
        "statement": "The weak feature is learned for e > 1 only.",
        "source": "theorem 5",
        "verdict": "supported",
        "measured": "accuracy 0.998",
        "expected": "accuracy >= 0.995",
        "paper_reports": "not published in a form we could read",
        "command": "python -m lrjax.main --config=configs/benign_osc.py",
        "wall_time_s": 38.4,
        "version": "0.1.0",
        "scale": "small",
        "from": "paper",
        "premises": [],
    }
    return fields | changes


def store(root, *entries, name="benign_osc-CLEAR"):
    folder = root / "docs" / "results" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "claims.json").write_text(json.dumps(list(entries)), encoding="utf-8")


def rows(root):
    """The rows of claims of all papers."""
    lines = claims_tables(root / "docs" / "results").splitlines()
    return [line for line in lines if line.startswith("| ") and not line.startswith(("| Claim", "| ---"))]


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "docs").mkdir()
    for name in ("README.md", "docs/results.md"):
        (tmp_path / name).write_text(f"# lrjax\n\nBefore.\n\n{START}\n{END}\n\nAfter.\n", encoding="utf-8")
    store(tmp_path, entry(), entry(id="prop_6", verdict="contradicted", measured="accuracy 0.41"))
    return tmp_path


def run(checkout, *flags):
    return main([f"--root={checkout}", *flags])


def test_each_paper_has_a_section_with_one_row_a_claim(checkout):
    tables = claims_tables(checkout / "docs" / "results")
    assert [line[3:] for line in tables.splitlines() if line.startswith("## ")] == list(TITLES.values())
    assert tables.count("Not run yet: all experiments.") == 3
    assert len(rows(checkout)) == 2


def test_a_row_holds_claim_command_numbers_verdict_and_wall_time(checkout):
    assert rows(checkout)[0] == (
        "| The weak feature is learned for e > 1 only. | paper | `python -m lrjax.main --config=configs/benign_osc.py` | "
        "accuracy 0.998 | not published in a form we could read | supported | 38 s (small) |"
    )
    assert "| accuracy 0.41 |" in rows(checkout)[1]
    assert "| contradicted |" in rows(checkout)[1]


def test_the_readme_counts_the_verdicts_of_each_paper_and_links_paper_command_and_claims(checkout):
    store(checkout, entry(id="prop_7", verdict="not judged"), entry(), entry(id="prop_6", verdict="contradicted"))
    lines = summary_table(checkout / "docs" / "results").splitlines()
    assert "| Inconclusive | Not judged |" in lines[0]
    assert len(lines) == 2 + len(TITLES)
    assert set(ARXIV) == set(TITLES)
    assert lines[4] == (
        "| [Benign Oscillation](https://arxiv.org/abs/2310.17074) | 1 | 1 | 0 | 1 | "
        "`python -m lrjax.main --config=configs/benign_osc.py` | [results](docs/results.md#benign-oscillation) |"
    )


FILES = ("README.md", "docs/results.md")


@pytest.mark.parametrize("name", FILES)
def test_the_generator_is_idempotent_and_leaves_the_rest_of_a_file_alone(checkout, name):
    assert run(checkout) == 0
    once = (checkout / name).read_bytes()
    assert run(checkout) == 0
    assert (checkout / name).read_bytes() == once
    assert once.startswith(b"# lrjax\n\nBefore.\n\n<!--")
    assert once.endswith(b"-->\n\nAfter.\n")


def test_check_passes_on_fresh_files_and_fails_in_one_sentence_on_a_changed_verdict(checkout, capsys):
    run(checkout)
    assert run(checkout, "--check") == 0
    store(checkout, entry(verdict="inconclusive"))
    before = [(checkout / name).read_bytes() for name in FILES]
    assert run(checkout, "--check") == 1
    out, err = capsys.readouterr()
    assert "README.md and docs/results.md differ" in err
    assert err.count("\n") == 1
    assert not out
    assert [(checkout / name).read_bytes() for name in FILES] == before


@pytest.mark.parametrize(
    ("name", "old", "new"), [("README.md", "| 1 | 1 |", "| 2 | 0 |"), ("docs/results.md", "998", "9")]
)
def test_a_number_typed_by_hand_is_found(checkout, name, old, new):
    run(checkout)
    path = checkout / name
    assert old in path.read_text(encoding="utf-8")
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    assert run(checkout, "--check") == 1


def test_nothing_is_written_where_one_of_the_files_cannot_be(checkout):
    (checkout / "docs" / "results.md").write_text("no markers", encoding="utf-8")
    before = (checkout / "README.md").read_bytes()
    assert run(checkout) == 1
    assert (checkout / "README.md").read_bytes() == before


def test_the_readme_counts_what_the_papers_state_and_not_what_follows_or_is_ours(tmp_path):
    store(tmp_path, entry(), entry(id="b", **{"from": "ours"}), entry(id="c", **{"from": "implied"}))
    assert "| 1 | 0 | 0 | 0 |" in summary_table(tmp_path / "docs" / "results")
    assert [row.split(" | ")[1] for row in rows(tmp_path)] == ["paper", "ours", "implied"]


def test_a_claim_of_an_experiment_without_a_record_is_not_judged_and_nothing_is_carried_over(tmp_path):
    store(tmp_path, entry())
    listed = {"benign_osc": ["CLEAR", "E1"]}
    tables = claims_tables(tmp_path / "docs" / "results", listed)
    own = [claim for claim in PAPERS["benign_osc"].CLAIMS if "E1" in claim.experiments]
    assert tables.count("| not judged: no record |") == len(own) > 0
    assert all(claim.statement in tables for claim in own)
    count = sum(claim.origin == "paper" for claim in own)
    assert f"| 1 | 0 | 0 | {count} |" in summary_table(tmp_path / "docs" / "results", listed)


def test_claims_judged_without_premises_are_refused(checkout, capsys):
    old = {key: value for key, value in entry().items() if key != "premises"}
    store(checkout, old)
    assert run(checkout) == 1
    assert "has a claim without 'premises'" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["statement", "command", "measured", "paper_reports"])
def test_pipes_and_line_breaks_do_not_break_the_row(tmp_path, key):
    store(tmp_path, entry(**{key: "|v| at\nmost 0.1 |u|"}))
    (row,) = [line for line in rows(tmp_path) if "most" in line]
    assert r"\|v\| at most 0.1 \|u\|" in row
    assert row.replace(r"\|", "").count("|") == 8


def test_text_that_looks_like_markup_is_shown_as_text(tmp_path):
    store(tmp_path, entry(measured="<e> is *large* and <script>"))
    assert r"&lt;e> is \*large\* and &lt;script>" in rows(tmp_path)[0]


def test_experiments_come_in_the_order_of_their_names_whatever_the_disk_says(tmp_path):
    for experiment in ("phase", "CLEAR", "E2"):
        store(tmp_path, entry(experiment=experiment, measured=f"of {experiment}"), name=f"benign_osc-{experiment}")
    assert [line.split(" | ")[3] for line in rows(tmp_path)] == ["of CLEAR", "of E2", "of phase"]


def test_an_unknown_verdict_is_refused(checkout, capsys):
    store(checkout, entry(verdict="proved"))
    assert run(checkout) == 1
    err = capsys.readouterr().err
    assert "'proved'" in err
    assert "supported, contradicted, inconclusive or not judged" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("content", ["{", "{}x", "3", "[3]", '[{"id": "a"}]', '{"id": "a"}'])
def test_a_file_that_is_no_claims_json_is_named_in_one_sentence(checkout, capsys, content):
    folder = checkout / "docs" / "results" / "benign_osc-E2"
    folder.mkdir()
    (folder / "claims.json").write_text(content, encoding="utf-8")
    assert run(checkout) == 1
    err = capsys.readouterr().err
    assert "benign_osc-E2/claims.json" in err
    assert err.count("\n") == 1


def test_a_result_under_the_name_of_another_experiment_is_refused(tmp_path):
    store(tmp_path, entry(), name="benign_osc-E2")
    with pytest.raises(LrjaxError, match="name its folder benign_osc-CLEAR"):
        rows(tmp_path)


@pytest.mark.parametrize("readme", ["", START, f"{END}\n{START}", f"{START}{START}{END}"])
def test_a_readme_without_its_markers_is_refused(readme):
    with pytest.raises(LrjaxError, match="add them"):
        rewrite(readme, "table")


def test_a_missing_file_is_answered_in_one_sentence(tmp_path, capsys):
    assert run(tmp_path) == 1
    err = capsys.readouterr().err
    assert "README.md" in err
    assert err.count("\n") == 1


ROOT = Path(__file__).resolve().parents[2]


def test_the_tables_of_this_repository_are_what_its_results_say():
    assert main(["--check", "--root", str(ROOT)]) == 0


def test_experiments_without_a_result_are_named_as_not_run(tmp_path):
    store(tmp_path, entry())
    tables = claims_tables(tmp_path / "docs" / "results", {"benign_osc": ["CLEAR", "E1", "E2"], "exp_lr": ["E1"]})
    assert "Not run yet: E1, E2." in tables
    assert "Not run yet: E1." in tables
    complete = claims_tables(tmp_path / "docs" / "results", {"benign_osc": ["CLEAR"]})
    assert "Not run yet" not in complete.split("## Benign Oscillation")[1].split("## ")[0]


def test_of_two_runs_of_a_claim_the_largest_that_was_judged_makes_the_headline(tmp_path):
    store(tmp_path, entry(verdict="inconclusive"))
    store(tmp_path, entry(scale="paper", verdict="not judged"), name="benign_osc-CLEAR@h100")
    assert "| 0 | 0 | 1 | 0 |" in summary_table(tmp_path / "docs" / "results")
    store(tmp_path, entry(scale="medium"), name="benign_osc-CLEAR@h200")
    assert "| 1 | 0 | 0 | 0 |" in summary_table(tmp_path / "docs" / "results")
    assert len(rows(tmp_path)) == 3
