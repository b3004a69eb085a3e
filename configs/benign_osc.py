"""Benign Oscillation of SGD with Large Learning Rates (Lu et al. 2023).

Paper: arXiv 2310.17074, ICLR 2024. Claim: SGD whose learning rate is so large that the output on strong examples
oscillates learns the weak feature too; with a small rate it is fitted by noise. e = kappa eta |u|^2 / m is the rate in
units of the threshold: the paper's window m/(4|u|^2) <= eta <= 2m/(5|u|^2) is 1 <= e <= 1.6.

Run:    python -m lrjax.main --config=configs/benign_osc.py[:EXPERIMENT][,scale=smoke|small|medium|paper]

experiment | claim | scales | run time (small, two CPU cores)
CLEAR | the switch at e = 1: every weak-only point right above it, chance below | all | 25 s
E1 | one example: the weak feature grows on the logistic curve to capacity 1 - 1/e | all | 10 s
E2 | the paper's sizes: 99.38 % against 93.75 % test accuracy | all | 15 s
phase | where oscillation helps: noise, and the number of weak examples, against e | all | 90 s
ablate | schedule, batch, label noise, order, width, lengths of v and of the start, averaging | all | 3 min
map | the cubic map behind it: 2-cycle, chaos, sign flips | all | 20 s
E0 | CIFAR-10: a large rate oscillates and generalises better (SimpleCNN, ResNet-18) | all | 8 min
E0_planted | CIFAR-10 with a planted strong feature, tested without it (our own analogue) | all | 10 min

At scale=small E0 and E0_planted are demonstrations on one seed: 300 steps on 2048 images reach 30 to 40 %, so that their
claims are not judged there (premises "learned" and "seeds"), whatever a third seed would cost; larger scales judge them.
All else has five seeds, three where a seed changes nothing but rounding (E1, map).
"""

from ml_collections.config_dict import placeholder

from . import common
from .common import Config, group, in_tensorfloat32

DEFAULT = "CLEAR"


def two_layer() -> Config:
    """Keys of the synthetic experiments; the numbers are those of CLEAR."""
    config = common.base()
    config.update(
        paper="benign_osc",
        engine="gram",
        loss="square",
        batch_size=1,
        steps=16_000,
        log_every=250,
        checkpoint_every=16_000,
        divergence_loss=1e6,  # |f| > 1e3
        e=placeholder(float),
    )
    config.e = 1.25
    config.data = group(
        dict(
            name="signal_noise",
            n=64,
            n_weak=8,
            dim=400,
            u_norm=1.0,
            v_norm=0.1,
            kn=placeholder(float),
            sigma_p=placeholder(float),
            weak_slot="zero",
            patch_order=(0, 1, 2),
            balanced_labels=True,
            weak_by_chance=False,
            rho=0.125,
            noise_projected=True,
            num_test=2000,
        )
    )
    config.data.kn = 12.0
    config.model = group(
        dict(
            name="two_layer",
            width=16,
            share_filters=True,
            init="normal",
            init_scale=0.01,
            strong_start=0.3,
            weak_start=1e-5,
        )
    )
    config.probes = group(dict(features=250, test_accuracy=1000, curvature="end"))
    return config


SEEDS = {"smoke": (0, 1), "small": (0, 1, 2, 3, 4), "paper": tuple(range(20))}
FRESH = {scale: tuple(seed + 10 for seed in seeds) for scale, seeds in SEEDS.items()}
ROUNDINGS = (0, 1, 2)  # seeds of the planted start: they turn u and v, which changes nothing but rounding


def _short(config: Config) -> None:
    """Smoke scale: seconds, for tests."""
    config.steps, config.checkpoint_every = 2000, 500
    for arm in config.arms.values():
        if "steps" in arm:
            arm.steps = 2000
    if "test_accuracy" in config.probes:
        config.probes.test_accuracy = 500


def clear(scale: str) -> Config:
    """The default: e across the switch at 1, and e = 0.2 for as long as any run could need."""
    config = two_layer()
    config.sweep = group(dict(e=(0.5, 0.9, 1.0, 1.1, 1.25, 1.4, 1.5), seed=SEEDS[scale]))
    config.arms = group(
        dict(
            main=dict(),
            small_rate=dict(e=0.2, steps=32_000),
            time_matched=dict(e=0.2, steps=100_000),
        )
    )
    if scale == "smoke":
        config.sweep.e = (0.5, 1.25)
        _short(config)
    return config


def single_example(scale: str) -> Config:
    """E1: one strong example without noise, started at U = 0.3, V = 1e-5."""
    config = two_layer()
    config.data.update(n=1, n_weak=0, dim=4, kn=0.0)
    config.model.update(width=8, init="planted")
    config.update(steps=20_000, log_every=50, checkpoint_every=20_000)
    config.probes = group(dict(features=50, curvature="end"))
    config.sweep = group(dict(e=(0.2, 0.5, 0.9, 1.1, 1.2, 1.25, 1.4, 1.5), seed=ROUNDINGS))
    if scale == "smoke":
        config.sweep.update(e=(0.5, 1.25), seed=ROUNDINGS[:2])
        _short(config)
    return config


