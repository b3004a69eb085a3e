"""Milliseconds a training step with one thread and with one a core: where `threads=1` belongs into a config.

Run:  python -m tests.benchmarks.threads [CONFIG:EXPERIMENT ...] [--data_dir=FOLDER]
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

import jax

import lrjax
import lrjax.probes  # registers the probes that configs name
from lrjax.devices import parallel
from lrjax.experiment.loop.block import Block
from lrjax.experiment.loop.sweep import expand

CASES = ("lr_decay:L3", "benign_osc:CLEAR")
CHUNK, CHUNKS, REPEATS = 50, 8, 5


def measure(case: str, data_dir: str | None) -> float:
    """Milliseconds a step and lane of the first block of an experiment at small scale, compiled before."""
    name, experiment = case.split(":")
    config = lrjax.load_config(f"configs/{name}.py:{experiment}")
    with config.unlocked(), config.ignore_type():
        config.update(log_every=CHUNK, steps=CHUNK * CHUNKS, checkpoint_every=CHUNK * CHUNKS, data_dir=data_dir)
        config.schedule.update(name="constant", milestones=())
        config.probes, config.arms = type(config)(), type(config)()
    group = expand(config)[0]
    lanes = group.lanes[: config.lanes_per_device]
    block = Block(0, group, lanes, parallel.make_mesh(1, len(lanes), 1), None)
    state = block.start().state
    state, _ = block.advance(state, 0)
    jax.block_until_ready(state)
    begun = time.perf_counter()
    for chunk in range(1, CHUNKS):
        state, _ = block.advance(state, chunk * CHUNK)
    jax.block_until_ready(state)
    return 1000 * (time.perf_counter() - begun) / (CHUNKS - 1) / CHUNK / len(lanes)


def by_process(case: str, threads: int, data_dir: str | None) -> float:
    """`measure` in a process with this many threads; 0 for one a core."""
    environment = {name: value for name, value in os.environ.items() if name != "NPROC"}
    environment |= {"NPROC": str(threads)} if threads else {}
    command = [sys.executable, "-m", "tests.benchmarks.threads", case, "--one"]
    command += [f"--data_dir={data_dir}"] if data_dir else []
    return float(subprocess.check_output(command, env=environment, text=True).split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=CASES)
    parser.add_argument("--data_dir")
    parser.add_argument("--one", action="store_true", help="measure the case in this process, and print a number")
    flags = parser.parse_args()
    if flags.one:
        print(measure(flags.cases[0], flags.data_dir))
        return
    print(f"milliseconds a step, medians of {REPEATS}, one after the other\n")
    print(f"{'':24}{'1 thread':>12}{'1 a core':>12}{'ratio':>8}")
    for case in flags.cases:
        found = [[by_process(case, threads, flags.data_dir) for threads in (1, 0)] for _ in range(REPEATS)]
        one, all_cores = (statistics.median(times) for times in zip(*found, strict=True))
        print(f"{case:24}{one:12.3f}{all_cores:12.3f}{one / all_cores:8.2f}")


if __name__ == "__main__":
    main()
