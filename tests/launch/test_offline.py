"""Jobs for a machine without internet: the bundle, its parts, what runs there."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import types
from importlib import metadata
from pathlib import Path

import pytest

from launch import jobs, local, node, offline, unpack, wheels
from launch.local import Job
from lrjax import commands
from lrjax.errors import LrjaxError
from lrjax.experiment.rundir import archives, workdirs
from tests.runs import CLEAR, REPOSITORY, assert_same_run, environment

SLOW = "tests/launch/offline_config.py:tiny,scale=smoke"
QUIET = {"say": lambda line: None}


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
    now, log = [0.0], tmp_path / "logs" / "deaf.log"

    def sleep(seconds):  # time stands still until the job has begun, however slow the machine is
        time.sleep(seconds)
        now[0] += seconds if log.exists() and log.stat().st_size else 0.0

    monkeypatch.setattr(local, "time", types.SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    found = local.run([deaf, deaf._replace(name="later")], tmp_path / "logs", until=2.0, **QUIET)
    assert found == {"deaf": "stopped", "later": "stopped"}
    assert now[0] > 2.0
    assert log.read_text() == "--time_limit=2s\n"
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


@pytest.mark.parametrize("source", ["{sets}/pets", "../sets/pets", "pets/../../sets/pets", "."])
def test_a_data_set_that_lies_outside_of_the_folder_of_data_sets_is_refused(source, tmp_path):
    sets = tmp_path / "sets"
    (sets / "pets" / "train").mkdir(parents=True)

    def of(source):
        own = {"data_dir": str(sets), "data.format": "folder", "data.source": source}
        return needs("configs/break_even.py:E7_densenet,scale=smoke", **own)[0]

    with pytest.raises(LrjaxError, match="is no folder in data_dir; give one that is"):
        of(source.format(sets=sets))
    assert of("pets/train").data == {"pets/train": sets / "pets" / "train"}


@pytest.mark.parametrize("place", ["../outside", "{tmp}/outside", "data/../../outside", ".", None])
def test_a_bundle_whose_archive_has_its_place_outside_is_refused_and_nothing_is_removed(place, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "mine").write_text("mine")
    (tmp_path / "work").mkdir()
    record = archives.write(tmp_path, "a.tar", archives.members_of(tmp_path / "outside"), 10_000)
    with pytest.raises(LrjaxError, match="bundle.json names .*, which lies outside of its folder"):
        unpack.place(tmp_path, record | {"place": place and place.format(tmp=tmp_path)}, tmp_path / "work")
    assert (tmp_path / "outside" / "mine").read_text() == "mine"
    assert not any((tmp_path / "work").iterdir())
    assert unpack.place(tmp_path, record | {"place": "data/pets"}, tmp_path / "work")
    assert (tmp_path / "work" / "data" / "pets" / "mine").is_file()


@pytest.mark.parametrize("flags", [[], ["--dry_run"]])
@pytest.mark.parametrize("where", ["data set", "--include"])
def test_a_link_in_a_data_set_or_an_included_folder_is_refused(where, flags, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "link").symlink_to(tmp_path)
    include = ["--include=mine"] if where == "--include" else []
    if not include:
        monkeypatch.setattr(offline, "needs_of", lambda job: offline.Needs("", {}, {"mine": Path("mine")}, False))
    monkeypatch.setattr(wheels, "download", lambda *arguments, **named: pytest.fail("it was refused too late"))
    command = [f"--config={CLEAR}", "--target=offline", "--bundle=bundle", *include, *flags]
    assert jobs.main(command) == 1
    assert capsys.readouterr().err.startswith("error: mine/link is a link, which is not packed")


def test_of_settings_of_ones_own_those_of_xla_stay_and_folders_are_the_bundles(tmp_path, monkeypatch):
    for name in ("TFDS_DATA_DIR", "XLA_PYTHON_CLIENT_MEM_FRACTION"):
        monkeypatch.setenv(name, "0.3")
    made = node.settings(tmp_path, 3)
    assert made["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.3"
    assert made["TFDS_DATA_DIR"] == str(tmp_path / "data")


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


@pytest.mark.parametrize(
    "flag", ["--part_size=many", "--out_size=0", "--budget=soon", "--parallel=0", "--out=/dev/null"]
)
def test_run_py_refuses_a_bad_flag_before_anything_is_set_up(flag, bundle):
    folder, _ = bundle(f"--python={sys.version_info.major}.{sys.version_info.minor}")
    status, out, err = run_py(folder, flag)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("error: ")
    assert flag in err or "give another --out" in err
    assert not (folder / "work" / "venv").exists()


BAD = {
    "no folder": ([], "--target=offline needs --bundle"),
    "no size": (["--bundle=x", "--part_size=many"], "--part_size=many is no size"),
    "no time": (["--bundle=x", "--budget=soon"], "--budget=soon is no time"),
    "several hosts": (["--bundle=x", "--hosts=2"], "leave --hosts out"),
    "a folder of something else": (["--bundle=lrjax"], "lrjax is not empty and no bundle"),
    "a file": (["--bundle=README.md"], "README.md is a file"),
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
    """In an empty environment: all packages are wheels of the bundle, in the versions that are here."""
    if subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode:
        pytest.skip("unshare -rn is not allowed here, so there is no machine without a network to try it on")
    monkeypatch.chdir(REPOSITORY)
    bundle, root, version = tmp_path / "bundle", tmp_path / "sweep", "{}.{}".format(*sys.version_info)
    same = [f"--also={name}=={metadata.version(name)}" for name in ("jax", "jaxlib", "numpy")]
    command = [f"--config={SLOW}", f"--workdir={root}", "--target=offline", f"--bundle={bundle}", f"--python={version}"]
    assert jobs.main([*command, *same, "--part_size=60M", "--plain_process"]) == 0, capsys.readouterr().err
    assert max(path.stat().st_size for path in bundle.iterdir()) <= 60_000_000
    there = Path(shutil.move(bundle, tmp_path / "there"))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "empty"], check=True)
    bits = {key: value for key, value in os.environ.items() if key.startswith(("OPENBLAS_", "OMP_"))}  # of NumPy's data
    alone = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PIP_NO_INDEX": "1", "JAX_PLATFORMS": "cpu"} | bits
    python = ["unshare", "-rn", tmp_path / "empty" / "bin" / "python", there / "run.py"]

    def run_there(budget, slowly):
        words = [*python, f"--budget={budget}", "--part_size=30K"]
        done = subprocess.run(words, env=alone | {"SLOWLY": slowly}, capture_output=True, text=True, timeout=1500)
        assert done.returncode == 75, done.stdout + done.stderr
        return float(re.search(r"set up in (\d+) s", done.stdout)[1])

    setup = run_there("1s", "0")  # starts nothing
    run_there(f"{90 + 3 * setup:.0f}s", "12")
    results = there / "results"
    assert max(path.stat().st_size for path in results.glob("*.tar.gz.*")) <= 30_000
    assert commands.main(["import", str(results), f"--runs={tmp_path / 'runs'}"]) == 0
    ((name, _),) = json.loads((results / "results.json").read_text())["jobs"].items()
    place = tmp_path / "runs" / "sweep" / name
    assert "it goes on with: lrjax run" in capsys.readouterr().out
    assert json.loads((place / "status.json").read_text())["state"] == "preempted"
    # The tests' own settings of XLA, which conftest makes, were not those of the machine.
    here = {key: value for key, value in environment().items() if key not in ("NPROC", "XLA_FLAGS")}
    for workdir in (place, tmp_path / "uncut"):
        words = [sys.executable, "-m", "lrjax", "run", SLOW, f"--workdir={workdir}", "--plain_process"]
        done = subprocess.run(words, env=here, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert ("going on with" in done.stdout) == (workdir == place)
    assert_same_run(place, tmp_path / "uncut")
    assert "code has changed" not in done.stderr