def paper_sizes(scale: str) -> Config:
    """E2: d = 64, n = 16, m = 8 as in the paper; what the paper leaves out is our choice."""
    config = two_layer()
    config.data.update(n=16, n_weak=2, dim=64, kn=None, sigma_p=0.03)
    config.model.update(width=8, init_scale=0.1)
    config.steps = 20_000
    config.sweep = group(dict(e=(0.9, 1.1, 1.25, 1.4), seed=SEEDS[scale]))
    small = dict(steps=40_000, sweep=dict(e=(0.1, 0.2)))
    config.arms = group(dict(main=dict(), small_rate=small, long=dict(e=1.1, steps=40_000)))
    if scale == "smoke":
        config.sweep.e = (1.25,)
        config.arms.small_rate.sweep.e = (0.2,)
        _short(config)
    return config


def phase(scale: str) -> Config:
    """Two phase tables: noise strength kn against e, and number of weak examples against e."""
    config = two_layer()
    # None of the seeds on which the judged cells were chosen.
    config.sweep = group(dict(e=(0.5, 0.9, 1.1, 1.25, 1.4, 1.5), seed=FRESH[scale]))
    noise = dict(sweep=dict(data=dict(kn=(1.0, 4.0, 12.0, 28.0, 40.0, 60.0))))
    weak = dict(sweep=dict(data=dict(n_weak=(0, 4, 8, 16, 32))))
    config.arms = group(dict(noise=noise, n_weak=weak))
    if scale == "smoke":
        config.sweep.update(e=(0.5, 1.25), seed=(0,))
        config.arms.noise.sweep.data.kn, config.arms.n_weak.sweep.data.n_weak = (4.0, 60.0), (0, 32)
        _short(config)
    return config


BATCH_RATES = {"": 2.6, "_stable": 2.0}
STARTS = (0.0025, 0.005, 0.01, 0.02)  # sigma_0


def _variants() -> dict[str, dict]:
    """Arms: what the effect should not depend on, each with a control at e = 0.9."""
    changes = dict(
        wide=dict(model=dict(width=64)),
        iid=dict(order="iid"),
        cyclic=dict(order="cyclic"),
        unshared_filters=dict(model=dict(share_filters=False)),
    )
    arms = changes | {f"{name}_stable": dict(e=0.9, **change) for name, change in changes.items()}
    # e n_sy / n is 1.14 and 0.88. The share of strong examples varies: a batch of 4 diverges from 0.92 on, one of 16 at
    # 1.18 in one seed of five, which is why the rate is lower than that of the full batch.
    for batch in (16, 32):
        arms |= {f"batch_{batch}{name}": dict(batch_size=batch, e=e) for name, e in BATCH_RATES.items()}
    return arms


def ablate(scale: str) -> Config:
    """Ablations of the effect, and the average of the iterates."""
    config = two_layer()
    config.averaging_decay = 0.999
    # None of the seeds on which the rates of its arms were chosen.
    config.sweep = group(dict(seed=FRESH[scale]))
    small = dict(data=dict(n_weak=2), sweep=dict(model=dict(init_scale=STARTS)))
    config.arms = group(
        dict(
            reference=dict(),
            stable=dict(e=0.9),
            decay_8k=dict(schedule=dict(name="step_decay", milestones=(8000,), factor=0.08)),
            decay_2k=dict(schedule=dict(name="step_decay", milestones=(2000,), factor=0.08)),
            full_batch_stable=dict(batch_size="full", e=0.9, steps=8000),
            full_batch_oscillating=dict(batch_size="full", e=1.25, steps=8000),
            label_noise_small_rate=dict(label_noise=0.4, e=0.2, steps=32_000),
            label_noise=dict(label_noise=0.4, e=0.9),
            weaker=dict(steps=64_000, sweep=dict(data=dict(v_norm=(0.05, 0.0707)))),
            long=dict(steps=40_000, sweep=dict(e=(1.1, 1.2))),
            start=dict(e=0.5, **small),
            start_oscillating=dict(e=1.25, **small),
            averaged=dict(averaging="ema", steps=6000),
            **_variants(),
        )
    )
    if scale == "smoke":
        _short(config)
        config.arms.long.sweep.e = (1.1,)
        config.arms.start.sweep.model.init_scale = config.arms.start_oscillating.sweep.model.init_scale = STARTS[:2]
        config.arms.decay_8k.schedule.milestones = (1500,)
        config.arms.decay_2k.schedule.milestones = (500,)
    return config


