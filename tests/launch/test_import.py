"""Run directories that travel: what a node brings back, and how `lrjax import` gives each run its place."""

import io
import json
import os
import shutil
import tarfile
import threading
import types
from pathlib import Path

import pytest

import lrjax
from launch import node
from launch.local import Job
from lrjax import commands, files
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


def archives_of(folder):
    """The names of the files in all archives of some results."""
    names = []
    for record in json.loads((folder / node.RESULTS).read_text())["archives"]:
        whole = b"".join((folder / part["name"]).read_bytes() for part in record["parts"])
        with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
            names += tar.getnames()
    return names


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
def bring_back(runs, tmp_path):
    """Makes the results of a node where one job is done and one is not."""
    root, _ = runs
    work = tmp_path / "node"
    jobs_there = [Job(name, (), copy(root / name, work / "runs" / name), {"seed": 0}) for name in ("done", "cut")]
    jobs_there.append(Job("new", (), work / "runs" / "new", {}))
    (work / "records" / "done" / "paper-E1").mkdir(parents=True)
    (work / "records" / "done" / "paper-E1" / "claims.json").write_text("[]")
    (work / "logs").mkdir()
    (work / "logs" / "done.log").write_text("there")
    home = [
        "python",
        "-m",
        "lrjax.main",
        f"--config={CLEAR}",
        "--config.seed=0",
        "--workdir=elsewhere/NAME",
        "--plain_process",
    ]
    manifest = {"sweep": "mine-sweep", "jobs": {job.name: {"home": home, "values": job.values} for job in jobs_there}}
    found = {"done": "done", "cut": "stopped", "new": "stopped"}

    def make(out="results", out_size=None):
        flags = dict(part_size="20K", out_size=out_size, keep_checkpoints=False, out=tmp_path / out, work=work)
        node.bring_back(jobs_there, found, types.SimpleNamespace(**flags), manifest)
        return tmp_path / out

    return make


@pytest.fixture
def results(bring_back):
    """Those results, without a limit of their size."""
    return bring_back()


def test_results_are_in_parts_and_come_back_with_what_goes_on(results, runs, tmp_path, capsys):
    assert max(path.stat().st_size for path in results.glob("*.tar.gz.*")) <= 20_000
    place = tmp_path / "runs"
    assert commands.main(["import", str(results), f"--runs={place}"]) == 0
    root, (done, cut, new, page) = place / "mine-sweep", capsys.readouterr().out.splitlines()
    assert done == f"done: done: {root / 'done'}"
    goes_on = f"lrjax run --config={CLEAR} --config.seed=0 --plain_process --workdir={root}"
    assert cut == f"cut: not done; it goes on with: {goes_on}/cut"
    assert new == f"new: not done; it begins with: {goes_on}/new"
    assert page == f"all on one page: lrjax report {root}"
    assert not (root / "done" / "ckpt").exists()
    assert (root / "records" / "done" / "paper-E1" / "claims.json").is_file()
    remembered = json.loads((root / "jobs.json").read_text())
    assert list(remembered) == ["done", "cut", "new"]
    assert remembered["new"]["command"] == goes_on.replace("lrjax run", "python -m lrjax.main") + "/new"
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
    assert there.add("records", {"done": small, "new": []}) == set()
    assert there.add("done", {"done": list(members_of_run(runs[0] / "done", checkpoints=True))}) == {"done"}
    assert sum(path.stat().st_size for path in (tmp_path / "small").iterdir()) < 3000 < full


