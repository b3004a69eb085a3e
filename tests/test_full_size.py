"""What is too large for the default tests: a step at the paper's size, the memory of the default experiment."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lrjax
from lrjax.experiment.loop import sweep
from lrjax.experiment.step.engines import ENGINES
from lrjax.experiment.step.train_step import StepInputs, init_state, train_step

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_one_real_step_of_resnet18_at_paper_scale(tfds_dir):
    overrides = {"data_dir": str(tfds_dir), "data.num_train": 256, "data.num_test": 16}
    config = lrjax.load_config("configs/benign_osc.py:E0,scale=paper", overrides)
    groups = [(group, lane) for group in sweep.expand(config) for lane in group.lanes]
    group, lane = next(pair for pair in groups if pair[1].arm == "resnet18_large")
    from lrjax.data import DATASETS

    loaded = DATASETS["cifar10"].load(lane.config)
    data = {"train": {k: jnp.asarray(v) for k, v in loaded.train.items()}}
    hparams = {k: jnp.asarray(v) for k, v in lane.hparams().items()}
    engine = ENGINES["direct"](group.static, 10)
    state = jax.jit(lambda h: init_state(engine, group.static, h, data))(hparams)
    assert sum(p.size for p in jax.tree.leaves(state.params)) == 11_173_962
    row = StepInputs(jnp.arange(256), hparams["optimizer.learning_rate"], jnp.array(True))
    new, metrics = jax.jit(lambda s: train_step(engine, group.static, s, hparams, data, row))(state)
    assert int(new.step) == 1
    assert float(metrics["loss"]) == pytest.approx(np.log(10), abs=0.7)
    assert not np.array_equal(new.params["stem"]["kernel"], state.params["stem"]["kernel"])


PEAK = """
import re, sys
from lrjax.main import main
status = main(sys.argv[1:])
print("PEAK_KB", re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read()).group(1))
sys.exit(status)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_default_experiment_stays_under_2_gb(tmp_path):
    # The process says its own peak: getrusage would count what this test process held when it forked.
    command = [sys.executable, "-c", PEAK, "--config=configs/benign_osc.py", f"--workdir={tmp_path / 'run'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    peak = 1024 * int(done.stdout.split("PEAK_KB ")[1].split()[0])
    assert 200e6 < peak < 2e9
