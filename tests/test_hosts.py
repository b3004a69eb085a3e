"""Several processes, each with a device of its own, make the run of one process; one of them killed ends the job."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import lrjax
from lrjax.devices import hosts, waiting
from lrjax.errors import LrjaxError
from lrjax.experiment.rundir.checkpoint import stored_steps
from tests.runs import REPOSITORY, TINY, assert_same_run, environment, final_states, said, start

TWO = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
RUN = ["--config=configs/benign_osc.py:CLEAR,scale=smoke", *TINY]
SAVED = 2000
# Long enough to be killed three times; flags that come later count.
LONG = [*RUN, *(f"--config.{key}={value}" for key, value in {
    "steps": 40_000, "arms.small_rate.steps": 40_000, "arms.time_matched.steps": 40_000, "log_every": 250,
    "checkpoint_every": SAVED, "probes.features": 8000, "probes.test_accuracy": 8000,
}.items())]  # fmt: skip


def variables(count):
    """The environments of the processes of one job."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    values = [(f"localhost:{port}", str(count), str(number)) for number in range(count)]
    return [environment(1) | dict(zip(TWO, own, strict=True)) for own in values]


@contextlib.contextmanager
def job(count, *arguments):
    """Starts `lrjax.main` in several processes; none is left behind."""
    processes = [start(arguments, env=own) for own in variables(count)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def ended(processes, timeout=300):
    """(exit status, stdout, stderr) of each process."""
    said = [process.communicate(timeout=timeout) for process in processes]
    return [(process.returncode, *own) for process, own in zip(processes, said, strict=True)]


def succeed(count, *arguments):
    """Runs a job to its end."""
    with job(count, *arguments) as processes:
        found = ended(processes)
    assert [status for status, _, _ in found] == [0] * count, found
    return found


def task(*arguments, count=1, devices=1):
    """Runs a task of `tests/on_devices.py` in several processes, or in one with several devices."""
    environments = variables(count) if count > 1 else [environment(devices)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": REPOSITORY}
    command = [sys.executable, "-m", "tests.on_devices", *map(str, arguments)]
    found = ended([subprocess.Popen(command, env=own, **pipes) for own in environments])
    assert [status for status, _, _ in found] == [0] * count, found
    return [json.loads(out.splitlines()[-1]) for _, out, _ in found]


def newest(workdir):
    """The step of the newest checkpoint, 0 before the first one."""
    return max((step for folder in workdir.glob("ckpt/*") for step in stored_steps(folder)), default=0)


def wait_for(step, workdir, processes):
    """Until a running job has saved a step."""
    while newest(workdir) < step:
        assert all(process.poll() is None for process in processes), ended(processes)
        time.sleep(0.05)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A run of two processes that nothing happens to, and what they said."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    return workdir, succeed(2, *LONG, f"--workdir={workdir}")


@pytest.mark.slow
def test_two_processes_write_the_bits_of_one_process_with_two_devices(alone, tmp_path):
    with start([*LONG, f"--workdir={tmp_path / 'one'}"], env=environment(2)) as process:
        process.communicate(timeout=300)
    assert_same_run(alone[0], tmp_path / "one")
    (_, out, _), (_, quiet, _) = alone[1]
    assert "process 0 of 2, 2 cpu devices; mesh 2 (sweep) x 1 (data); on a device 2 lanes" in out
    assert "report:" in out
    assert "process 1 of 2" in quiet
    assert "report:" not in quiet


@pytest.mark.slow
def test_a_killed_process_ends_the_job_and_the_restarted_job_ends_with_the_bits_of_one_that_was_left_alone(
    alone, tmp_path
):
    workdir = tmp_path / "killed"
    for victim, sign in ((1, signal.SIGKILL), (0, signal.SIGKILL), (1, signal.SIGTERM)):
        with job(2, *LONG, f"--workdir={workdir}") as processes:
            wait_for(newest(workdir) + 2 * SAVED, workdir, processes)
            processes[victim].send_signal(sign)
            found = ended(processes, timeout=60)
        assert json.loads((workdir / "status.json").read_text())["state"] != "done"
        if sign == signal.SIGTERM:
            assert [status for status, _, _ in found] == [75, 75], found
            assert "is saved, the same command goes on from there" in found[0][2]
        else:
            status, _, last_words = found[1 - victim]
            assert status not in (0, 75)
            # Ours where a transfer broke, that of JAX's service where it was the first to notice.
            assert "lost another process of this job" in last_words or "another task died" in last_words
    succeed(2, *LONG, f"--workdir={workdir}")
    assert_same_run(workdir, alone[0])


@pytest.fixture(scope="module")
def unshared(tmp_path_factory):
    """Two lanes in one process with one device."""
    workdir = tmp_path_factory.mktemp("unshared") / "run"
    assert task("both", workdir) == [{"devices": 1, "collectives": []}]
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize("count", [4])
def test_processes_that_share_batches_give_the_numbers_of_one_process(count, unshared, tmp_path):
    found = task("both", tmp_path / "several", count=count)
    assert found == [{"devices": count, "collectives": ["all-reduce"]}] * count
    several, one = lrjax.load_run(tmp_path / "several"), lrjax.load_run(unshared)
    for mine, theirs in zip(several.arrays, one.arrays, strict=True):
        assert mine.keys() == theirs.keys()
        np.testing.assert_allclose(mine["step/loss"], theirs["step/loss"], rtol=1e-5)
        assert mine["step/loss"][-1] < 0.999 * mine["step/loss"][0]
        assert np.isfinite(mine["spectrum/lambda_h1"]).all()
        np.testing.assert_allclose(mine["spectrum/lambda_h1"], theirs["spectrum/lambda_h1"], rtol=1e-3)
    own, other = params_of(tmp_path / "several"), params_of(unshared)
    for lane, params in other.items():
        worst = jax.tree.map(lambda a, b: np.linalg.norm(a - b) / np.linalg.norm(b), own[lane], params)
        assert max(jax.tree.leaves(worst)) <= 1e-5, lane


def params_of(workdir):
    """Lane -> its last parameters."""
    blocks, states = lrjax.load_run(workdir).status["blocks"], final_states(workdir)
    return {
        lane: jax.tree.map(lambda a, place=place: a[place], states[f"block-{number:03d}"]["state"]["params"])
        for number, members in enumerate(blocks)
        for place, lane in enumerate(members)
    }


@pytest.mark.slow
def test_processes_of_different_configs_are_all_refused(tmp_path):
    own = variables(2)
    processes = [
        start([*RUN, f"--config.threads={number}", f"--workdir={tmp_path / 'run'}"], env=own[number])
        for number in (0, 1)
    ]
    for status, _, err in ended(processes):
        assert status == 1
        assert "process 0 and process 1 of this job have different configs or code" in err
        assert "Traceback" not in err


SLURM = {"SLURM_NTASKS": "4", "SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_PROCID": "3"}
SLURM |= {"SLURM_LOCALID": "1"}
ALL = {"JAX_COORDINATOR_ADDRESS": "node1:1234", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"}
JOINED = {
    "coordinator_address": "node1:1234",
    "num_processes": 4,
    "process_id": 3,
    "cluster_detection_method": "deactivate",
}


def without(environment, name):
    return {key: value for key, value in environment.items() if key != name}


PLACES = {
    "nothing is set": ({}, {}, None),
    "all three variables": (ALL, {}, JOINED),
    "flags before variables": (ALL | {"JAX_PROCESS_ID": "0"}, {"process_id": "3"}, JOINED),
    "an indexed Kubernetes job": (without(ALL, "JAX_PROCESS_ID") | {"JOB_COMPLETION_INDEX": "3"}, {}, JOINED),
    "an index alone": ({"JOB_COMPLETION_INDEX": "3", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}, {}, None),
    "four tasks of Slurm": (SLURM, {}, {"cluster_detection_method": "slurm"}),
    "one task of Slurm": (SLURM | {"SLURM_NTASKS": "1"}, {}, None),
    "one process wanted inside Slurm": (SLURM, {"num_processes": "1"}, None),
    "variables before Slurm": (SLURM | ALL, {}, JOINED),
    "a TPU slice of two hosts": ({"TPU_WORKER_HOSTNAMES": "t0,t1"}, {}, {}),
    "a TPU of one host": ({"TPU_WORKER_HOSTNAMES": "localhost"}, {}, None),
}


@pytest.mark.parametrize(("environment", "flags", "found"), PLACES.values(), ids=PLACES)
def test_a_process_finds_its_place(environment, flags, found):
    assert hosts.place(environment, flags) == found


def test_a_tpu_vm_asks_its_metadata_server_unless_told_not_to():
    assert hosts.place({}, {}, tpu_vm=True) == {}
    assert hosts.place({"TPU_SKIP_MDS_QUERY": "1"}, {}, tpu_vm=True) is None


HALF = [(ALL, name, f"{name} or --") for name in TWO]
HALF += [(SLURM, name, f"{name} is not set; start the program with srun") for name in hosts.SLURM]


@pytest.mark.parametrize(("environment", "name", "sentence"), HALF)
def test_a_half_set_environment_is_refused_and_the_missing_variable_named(environment, name, sentence):
    with pytest.raises(LrjaxError, match=name) as refused:
        hosts.place(without(environment, name), {})
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


BAD = {
    "a number that is too high": (ALL | {"JAX_PROCESS_ID": "4"}, "must be a number from 0"),
    "no number": (ALL | {"JAX_NUM_PROCESSES": "two"}, "must be a number from 0"),
    "no port": (ALL | {"JAX_COORDINATOR_ADDRESS": "node1"}, "must be HOST:PORT"),
}


@pytest.mark.parametrize(("environment", "sentence"), BAD.values(), ids=BAD)
def test_a_wrong_environment_is_refused(environment, sentence):
    with pytest.raises(LrjaxError, match=sentence):
        hosts.place(environment, {})


def test_the_program_refuses_a_half_set_environment_with_status_1(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "localhost:1")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    err = said(capsys, "--plain_process", *RUN, f"--workdir={tmp_path / 'run'}")
    assert "JAX_PROCESS_ID or --process_id is not" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("count", "own", "answered", "sentence"),
    [
        (2, 0, True, "process 0 of 2 waits for process 1 to start and to reach here:1"),
        (3, 0, True, "process 0 of 3 waits for one or more of the processes 1, 2 to start and to reach here:1"),
        (
            2,
            1,
            False,
            "process 1 of 2 waits for process 0, and nothing answers at here:1; see that it has started there",
        ),
        (2, 1, True, "process 1 of 2 has reached process 0 at here:1 and waits for its answer"),
        (3, 1, True, "process 1 of 3 waits for process 2 to start and to reach here:1"),
    ],
)
def test_who_is_waited_for_is_named(count, own, answered, sentence):
    told = {"coordinator_address": "here:1", "num_processes": count, "process_id": own}
    assert waiting.waiting_for(told, lambda address: answered) == sentence
    assert "the others of its job" in waiting.waiting_for({"cluster_detection_method": "slurm"}, lambda address: True)


def test_a_process_that_waits_says_so_in_time_and_one_that_need_not_says_nothing(monkeypatch, capfd):
    flags = {"coordinator": "localhost:1", "num_processes": "2", "process_id": "0"}
    assert waiting.MISSING_S < 15
    for pause, lasts in ((0.01, 0.5), (60.0, 0.0)):
        monkeypatch.setattr(waiting, "MISSING_S", pause)
        monkeypatch.setattr(hosts.jax.distributed, "initialize", lambda lasts=lasts, **_: time.sleep(lasts))
        with hosts.joined(flags):
            pass
        err = capfd.readouterr().err
        waits = "waiting: process 0 of 2 waits for process 1 to start and to reach localhost:1; JAX gives up after 5 minutes"
        assert err == ("" if pause > 1 else f"{waits}\n")
