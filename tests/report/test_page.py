import base64
import json
import re
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from matplotlib.figure import Figure as Canvas

from lrjax.errors import LrjaxError
from lrjax.experiment.rundir import metrics
from lrjax.papers.claim import VERDICTS, Claim, Finding, NotMeasured
from lrjax.report import __main__, write_files, write_report
from lrjax.report.about import what_is_tested

EVIL = "<script>alert('x')</script> & \"q\""


class Drawn(NamedTuple):
    name: str
    title: str
    caption: str
    fig: Canvas


class Page(HTMLParser):
    """Tags with their attributes, and the text outside <style>."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.words, self._style = [], [], False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._style = tag in ("style", "script")

    def handle_data(self, data):
        if not self._style:
            self.words.append(data)

    def named(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self):
        return " ".join(self.words)


def draw(run):
    fig = Canvas(figsize=(3, 2))
    fig.subplots().plot([0.2, 1.25], [0.5, 1.0])
    return [Drawn("accuracy", "Accuracy against e", "Line: the theory.", fig)]


def verdicts():
    def missing(run):
        raise NotMeasured("lane 1 diverged")

    checks = (
        lambda run: Finding("supported", "0.998"),
        lambda run: Finding("contradicted", f"0.41 {EVIL}"),
        missing,
    )
    return [
        Claim(f"c{n}", "benign_osc", ("CLEAR",), f"Statement {n}.", "theorem 5", ">= 0.995", check)
        for n, check in enumerate(checks)
    ]


@pytest.fixture
def run():
    lanes = [
        {
            "lane": 0,
            "arm": "sgd",
            "seed": 0,
            "values": {"e": 0.2},
            "steps": 100,
            "diverged_at": None,
            "last_finite_loss": 0.1,
        },
        {
            "lane": 1,
            "arm": "gd",
            "seed": 7,
            "values": {"e": 2.5},
            "steps": 100,
            "diverged_at": 42,
            "last_finite_loss": 8123.5,
        },
    ]
    status = {
        "state": "done",
        "version": "0.1.0",
        "commit": "abc1234",
        "wall_time_s": 38.4,
        "command": "python -m lrjax.main --config=configs/benign_osc.py --config.seed=3",
        "versions": {"jax": "0.10.2"},
    }
    config = {"paper": "benign_osc", "experiment": "CLEAR", "scale": "small", "data": {"rho": 0.1}}
    return SimpleNamespace(config=config, status=status, lanes=lanes, metrics=[], arrays=[])


@pytest.fixture
def paper():
    return SimpleNamespace(CLAIMS=verdicts(), figures=draw)


@pytest.fixture
def html(run, paper, tmp_path):
    write_files(run, paper, tmp_path)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_report_loads_nothing_from_a_network(html):
    page = Page(html)
    assert "default-src 'none'" in html
    assert not re.search(r"@import|url\(", re.sub(r"base64,[^\"]*|<script.*?</script>", "", html, flags=re.S))
    assert not any("src" in attributes for attributes in page.named("script"))
    assert not page.named("iframe")
    assert all(
        value.startswith("data:")
        for tag, attributes in page.tags
        for key, value in attributes.items()
        if key == "src" or (key == "href" and not value.startswith("#") and tag != "a")
    )


def test_every_image_is_embedded_follows_the_colour_scheme_and_comes_with_a_text_for_the_blind(html):
    (image,) = Page(html).named("img")
    drawn = base64.b64decode(image["src"].removeprefix("data:image/svg+xml;base64,")).decode()
    assert "prefers-color-scheme: dark" in drawn
    assert image["alt"] == "Accuracy against e"


def test_verdicts_are_words_beside_their_colours(html):
    for verdict in VERDICTS:
        assert f'<span class="verdict {verdict}">{verdict}</span>' in html
        assert f".{verdict} {{ color:" in html


def test_claims_show_measured_expected_and_what_the_paper_reports(html):
    text = Page(html).text
    for shown in (
        "Statement 0.",
        "0.998",
        "≥ 0.995",
        "not published in a form we could read",
        "not measured: lane 1 diverged",
    ):
        assert shown in text


def test_every_text_is_escaped(run, paper, tmp_path):
    run.config |= {"experiment": "CLEAR", "scale": EVIL, "name": EVIL}
    run.status |= {"state": EVIL, "command": EVIL, "version": EVIL, "commit": EVIL, "versions": {EVIL: EVIL}}
    run.lanes[1] |= {"arm": EVIL, "values": {EVIL: EVIL}}
    paper.NOTE = EVIL
    paper.CLAIMS = [Claim(EVIL, "p", ("CLEAR",), EVIL, EVIL, EVIL, lambda run: Finding("supported", EVIL), EVIL)]
    paper.figures = lambda run: [Drawn("one", EVIL, EVIL, Canvas())]
    write_files(run, paper, tmp_path)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in html
    assert Page(html).text.count("<script>alert('x')</script>") >= 15


def cells(html, table):
    return re.findall(r"<td[^>]*>(.*?)</td>", html[html.index(f"<table class={table}>") :].split("</table>")[0])


def test_a_diverged_lane_is_listed_with_values_step_and_last_finite_loss(html):
    assert cells(html, "lanes") == ["1", "gd", "e = 2.5", "7", "42", "8124"]
    assert "1 of 2 lanes" in html


def test_many_diverged_lanes_are_all_there_but_folded(run, paper, tmp_path):
    run.lanes = [run.lanes[1] | {"lane": lane} for lane in range(40)]
    write_files(run, paper, tmp_path)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert cells(html, "lanes")[::6] == [str(lane) for lane in range(40)]
    assert "<summary>Show all 40</summary>" in html


def test_a_run_in_which_nothing_diverged_says_so(run, paper, tmp_path):
    run.lanes[1]["diverged_at"] = None
    write_files(run, paper, tmp_path)
    assert "No lane diverged." in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_lane_that_diverged_at_step_0_counts_as_diverged(run, paper, tmp_path):
    run.lanes[1] |= {"diverged_at": 0, "last_finite_loss": None}
    write_files(run, paper, tmp_path)
    assert cells((tmp_path / "report.html").read_text(encoding="utf-8"), "lanes")[-2:] == ["0", "none"]


def test_command_versions_config_and_wall_time_are_shown(html):
    text = Page(html).text
    for shown in ("--config.seed=3", "0.10.2", "abc1234", '"rho": 0.1', "38 s", "small"):
        assert shown in text


def test_an_unfinished_run_says_so_and_a_finished_one_does_not(run, paper, tmp_path, html):
    assert "not finished" not in html
    run.status["state"] = "preempted"
    write_files(run, paper, tmp_path)
    assert "not finished (state: preempted)" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_note_on_what_is_reconstructed_is_shown_only_if_the_paper_has_one(run, paper, tmp_path, html):
    assert "reconstructed" not in html
    paper.NOTE = "The values of rho are defaults."
    write_files(run, paper, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "The values of <math><mi>ρ</mi></math> are defaults." in page


def test_the_page_is_made_for_phones_and_for_dark_screens(html):
    (viewport,) = [meta for meta in Page(html).named("meta") if meta.get("name") == "viewport"]
    assert "width=device-width" in viewport["content"]
    assert "prefers-color-scheme: dark" in html
    assert "max-width: 100%" in html


def test_claims_and_figures_are_files_too_and_the_same_run_gives_the_same_bytes(run, paper, tmp_path):
    entries = write_files(run, paper, tmp_path)
    assert json.loads((tmp_path / "claims.json").read_text()) == entries
    first = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {path.name for path in first} == {"claims.json", "accuracy.png", "report.html"}
    write_files(run, paper, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == first


def test_a_failed_write_leaves_the_old_report_whole(run, paper, tmp_path, monkeypatch):
    write_files(run, paper, tmp_path)
    before = (tmp_path / "claims.json").read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    run.status["version"] = "9.9.9"
    with monkeypatch.context() as patched:
        patched.setattr(metrics.os, "fsync", full)
        with pytest.raises(LrjaxError, match="No space left"):
            write_files(run, paper, tmp_path)
    assert (tmp_path / "claims.json").read_bytes() == before
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_wrong_directory_is_answered_in_one_sentence_and_status_1(tmp_path, capsys):
    for path, word in ((tmp_path / "missing", "no directory"), (tmp_path, "holds no run")):
        with pytest.raises(LrjaxError, match=word):
            write_report(path)
        assert __main__.main([str(path)]) == 1
        out, err = capsys.readouterr()
        assert word in err
        assert str(path) in err
        assert err.count("\n") == 1
        assert not out


def broken(*_, **__):
    raise ValueError("Data cannot be log-scaled")


def test_what_cannot_be_drawn_of_a_diverged_run_is_said_and_of_a_whole_one_a_fault(run, paper, tmp_path):
    paper.figures = lambda run: [*draw(run), Drawn("empty", "", "", SimpleNamespace(axes=[], savefig=broken))]
    write_files(run, paper, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "The figure empty could not be drawn of a run that is not whole (ValueError)" in page
    assert "Accuracy against e" in page
    paper.figures = broken
    write_files(run, paper, tmp_path)
    assert "The figures of the paper could not be drawn" in (tmp_path / "report.html").read_text()
    run.lanes[1]["diverged_at"] = None
    with pytest.raises(ValueError, match="log-scaled"):
        write_files(run, paper, tmp_path)


def test_a_sentence_that_asks_has_no_full_stop_after_its_question_mark():
    config = {"paper": "lr_decay", "experiment": "L10"}
    told = what_is_tested(SimpleNamespace(config=config, lanes=[{"arm": "a", "seed": 0, "steps": 1}]))
    assert told[1].endswith("does averaging bring what decay brings?")
    assert told[2].endswith(".")
