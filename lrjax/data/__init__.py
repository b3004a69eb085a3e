"""Data sets by name: arrays in memory, and their shapes for a dry run."""

from lrjax.data import signal_noise
from lrjax.data.dataset import Dataset, Source
from lrjax.data.images import cifar10, cifar10_spec
from lrjax.data.planted import cifar10_planted, cifar10_planted_spec

__all__ = ["DATASETS", "Dataset", "Source"]

DATASETS: dict[str, Source] = {
    "cifar10": Source(cifar10, cifar10_spec),
    "cifar10_planted": Source(cifar10_planted, cifar10_planted_spec),
    "signal_noise": Source(
        signal_noise.generate,
        signal_noise.spec,
        complete=signal_noise.complete,
        per_lane=True,
        arrays=signal_noise.ARRAYS,
        describe=signal_noise.describe,
    ),
}
