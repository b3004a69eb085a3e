"""Damaged runs beside whole ones, exported, and in a folder: each is named with what it lacks, and the others are as usual."""

import json
import shutil

import pytest

import lrjax
from lrjax import commands
from lrjax.errors import LrjaxError
from lrjax.experiment.rundir.checkpoint import Checkpoints
from lrjax.experiment.rundir.metrics import load_run
from lrjax.posthoc.checkpoints import open_run
from lrjax.report import write_report
from lrjax.report.collection import write_collection
from lrjax.report.compare import write_comparison
from tests.runs import tiny
from tests.sketches import sketches


@pytest.fixture(scope="module", autouse=True)
def sketched():
    with sketches():
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison") / "run"
    lrjax.run(tiny(), folder)
    write_report(folder)
    return folder


@pytest.fixture
def pair(finished, tmp_path):
    """A folder of two runs: one to be damaged, and a good one."""
    for name in ("bad", "good"):
        shutil.copytree(finished, tmp_path / name)
    return tmp_path


def compared(folder, capsys, *others):
    capsys.readouterr()
    words = [str(folder / name) for name in (others or ("bad", "good"))]
    status = commands.main(["compare", *words, f"--output={folder / 'page.html'}"])
    page = folder / "page.html"
    return status, capsys.readouterr().err, page.read_text() if page.exists() else ""


def changed(path, **changes):
    content = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in (content | changes).items() if value is not None}))


UNREADABLE = {"status.json": "[]", "config.json": '{"seed"'}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_run_that_cannot_be_read_is_named_and_the_others_are_compared(name, pair, capsys):
    shutil.copytree(pair / "good", pair / "third")
    status, err, wanted = compared(pair, capsys, "good", "third")
    assert (status, err) == (0, "")
    (pair / "bad" / name).write_text(UNREADABLE[name])
    status, err, page = compared(pair, capsys, "good", "bad", "third")
    assert status == 0
    for text in (err, page):
        assert "bad is not compared: " in text
        assert f"bad/{name} is damaged" in text
    assert page[page.index("<h2>What differs") :] == wanted[wanted.index("<h2>What differs") :]


@pytest.mark.parametrize("name", ["status.json", "config.json"])
def test_a_run_that_lost_a_file_is_still_one_and_a_folder_of_none_is_refused(name, pair, capsys):
    (pair / "bad" / name).unlink()
    status, err, page = compared(pair, capsys)
    assert status == 0
    assert f"no {name}" in err
    assert f"no {name}" in page
    (pair / "empty").mkdir()
    status, err, _ = compared(pair, capsys, "good", "empty")
    assert (status, err.count("\n")) == (1, 1)
    assert "empty holds no run" in err


def test_where_no_run_can_be_read_one_sentence_says_why(pair, capsys):
    for name in ("bad", "good"):
        (pair / name / "status.json").write_text("{}")
    status, err, page = compared(pair, capsys)
    assert (status, page, err.count("\n")) == (1, "", 1)
    assert "bad/status.json is damaged" in err


def lose_arrays(run):
    sorted((run / "arrays").glob("block-001-*.npz"))[1].unlink()
    return sorted((run / "arrays").glob("block-001-*.npz"))[0].name.replace("100", "200")


def lose_rows(run):
    (run / "metrics.jsonl").write_bytes((run / "metrics.jsonl").read_bytes()[:-30])
    return "metrics.jsonl has"


def change_a_number(run):
    text = (run / "metrics.jsonl").read_text()
    place = text.index("loss") + 9  # behind the point
    (run / "metrics.jsonl").write_text(text[:place] + ("1" if text[place] != "1" else "2") + text[place + 1 :])
    return "metrics.jsonl is not the file that the run wrote"


def change_the_config(run):
    changed(run / "config.json", seed=7)
    return "config.json is not the config"


def change_a_checkpoint(run):
    path = sorted((run / "ckpt" / "block-000").glob("*/meta/metadata"))[0]
    record = json.loads(path.read_text())
    record["lanes"][0]["diverged_at"] = 7
    path.write_text(json.dumps(record))
    return "metadata is damaged (it is not the record that the run wrote)"


def lose_a_checkpoint_s_record(run):
    sorted((run / "ckpt" / "block-000").glob("*/meta/metadata"))[0].unlink()
    return "meta/metadata is missing"


def change_a_lane(run):
    lanes = json.loads((run / "status.json").read_text())["lanes"]
    lanes[0]["config"]["data.sigma_p"] = 3.0
    changed(run / "status.json", lanes=lanes)
    return "the lanes in status.json are not those that the run wrote"


def kill(run):
    changed(run / "status.json", state="running")
    return "This run was killed"


DAMAGE = (
    lose_arrays, lose_rows, change_a_number, change_the_config, change_a_lane, change_a_checkpoint,
    lose_a_checkpoint_s_record, kill,
)  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_what_a_run_lacks_is_said_on_every_page_and_beside_its_tables(damage, pair, capsys):
    sentence = damage(pair / "bad")
    status, err, page = compared(pair, capsys)
    assert status == 0
    assert f"note: bad: {'' if damage is kill else 'Damaged: '}" in err
    assert sentence in err
    assert sentence in page
    assert commands.main(["export", str(pair / "bad"), f"--out={pair / 'tables'}"]) == 0
    assert sentence in capsys.readouterr().err
    assert sentence in write_collection(pair).read_text()


