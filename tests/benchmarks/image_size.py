"""Whether PS10 images of 8 x 8 keep what a wide ResNet does on 32 x 32, which costs sixteen times as much.

The images are constant, so that padding alone tells the sizes apart. Run: python -m tests.benchmarks.image_size [--smoke]
prints complex test accuracy by seed at the ends of the stages, and the verdicts of L3. 4000 steps a seed and size.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

import lrjax
from lrjax.experiment.rundir.lanes import lanes
from lrjax.report import write_report

STAGE = 800  # steps
SIZES = (8, 32)


def measure(size: int, folder: Path, stage: int, seeds: tuple[int, ...]) -> None:
    """Trains WRN-10-1 of width 8 on 640 images, with decay after each of two stages and without, and prints what came out."""
    sizes = {"data.n": 640, "data.num_test": 400, "data.k_simple": 2, "data.k_complex": 8, "data.image_size": size}
    network = {"model.depth": 10, "model.widen": 1, "batch_size": 32}
    stages = {"steps": 3 * stage, "log_every": stage // 8, "checkpoint_every": stage, "probes.subsets": stage // 8}
    decay = {"arms.decay.start.at": stage, "arms.decay.schedule.milestones": (stage, 2 * stage)}
    lane = {"step_loop": "host", "lane_loop": "single", "lanes_per_device": 1, "sweep.seed": seeds}
    arms = {"arms.constant_1": None, "arms.constant_2": None}
    config = lrjax.load_config("configs/lr_decay.py:L3,scale=paper", sizes | network | stages | decay | lane | arms)
    with config.unlocked():
        config.model.width = 8
    run = lrjax.run(config, folder)
    for arm in ("constant_0", "decay"):
        for record, arrays in lanes(run, arm):
            at = np.searchsorted(arrays["subsets/step"], [stage, 2 * stage, 3 * stage])
            told = ", ".join(f"{value:.3f}" for value in arrays["subsets/test_complex"][at])
            print(f"{size} x {size} {arm} seed {record['seed']}: complex {told}")
    for entry in write_report(folder):
        print(f"{size} x {size} {entry['id']}: {entry['verdict']}; {entry['measured']}")


def main() -> None:
    """Both sizes, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="one seed and a few steps: that it runs")
    smoke = parser.parse_args().smoke
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            measure(size, Path(folder) / "run", 8 if smoke else STAGE, (0,) if smoke else (0, 1, 2))


if __name__ == "__main__":
    main()
