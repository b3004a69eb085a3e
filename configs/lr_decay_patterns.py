"""What the PS10 experiments of `lr_decay` share: data, network, stages, and the probes of curvature."""

from .common import Config, group
from .lr_decay_images import base

SEEDS = {"smoke": (0,), "small": (0, 1, 2), "paper": (0, 1, 2, 3, 4)}
EPOCH = {"smoke": 8, "small": 156, "paper": 156}  # steps, on PS10 at the usual size
STAGE = {"smoke": 2, "small": 20, "paper": 30}  # epochs


def patterns(scale: str) -> Config:
    """PS10 vectors and the residual MLP; at scale=paper images and WRN-28-10."""
    config = base(scale)
    config.data = group(
        dict(
            name="ps10",
            n=20_000,
            num_test=8000,
            classes=10,
            k_simple=10,
            k_complex=100,
            layout="grid",
            jitter=0.1,
            noise="none",
            noise_fraction=0.1,
            image_size=0,
            complex_draw=0,
        )
    )
    config.model = group(dict(name="residual_mlp", width=128, blocks=3, norm="batch"))
    epoch, stage = EPOCH[scale], STAGE[scale]
    every = 4 * epoch if scale == "small" else epoch
    config.probes = group(dict(subsets=every))
    config.update(batch_size=128, steps=3 * stage * epoch, log_every=epoch, checkpoint_every=every)
    config.lanes_per_device = 1
    if scale == "smoke":
        config.data.update(n=256, num_test=64, k_complex=20)
        config.model.update(width=8, blocks=1)
        config.batch_size = 32
    config.threads = 1  # a lane on each core (python -m tests.benchmarks.threads)
    if scale == "paper":
        config.threads = 0
        config.data.image_size = 32
        config.checkpoint_every = stage * epoch
        config.model = group(dict(name="wide_resnet", depth=28, widen=10))
    config.sweep = group(dict(seed=SEEDS[scale]))
    return config


def milestones(scale: str) -> tuple[int, int]:
    """Steps of the two decays on PS10."""
    stage = STAGE[scale] * EPOCH[scale]
    return stage, 2 * stage


def with_curvature(config: Config, every: int, examples: int, part: int | None = None) -> None:
    """Measures lambda_H and batch sharpness of the training loss, its BatchNorm with the statistics of what it sees.

    Args:
        config: changed in place.
        every: steps.
        examples: behind lambda_H, in parts of `part`; all at once unless given.
    """
    config.probes.update(spectrum=every, batch_sharpness=every)
    config.spectra.update(k=1, examples=examples, batch_size=part or examples, batch_statistics=True)
