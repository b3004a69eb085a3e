"""What every experiment's config starts from: one place for the keys, their types and their defaults."""

from typing import Any, TypeAlias

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

Config: TypeAlias = Any  # a ConfigDict: a type checker cannot know its keys

# How many steps, or how often, may be an int (steps) or a string such as "3 epochs".


def group(keys: dict | None = None) -> Config:
    """A ConfigDict."""
    return ConfigDict(keys)


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
            label_noise=placeholder(float),  # +- this on every target, afresh at each visit
            averaging=placeholder(str),  # None, "ema" (averaging_decay) or "uniform" (from averaging_start on)
            averaging_decay=0.999,
            averaging_start=0,
            divergence_loss=float("inf"),  # a loss above it, or one that is not finite, ends a lane as diverged
            steps=1000,
            log_every=100,
            checkpoint_every=1000,
            probes=group(),  # name -> how often; "end" for once, when the lane is done
            lane_loop="auto",  # "vmap", "map" (one after the other in one program), "single" (one lane a device)
            step_loop="scan",  # "scan": a chunk is one program; "host": a step is (where a model convolves on a CPU)
            lanes_per_device=8,
            data_devices=0,  # devices that share the batch of one lane; 0: all when there is one lane, else 1
            sweep=group(),  # dotted key -> tuple of values; their product is run
            arms=group(),  # name -> overrides; each arm is crossed with the sweep
        )
    )
