"""Jobs for a machine without internet: the bundle, its parts, what runs there, and what is taken back."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest

import lrjax
from launch import jobs, local, node, offline, wheels
from launch.local import Job
from lrjax import commands
from lrjax.errors import LrjaxError
from lrjax.experiment.rundir import archives, workdirs
from lrjax.experiment.rundir.travel import arrive, members_of_run
from tests.runs import CLEAR, REPOSITORY, assert_same_run, environment, tiny

SLOW = "tests/launch/offline_config.py:tiny,scale=smoke"
QUIET = {"say": lambda line: None}


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def content(tmp_path):
    """A folder of files, some of them larger than a part."""
    folder = tmp_path / "content"
    (folder / "deep").mkdir(parents=True)
    for number, size in enumerate((0, 10, 5000, 30_000)):
        (folder / "deep" / f"{number}").write_bytes(os.urandom(size))
    (folder / "top").write_text("text\n" * 100)
    return folder


@pytest.mark.parametrize("compressed", [False, True])
def test_parts_have_their_size_and_join_to_the_same_files(compressed, content, tmp_path):
    members = list(archives.members_of(content))
    record = archives.write(tmp_path, "a.tar", members, 7000, compressed=compressed)
    sizes = [(tmp_path / part["name"]).stat().st_size for part in record["parts"]]
    assert len(sizes) > 4
    assert max(sizes) <= 7000
    archives.unpack(tmp_path, record, tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(content)
    if compressed:
        assert archives.size_of(members) == sum(sizes)


DAMAGE = {
    "a bit": (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"~"), "its checksum is another one"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "it has 6999 bytes, not 7000"),
    "missing": (lambda path: path.unlink(), "is missing, a part of a.tar"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_part_is_named_and_nothing_is_unpacked(damage, content, tmp_path):
    spoil, sentence = DAMAGE[damage]
    record = archives.write(tmp_path, "a.tar", archives.members_of(content), 7000)
    spoil(tmp_path / "a.tar.001")
    with pytest.raises(LrjaxError, match=sentence) as refused:
        archives.unpack(tmp_path, record, tmp_path / "out")
    assert "a.tar.001" in str(refused.value)
    assert not (tmp_path / "out").exists()


def tar_of(*members):
    """A tar file of (name, type, target of a link)."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, kind, target in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, target, 4 if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(b"evil"))
    stream.seek(0)
    return stream


FILE = tarfile.REGTYPE
EVIL = {
    "above": ([("../evil", FILE, "")], "lies outside"),
    "deep above": ([("a/../../evil", FILE, "")], "lies outside"),
    "absolute": ([("/tmp/evil", FILE, "")], "lies outside"),
    "a link": ([("a", tarfile.SYMTYPE, "/tmp"), ("a/evil", FILE, "")], "a link or a device"),
    "a hard link": ([("a", tarfile.LNKTYPE, "/etc/passwd")], "a link or a device"),
    "a pipe": ([("a", tarfile.FIFOTYPE, "")], "a link or a device"),
    "twice": ([("a", FILE, ""), ("a", FILE, "")], "twice"),
    "too much": ([(str(number), FILE, "") for number in range(6)], "more than its record says"),
}


@pytest.mark.parametrize("evil", EVIL)
def test_an_archive_writes_nothing_outside_of_its_folder(evil, tmp_path):
    members, sentence = EVIL[evil]
    with pytest.raises(LrjaxError, match=sentence):
        archives.extract(tar_of(*members), "it", tmp_path / "out", 20)
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
    assert not Path("/tmp/evil").exists()


def test_sizes_are_read_and_others_refused():
    assert archives.to_bytes("1.5G", "--x") == 1_500_000_000
    with pytest.raises(LrjaxError, match="--part_size=large is no size; write, say, 500K, 60M or 1G"):
        archives.to_bytes("large", "--part_size")


def test_platforms_are_those_of_every_older_glibc():
    tags = wheels.platforms("manylinux_2_28_x86_64")
    assert tags[0] == "manylinux_2_28_x86_64"
    assert {"manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux1_x86_64"} <= set(tags)
    assert wheels.platforms("manylinux2014_aarch64")[:2] == ["manylinux_2_17_aarch64", "manylinux2014_aarch64"]


def test_what_a_machine_has_and_what_that_needs_is_left_out():
    resolved = [
        {"name": "flax", "version": "1", "requires_dist": ["Orbax_Checkpoint>=1", 'tqdm; extra == "testing"']},
        {"name": "orbax-checkpoint", "version": "2", "requires_dist": ["numpy>=2"]},
        *({"name": name, "version": "3"} for name in ("numpy", "tqdm")),
    ]
    assert wheels.lacking(resolved, ["flax"]) == {"tqdm": "3"}
    with pytest.raises(LrjaxError, match="--has=flaxx: lrjax needs no such package"):
        wheels.lacking(resolved, ["flaxx"])


