"""The page of a sweep: every run with what it set, how it ended, its verdicts and its figures; from files alone."""

import json
import re
from html.parser import HTMLParser

import pytest

from lrjax.errors import LrjaxError
from lrjax.papers.claim import VERDICTS
from lrjax.report.__main__ import main
from lrjax.report.collection import Run, read_runs, render, write_collection


def claim(verdict, measured="a < b & c"):
    entry = {"id": "switch", "paper": "benign_osc", "statement": "Large rates learn it.", "verdict": verdict}
    return entry | {"measured": measured, "expected": "", "paper_reports": "", "source": ""}


def write_run(folder, state, verdict, seed, figures=("loss curve.png",)):
    (folder / "figures").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"seed": seed, "model": {"width": 8}}))
    (folder / "status.json").write_text(json.dumps({"state": state, "wall_time_s": 30.0, "command": f"run {seed}"}))
    if verdict:
        (folder / "claims.json").write_text(json.dumps([claim(verdict)]))
        (folder / "report.html").write_text("")
    for name in figures:
        (folder / "figures" / name).write_text("")


@pytest.fixture
def folder(tmp_path):
    """Three runs and one that has not begun."""
    for number, (state, verdict) in enumerate([("done", "supported"), ("done", "contradicted"), ("preempted", None)]):
        write_run(tmp_path / f"run-{number}", state, verdict, number)
    planned = {f"run-{n}": {"values": {"sweep.seed": list(range(n, n + 20))}, "command": f"go {n}"} for n in range(4)}
    (tmp_path / "jobs.json").write_text(json.dumps(planned))
    return tmp_path


class Links(HTMLParser):
    """The places that a page points to."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in ("href", "src")]


def links_of(page):
    links = Links()
    links.feed(page)
    return links.found


def test_the_page_has_every_run_with_its_state_its_values_and_links_that_exist(folder, capsys):
    assert main([str(folder)]) == 0
    assert capsys.readouterr().out == f"report: {folder / 'report.html'}\n"
    page = (folder / "report.html").read_text()
    assert "4 runs: 2 done, 1 preempted, 1 new." in page
    assert "2 of 4 runs are not finished." in page
    assert "wall time 1 min 30 s over all runs" in page
    rows = re.findall(r"<tr><td data-label=\"Run\">.*?</tr>", page)
    assert len(rows) == 4
    for number, state in enumerate(("done, 30 s", "done, 30 s", "preempted, 30 s", "new")):
        assert f"seed = 20 values, {number} to {number + 19}" in rows[number]
        assert f'<td data-label="State">{state}</td>' in rows[number]
    links = set(links_of(page))
    assert "run-1/figures/loss%20curve.png" in links
    assert {"run-0/report.html", "run-1/report.html"} < links
    assert all((folder / link.replace("%20", " ")).is_file() for link in links)
    assert "go 3" in page


def test_a_claim_stands_once_with_what_every_run_measured(folder):
    page = write_collection(folder).read_text()
    assert "Large rates learn it. <code>benign_osc: switch</code>: 1 supported, 1 contradicted" in page
    assert page.count("a &lt; b &amp; c") == 2
    assert page.count("<summary>Large rates") == 1


def test_without_a_plan_the_runs_are_told_apart_by_the_keys_in_which_they_differ(folder):
    (folder / "jobs.json").unlink()
    runs = read_runs(folder)
    assert [run.values for run in runs] == [{"seed": 0}, {"seed": 1}, {"seed": 2}]
    assert [run.command for run in runs] == ["run 0", "run 1", "run 2"]


def test_a_finished_run_without_a_report_gets_one(folder, monkeypatch):
    asked = []
    monkeypatch.setattr("lrjax.report.collection.write_report", lambda workdir: asked.append(workdir.name))
    (folder / "run-1" / "report.html").unlink()
    read_runs(folder)
    assert asked == ["run-1"]


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(LrjaxError, match="holds no runs"):
        write_collection(tmp_path)


def test_nothing_in_a_page_is_taken_for_html():
    evil = "<script>x</script>"
    values = {"data.name": evil}
    run = Run(evil, values, evil, None, [claim(VERDICTS[0], evil)], [evil], True, evil)
    assert "<script" not in render(evil, [run])


def test_a_page_of_200_runs_names_each():
    runs = [Run(f"run-{n:03d}", {"seed": n}, "done", 1.0, [], [], False, None) for n in range(200)]
    page = render("sweep", runs)
    assert all(page.count(f"run-{n:03d}") == 1 for n in range(200))