def cubic_map(scale: str) -> Config:
    """One neuron, one example: z = y f moves by z (1 + e - e z)^2 exactly, up to the first sign flip."""
    config = two_layer()
    config.data.update(n=1, n_weak=0, dim=3, kn=0.0)
    config.model.update(width=1, init="planted", weak_start=0.0)
    config.update(steps=4000, log_every=500, checkpoint_every=4000, lanes_per_device=64)
    config.probes = group()
    count = {"smoke": 34, "small": 331, "paper": 1651}[scale]
    config.sweep = group(dict(e=tuple(round(1.65 * (i + 1) / count, 6) for i in range(count)), seed=ROUNDINGS))
    return config


LARGE = dict(name="large_step", growth=1.05)
DECAYED = dict(name="large_step", growth=1.0)  # the same drops at the same steps, from a constant rate


def images(scale: str) -> Config:
    """Keys of the CIFAR-10 experiments. The paper's settings are unknown; these are ours."""
    config = common.on_cifar10(common.base(), 2048, 2000)
    config.update(
        paper="benign_osc",
        batch_size=32,
        steps=300,
        log_every=10,
        checkpoint_every=100,
    )
    config.model = group(dict(name="simple_cnn", width=32))
    config.probes = group(dict(accuracy=100))
    if scale == "smoke":
        config.data.update(num_train=128, num_test=100)
        config.model.width = 4
        config.update(steps=6, log_every=2, checkpoint_every=4, batch_size=16)
        config.probes.accuracy = 6
    if scale == "paper":
        config.data.update(num_train=None, num_test=None)
        with config.ignore_type():
            config.update(
                steps="100 epochs", batch_size=256, log_every=195, checkpoint_every=1950, probes=dict(accuracy=195)
            )
    return config


def _large_and_small(scale: str) -> dict[str, dict]:
    """Arms: SimpleCNN and ResNet-18, each at a large rate, at a constant small one, and at a small one with the same drops."""
    widths = {"smoke": (4, 4), "small": (32, 16), "paper": (32, 64)}[scale]
    simple, resnet = dict(name="simple_cnn", width=widths[0]), dict(name="resnet18", width=widths[1])
    return dict(
        simple_cnn_large=dict(model=simple, optimizer=dict(learning_rate=0.05), schedule=LARGE),
        simple_cnn_small=dict(model=simple, optimizer=dict(learning_rate=0.01)),
        simple_cnn_decayed=dict(model=simple, optimizer=dict(learning_rate=0.01), schedule=DECAYED),
        resnet18_large=dict(model=resnet, optimizer=dict(learning_rate=0.75), schedule=LARGE),
        resnet18_small=dict(model=resnet, optimizer=dict(learning_rate=0.01)),
        resnet18_decayed=dict(model=resnet, optimizer=dict(learning_rate=0.01), schedule=DECAYED),
    )


def cifar10(scale: str) -> Config:
    """E0: natural images, large against small rate."""
    config = images(scale)
    arms = _large_and_small(scale)
    config.arms = group(arms)
    if scale == "paper":
        config.sweep = group(dict(seed=(0, 1, 2)))
        augmented = dict(model=arms["resnet18_small"]["model"], augment="crop_flip")
        for name, rate in (("augmented_large", 0.05), ("augmented_small", 0.002)):
            config.arms[name] = group(augmented | dict(optimizer=dict(learning_rate=rate, momentum=0.9, l2=5e-4)))
    return config


def planted(scale: str) -> Config:
    """E0_planted: a class-coded patch on a fraction 1 - rho of the training images; tested without it. Ours."""
    config = images(scale)
    config.data.update(name="cifar10_planted", rho=0.1, contrast=2.0, patch_size=4)
    config.arms = group(_large_and_small(scale))
    if scale == "paper":
        config.sweep = group(dict(seed=(0, 1, 2), data=dict(rho=(0.01, 0.1, 0.3), contrast=(1.0, 2.0, 4.0))))
    return config


EXPERIMENTS = {
    "CLEAR": clear,
    "E1": single_example,
    "E2": paper_sizes,
    "phase": phase,
    "ablate": ablate,
    "map": cubic_map,
    "E0": cifar10,
    "E0_planted": planted,
}


def _resnet_alone(config: Config) -> None:
    """ResNet-18 alone, for 15 epochs in batches of 64, as many steps as 60 epochs have in batches of 256; one kind of patch."""
    for name in list(config.arms):
        if not name.startswith("resnet18_"):
            del config.arms[name]
    if "data" in config.sweep:
        del config.sweep["data"]
    config.update(batch_size=64, steps="15 epochs", log_every=390, checkpoint_every=3900, probes=dict(accuracy=390))


# experiment -> what makes its paper scale shorter, in place; the synthetic ones are short at paper scale
MEDIUM = dict.fromkeys(("E0", "E0_planted"), in_tensorfloat32(_resnet_alone))