def test_a_queue_ends_within_its_time_and_tells_jobs_how_much_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "LEAST_S", 1.0)
    monkeypatch.setattr(local, "SAVE_S", 0.4)
    deaf = Job(
        "deaf", ("sh", "-c", 'trap "" TERM; echo "$1" >&2; while :; do sleep 0.1; done', "sh"), tmp_path / "a", {}
    )
    began = time.monotonic()
    found = local.run([deaf, deaf._replace(name="later")], tmp_path / "logs", until=began + 2, **QUIET)
    assert found == {"deaf": "stopped", "later": "stopped"}
    assert 1.8 < time.monotonic() - began < 6
    assert (tmp_path / "logs" / "deaf.log").read_text() == "--time_limit=2s\n"
    assert not (tmp_path / "logs" / "later.log").exists()


def needs(spec, **overrides):
    (job,) = jobs.jobs_of([spec], Path("x"), overrides, {})
    return offline.needs_of(job), job


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    """Two data sets, of which the jobs read one."""
    for name in ("cifar10/3.0.2", "cifar10/3.0.1", "tiny_imagenet32/1.0.0"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "dataset_info.json").write_text('{"fileFormat": "array_record"}')
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def test_a_bundle_has_the_data_sets_that_its_jobs_name_alone(data_dir):
    found, job = needs("configs/break_even.py:E1,scale=smoke")
    assert found.data == {"cifar10/3.0.2": data_dir / "cifar10/3.0.2"}
    assert not found.moved
    assert offline.command_there(job, found) == list(job.command[:-1])
    assert needs(CLEAR)[0].data == {}


def test_a_job_with_a_folder_of_data_sets_is_given_the_one_there(data_dir, monkeypatch):
    monkeypatch.delenv("TFDS_DATA_DIR")
    found, job = needs("configs/break_even.py:E1,scale=smoke", data_dir=str(data_dir))
    assert found.moved
    assert not any(word.startswith("--config.data_dir") for word in offline.command_there(job, found))


def test_a_data_set_that_is_not_here_is_refused_with_how_to_prepare_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(LrjaxError, match="no cifar10 in array_record format under"):
        needs("configs/break_even.py:E1,scale=smoke")


def test_a_config_of_ones_own_goes_with_its_neighbours():
    found, _ = needs(SLOW)
    assert found.config == SLOW
    assert {"tests/launch/offline_config.py", "tests/launch/sweep_config.py"} <= set(found.files)
    assert needs(CLEAR)[0].files == {}


