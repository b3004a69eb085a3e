"""Runs for the tests: small configs, the program as a process, and what it means for two runs to be the same."""

import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import lrjax
from lrjax.experiment.config.overrides import parse_value
from lrjax.experiment.rundir.checkpoint import Checkpoints
from lrjax.main import main

REPOSITORY = Path(__file__).parents[1]
CLEAR = "configs/benign_osc.py:CLEAR,scale=smoke"
PROGRAM = [sys.executable, "-m", "lrjax.main"]


def tiny(overrides=None, probes=("features",)):
    """Four lanes of three lengths in two blocks; ten chunks, four checkpoints a block."""
    config = lrjax.load_config(
        CLEAR,
        {
            "sweep.e": (0.5, 1.25),
            "sweep.seed": (0,),
            "steps": 400,
            "log_every": 50,
            "checkpoint_every": 100,
            "arms.small_rate.steps": 330,
            "arms.time_matched.steps": 500,
            "lanes_per_device": 2,
            "probes.features": 100,
            "probes.test_accuracy": 200,
            "data.num_test": 50,
            "data.dim": 40,
            "model.width": 8,
        }
        | dict(overrides or {}),
    )
    with config.unlocked():
        for name in list(config.probes):
            if name not in probes:
                del config.probes[name]
    return config


@functools.cache
def _compiled() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="lrjax-compiled-", ignore_cleanup_errors=True)


def environment(devices=None):
    """The environment of a process: every compiled program is kept for the next one, `devices` are simulated."""
    kept = {
        "JAX_COMPILATION_CACHE_DIR": _compiled().name,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "JAX_PLATFORMS": "cpu",
    }
    flags = {} if devices is None else {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    return os.environ | kept | flags


def start(arguments, prefix=(), **options):
    """Starts `python -m lrjax.main` with pipes; --plain_process leaves the compiled programs to `environment`.

    Args:
        arguments: flags.
        prefix: a command that runs the rest of the command line.
        options: of `subprocess.Popen`.
    """
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment()} | options
    return subprocess.Popen([*prefix, *PROGRAM, "--plain_process", *map(str, arguments)], cwd=REPOSITORY, **options)


def finish(arguments, **options):
    """Runs `python -m lrjax.main` to its end: (exit status, stdout, stderr)."""
    with start(arguments, **options) as process:
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err


def final_states(workdir):
    """The newest checkpoint of every block, as nested dicts."""
    states = {}
    for folder in sorted((Path(workdir) / "ckpt").iterdir()):
        checkpoints = Checkpoints(folder)
        restored = checkpoints.restore()
        checkpoints.close()
        assert restored is not None, folder
        states[folder.name] = restored[0]
    return states


def equal_trees(a, b):
    """Whether two trees of dicts and lists hold the same bits."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal_trees(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal_trees, a, b))
    a, b = np.asarray(a), np.asarray(b)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def assert_same_run(workdir, reference):
    """Equal bits in metrics, arrays, lanes and last checkpoints; every (lane, step) once."""
    one, other = lrjax.load_run(workdir), lrjax.load_run(reference)
    assert one.status["state"] == other.status["state"] == "done"
    chunk = one.config["log_every"]
    rows = [(row["lane"], row["step"]) for row in one.metrics]
    due = [
        (lane["lane"], min(at, lane["steps"]))
        for lane in one.lanes
        for at in range(chunk, lane["steps"] + chunk, chunk)
    ]
    assert sorted(rows) == sorted(due)
    assert (Path(workdir) / "metrics.jsonl").read_bytes() == (Path(reference) / "metrics.jsonl").read_bytes()
    assert json.dumps(one.lanes) == json.dumps(other.lanes)
    for mine, theirs in zip(one.arrays, other.arrays, strict=True):
        assert mine.keys() == theirs.keys()
        for name in mine:
            assert equal_trees(mine[name], theirs[name]), name
    assert equal_trees(final_states(workdir), final_states(reference))


TINY = [
    "--config.sweep.e=(0.5, 1.25)", "--config.sweep.seed=(0,)", "--config.steps=400", "--config.log_every=50",
    "--config.checkpoint_every=100", "--config.arms.small_rate.steps=330", "--config.arms.time_matched.steps=500",
    "--config.lanes_per_device=2", "--config.probes.features=100", "--config.probes.test_accuracy=200",
    "--config.data.num_test=50", "--config.data.dim=40", "--config.model.width=8",
]  # fmt: skip
RUN = ["--plain_process", f"--config={CLEAR}", *TINY]


def said(capsys, *arguments, status=1):
    """The one line on stderr of a command that fails."""
    assert main([str(argument) for argument in arguments]) == status
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert "Traceback" not in err
    return err


def configs_of(arguments):
    for argument in arguments:
        key, _, value = argument.removeprefix("--config.").partition("=")
        yield key, parse_value(value)
