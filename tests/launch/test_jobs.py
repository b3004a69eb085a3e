"""The command line of the launchers: every dry run word by word, what it leaves, and what bad input is told."""

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from launch import jobs
from launch.clusters import TARGETS
from tests.launch.launching import CONFIG, FLAGS, commands_in

GOLDEN = Path(__file__).parent / "golden"


def without_fingerprints(text):
    """The config's fingerprint is another one with every new config key."""
    return re.sub(r"-[0-9a-f]{10}\b", "-0123456789", text)


@pytest.mark.parametrize("target", FLAGS)
def test_the_dry_run_is_the_golden_one_and_writes_nothing(target, launch, monkeypatch):
    """A changed one: `python -m launch.jobs CONFIG --target=... --workdir=/runs/mine FLAGS --dry_run` with the values above."""
    monkeypatch.setattr(subprocess, "run", None)
    status, out, err = launch(target, "--dry_run")
    assert (status, err) == (0, "")
    assert without_fingerprints(out) == (GOLDEN / f"{target}.txt").read_text()
    assert not Path("/runs/mine").exists()


@pytest.mark.parametrize("target", FLAGS)
def test_every_launcher_has_the_same_command_lines(target, launch, planned):
    _, out, _ = launch(target, "--dry_run")
    assert commands_in(target, out) == [list(job.command) for job in planned]


def test_a_skypilot_task_is_recovered_after_a_preemption_and_keeps_its_runs(launch):
    known = {"name", "workdir", "num_nodes", "resources", "file_mounts", "setup", "run"}
    for task in yaml.safe_load_all(launch("skypilot", "--dry_run")[1]):
        assert set(task) == known
        assert all(isinstance(task[key], str) for key in ("name", "workdir", "setup", "run"))
        assert task["num_nodes"] == 1
        assert task["resources"]["accelerators"] == "A100:1"
        assert task["resources"]["use_spot"] is True
        assert task["resources"]["job_recovery"]["recover_on_exit_codes"] == [75]
        assert task["file_mounts"] == {"/runs/mine": {"source": "gs://bucket", "mode": "MOUNT"}}
        assert "--workdir=/runs/mine/" in task["run"]


