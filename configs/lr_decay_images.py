"""Experiments of `lr_decay` on images, and the keys that all of its experiments share."""

from ml_collections.config_dict import placeholder

from . import common
from .common import Config, group

PAPER_SEEDS = (0, 1, 2)


def base(scale: str) -> Config:
    """Keys of all experiments: SGD with Nesterov momentum, L2 added to the gradient before it."""
    config = common.base()
    config.paper = "lr_decay"
    config.optimizer.update(name="sgd", learning_rate=0.1, momentum=0.9, l2=5e-4)
    with config.optimizer.unlocked():
        config.optimizer.nesterov = placeholder(bool)
    config.optimizer.nesterov = True
    return config


def step_decay(*at: int) -> dict:
    return dict(name="step_decay", milestones=at, factor=0.1)


def rate(value: float, **more) -> dict:
    return dict(optimizer=dict(learning_rate=value), **more)


def decayed_at(*steps: int, setting: str = "", **optimizer) -> dict[str, dict]:
    """Arms: a constant rate, and runs that go on with it from each of the steps at a tenth of the rate.

    Args:
        *steps: of the decays.
        setting: a name for other settings of the optimizer; it is put before the arms' names.
        **optimizer: those settings; the rate is 0.1 unless given.
    """
    own = dict(optimizer=dict(learning_rate=0.1) | optimizer)
    before = setting and f"{setting}_"
    arms = {f"{before}constant": own}
    for number, step in enumerate(steps, start=1):
        start = dict(arm=f"{before}constant", at=step)
        arms[f"{before}decay_{number}"] = own | dict(schedule=step_decay(step), start=start)
    return arms


def images(scale: str) -> Config:
    """CIFAR-10 and a wide ResNet: WRN-28-10 at scale=paper, WRN-10-1 on a subset below."""
    config = common.on_cifar10(base(scale), 2048, 1000)
    config.batch_size = 128
    config.model = group(dict(name="wide_resnet", depth=10, widen=1, width=16))
    config.update(steps=30 * 16, log_every=16, checkpoint_every=160)
    config.probes = group(dict(accuracy=16))
    if scale == "smoke":
        config.data.update(num_train=64, num_test=32)
        config.model.width = 4
        config.update(batch_size=32, steps=12, log_every=2, checkpoint_every=6)
        config.probes.accuracy = 2
    if scale == "paper":
        config.data.update(num_train=None, num_test=None)
        config.model = group(dict(name="wide_resnet", depth=28, widen=10, width=16))
        config.update(steps=200 * 390, log_every=390, checkpoint_every=3900, augment="crop_flip", step_loop="scan")
        config.probes.accuracy = 390
    return config


def sgd_decay(scale: str) -> Config:
    """L2: decay at several epochs; each run goes on with the undecayed one, which is the control."""
    config = images(scale)
    at = {"smoke": (4, 8), "small": (10 * 16, 20 * 16), "paper": (30 * 390, 60 * 390, 100 * 390)}[scale]
    config.arms = group(decayed_at(*at))
    if scale == "paper":
        config.steps = 150 * 390
        config.sweep = group(dict(seed=PAPER_SEEDS))
    return config


def full_batch(scale: str) -> Config:
    """L1: the gradient of the whole training set, in parts whose examples never change; BatchNorm has each part's.

    At paper scale with each of a larger rate, momentum and weight decay beside: the paper's settings are not known.
    """
    config = images(scale)
    config.optimizer.update(momentum=None, l2=None, nesterov=None)
    config.update(order="cyclic", augment="none")
    if scale == "smoke":
        config.update(batch_size=64, micro_batch=32)
    else:
        n, part, steps, log = {"small": (512, 256, 150, 10), "paper": (50_000, 500, 1000, 10)}[scale]
        config.data.num_train = n
        config.update(batch_size=n, micro_batch=part, steps=steps, log_every=log, checkpoint_every=5 * log)
        config.probes.accuracy = log
    config.batch_statistics = "micro_batch"
    at = {"smoke": (4, 8), "small": (50, 100), "paper": (200, 400, 600)}[scale]
    arms = decayed_at(*at)
    if scale == "paper":
        arms |= decayed_at(*at, setting="larger", learning_rate=0.5)
        arms |= decayed_at(*at, setting="momentum", momentum=0.9)
        arms |= decayed_at(*at, setting="l2", l2=5e-4)
        config.sweep = group(dict(seed=PAPER_SEEDS))
    config.arms = group(arms)
    return config


def explained(scale: str) -> Config:
    """L9: the measure of Kalimeris et al. 2019 on the predictions of each stage.

    On all 10,000 test images, where its estimator is biased by 0.015 bit at most; on 1000 it is by more than 0.3.
    """
    config = images(scale)
    if scale != "smoke":
        config.data.num_test = None
        config.probes.accuracy = {"small": 80, "paper": 390}[scale]
        config.sweep = group(dict(seed=PAPER_SEEDS))
    config.probes.explained = config.probes.accuracy
    first = {"smoke": (4, 8), "small": (10 * 16, 20 * 16), "paper": (60 * 390, 120 * 390)}[scale]
    config.arms = group(dict(decay=rate(0.1, schedule=step_decay(*first))))
    return config


