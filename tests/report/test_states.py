"""Every state of a run has a report that names what is missing; nothing is written outside of the run directory."""

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

import lrjax
from lrjax.errors import LrjaxError
from lrjax.experiment.config.load import load_config
from lrjax.experiment.loop import run_block
from lrjax.experiment.rundir import workdirs
from lrjax.experiment.rundir.metrics import load_run
from lrjax.papers.claim import NOT_JUDGED
from lrjax.report import __main__, write_report
from lrjax.report.collection import write_collection
from tests.report import corruption
from tests.runs import tiny

HEAVY = "configs/benign_osc.py:CLEAR,scale=small"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run at scale small with its report, and its verdicts."""
    folder = tmp_path_factory.mktemp("states") / "run"
    return folder, corruption.whole(folder, "done")


@pytest.fixture
def run(finished, tmp_path):
    return Path(shutil.copytree(finished[0], tmp_path / "run"))


def changed_status(run, **changes):
    status = json.loads((run / "status.json").read_text()) | {"sum": None}  # as if the run itself had written it so
    (run / "status.json").write_text(json.dumps({k: v for k, v in (status | changes).items() if v is not None}))


def said(folder, capsys):
    """The one line on stderr of a report that is refused."""
    capsys.readouterr()
    assert __main__.main([str(folder)]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "cannot be judged" not in err
    return err


def verdict_of(run):
    return {key: verdict for key, (verdict, _) in corruption.verdicts(run).items()}


def test_the_run_of_these_tests_decides_claims(finished):
    assert {"supported", "contradicted"} & {verdict for verdict, _ in finished[1].values()}


@pytest.mark.parametrize("experiment", ["benign_osc.py:phase", "lr_decay.py:L5"])
def test_a_run_without_any_data_yet_has_a_report(experiment, tmp_path):
    config = load_config(f"configs/{experiment},scale=smoke")
    with workdirs.opened(tmp_path, config) as status:
        lane = {"lane": 0, "arm": "main", "seed": 0, "values": {}, "steps": 100, "learning_rate": 0.1, "e": 1.1}
        (tmp_path / "status.json").write_text(json.dumps(status | {"lanes": [lane], "blocks": [[0]]}))
        entries = write_report(tmp_path)
        page = (tmp_path / "report.html").read_text()
    assert "This run is going on" in page
    assert all(entry["verdict"] == NOT_JUDGED for entry in entries)


@pytest.mark.usefixtures("sketched")
def test_a_killed_run_is_told_from_one_that_goes_on_by_its_lock(run, capsys):
    changed_status(run, state="running")
    assert __main__.main([str(run)]) == 0
    assert "This run was killed" in capsys.readouterr().err
    assert "not finished (state: killed)" in (run / "report.html").read_text()


@pytest.mark.usefixtures("sketched")
def test_a_run_that_goes_on_or_was_preempted_judges_what_is_whole_and_says_where_the_rest_is(tmp_path):
    reference = corruption.whole(tmp_path / "run", "preempted")
    assert NOT_JUDGED in {verdict for verdict, _ in reference.values()}
    assert any("the run was preempted" in measured and "is at step" in measured for _, measured in reference.values())
    assert "This run was preempted" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.usefixtures("sketched")
def test_a_failed_run_says_why_on_the_page_and_at_the_terminal(tmp_path, capsys, monkeypatch):
    def fails(*arguments):
        raise OSError("the device is on fire")

    monkeypatch.setattr(run_block, "_write_chunk", fails)
    with pytest.raises(OSError, match="on fire"):
        lrjax.run(tiny(), tmp_path / "run")
    assert __main__.main([str(tmp_path / "run")]) == 0
    err = capsys.readouterr().err
    page = (tmp_path / "run" / "report.html").read_text()
    for text in (err, page):
        assert "This run failed: OSError: the device is on fire" in text
    assert "probe was off" not in page


def test_a_lost_array_file_in_the_middle_is_named_and_shifts_nothing(finished, run, capsys):
    whole, before = load_run(finished[0]), finished[1]
    lost = sorted((run / "arrays").glob("block-000-*.npz"))[1]
    lost.unlink()
    broken = load_run(run)
    assert broken.gaps == (f"arrays/{lost.name} is missing",)
    members = broken.status["blocks"][0]
    assert sorted(broken.missing) == sorted(members)
    for index in members:
        own, other = broken.arrays[index]["step/loss"], whole.arrays[index]["step/loss"]
        assert own.tobytes() == other[: len(own)].tobytes()
    assert __main__.main([str(run)]) == 0
    assert lost.name in capsys.readouterr().err
    assert lost.name in (run / "report.html").read_text()
    after = corruption.verdicts(run)
    assert NOT_JUDGED in {verdict for verdict, _ in after.values()}
    assert all(after[key] == before[key] for key in after if after[key][0] != NOT_JUDGED)


@pytest.mark.usefixtures("sketched")
@pytest.mark.parametrize("key", ["wall_time_s", "command", "commit"])
def test_a_status_that_is_not_the_one_that_was_written_is_named(key, run, capsys):
    status = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps(status | {key: None}))
    write_report(run)
    assert "status.json is not the file that the run wrote" in (run / "report.html").read_text()
    page = write_collection(run.parent).read_text()
    assert "run/status.json is not the file that the run wrote" in page


def test_a_lost_array_file_of_a_run_without_an_account_is_named_by_the_steps_of_its_neighbours(run):
    changed_status(run, arrays=None, bytes=None)
    shutil.rmtree(run / "ckpt")
    lost = sorted((run / "arrays").glob("block-000-*.npz"))[1]
    lost.unlink()
    assert load_run(run).gaps == (f"arrays/{lost.name} is missing",)


@pytest.mark.slow
@pytest.mark.parametrize("block", ["block-000", "block-001"])
def test_going_on_after_a_lost_array_file_names_it(block, tmp_path):
    config = load_config(HEAVY, corruption.SETTINGS)
    corruption.whole(tmp_path / "run", "preempted")
    pieces = sorted((tmp_path / "run" / "arrays").glob(f"{block}-*.npz"))
    pieces[0].unlink()
    with pytest.raises(LrjaxError, match=rf"arrays/{pieces[0].name} is missing.*--fresh"):
        lrjax.run(config, tmp_path / "run")


@pytest.mark.slow
def test_a_diverged_arm_leaves_break_even_a_report(tmp_path, tfds_dir):
    overrides = {"arms.large_rate.optimizer.learning_rate": 1000.0, "data_dir": str(tfds_dir)}
    result = lrjax.run(load_config("configs/break_even.py:E3,scale=smoke", overrides), tmp_path / "run")
    assert any(lane["diverged_at"] is not None for lane in result.lanes)
    entries = write_report(tmp_path / "run")
    assert entries
    assert not {"supported"} & {entry["verdict"] for entry in entries}


DAMAGE = {
    "status.json is a list": ("status.json", "[]"),
    "status.json is empty": ("status.json", "{}"),
    "config.json is null": ("config.json", "null"),
    "config.json of nothing": ("config.json", "{}"),
    "status.json nested deeply": ("status.json", "[" * 100_000 + "]" * 100_000),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_json_file_is_named_in_one_sentence(case, run, capsys):
    name, text = DAMAGE[case]
    (run / name).write_text(text)
    assert f"{run}/{name}" in said(run, capsys)


def test_a_huge_json_file_is_named_and_not_read(run, capsys):
    with open(run / "status.json", "wb") as file:
        file.truncate(1 << 34)
    assert "status.json is damaged (it has more than 64 MiB)" in said(run, capsys)


def test_a_pipe_in_place_of_a_file_is_not_waited_for(run, capsys):
    (run / "status.json").unlink()
    os.mkfifo(run / "status.json")
    assert "status.json" in said(run, capsys)


@pytest.mark.usefixtures("sketched")
def test_a_cut_line_of_metrics_is_named(run, capsys):
    path = run / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    assert __main__.main([str(run)]) == 0
    assert "metrics.jsonl has" in capsys.readouterr().err


@pytest.mark.usefixtures("sketched")
def test_a_truncated_and_a_pickled_array_file_are_named_and_run_nothing(run, finished, tmp_path, capsys):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    first, second = sorted((run / "arrays").glob("block-*-000000100.npz"))[:2]
    first.write_bytes(first.read_bytes()[:500])
    np.savez(second, step__loss=np.array([Evil()], object))
    assert __main__.main([str(run)]) == 0
    err = capsys.readouterr().err
    assert first.name in err
    assert second.name in err
    second.write_bytes(pickle.dumps(Evil()))
    assert __main__.main([str(run)]) == 0
    assert not (tmp_path / "ran").exists()
    found = verdict_of(run)
    assert all(word in (NOT_JUDGED, finished[1][claim][0]) for claim, word in found.items())
    assert found["assumption_4"] == NOT_JUDGED  # of lanes that lie there


@pytest.mark.usefixtures("sketched")
def test_a_config_that_is_not_the_one_that_ran_decides_nothing(run):
    config = json.loads((run / "config.json").read_text())
    config["model"]["init_scale"] = 0.5
    (run / "config.json").write_text(json.dumps(config))
    write_report(run)
    assert set(verdict_of(run).values()) == {NOT_JUDGED}
    assert "config.json is not the config" in (run / "report.html").read_text()


LINKS = ("report.html", "claims.json", "observations.json", ".report.html.partial", ".claims.json.partial")


@pytest.mark.usefixtures("sketched")
def test_a_link_in_place_of_a_report_leads_nowhere(run, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    for name in LINKS:
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(precious)
    write_report(run)
    assert precious.read_text() == "mine"
    assert not (run / "report.html").is_symlink()


def test_a_link_in_place_of_figures_is_refused(run, tmp_path, capsys):
    shutil.rmtree(run / "figures")
    (tmp_path / "elsewhere").mkdir()
    (run / "figures").symlink_to(tmp_path / "elsewhere")
    assert "figures is a link" in said(run, capsys)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("name", ["arrays", "metrics.jsonl", "ckpt", ".lock"])
def test_a_run_writes_through_no_link(name, tmp_path):
    workdir, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    workdir.mkdir()
    config = tiny()
    with workdirs.opened(workdir, config):
        pass
    (workdir / name).unlink(missing_ok=True)
    (workdir / name).symlink_to(elsewhere)
    if name in ("arrays", "ckpt"):
        elsewhere.mkdir()
    with pytest.raises(LrjaxError, match=rf"{name} is a (symbolic )?link|cannot write to"):
        lrjax.run(config, workdir)
    assert not elsewhere.exists() or not list(elsewhere.iterdir())


@pytest.mark.parametrize("key", ["../outside", "/outside", "..", "", "a/b"])
def test_a_name_in_jobs_that_leads_out_of_the_folder_is_refused(key, run, tmp_path, capsys):
    folder = tmp_path / "sweep"
    shutil.copytree(run, tmp_path / "outside")
    (tmp_path / "outside" / "report.html").unlink()
    folder.mkdir()
    name = str(tmp_path / "outside") if key == "/outside" else key
    (folder / "jobs.json").write_text(json.dumps({name: {"values": {}}}))
    assert "jobs.json names" in said(folder, capsys)
    assert not (tmp_path / "outside" / "report.html").exists()


@pytest.mark.parametrize("content", ["[]", "null", '{"a": 3}', '{"a": {"values": []}}', "{"])
def test_jobs_of_the_wrong_shape_are_named(content, tmp_path, capsys):
    (tmp_path / "jobs.json").write_text(content)
    assert "jobs.json is damaged" in said(tmp_path, capsys)


def test_no_other_process_starts_over_while_a_report_is_written(run):
    with workdirs.undisturbed(run) as alone:
        assert alone
        with pytest.raises(LrjaxError, match="another process"):
            workdirs.start_over(run)
    assert (run / "config.json").exists()
