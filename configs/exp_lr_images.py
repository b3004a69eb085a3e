"""Settings of `exp_lr` on CIFAR-10, and its twins: short runs that are equal as functions, or wrong on purpose."""

from . import common
from .common import Config, group

SEEDS = {"smoke": (0,), "small": (0, 1, 2), "paper": (0, 1, 2)}
STEPS = 20  # of the twins: as far as float32 runs of the same functions stay together
IMAGES = {"smoke": 64, "small": 64, "paper": 256}  # whose logits the twins compare at each step
ROUNDING = {"float32": 2.0**-23, "float64": 2.0**-52}
# Powers of two, so that rates and what is made of them are the same numbers in float32 and in float64.
RATE = {"smoke": 2.0**-10, "small": 2.0**-10, "paper": 2.0**-3}
DECAY = {"smoke": 2.0**-1, "small": 2.0**-1, "paper": 2.0**-11}
DROP = 2.0**-3
# Without momentum a product of 1/4 is allowed, of which half a step is seen before rounding is: the rate grows 100 times.
PLAIN_RATE, PLAIN_DECAY, PLAIN_STEPS = 2.0**-7, 2.0**5, 8


def duration(scale: str, smoke: int, small: int, paper: int) -> str:
    """Epochs of a scale, of this library's data: 390 steps of 128 at paper scale, where the paper has 391 with a part batch."""
    return f"{dict(smoke=smoke, small=small, paper=paper)[scale]} epochs"


def images(scale: str) -> Config:
    """CIFAR-10 with a scale-invariant PreResNet, momentum 0.9, step decay.

    At paper scale: PreResNet-32, batch 128, rate 0.1, l2 5e-4 (batch and l2 follow from the published growth 1.481 an epoch;
    it is 1.480 over the 390 whole batches of an epoch here).
    At small scale rate times l2 is 10 times larger and the run 70 times shorter: 10 e-foldings of |w|^2 under decay in the
    first phase (31 in the paper), 0.3 and 0.03 in the others (1.6 and 0.7). The rate itself is small, which only means
    that the first weights are long: a gentle start, in which float32 runs stay close for the first steps.
    """
    config = common.on_cifar10(common.base(), 5120, None)
    config.update(
        paper="exp_lr",
        record_scale=True,
        batch_size=32,
        log_every=20,
        checkpoint_every=400,
    )
    config.optimizer.update(learning_rate=0.005, momentum=0.9, l2=0.1)
    config.model = group(dict(name="preresnet", depth=8, width=8, norm="batch"))
    with config.ignore_type():
        config.probes = group(dict(accuracy=320, direction=160, outputs=160))
        config.steps = duration(scale, 3, 10, 300)
    config.schedule.update(
        name="step_decay",
        milestones=(duration(scale, 1, 6, 80), duration(scale, 2, 8, 120)),
    )
    if scale == "smoke":
        config.data.update(num_train=96, num_test=64)
        config.model.width = 4
        config.update(batch_size=16, log_every=3, checkpoint_every=9)
        with config.ignore_type():
            config.probes = group(dict(accuracy=6, direction=6, outputs=6))
    if scale == "paper":
        config.data.num_train = None
        config.model.update(depth=32, width=16)
        config.optimizer.update(learning_rate=0.1, l2=5e-4)
        config.update(batch_size=128, augment="crop_flip", step_loop="scan")
        with config.ignore_type():
            config.update(log_every="1 epochs", checkpoint_every="10 epochs")
            config.probes = group(dict.fromkeys(("accuracy", "direction", "outputs"), "1 epochs"))
    config.sweep = group(dict(seed=SEEDS[scale]))
    return config


def with_arms(config: Config, **arms: dict) -> Config:
    """The config with these arms: name -> overrides."""
    config.arms = group({name: group(overrides) for name, overrides in arms.items()})
    return config


def _short(scale: str, rate: float, l2: float, steps: int = STEPS) -> Config:
    """Some steps at a constant rate in float64, where rounding is far below what any of the wrong variants does."""
    config = images(scale)
    config.schedule.update(name="constant", milestones=())
    config.optimizer.update(learning_rate=rate, l2=l2)
    config.data.num_test = IMAGES[scale]
    with config.ignore_type():
        config.update(log_every=1, checkpoint_every=steps, compute_dtype="float64")
        config.steps = steps
        config.probes = group(dict(accuracy="end", direction="end", outputs=1))
    return config


def _one_ulp(rate: float, dtype: str = "float64", **more: dict) -> dict:
    """The run with weight decay again, its rate larger by one rounding."""
    return dict(optimizer=dict(learning_rate=rate * (1 + ROUNDING[dtype]))) | more


def twins(scale: str) -> Config:
    """A constant rate: TEXP and TEXP++, a TEXP whose buffer is not corrected, and a control that differs by one rounding."""
    rate = RATE[scale]
    return with_arms(
        _short(scale, rate, DECAY[scale]),
        weight_decay={},
        texp=dict(representation="texp"),
        wd_free=dict(representation="wd_free"),
        texp_uncorrected=dict(representation="texp", correct_buffer=False),
        one_ulp=_one_ulp(rate),
    )


def twins_drop(scale: str) -> Config:
    """The rate drops in the middle of the steps; TEXP-- is wrong from there on."""
    rate = RATE[scale]
    config = _short(scale, rate, DECAY[scale])
    config.schedule.update(name="step_decay", milestones=(STEPS // 2,), factor=DROP)
    return with_arms(
        config,
        weight_decay={},
        texp=dict(representation="texp"),
        wd_free=dict(representation="wd_free"),
        texp_no_drop=dict(representation="texp_no_drop"),
        one_ulp=_one_ulp(rate),
    )


def twins_drop_float32(scale: str) -> Config:
    """The same in float32, as experiments run. One rounding grows from step to step, and how far its control shows.

    It grows the faster, the larger the steps are, so at small scale the start is gentle: a small rate with the same product
    of rate and l2 as at paper scale, times 10, which only means longer first weights.
    """
    config = twins_drop(scale)
    config.compute_dtype = "float32"
    with config.ignore_type():
        config.arms.one_ulp = group(_one_ulp(RATE[scale], "float32"))
    return config


def twins_plain(scale: str) -> Config:
    """Without momentum. The wrong variant lacks the factor of half a step in the first rate: eta rho^(-2t)."""
    config = _short(scale, PLAIN_RATE, PLAIN_DECAY, PLAIN_STEPS)
    config.optimizer.momentum = 0.0
    rho = 1 - PLAIN_RATE * PLAIN_DECAY
    late = dict(learning_rate=PLAIN_RATE * rho, l2=PLAIN_DECAY / rho)
    return with_arms(
        config,
        weight_decay={},
        texp=dict(representation="texp"),
        texp_half_step=dict(representation="texp", optimizer=late),
        one_ulp=_one_ulp(PLAIN_RATE),
    )


def twins_norms(scale: str) -> Config:
    """Group, layer and instance norm in the place of BatchNorm; one seed, for this is mathematics."""
    rate = RATE[scale]
    config = _short(scale, rate, DECAY[scale])
    config.model.groups = 4 if scale == "smoke" else 8
    config.sweep.seed = (0,)
    arms = {}
    for norm in ("group", "layer", "instance"):
        model = dict(norm=norm)
        arms |= {
            f"{norm}_weight_decay": dict(model=model),
            f"{norm}_texp": dict(model=model, representation="texp"),
            f"{norm}_texp_uncorrected": dict(model=model, representation="texp", correct_buffer=False),
            f"{norm}_one_ulp": _one_ulp(rate, model=model),
        }
    return with_arms(config, **arms)
