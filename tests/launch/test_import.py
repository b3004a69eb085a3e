"""Run directories that travel: what a node brings back, and how `lrjax import` gives each run its place."""

import json
import shutil
import tarfile
import threading
from pathlib import Path

import pytest

import lrjax
from launch import node
from launch.local import Job
from lrjax import commands
from lrjax.errors import LrjaxError
from lrjax.experiment.loop.stopping import Preempted
from lrjax.experiment.rundir import archives, workdirs
from lrjax.experiment.rundir.travel import arrive, members_of_run
from tests.runs import CLEAR, assert_same_run, tiny


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished run, and the same one cut off at its first checkpoint."""
    root = tmp_path_factory.mktemp("runs")
    config = tiny({"steps": 200, "arms.small_rate": None, "arms.time_matched": None})
    lrjax.run(config, root / "done")
    with pytest.raises(Preempted):
        lrjax.run(config, root / "cut", time_limit=0.01)
    return root, config


def copy(source, target):
    return Path(shutil.copytree(source, target))


def test_a_run_travels_with_its_newest_checkpoint_or_without(runs, tmp_path):
    root, config = runs
    for name, checkpoints in (("done", True), ("done", False), ("cut", True)):
        record = archives.write(tmp_path, "a", members_of_run(root / name, checkpoints=checkpoints), 1 << 20)
        out = tmp_path / f"{name}-{checkpoints}"
        archives.unpack(tmp_path, record, out)
        steps = [path.name for path in out.glob("ckpt/block-000/*")]
        assert len(steps) == checkpoints
        assert lrjax.load_run(out).gaps == ()
    assert_same_run(tmp_path / "done-True", root / "done")
    lrjax.run(config, tmp_path / "cut-True")
    assert_same_run(tmp_path / "cut-True", root / "done")


def test_a_run_that_is_as_far_or_further_stays(runs, tmp_path):
    root, _ = runs
    place = copy(root / "cut", tmp_path / "place")
    assert arrive(copy(root / "done", tmp_path / "in"), place)
    assert lrjax.load_run(place).status["state"] == "done"
    (place / "here").touch()
    assert not arrive(copy(root / "cut", tmp_path / "in"), place)
    assert not arrive(copy(root / "done", tmp_path / "again"), place)
    assert (place / "here").exists()


def test_another_run_a_stray_file_and_a_run_in_use_are_refused(runs, tmp_path):
    root, _ = runs
    place = copy(root / "cut", tmp_path / "place")
    other = copy(root / "done", tmp_path / "other")
    (other / "config.json").write_text((other / "config.json").read_text().replace('"steps": 200', '"steps": 201'))
    with pytest.raises(LrjaxError, match="holds a run of another config"):
        arrive(other, place)
    (other / "evil.py").touch()
    with pytest.raises(LrjaxError, match=r"other holds evil.py, which is no file of a run"):
        arrive(other, tmp_path / "new")
    with workdirs.locked(place):
        refusals = []

        def another():
            try:
                arrive(copy(root / "done", tmp_path / "in"), place)
            except LrjaxError as error:
                refusals.append(str(error))

        thread = threading.Thread(target=another)
        thread.start()
        thread.join()
    assert "another process is running in" in refusals[0]


@pytest.fixture
def results(runs, tmp_path):
    """The results of a node where one job is done and one is not."""
    root, _ = runs
    work = tmp_path / "node"
    jobs_there = [Job(name, (), copy(root / name, work / "runs" / name), {"seed": 0}) for name in ("done", "cut")]
    jobs_there.append(Job("new", (), work / "runs" / "new", {}))
    (work / "records" / "done" / "paper-E1").mkdir(parents=True)
    (work / "records" / "done" / "paper-E1" / "claims.json").write_text("[]")
    (work / "logs").mkdir()
    (work / "logs" / "done.log").write_text("there")
    home = ["python", "-m", "lrjax.main", f"--config={CLEAR}", "--config.seed=0", "--workdir=elsewhere/NAME"]
    manifest = {"sweep": "mine-sweep", "jobs": {job.name: {"home": home, "values": job.values} for job in jobs_there}}
    found = {"done": "done", "cut": "stopped", "new": "stopped"}

    class Flags:
        part_size, out_size, keep_checkpoints, out = "20K", None, False, tmp_path / "results"

    Flags.work = work
    node.bring_back(jobs_there, found, Flags, manifest)
    return Flags.out


def test_results_are_in_parts_and_come_back_with_what_goes_on(results, runs, tmp_path, capsys):
    assert max(path.stat().st_size for path in results.glob("*.tar.gz.*")) <= 20_000
    place = tmp_path / "runs"
    assert commands.main(["import", str(results), f"--runs={place}"]) == 0
    root, (done, cut, new, page) = place / "mine-sweep", capsys.readouterr().out.splitlines()
    assert done == f"done: done: {root / 'done'}"
    goes_on = f"lrjax run --config={CLEAR} --config.seed=0 --workdir={root}"
    assert cut == f"cut: not done; it goes on with: {goes_on}/cut"
    assert new == f"new: not done; it begins with: {goes_on}/new"
    assert page == f"all on one page: lrjax report {root}"
    assert not (root / "done" / "ckpt").exists()
    assert (root / "records" / "done" / "paper-E1" / "claims.json").is_file()
    assert list(json.loads((root / "jobs.json").read_text())) == ["done", "cut", "new"]
    lrjax.run(runs[1], root / "cut")
    assert_same_run(root / "cut", runs[0] / "done")
    assert commands.main(["import", str(results / "results.json"), f"--runs={place}"]) == 0
    assert "cut: done: " in (told := capsys.readouterr().out)
    assert told.count("the one here is as far or further, and stays") == 2
    assert not list(place.glob(".import-*"))


def test_results_of_another_version_are_taken_with_a_note_or_named(results, tmp_path, capsys):
    path = results / "results.json"
    manifest = json.loads(path.read_text())
    command = ["import", str(results), f"--runs={tmp_path / 'runs'}"]
    path.write_text(json.dumps(manifest | {"version": "9.9"}))
    assert commands.main(command) == 0
    assert capsys.readouterr().err.startswith("note: made by lrjax 9.9, and this is ")
    path.write_text(json.dumps(manifest | {"version": "9.9", "archives": {"in another": "way"}}))
    assert commands.main(command) == 1
    assert "it is of lrjax 9.9, and this is " in (err := capsys.readouterr().err)
    assert err.count("\n") == 1
    assert (tmp_path / "runs" / "mine-sweep" / "done" / "status.json").is_file()


def test_a_log_of_a_node_replaces_none_of_a_launcher_here(results, tmp_path):
    logs = tmp_path / "runs" / "mine-sweep" / "logs"
    logs.mkdir(parents=True)
    (logs / "done.log").write_text("here")
    assert commands.main(["import", str(results), f"--runs={tmp_path / 'runs'}"]) == 0
    assert (logs / "done.log").read_text() == "here"
    assert (logs.parent / "node-logs" / "done.log").read_text() == "there"


def test_damaged_results_of_an_earlier_start_do_not_cost_those_of_this_one(tmp_path):
    (tmp_path / "results.json").write_text("{")
    node.Results(tmp_path, 10_000, 3000)
    assert not (tmp_path / "results.json").exists()


def test_a_single_archive_of_the_results_is_taken_too(results, tmp_path, capsys):
    with tarfile.open(tmp_path / "all.tgz", "w:gz") as tar:
        tar.add(results, "back")
    assert commands.main(["import", str(tmp_path / "all.tgz"), f"--runs={tmp_path / 'runs'}"]) == 0
    assert (tmp_path / "runs" / "mine-sweep" / "done" / "status.json").is_file()


def test_a_damaged_part_of_the_results_is_named_and_the_rest_is_taken(results, tmp_path, capsys):
    (results / "unfinished.tar.gz.000").write_bytes(b"")
    assert commands.main(["import", str(results), f"--runs={tmp_path / 'runs'}"]) == 1
    out, err = capsys.readouterr()
    assert "error: " in err
    assert "unfinished.tar.gz.000 is damaged (it has 0 bytes" in err
    assert err.count("\n") == 1
    assert "done: done: " in out
    assert not (tmp_path / "runs" / "mine-sweep" / "cut").exists()


@pytest.mark.parametrize("name", ["../outside", "unknown"])
def test_results_that_name_something_else_are_refused(name, results, tmp_path, capsys):
    manifest = json.loads((results / "results.json").read_text())
    manifest["sweep"], manifest["jobs"] = ("s", manifest["jobs"]) if name == "unknown" else (name, manifest["jobs"])
    if name == "unknown":
        del manifest["jobs"]["done"]
    (results / "results.json").write_text(json.dumps(manifest))
    assert commands.main(["import", str(results), f"--runs={tmp_path / 'runs'}"]) == 1
    sentence = "no job of this queue" if name == "unknown" else "its jobs are not as they were written"
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "outside").exists()
    assert not (tmp_path / "runs" / "s" / "done").exists()


def test_what_has_no_room_is_left_out_and_the_records_are_not(results, runs, tmp_path):
    full = sum(path.stat().st_size for path in results.iterdir())
    there = node.Results(tmp_path / "small", 10_000, 3000)
    small = list(archives.members_of(tmp_path / "node" / "records"))
    assert there.add("records", {"records": small}) == {"records"}
    assert there.add("done", {"done": list(members_of_run(runs[0] / "done", checkpoints=True))}) == set()
    assert sum(path.stat().st_size for path in (tmp_path / "small").iterdir()) < 3000 < full