def test_results_of_any_size_that_is_asked_for_have_no_more_bytes_and_name_what_has_no_room(bring_back, results):
    full = sum(path.stat().st_size for path in results.iterdir())
    manifest = json.loads((results / node.RESULTS).read_text()) | {"archives": []}
    least = len(json.dumps(manifest, indent=1)) + 500  # for the sentences on what has no room
    seen = set()
    for number, size in enumerate([*range(least, full, (full - least) // 12), full + 5000]):
        out = bring_back(f"of-{number}", str(size))
        assert sum(path.stat().st_size for path in out.iterdir()) <= size
        content = archives_of(out)
        told = json.loads((out / node.RESULTS).read_text())["jobs"]
        for name, job in told.items():
            for kind, file in (("record", f"records/{name}/"), ("log", f"logs/{name}.log"), ("run", f"{name}/")):
                back = any(path.startswith(file) for path in content)
                there = any(path.startswith(file) for path in archives_of(results))
                assert (f"its {kind} has no room within --out_size" in job["said"]) == (there and not back)
            seen.add(job["said"])
    assert {"done", "stopped", "stopped; its run has no room within --out_size"} <= seen
    assert any("record has no room" in said for said in seen)


def test_small_files_with_headers_larger_than_they_are_stay_within_the_size_too(tmp_path):
    groups = {}
    for number in range(40):
        path = tmp_path / "content" / f"{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(os.urandom(20))
        groups[f"{number}"] = [archives.Member(os.urandom(60).hex(), path)]
    for room in (1500, 3000, 5000, 9000):
        there = node.Results(tmp_path / f"{room}", 10_000, room)
        left = there.add("all", groups)
        assert 0 < len(left) < 40
        assert sum(path.stat().st_size for path in (tmp_path / f"{room}").iterdir()) <= room


def test_what_had_no_room_is_named_where_it_is_missed(bring_back, results, tmp_path, capsys):
    small = bring_back("small", str((results / node.RESULTS).stat().st_size + 1500))
    assert commands.main(["import", str(small), f"--runs={tmp_path / 'runs'}"]) == 0
    done, cut, new, _ = capsys.readouterr().out.splitlines()
    record = tmp_path / "runs" / "mine-sweep" / "records" / "done"
    assert done == f"done: done, its record alone came back: {record} (its run has no room within --out_size)"
    assert cut.startswith("cut: not done (its run has no room within --out_size); it begins with: ")
    assert new.startswith("new: not done; it begins with: ")


def test_something_foreign_among_records_and_logs_is_left_out_alone(results, tmp_path, capsys):
    packed = tmp_path / "packed"
    manifest = json.loads((results / "results.json").read_text())
    for name in (
        "records/another/x",
        "records/done/paper-E1/claims.json",
        "logs/another.log",
        "logs/done.log",
        "cut",
        "x",
    ):
        (packed / name).parent.mkdir(parents=True, exist_ok=True)
        (packed / name).write_text("foreign")
    record = archives.write(results, "foreign.tar", archives.members_of(packed), 100_000)
    manifest["archives"] = [record, *(one for one in manifest["archives"] if one["name"] == "done.tar.gz")]
    (results / "results.json").write_text(json.dumps(manifest))
    assert commands.main(["import", str(results), f"--runs={tmp_path / 'runs'}"]) == 1
    err, root = capsys.readouterr().err.splitlines(), tmp_path / "runs" / "mine-sweep"
    assert len(err) == 4
    assert all(line.endswith("of this queue; it is left out") for line in err)
    assert (root / "records" / "done" / "paper-E1" / "claims.json").is_file()
    assert (root / "node-logs" / "done.log").is_file()
    assert {path.name for path in root.iterdir()} >= {"done", "records", "node-logs"}
    assert not (root / "cut").exists()


def unreadable(monkeypatch, module, name):
    """Makes the files of a name such that a module cannot open them, whoever runs the tests."""
    opened = getattr(module, "open", open)

    def refused(path, *arguments, **named):
        if str(path).endswith(name):
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments, **named)

    monkeypatch.setattr(module, "open", refused, raising=False)


@pytest.mark.parametrize(("name", "module"), [("results.json", os), ("done.tar.gz.000", files), ("all.tgz", archives)])
def test_results_that_cannot_be_read_are_not_blamed_on_the_runs(name, module, results, tmp_path, capsys, monkeypatch):
    path = results / name
    if name == "all.tgz":
        (path := tmp_path / name).touch()
    unreadable(monkeypatch, module, name)
    assert commands.main(["import", str(path), f"--runs={tmp_path / 'runs'}"]) == 1
    (err,) = capsys.readouterr().err.splitlines()
    assert err.startswith(f"error: cannot read {path} (Permission denied); copy it again")


def test_an_archive_beside_the_results_of_another_queue_is_itself_imported(results, tmp_path, capsys):
    with tarfile.open(tmp_path / "all.tgz", "w:gz") as tar:
        tar.add(results, "back")
    other = {"version": lrjax.__version__, "sweep": "another", "archives": [], "jobs": {}}
    for content in (json.dumps(other), "{"):
        (tmp_path / "results.json").write_text(content)
        assert commands.main(["import", str(tmp_path / "all.tgz"), f"--runs={tmp_path / 'runs'}"]) == 0
        assert f"lrjax report {tmp_path / 'runs' / 'mine-sweep'}" in capsys.readouterr().out
    assert not (tmp_path / "runs" / "another").exists()
    assert commands.main(["import", str(results / "done.tar.gz.000"), f"--runs={tmp_path / 'runs'}"]) == 0
