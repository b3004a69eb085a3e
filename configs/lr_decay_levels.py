"""Experiments of `lr_decay` after the first version of the paper: stages are levels of the noise of SGD."""

from .common import Config, group
from .lr_decay_images import decayed_at, rate
from .lr_decay_patterns import EPOCH, STAGE, patterns

# network -> what it changes of the usual one of PS10
SMALL_NETWORKS = {
    "usual": {},
    "shallow": dict(blocks=1),
    "narrow": dict(width=64),
    "layer_norm": dict(norm="layer"),
}
WIDE_NETWORKS = {"usual": {}, "shallow": dict(depth=16), "narrow": dict(widen=4)}
COMPLEXITIES = (50, 100, 200)  # complex patterns a class
RATES = (0.05, 0.1, 0.2)


def networks(scale: str) -> Config:
    """L11: in each network, and whether the rate falls early or late, by a tenth or a fifth: is there a stage after it?"""
    config = patterns(scale)
    epoch, half = EPOCH[scale], STAGE[scale] * EPOCH[scale] // 2
    config.update(steps=3 * half, log_every=epoch)
    if scale == "small":
        config.update(log_every=2 * epoch, checkpoint_every=10 * epoch)
        config.probes.subsets = 2 * epoch
    arms = {}
    for network, model in (WIDE_NETWORKS if scale == "paper" else SMALL_NETWORKS).items():
        own = decayed_at(half, 2 * half, 2 * half, setting=network)
        own[f"{network}_decay_3"]["schedule"] = dict(name="step_decay", milestones=(2 * half,), factor=0.2)
        arms |= {name: arm | dict(model=model) for name, arm in own.items()}
    config.arms = group(arms)
    return config


def plateaus(scale: str) -> Config:
    """L12: the accuracy at which a constant rate stays on complex patterns, of three complexities and at three rates."""
    config = patterns(scale)
    if scale == "small":
        config.update(log_every=2 * EPOCH[scale], checkpoint_every=20 * EPOCH[scale])
        config.probes.subsets = 2 * EPOCH[scale]
    complexities = (10, 20) if scale == "smoke" else COMPLEXITIES
    config.arms = group(
        {
            f"k{count}_rate_{number}": rate(value, data=dict(k_complex=count))
            for count in complexities
            for number, value in enumerate(RATES)
        }
    )
    return config
