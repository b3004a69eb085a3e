"""Data sets by name: arrays in memory, and their shapes for a dry run."""

from lrjax.data import halfspace, image_sets, ps10, signal_noise
from lrjax.data.dataset import Dataset, Source
from lrjax.data.images import cifar10, cifar10_files, cifar10_spec
from lrjax.data.imdb import imdb, imdb_files, imdb_spec
from lrjax.data.patches import cifar10_patches, cifar10_patches_spec
from lrjax.data.planted import cifar10_planted, cifar10_planted_spec
from lrjax.data.wordpiece import TEXTS, texts, texts_files, texts_spec

__all__ = ["DATASETS", "Dataset", "Source"]

DATASETS: dict[str, Source] = {
    "cifar10": Source(cifar10, cifar10_spec, files=cifar10_files),
    "cifar10_patches": Source(cifar10_patches, cifar10_patches_spec, files=cifar10_files),
    "imdb": Source(imdb, imdb_spec, files=imdb_files),
    **dict.fromkeys(TEXTS, Source(texts, texts_spec, files=texts_files)),
    "cifar10_planted": Source(cifar10_planted, cifar10_planted_spec, files=cifar10_files),
    "ps10": Source(
        ps10.generate, ps10.spec, complete=ps10.complete, per_lane=True, arrays=ps10.ARRAYS, kinds=ps10.KINDS
    ),
    "halfspace": Source(halfspace.generate, halfspace.spec, per_lane=True),
    "single_input": Source(halfspace.generate_single, halfspace.spec, per_lane=True),
    "image_set": Source(
        image_sets.image_set,
        image_sets.image_set_spec,
        complete=image_sets.complete,
        stream=image_sets.image_stream,
        size=image_sets.num_train,
        files=image_sets.image_set_files,
    ),
    "signal_noise": Source(
        signal_noise.generate,
        signal_noise.spec,
        complete=signal_noise.complete,
        per_lane=True,
        arrays=signal_noise.ARRAYS,
        describe=signal_noise.describe,
        e_per_rate=signal_noise.e_per_rate,
    ),
}
