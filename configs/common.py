"""What every experiment's config starts from: one place for the keys, their types and their defaults."""

from typing import Any, TypeAlias

from ml_collections import ConfigDict, FieldReference
from ml_collections.config_dict import placeholder

Config: TypeAlias = Any  # a ConfigDict: a type checker cannot know its keys

# How many steps, or how often, may be an int (steps) or a string such as "3 epochs".


def group(keys: dict | None = None) -> Config:
    """A ConfigDict."""
    return ConfigDict(keys)


SPECTRA = dict(
    matrices=("hessian",),  # any of `lrjax.probes.spectrum.MATRICES`
    k=5,  # eigenpairs of each
    tol=1e-3,  # relative residual at which a pair is good enough
    max_steps=60,  # products a matrix and measurement at most
    examples=0,  # size of the fixed subset; 0: 5 % of the training set, but 4096 at least
    batch_size=0,  # examples a product sees at once; 0: `lrjax.parallel.examples_at_once`
    batch_statistics=False,  # BatchNorm: of each batch, rather than the running ones
    noise_batches=25,  # mini-batch gradients behind the noise
    noise_batch_size=128,  # examples of each, or fewer where the subset is small
    seed=0,  # of the choice of examples and of start vectors
)


def base() -> Config:
    """The keys that all papers share. A paper's config overrides them and adds its own under `data` and `model`."""
    return group(
        dict(
            paper="",
            experiment="",
            scale="small",
            seed=0,
            data_dir="",  # where tfds data lies; empty: TFDS_DATA_DIR, then tfds's own default
            engine="direct",  # "direct": autodiff, any optax optimizer; "gram": exact inner products (two-layer net, SGD)
            loss="cross_entropy",
            data=group(dict(name="")),
            model=group(dict(name="")),
            # any optimizer of optax by name; other keys are its arguments. l2: weight decay added to the gradient
            optimizer=group(
                dict(name="sgd", learning_rate=placeholder(float), momentum=placeholder(float), l2=placeholder(float))
            ),
            schedule=group(dict(name="constant", milestones=(), factor=0.1, warmup=0, growth=1.05)),
            augment="none",  # of images: "none" or "crop_flip"
            order="shuffle",  # "shuffle": a fresh permutation an epoch; "iid"; "cyclic"
            batch_size=128,  # an int, or "full"
            micro_batch=0,  # examples a gradient sees at once; 0: as many as are fastest here (`lrjax.micro_batches`)
            label_noise=placeholder(float),  # +- this on every target, afresh at each visit
            averaging=placeholder(str),  # None, "ema" (averaging_decay) or "uniform" (from averaging_start on)
            averaging_decay=0.999,
            averaging_start=0,
            divergence_loss=float("inf"),  # a loss above it, or one that is not finite, ends a lane as diverged
            steps=1000,
            log_every=100,
            checkpoint_every=1000,
            keep_checkpoints=FieldReference(2, field_type=object),  # the newest ones, or "all"
            probes=group(),  # name -> how often: 250, "3 epochs", "10 until 200, 1 epochs", or "end" for once
            spectra=group(SPECTRA),  # of the probes spectrum and noise
            lane_loop="auto",  # "vmap", "map" (one after the other in one program), "single" (one lane a device)
            step_loop="scan",  # "scan": a chunk is one program; "host": a step is (where a model convolves on a CPU)
            lanes_per_device=8,
            data_devices=0,  # devices that share the batch of one lane; 0: all when there is one lane, else 1
            sweep=group(),  # dotted key -> tuple of values; their product is run
            arms=group(),  # name -> overrides; each arm is crossed with the sweep
        )
    )