def test_packed_sources_say_the_commit_that_they_were_packed_from(tmp_path, monkeypatch):
    package = tmp_path / "lrjax" / "experiment" / "rundir"
    package.mkdir(parents=True)
    (package / "workdirs.py").write_text("")
    monkeypatch.setattr(workdirs, "__file__", str(package / "workdirs.py"))
    code = workdirs.code_state()["code"]
    for stated, commit in ((code, "abc"), ("another", None)):
        (tmp_path / workdirs.PACKED).write_text(json.dumps({"code": stated, "commit": "abc", "changed": False}))
        assert workdirs.code_state()["commit"] == commit


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished run, and the same one cut off at its first checkpoint."""
    root = tmp_path_factory.mktemp("runs")
    config = tiny({"steps": 200, "arms.small_rate": None, "arms.time_matched": None})
    lrjax.run(config, root / "done")
    with pytest.raises(lrjax.experiment.loop.stopping.Preempted):
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


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """Makes a bundle of one job, with a file in place of wheels; gives (folder, calls of the registry)."""
    calls = []

    def download(folder, wanted, **asked):
        calls.append(asked)
        (folder / "thing-1.0-py3-none-any.whl").write_bytes(os.urandom(3_000_000))

    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(wheels, "download", download)

    def make(*flags):
        command = [
            f"--config={CLEAR}",
            "--target=offline",
            f"--bundle={tmp_path / 'bundle'}",
            f"--workdir={tmp_path}/w",
        ]
        assert jobs.main([*command, "--part_size=2M", *flags]) == 0
        return tmp_path / "bundle", calls

    return make


def test_a_bundle_has_parts_of_its_size_and_keeps_wheels_that_it_has(bundle, capsys):
    folder, calls = bundle("--has=jax,flax", f"--python={sys.version_info.major}.{sys.version_info.minor}")
    assert max(path.stat().st_size for path in folder.iterdir()) <= 2_000_000
    assert {"run.py", "bundle.json", "source.zip", "wheels.tar.000", "wheels.tar.001"} == set(os.listdir(folder))
    assert calls[0]["has"] == ["jax", "flax"]
    before = (folder / "wheels.tar.000").read_bytes()
    bundle("--has=jax,flax", f"--python={sys.version_info.major}.{sys.version_info.minor}")
    assert len(calls) == 1
    bundle("--has=jax")
    assert len(calls) == 2
    assert (folder / "wheels.tar.000").read_bytes() != before
    assert capsys.readouterr().out.count("there: python run.py") == 3


def run_py(folder, *flags):
    done = subprocess.run([sys.executable, folder / "run.py", *flags], capture_output=True, text=True, cwd=folder)
    return done.returncode, done.stdout, done.stderr


def test_a_bundle_unpacks_what_is_there_and_names_what_is_damaged(bundle, tmp_path):
    folder, _ = bundle("--python=3.9")
    (folder / "wheels.tar.001").rename(tmp_path / "aside")
    status, _, err = run_py(folder, "--unpack")
    assert (status, err.count("\n")) == (1, 1)
    assert "wheels.tar.001 is missing, a part of wheels.tar" in err
    (tmp_path / "aside").rename(folder / "wheels.tar.001")
    assert run_py(folder, "--unpack")[1] == f"unpacked to {folder}/work\n"
    for path in folder.glob("wheels.tar.*"):
        path.unlink()  # they may go: they are unpacked
    assert "and the bundle was made for Python 3.9" in run_py(folder)[2]
    (folder / "source.zip").write_bytes(b"")
    assert run_py(folder)[2] == "error: bundle.json or source.zip is missing or damaged; copy it again\n"


BAD = {
    "no folder": ([], "--target=offline needs --bundle"),
    "no size": (["--bundle=x", "--part_size=many"], "--part_size=many is no size"),
    "no time": (["--bundle=x", "--budget=soon"], "--budget=soon is no time"),
    "several hosts": (["--bundle=x", "--hosts=2"], "leave --hosts out"),
    "a folder of something else": (["--bundle=lrjax"], "lrjax is not empty and no bundle"),
    "a missing file": (
        ["--bundle=x", "--include=no-such"],
        "--include=no-such: there is no such file",
    ),
}


@pytest.mark.parametrize(("flags", "sentence"), BAD.values(), ids=BAD)
def test_bad_flags_end_in_one_sentence(flags, sentence, capsys, monkeypatch):
    monkeypatch.setattr(wheels, "download", lambda *arguments, **named: None)
    assert jobs.main([f"--config={CLEAR}", "--target=offline", *flags]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert sentence in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_a_bundle_runs_without_a_network_is_cut_off_and_goes_on_here_bit_equal(tmp_path, monkeypatch, capsys):
    """In an empty environment: all packages are wheels of the bundle."""
    if subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode:
        pytest.skip("unshare -rn is not allowed here, so there is no machine without a network to try it on")
    monkeypatch.chdir(REPOSITORY)
    bundle, root, version = tmp_path / "bundle", tmp_path / "sweep", "{}.{}".format(*sys.version_info)
    command = [f"--config={SLOW}", f"--workdir={root}", "--target=offline", f"--bundle={bundle}", f"--python={version}"]
    if jobs.main([*command, "--part_size=60M", "--plain_process"]) != 0:
        pytest.skip(f"no package registry: {capsys.readouterr().err}")
    assert max(path.stat().st_size for path in bundle.iterdir()) <= 60_000_000
    there = Path(shutil.move(bundle, tmp_path / "there"))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "empty"], check=True)
    alone = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PIP_NO_INDEX": "1", "JAX_PLATFORMS": "cpu"}
    python = ["unshare", "-rn", tmp_path / "empty" / "bin" / "python", there / "run.py"]

    def run_there(budget, slowly):
        words = [*python, f"--budget={budget}", "--part_size=30K"]
        done = subprocess.run(words, env=alone | {"SLOWLY": slowly}, capture_output=True, text=True, timeout=560)
        assert done.returncode == 75, done.stdout + done.stderr
        return float(re.search(r"set up in (\d+) s", done.stdout)[1])

    setup = run_there("1s", "0")  # starts nothing
    run_there(f"{120 + 4 * setup:.0f}s", "40")
    results = there / "results"
    assert max(path.stat().st_size for path in results.glob("*.tar.gz.*")) <= 30_000
    assert commands.main(["import", str(results), f"--runs={tmp_path / 'runs'}"]) == 0
    ((name, _),) = json.loads((results / "results.json").read_text())["jobs"].items()
    place = tmp_path / "runs" / "sweep" / name
    assert "it goes on with: lrjax run" in capsys.readouterr().out
    assert json.loads((place / "status.json").read_text())["state"] == "preempted"
    for workdir in (place, tmp_path / "uncut"):
        words = [sys.executable, "-m", "lrjax", "run", SLOW, f"--workdir={workdir}", "--plain_process"]
        done = subprocess.run(words, env=environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert ("going on with" in done.stdout) == (workdir == place)
    assert_same_run(place, tmp_path / "uncut")
    assert "code has changed" not in done.stderr
