"""An Exponential Learning Rate Schedule for Deep Learning (Li & Arora 2020).

Paper: arXiv 1910.07454, ICLR 2020. Claim: with normalisation, SGD with momentum and weight decay equals SGD without weight
decay under a learning rate that grows exponentially. `representation` is the form in which an arm trains; learning
rate, l2 and momentum are always those of the run with weight decay.

Run:    python -m lrjax.main --config=configs/exp_lr.py[:EXPERIMENT][,scale=smoke|small|paper]

experiment | claim | scales | run time (small, two CPU cores)
E1 | figure 1: a constant rate with weight decay, and an exponential rate | smoke, small, paper | 27 min on one core
E2 | figure 2: step decay with weight decay against TEXP and TEXP++ | smoke, small, paper | 23 min
E3 | is the instant drop needed: TEXP against TEXP-- | smoke, small, paper | 12 min
E4 | a constant exponent, with and without drops: their effect passes | smoke, small, paper | 14 min
E5 | cosine with weight decay, its exponential twin, and step decay | smoke, small, paper | 18 min
E6 | weight decay that drops instead of the rate, and its exponential twin | smoke, small, paper | 15 min
twins | the first 20 steps in float32: the same functions, step by step | smoke, small, paper | 5 min
E7 | the toy: weight decay or normalisation alone converge, both together do not | smoke, small, paper | 25 s
"""

from . import common
from .common import Config, group

DEFAULT = "E2"
PAPER_EPOCH = 391  # steps of an epoch of the paper, whose last batch is partial
SEEDS = {"smoke": (0,), "small": (0, 1), "paper": (0, 1, 2)}


def _duration(scale: str, smoke: int, small: int, paper: int) -> int | str:
    """Epochs as a duration; at paper scale in steps, because the paper's epoch has 391."""
    return {"smoke": f"{smoke} epochs", "small": f"{small} epochs", "paper": paper * PAPER_EPOCH}[scale]