def patches(scale: str) -> Config:
    """L8: patches that code the class, on four fifths of the images; of those one fifth has nothing else.

    A large rate that is annealed half way, a small rate, and a small rate with noise on the activations for half of the run
    (not at small scale: no claim reads it).
    """
    config = images(scale)
    config.model.activation_noise = 0.0
    config.data.update(name="cifar10_patches", patch_size=7, patched=0.8, patch_only=0.2, scale=1.75)
    steps = {"smoke": 12, "small": 30 * 16, "paper": 60 * 390}[scale]
    config.steps = steps
    if scale == "paper":
        config.model.update(depth=16, widen=10)
        config.augment = "none"
    half = steps // 2
    arms = dict(
        large=rate(0.1, schedule=dict(name="step_decay", milestones=(half,), factor=0.04)),
        small=rate(0.004),
    )
    if scale == "small":
        config.probes.accuracy = 48
    else:
        arms |= dict(
            small_noise=rate(0.004, steps=half, model=dict(activation_noise=0.4)),
            small_after_noise=rate(0.004, start=dict(arm="small_noise", at="end")),
        )
    if scale == "paper":
        config.sweep = group(dict(seed=PAPER_SEEDS))
    config.arms = group(arms)
    return config


# name -> (source, format, splits, classes, training and test images); the targets of the paper that tfds lacks are folders.
TARGETS = {
    "caltech256": ("caltech256", "folder", ("train", "test"), 256, 15_360, 14_420),
    "cub200": ("caltech_birds2011", "tfds", ("train", "test"), 200, 5994, 5794),
    "indoors": ("mit_indoors", "folder", ("train", "test"), 67, 5360, 1340),
    "sketch": ("sketch250", "folder", ("train", "test"), 250, 15_000, 5000),
}


def image_set(source: str, form: str, splits: tuple[str, str], classes: int, train: int, test: int) -> dict:
    return dict(
        name="image_set",
        source=source,
        format=form,
        train_split=splits[0],
        test_split=splits[1],
        num_classes=classes,
        full_train=train,
        full_test=test,
        resident=0,
    )


def chunk(epoch: int) -> int:
    """Steps of a chunk where images of 224 x 224 are streamed: at most a dozen, of which an epoch is a multiple."""
    return max(steps for steps in range(1, 13) if epoch % steps == 0)


def on_target(
    name: str, data: dict, ends: tuple[int, ...], epoch: int, batch_size: int, epochs: tuple[int, int]
) -> dict[str, dict]:
    """Arms: the snapshot at the end of each stage on one target, with frozen features and fine-tuned."""
    arms = {}
    for mode, body_rate, count in zip(("fix", "finetune"), (0.0, 1.0), epochs, strict=True):
        steps = count * epoch
        for number, at in enumerate(ends, start=1):
            arms[f"{name}_{mode}_{number}"] = dict(
                data=data,
                optimizer=dict(learning_rate=0.01, l2=5e-4, nesterov=False),
                fine_tune=dict(head_rate=10.0, body_rate=body_rate),
                batch_size=batch_size,
                steps=steps,
                log_every=chunk(epoch) if data.get("resident") else epoch,
                checkpoint_every=steps,
                probes=dict(accuracy=epoch),
                schedule=step_decay(2 * steps // 3),
                start=dict(arm="source", at=at, what="weights", fresh=("head",)),
            )
    return arms


def transfer(scale: str) -> Config:
    """L7: a source in three stages; each snapshot is trained on each target, frozen and whole."""
    config = images(scale)
    size = 224 if scale == "paper" else 32
    config.data = group(dict(image_size=size, first_class=0, subset_seed=0))
    config.data.update(num_train=placeholder(int), num_test=placeholder(int))
    config.data.update(image_set("tiny_imagenet32", "tfds", ("train", "validation"), 100, 25_000, 5000))
    config.model.update(depth=10, widen=1)
    batch, epochs = 128, (10, 5, 5)
    targets = dict(others=dict(first_class=100), cifar10=dict(source="cifar10", test_split="test", num_classes=10))
    few = dict(others=2000, cifar10=1000)
    target_batch, target_epochs = 64, (6, 4)
    if scale == "paper":
        batch, epochs, target_batch, target_epochs = 256, (30, 30, 30), 64, (100, 50)
        config.data.update(image_set("imagenet2012", "tfds", ("train", "validation"), 1000, 1_281_167, 50_000))
        config.model = group(dict(name="resnet50", width=64))
        config.augment = "crop_flip"
        config.optimizer.l2 = 1e-4
        config.data.update(resident=8192, num_test=10_000)  # all images of the test split would take 30 GB
        targets = {name: image_set(*facts) | dict(resident=4096) for name, facts in TARGETS.items()}
        few = {name: facts[4] for name, facts in TARGETS.items()}
    else:
        config.data.update(num_train=4000, num_test=2000)
    if scale == "smoke":
        config.data.update(num_train=64, num_test=32)
        batch, epochs, target_batch, target_epochs = 32, (2, 2, 2), 16, (2, 2)
        few = dict.fromkeys(targets, 32)
    epoch = (config.data.num_train or config.data.full_train) // batch
    ends = tuple(epoch * sum(epochs[: i + 1]) for i in range(3))
    config.update(batch_size=batch, steps=ends[-1], log_every=epoch, checkpoint_every=epoch)
    if config.data.resident:
        config.log_every = chunk(epoch)
    config.probes.accuracy = epoch
    arms = dict(source=rate(0.1, schedule=step_decay(*ends[:2])))
    for name, data in targets.items():
        own = data if scale == "paper" else data | dict(num_train=few[name])
        arms |= on_target(name, own, ends, max(1, few[name] // target_batch), target_batch, target_epochs)
    config.arms = group(arms)
    if scale == "paper":
        config.sweep = group(dict(seed=PAPER_SEEDS))
    return config