def test_a_jobset_restarts_after_a_preemption_and_fails_with_the_run(launch):
    names = set()
    for document in yaml.safe_load_all(launch("kubernetes", "--dry_run", "--hosts=1")[1]):
        assert (document["apiVersion"], document["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
        names.add(document["metadata"]["name"])
        policy = document["spec"]["failurePolicy"]
        assert policy["maxRestarts"] == 20
        assert policy["rules"] == [
            {"name": "failed", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
        ]
        (replicated,) = document["spec"]["replicatedJobs"]
        job = replicated["template"]["spec"]
        assert (job["parallelism"], job["completions"], job["backoffLimit"]) == (1, 1, 0)
        assert job["completionMode"] == "Indexed"
        pod = job["template"]["spec"]
        (container,) = pod["containers"]
        (rule,) = job["podFailurePolicy"]["rules"]
        codes = {"containerName": container["name"], "operator": "In", "values": [1]}  # hence not 75
        assert rule == {"action": "FailJob", "onExitCodes": codes}
        assert pod["restartPolicy"] == "Never"  # which a podFailurePolicy requires
        assert pod["nodeSelector"] == {"pool": "a100"}
        assert container["resources"] == {"limits": {"nvidia.com/gpu": 8}}
        (volume,) = pod["volumes"]
        (mount,) = container["volumeMounts"]
        assert mount == {"name": volume["name"], "mountPath": "/runs/mine"}
        assert volume["persistentVolumeClaim"] == {"claimName": "claim"}
    assert len(names) == 3
    assert all(re.fullmatch(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", name) for name in names)


def test_on_several_hosts_an_error_of_one_restarts_the_jobset(launch):
    for document in yaml.safe_load_all(launch("kubernetes", "--dry_run", "--hosts=4")[1]):
        assert document["spec"]["failurePolicy"]["rules"][0]["action"] == "RestartJobSet"
        job = document["spec"]["replicatedJobs"][0]["template"]["spec"]
        assert (job["parallelism"], job["completions"]) == (4, 4)
        (container,) = job["template"]["spec"]["containers"]
        name = document["metadata"]["name"]
        assert {variable["name"]: variable["value"] for variable in container["env"]} == {
            "JAX_COORDINATOR_ADDRESS": f"{name}-run-0-0.{name}:8476",
            "JAX_NUM_PROCESSES": "4",
        }


def test_the_hosts_of_a_skypilot_task_find_each_other(launch):
    for task in yaml.safe_load_all(launch("skypilot", "--dry_run", "--hosts=3")[1]):
        assert task["num_nodes"] == 3
        assert task["resources"]["job_recovery"]["max_restarts_on_errors"] == 20
        join, _ = task["run"].splitlines()
        hosts = {"SKYPILOT_NODE_IPS": "10.0.0.5\n10.0.0.6\n10.0.0.7", "SKYPILOT_NUM_NODES": "3"}
        shown = "echo $JAX_COORDINATOR_ADDRESS $JAX_NUM_PROCESSES $JAX_PROCESS_ID"
        told = subprocess.run(
            ["bash", "-c", f"{join}; {shown}"],
            env=os.environ | hosts | {"SKYPILOT_NODE_RANK": "1"},
            capture_output=True,
            text=True,
        )
        assert told.stdout == "10.0.0.5:8476 3 1\n"


@pytest.mark.parametrize("target", TARGETS)
def test_a_launcher_without_its_program_says_which_to_install(target, launch, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    status, out, err = launch(target)
    assert status == 1
    assert out == ""
    program = {"slurm": "sbatch", "tpu_vm": "gcloud", "skypilot": "sky", "kubernetes": "kubectl"}[target]
    assert err.startswith(f"error: --target={target} needs the program {program}, which is not here: ")
    assert "install" in err
    assert err.count("\n") == 1


SUBMITTED = {
    "slurm": ["sbatch runs/launch/mine/slurm.sh"],
    "tpu_vm": ["bash runs/launch/mine/tpu_vm.sh"],
    "skypilot": ["sky jobs launch --yes --detach-run runs/launch/mine/sweep-config-tiny-smoke-batch-0123456789.yaml"]
    * 2
    + ["sky jobs launch --yes --detach-run runs/launch/mine/sweep-config-tiny-smoke-0123456789.yaml"],
    "kubernetes": ["kubectl apply --filename runs/launch/mine/jobset.yaml"],
}


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_submitted_is_what_the_dry_run_shows(target, launch, tmp_path, monkeypatch):
    calls = []

    def called(words):
        calls.append(without_fingerprints(shlex.join(words)))
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "lrjax"\n')
    monkeypatch.setattr(subprocess, "run", called)
    monkeypatch.setattr(shutil, "which", lambda program: f"/bin/{program}")
    root = str(tmp_path / "mine")
    shown = without_fingerprints(launch(target, "--dry_run", root=root)[1])
    status, _, err = launch(target, root=root)
    assert status == 0
    assert calls == SUBMITTED[target]
    assert err == f"once they have ended: python -m lrjax.report {root}\n"
    for path in (tmp_path / "runs" / "launch" / "mine").iterdir():
        assert without_fingerprints(path.read_text()) in shown
    assert (tmp_path / "mine").exists() == (target == "slurm")


def test_a_submission_that_is_refused_has_status_1(launch, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "run", lambda words: subprocess.CompletedProcess(words, 2))
    monkeypatch.setattr(shutil, "which", lambda program: f"/bin/{program}")
    status, _, err = launch("kubernetes", root="/runs/mine")
    assert status == 1
    assert "error: this failed: kubectl apply" in err


def test_jobs_that_are_done_are_left_out(launch, planned, tmp_path):
    done = tmp_path / planned[1].name
    done.mkdir()
    (done / "status.json").write_text('{"state": "done"}')
    for target in ("print", "slurm"):
        _, out, _ = launch(target, "--dry_run", root=str(tmp_path))
        found = [command[-1] for command in commands_in(target, out)]
        assert found == [f"--workdir={tmp_path / planned[place].name}" for place in (0, 2)]
    assert "#SBATCH --array=0-1%2\n" in out


def test_the_folder_remembers_the_jobs_of_an_earlier_sweep_that_have_run(planned, tmp_path):
    jobs.record(tmp_path, planned)
    (tmp_path / planned[0].name).mkdir()
    jobs.record(tmp_path, planned[2:])
    known = json.loads((tmp_path / "jobs.json").read_text())
    assert list(known) == [planned[0].name, planned[2].name]
    assert known[planned[2].name]["command"] == shlex.join(planned[2].command)


BAD = {
    "no config": (["--target=print"], "give --config=FILE.py"),
    "unknown target": ([CONFIG, "--target=cluster"], "invalid choice: 'cluster'"),
    "unknown flag": ([CONFIG, "--paralel=3"], "cannot read '--paralel=3'; write --config.KEY=VALUE or --sweep.KEY="),
    "no jobs at a time": ([CONFIG, "--parallel=0"], "--parallel=0 must be at least 1"),
    "a limit where there is none": ([CONFIG, "--target=tpu_vm", "--parallel=2"], "tpu_vm does not take it"),
    "unknown key": (["--config=configs/benign_osc.py", "--sweep.sed=(1, 2)"], "did you mean 'seed'?"),
    "no TPU": ([CONFIG, "--target=tpu_vm", "--dry_run"], "--target=tpu_vm needs --tpu and --zone"),
    "several hosts": (
        [CONFIG, "--target=tpu_vm", *FLAGS["tpu_vm"], "--hosts=2", "--dry_run"],
        "runs on every host of the TPU VM",
    ),
    "a relative folder": (
        [CONFIG, "--target=kubernetes", *FLAGS["kubernetes"], "--dry_run"],
        "give an absolute path",
    ),
    "an accelerator of another make": (
        [CONFIG, "--target=skypilot", "--accelerators=MI300X:8", "--storage=gs://b", "--workdir=/x", "--dry_run"],
        "lrjax has no extra for mi300x:8; give --setup",
    ),
    "an extra that there is not": ([CONFIG, "--target=skypilot", "--extra=cuda11"], "invalid choice: 'cuda11'"),
    "a blank": ([CONFIG, "--target=slurm", "--workdir=my runs", "--dry_run"], "--workdir='my runs': no blanks"),
    "a setting without a value": (
        [CONFIG, "--target=kubernetes", *FLAGS["kubernetes"], "--workdir=/x", "--dry_run", "--resource=gpu"],
        "write --resource=KEY=VALUE",
    ),
}


@pytest.mark.parametrize(("arguments", "sentence"), BAD.values(), ids=BAD)
def test_bad_flags_end_in_one_sentence(arguments, sentence, capsys):
    assert jobs.main(arguments) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert sentence in err
    assert err.count("\n") == 1


def test_the_folder_of_one_run_is_refused(tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    assert jobs.main(["--config=configs/benign_osc.py:map,scale=smoke", f"--workdir={tmp_path}"]) == 1
    assert f"{tmp_path} is the folder of one run; give another --workdir" in capsys.readouterr().err
