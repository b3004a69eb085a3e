"""Base config of every experiment: the keys, their types and their defaults."""

from collections.abc import Callable
from typing import Any, TypeAlias

from ml_collections import ConfigDict, FieldReference
from ml_collections.config_dict import placeholder

Config: TypeAlias = Any  # a ConfigDict: a type checker cannot know its keys

# How many steps, or how often, may be an int (steps) or a string such as "3 epochs".


def group(keys: dict | None = None) -> Config:
    """A ConfigDict."""
    return ConfigDict(keys)


SPECTRA = dict(
    matrices=("hessian",),  # any of `lrjax.experiment.step.curvature_losses.MATRICES`
    k=5,  # eigenpairs of each
    tol=1e-3,  # relative residual at which a pair is good enough
    max_steps=60,  # products a matrix and measurement at most
    examples=0,  # size of the fixed subset; 0: 5 % of the training set, but 4096 at least
    batch_size=0,  # examples a product sees at once; 0: `lrjax.devices.parallel.examples_at_once`
    batch_statistics=False,  # BatchNorm: of each batch, rather than the running ones
    noise_batches=25,  # mini-batch gradients behind the noise
    noise_batch_size=128,  # examples of each, or fewer where the subset is small
    noise_grid=((25, 128), (25, 1)),  # (batches, examples of each) of the probe noise_grid
    predicted=1000,  # test examples of the probe predictions
    next_steps=8,  # updates that the probe next_step tries
    trace_products=20,  # of the probe hessian_trace
    sharpness_batches=8,  # of the probe batch_sharpness
    seed=0,  # of the choice of examples and of start vectors
)

RULE = dict(
    name="none",
    every=FieldReference("1 epochs", field_type=object),
    factor=0.1,  # of the rate at a decay
    beta=0.9,  # auto_decay: of the average of losses
    window=5,  # auto_decay: stretches in which the average must be flat
    eta=0.05,  # auto_decay: how flat
    zeta=0.9,  # auto_decay: how far it must have dropped, or the lane stops
    patience=10,  # plateau
    rtol=1e-4,  # plateau
    cooldown=0,  # plateau
    min_scale=0.0,  # plateau
    delta=0.02,  # sasa
)


# How the lanes of an experiment share processors; changes no numbers but by rounding.
PROGRAM = dict(
    lane_loop="auto",  # "vmap", "map" (one after the other in one program), "single" (one lane a device)
    step_loop="scan",  # "scan": a chunk is one program; "host": a step is (where a model convolves on a CPU)
    lanes_per_device=8,
    threads=0,  # of a CPU, as the program starts; 0: one a core. One is faster where a step's arrays are small
    data_devices=0,  # devices that share the batch of one lane; 0: all when there is one lane, else 1
)


def base() -> Config:
    """The keys that all papers share. A paper's config overrides them and adds its own under `data` and `model`."""
    return group(
        dict(
            paper="",
            experiment="",
            scale="small",
            seed=0,
            data_dir="",  # folder of the tfds data; empty: TFDS_DATA_DIR, then tfds's own default
            engine="direct",  # "direct": autodiff, any optax optimizer; "gram": exact inner products (two-layer net, SGD)
            loss="cross_entropy",
            data=group(dict(name="")),
            model=group(dict(name="")),
            # any optimizer of optax by name; other keys are its arguments. l2: weight decay added to the gradient
            optimizer=group(
                dict(name="sgd", learning_rate=placeholder(float), momentum=placeholder(float), l2=placeholder(float))
            ),
            schedule=group(dict(name="constant", milestones=(), factor=0.1, warmup=0, cooldown=0, growth=1.05)),
            l2_schedule=group(
                dict(name="constant", milestones=(), factor=0.1, warmup=0, growth=1.05)
            ),  # peak: optimizer.l2
            # "weight_decay", or the same functions without it: "wd_free" (TEXP++), "texp", "texp_no_drop" (TEXP--), and
            # "texp_fixed_exponent", which equals no run with weight decay. Rate and l2 are those of the run with it.
            representation="weight_decay",
            correct_buffer=True,  # of the texp forms: the momentum corrections at step 0 and at phase starts
            record_scale=False,  # at every step: norm of the weights, effective rate, angle of the update
            # a rule that reads the loss every so many steps: "none", "auto_decay", "plateau" or "sasa"
            rule=group(RULE),
            # update of the head and of all else times this; a body rate of 0 freezes the features and their BatchNorm
            fine_tune=group(dict(head_rate=1.0, body_rate=1.0)),
            augment="none",  # of images: "none" or "crop_flip"
            order="shuffle",  # "shuffle": a fresh permutation an epoch; "iid"; "cyclic"
            batch_size=128,  # an int, or "full"
            micro_batch=0,  # examples a gradient sees at once; 0: as many as are fastest here
            batch_statistics="batch",  # of BatchNorm: over the "batch", or each "micro_batch" (of a fixed size)
            # of activations in training steps: "float32" or "bfloat16", under float32 parameters, gradients and logits;
            # "float64" of all of them, which lrjax switches on for the run
            compute_dtype="float32",
            # of matrix products and convolutions of float32 arrays, in training and evaluation: "float32", "tensorfloat32" or
            # "bfloat16", the fewest digits (on a GPU TF32 again). A CPU has float32 alone. Curvature is always in float32
            matmul_precision="float32",
            remat=False,  # keep what goes into each block, compute the rest again (a CPU's compiler undoes it)
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
            # where a lane begins: at a step (or "20 epochs") of another arm, with its "run" or its "weights" but `fresh` layers
            start=group(dict(arm="", at=FieldReference(0, field_type=object), what="run", fresh=())),
            **PROGRAM,
            sweep=group(),  # dotted key -> tuple of values; their product is run
            arms=group(),  # name -> overrides; each arm is crossed with the sweep
        )
    )


def in_tensorfloat32(shorter: Callable[[Config], None]) -> Callable[[Config], None]:
    """A change of a config for a card in TF32: its convolutions are too long in float32, and no claim reads the lost digits."""

    def change(config: Config) -> None:
        shorter(config)
        config.matmul_precision = "tensorfloat32"

    return change


def on_cifar10(config: Config, num_train: int | None, num_test: int | None) -> Config:
    """CIFAR-10, or a subset of it, with a network that convolves: one lane a device, steps from the host.

    Args:
        config: changed in place.
        num_train, num_test: images of each; None for all.
    """
    config.update(step_loop="host", lane_loop="single", lanes_per_device=1)
    config.data = group(
        dict(
            name="cifar10",
            num_train=placeholder(int),
            num_test=placeholder(int),
            classes=placeholder(tuple),
            subset_seed=0,
        )
    )
    config.data.update(num_train=num_train, num_test=num_test)
    return config
