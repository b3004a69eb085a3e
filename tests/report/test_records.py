"""The records in docs/results: judged again and drawn again, and what no verdict of theirs may rest on."""

import json
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from lrjax.errors import LrjaxError
from lrjax.experiment.config.listing import list_experiments
from lrjax.experiment.rundir.record import ARRAYS, load_record
from lrjax.papers import PAPERS
from lrjax.papers.claim import judge
from lrjax.report import report, write_report
from lrjax.report.record import MOST_BYTES, main, shown

RESULTS = Path(__file__).resolve().parents[2] / "docs/results"
RECORDS = sorted(path.parent for path in RESULTS.glob("*/claims.json"))
NAMES = [folder.name for folder in RECORDS]


def claims(folder):
    return json.loads((folder / "claims.json").read_text(encoding="utf-8"))


def test_records_are_those_of_real_runs_of_listed_experiments():
    listed = {f"{Path(row['config']).stem}-{row['experiment']}" for row in list_experiments()}
    assert {name.partition("@")[0] for name in NAMES} <= listed
    for folder in RECORDS:
        assert all(entry["wall_time_s"] > 0 for entry in claims(folder)), folder.name
        assert all(entry["scale"] == "small" for entry in claims(folder)) or "@" in folder.name


@pytest.mark.parametrize("folder", RECORDS, ids=NAMES)
def test_a_record_is_small_and_comes_with_its_claims(folder):
    files = {path.name: path.stat().st_size for path in folder.iterdir() if path.suffix in (".json", ".npz")}
    assert set(files) == {"config.json", ARRAYS, "claims.json"}
    assert sum(files.values()) <= MOST_BYTES


@pytest.mark.parametrize("folder", RECORDS, ids=NAMES)
def test_judged_again_a_record_says_what_its_claims_say(folder):
    run = load_record(folder)
    assert judge(PAPERS[run.config["paper"]].CLAIMS, run) == claims(folder)


@pytest.mark.slow
@pytest.mark.parametrize("folder", RECORDS, ids=NAMES)
def test_drawn_again_a_record_has_the_figures_of_its_claims(folder):
    paper = PAPERS[load_record(folder).config["paper"]]
    judged = [entry["id"] for entry in claims(folder) if entry["verdict"] != "not judged"]
    told = {paper.SHOWN_IN[claim] for claim in judged if claim in paper.SHOWN_IN}
    drawn = set(shown(load_record(folder)).figures)
    assert told <= drawn
    assert drawn


def test_no_claim_of_a_record_is_decided_with_a_failed_premise_or_on_one_seed():
    decided = [
        entry for folder in RECORDS for entry in claims(folder) if entry["verdict"] in ("supported", "contradicted")
    ]
    assert decided
    for entry in decided:
        names = [premise["premise"] for premise in entry["premises"]]
        assert all(premise["holds"] for premise in entry["premises"]), entry["id"]
        if "maximum" in entry["measured"]:  # it must have passed
            assert any(name.startswith("peaked(") for name in names), entry["id"]
        assert "exact" in names or any(name.startswith("seeds(") for name in names), entry["id"]


@pytest.fixture
def record(tmp_path):
    folder = tmp_path / RECORDS[0].name
    shutil.copytree(RECORDS[0], folder, ignore=shutil.ignore_patterns("figures", "report.html"))
    return folder


def test_a_report_of_a_record_needs_no_data_and_says_what_it_was_drawn_from(record):
    before = claims(record)
    found = report(record)
    assert found.entries == before == claims(record)
    assert any("from a record" in notice for notice in found.notices)
    page = (record / "report.html").read_text(encoding="utf-8")
    assert "from a record" in page
    assert {path.suffix for path in (record / "figures").iterdir()} == {".png"}


@pytest.mark.parametrize("name", ["config.json", ARRAYS])
@pytest.mark.parametrize("cut", [0, 40, -40])
def test_a_damaged_record_is_named_in_one_sentence(record, name, cut):
    path = record / name
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(LrjaxError, match=name) as error:
        write_report(record)
    assert "\n" not in str(error.value)


def test_a_changed_byte_of_a_record_is_named_or_changes_no_claim(record):
    path, before, generator = record / ARRAYS, claims(record), np.random.default_rng(0)
    content = path.read_bytes()
    directory = content.index(b"PK\x01\x02")  # of the archive, where reading begins
    places = [*generator.integers(0, len(content), 40), *generator.integers(directory, len(content), 40)]
    for place in map(int, places):
        path.write_bytes(
            content[:place] + bytes([content[place] ^ int(generator.integers(1, 256))]) + content[place + 1 :]
        )
        with suppress(LrjaxError):  # and no other error
            run = load_record(record)
            assert judge(PAPERS[run.config["paper"]].CLAIMS, run) == before


def test_a_run_that_is_not_finished_gets_no_record(tmp_path, capsys):
    assert main([str(tmp_path), "--into", str(tmp_path / "results")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "results").exists()