def test_claims_beside_each_other_are_those_of_the_files_and_not_of_an_older_report(pair, capsys):
    _, _, wanted = compared(pair, capsys)
    entries = json.loads((pair / "bad" / "claims.json").read_text())
    (pair / "bad" / "claims.json").write_text(json.dumps([entry | {"measured": "1000"} for entry in entries]))
    assert compared(pair, capsys)[2] == wanted
    (pair / "bad" / "claims.json").unlink()
    assert compared(pair, capsys)[2] == wanted


BAD_ROWS = {
    "of no lane": {"lane": 99},
    "of another arm": {"arm": "large"},
    "beyond the end": {"step": 10**9},
    "a word": {"loss": "x"},
    "a list": {"loss": [1.0]},
    "a huge number": {"loss": 10**400},
    "another swept value": {"e": 3.5},
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_row_that_is_none_of_this_run_is_left_out_and_said(case, pair, capsys):
    path = pair / "bad" / "metrics.jsonl"
    lines = path.read_text().splitlines()
    place = next(number for number, line in enumerate(lines) if "e" in json.loads(line))
    lines[place] = json.dumps(json.loads(lines[place]) | BAD_ROWS[case])
    path.write_text("\n".join(lines) + "\n")
    run = load_run(pair / "bad")
    assert run.gaps[0] == f"metrics.jsonl has a line that is no row: line {place + 1}"
    assert len(run.metrics) == len(lines) - 1
    assert commands.main(["export", str(pair / "bad"), "--table=metrics", f"--out={pair / 'tables'}"]) == 0


@pytest.mark.parametrize(("key", "value"), [("e", 0.7), ("seed", 4), ("steps", 100), ("learning_rate", 0.3)])
def test_a_lane_that_contradicts_its_config_is_refused(key, value, pair):
    path = pair / "bad" / "status.json"
    lanes = json.loads(path.read_text())["lanes"]
    changed(path, lanes=[lanes[0] | {key: value}, *lanes[1:]], seal=None)
    with pytest.raises(LrjaxError, match=rf"bad/status.json is damaged \(lane 0 has .*{key}={value}, and its config"):
        load_run(pair / "bad")


def test_a_lane_ended_as_its_checkpoint_says_and_another_word_of_status_is_said(pair):
    path = pair / "bad" / "status.json"
    lanes = json.loads(path.read_text())["lanes"]
    changed(path, lanes=[lanes[0] | {"diverged_at": 7}, *lanes[1:]], seal=None, sum=None)
    run = load_run(pair / "bad")
    assert run.gaps == ("status.json has another diverged_at of lane 0 than ckpt",)
    assert run.lanes == load_run(pair / "good").lanes


def test_a_checkpoint_with_another_record_is_not_gone_on_from(pair, capsys):
    change_a_checkpoint(pair / "bad")
    folder = pair / "bad" / "ckpt" / "block-000"
    first = min(folder.iterdir(), key=lambda path: path.name)
    for path in folder.iterdir():
        if path != first:
            shutil.rmtree(path)
    assert Checkpoints(folder).restore() is None
    assert "its record is not the one that was written" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["config.json", "status.json"])
def test_a_folder_names_a_run_that_lost_a_file(name, pair):
    (pair / "bad" / name).unlink()
    page = write_collection(pair).read_text()
    assert "2 runs" in page
    assert f"bad/{name} is missing" in page


def test_a_folder_makes_claims_that_are_lost_again_or_says_so(pair):
    (pair / "bad" / "claims.json").unlink()
    changed(pair / "good" / "status.json", state="preempted")
    (pair / "good" / "claims.json").unlink()
    page = write_collection(pair).read_text()
    assert (pair / "bad" / "claims.json").exists()
    assert "good/claims.json is missing" in page


@pytest.mark.parametrize("content", ["garbage", "{}", "[3]", '[{"verdict": "true"}]', "null"])
def test_a_folder_names_claims_that_are_damaged_and_shows_the_rest(content, pair):
    (pair / "bad" / "claims.json").write_text(content)
    page = write_collection(pair).read_text()
    assert "bad/claims.json is damaged" in page
    assert "inconclusive" in page


def test_a_folder_has_no_report_written_into_a_run_that_is_a_link(pair, tmp_path_factory):
    (pair / "bad" / "report.html").unlink()
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "one").symlink_to(pair / "bad")
    write_collection(folder)
    assert not (pair / "bad" / "report.html").exists()


def test_a_folder_shows_a_damaged_run_as_such(pair):
    (pair / "bad" / "status.json").write_text("[]")
    page = write_collection(pair).read_text()
    assert "1 damaged" in page
    assert "status.json is damaged" in page


@pytest.mark.parametrize(
    ("name", "content"),
    [("status.json", "[]"), ("status.json", "{}"), ("status.json", '{"lanes": [], "blocks": [[7]]}'),
     ("config.json", "null"), ("config.json", '{"probes": 3}'), ("config.json", "{")],
)  # fmt: skip
def test_curvature_of_a_damaged_run_is_refused_by_the_name_of_the_file(name, content, pair):
    (pair / "bad" / name).write_text(content)
    with pytest.raises(LrjaxError, match=f"bad.*{name} is"):
        open_run(pair / "bad")


def test_a_comparison_only_reads_the_runs(pair):
    before = sorted(path for name in ("bad", "good") for path in (pair / name).rglob("*"))
    write_comparison([pair / "bad", pair / "good"], pair / "page.html")
    assert sorted(path for name in ("bad", "good") for path in (pair / name).rglob("*")) == before