def images(scale: str) -> Config:
    """CIFAR-10 with a scale-invariant PreResNet, momentum 0.9, step decay.

    At paper scale: PreResNet-32, batch 128, rate 0.1, l2 5e-4 (batch and l2 follow from the published growth 1.481 an epoch).
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
        config.probes = group(dict(accuracy=320, direction=160, outputs="20 until 20, 160"))
        config.steps = _duration(scale, 3, 10, 300)
    config.schedule.update(
        name="step_decay",
        milestones=(_duration(scale, 1, 6, 80), _duration(scale, 2, 8, 120)),
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
        config.update(batch_size=128, augment="crop_flip", log_every=PAPER_EPOCH, checkpoint_every=10 * PAPER_EPOCH)
        config.step_loop = "scan"
        with config.ignore_type():
            config.probes = group(dict.fromkeys(("accuracy", "direction", "outputs"), PAPER_EPOCH))
    config.sweep = group(dict(seed=SEEDS[scale]))
    return config


def _arms(config: Config, **arms: dict) -> Config:
    config.arms = group({name: group(overrides) for name, overrides in arms.items()})
    return config


def constant_rate(scale: str) -> Config:
    """E1: a constant rate, with weight decay and with an exponential rate instead."""
    config = images(scale)
    config.schedule.update(name="constant", milestones=())
    with config.ignore_type():
        config.steps = _duration(scale, 2, 12, 160)  # at 6 epochs |w| was not at equilibrium yet
    if scale == "small":
        config.sweep.seed = (0, 1, 2)
    return _arms(config, weight_decay={}, texp=dict(representation="texp"))


def step_decay(scale: str) -> Config:
    """E2: step decay with weight decay, TEXP, and TEXP++."""
    config = images(scale)
    if scale == "small":
        config.sweep.seed = (0, 1, 2)
    return _arms(config, weight_decay={}, texp=dict(representation="texp"), wd_free=dict(representation="wd_free"))


def no_drop(scale: str) -> Config:
    """E3: TEXP, and TEXP-- which keeps its exponents but not its drops."""
    return _arms(images(scale), texp=dict(representation="texp"), texp_no_drop=dict(representation="texp_no_drop"))


def fixed_exponent(scale: str) -> Config:
    """E4: the exponent of the first phase throughout, with and without drops of the rate.

    A phase must last several times as long as the rate takes to grow tenfold, which is what a drop takes away: 6 epochs in
    the paper, of phases of 40; 230 steps at small scale, of phases of 960.
    """
    config = images(scale)
    with config.ignore_type():
        config.steps = _duration(scale, 3, 18, 160)
    if scale == "small":
        config.schedule.milestones = ("6 epochs", "12 epochs")
    return _arms(
        config,
        drops=dict(representation="texp_fixed_exponent"),
        no_drops=dict(representation="texp_fixed_exponent", schedule=dict(name="constant", milestones=())),
    )


def cosine(scale: str) -> Config:
    """E5: cosine with weight decay, the same without it, and step decay."""
    config = images(scale)
    with config.ignore_type():
        config.steps = _duration(scale, 3, 10, 200)
    curve = dict(name="cosine", milestones=())
    return _arms(
        config,
        cosine=dict(schedule=curve),
        cosine_wd_free=dict(schedule=curve, representation="wd_free"),
        step_decay={},
    )


def decaying_l2(scale: str) -> Config:
    """E6: the rate stays and weight decay drops; its twin TEXP--; and step decay of the rate."""
    config = images(scale)
    drops = dict(name="step_decay", milestones=config.schedule.milestones)
    constant = dict(name="constant", milestones=())
    return _arms(
        config,
        l2_decay=dict(schedule=constant, l2_schedule=drops),
        texp_no_drop=dict(representation="texp_no_drop"),
        step_decay={},
    )


def twins(scale: str) -> Config:
    """Logits at each of the first 20 steps, and those of a TEXP whose buffer is not corrected.

    Rounding grows from step to step, faster the larger the steps are, so at small scale the start is gentler still: a
    smaller rate with the same product of rate and l2, which only means longer first weights.
    """
    config = images(scale)
    config.schedule.update(name="constant", milestones=())
    config.update(log_every=1, checkpoint_every=20)
    with config.ignore_type():
        config.steps = 20
        config.probes = group(dict(accuracy="end", direction="end", outputs=1))
    config.sweep.seed = (0,) if scale == "smoke" else (0, 1, 2)
    if scale == "small":
        config.optimizer.update(learning_rate=0.001, l2=0.5)
    uncorrected = dict(representation="texp", correct_buffer=False)
    return _arms(
        config,
        weight_decay={},
        texp=dict(representation="texp"),
        wd_free=dict(representation="wd_free"),
        texp_uncorrected=uncorrected,
    )


def toy(scale: str) -> Config:
    """E7: one linear unit. Constants of the noisy toy are ours: 20 inputs, batch 8, rate 0.5, l2 4e-3."""
    config = common.base()
    config.update(
        paper="exp_lr",
        loss="square",
        batch_size=1,
        steps=20_000,
        log_every=500,
        checkpoint_every=20_000,
        lanes_per_device=8,
    )
    config.data = group(dict(name="single_input", n=65_536, dim=2))
    config.model = group(dict(name="linear_direction", normalised=True))
    config.optimizer.update(learning_rate=0.1, l2=0.05)
    config.record_scale = True
    config.probes = group(dict(target_angle=500))
    noisy = dict(
        loss="logistic",
        batch_size=8,
        steps=40_000,
        data=dict(name="halfspace", dim=20),
        optimizer=dict(learning_rate=0.5),
    )

    def with_l2(arm: dict, l2: float, **more: dict) -> dict:
        return arm | dict(optimizer=arm.get("optimizer", {}) | dict(l2=l2)) | more

    _arms(
        config,
        exact_norm=with_l2({}, 0.0),
        exact_both=with_l2({}, 0.05),
        noisy_decay=with_l2(noisy, 4e-3, model=dict(normalised=False)),
        noisy_norm=with_l2(noisy, 0.0),
        noisy_both=with_l2(noisy, 4e-3),
    )
    config.sweep = group(dict(seed=tuple(range({"smoke": 1, "small": 3, "paper": 10}[scale]))))
    if scale == "smoke":
        config.data.n = 1024
        config.update(log_every=100, probes=group(dict(target_angle=100)), checkpoint_every=1000, steps=1000)
        for arm in config.arms.values():
            arm.steps = 1000
    return config


EXPERIMENTS = {
    "E1": constant_rate,
    "E2": step_decay,
    "E3": no_drop,
    "E4": fixed_exponent,
    "E5": cosine,
    "E6": decaying_l2,
    "twins": twins,
    "E7": toy,
}
