"""The local launcher with real runs: one is killed, all end done, and the page shows them."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import lrjax
from launch import jobs
from lrjax.experiment.config.load import load_config
from lrjax.experiment.loop import sweep
from tests.runs import CLEAR, REPOSITORY, TINY, assert_same_run, configs_of, environment

LONGER = [*TINY, "--config.steps=2000", "--config.arms.small_rate=None", "--config.arms.time_matched=None"]
LAUNCH = [sys.executable, "-m", "launch.jobs", f"--config={CLEAR}", "--sweep.seed=(0, 1, 2, 3)", "--points_per_job=1"]


def process_of(workdir):
    """The number of the process that runs in a folder."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode().split("\0")
        except OSError:
            continue
        if f"--workdir={workdir}" in words and "lrjax.main" in words:
            return int(path.parent.name)
    return None


def kill_when_saved(root, killed):
    """Kills the first run that has a checkpoint."""
    while True:
        for path in root.glob("*/ckpt/block-000/*/commit_success.txt"):
            number = process_of(path.parents[3])
            if number is not None and not (path.parents[3] / "claims.json").exists():
                os.kill(number, signal.SIGKILL)
                killed.append(path.parents[3])
                return
        time.sleep(0.002)


@pytest.mark.slow
def test_a_killed_run_of_a_sweep_goes_on_and_all_end_done(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    root, killed = tmp_path / "sweep", []
    command = [*LAUNCH, "--plain_process", *LONGER, f"--workdir={root}"]
    killer = threading.Thread(target=kill_when_saved, args=(root, killed), daemon=True)
    killer.start()
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    killer.join()
    (dead,) = killed
    assert len(re.findall(f"{dead.name}: killed by signal 9", ended.stdout)) == 1
    assert f"{dead.name}: goes on" in ended.stdout
    assert f"going on with {dead}" in (root / "logs" / f"{dead.name}.log").read_text()
    planned = json.loads((root / "jobs.json").read_text())
    assert len(planned) == 4
    for name in planned:
        assert json.loads((root / name / "status.json").read_text())["state"] == "done"
        assert ended.stdout.count(f"{name}: done") == 1
    (seed,) = planned[dead.name]["values"].values()
    (own,) = sweep.runs(CLEAR, [{"seed": seed}], dict(configs_of(LONGER)))
    lrjax.run(load_config(CLEAR, own), tmp_path / "unkilled")
    assert_same_run(dead, tmp_path / "unkilled")

    page = (root / "report.html").read_text()
    assert "4 runs: 4 done." in page
    for name in planned:
        assert f'href="{name}/report.html"' in page
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    assert jobs.main(command[3:]) == 0
    assert capsys.readouterr().out.startswith("4 of 4 jobs are done already\n")
    changed = {path.name for path in before if path.stat().st_mtime_ns != before[path]}
    assert changed <= {"jobs.json", "report.html"}
