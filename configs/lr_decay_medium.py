"""What makes the paper scale of `lr_decay` last 8 minutes at most on one H100: fewer epochs, three seeds, fewer arms, TF32.

By the estimates of `--dry_run`, which say what they are from. On 8 x 8 patterns are learned sooner: WRN-10-1 has at the end
of stage 1 complex accuracy .72, .85, .86 (three seeds), on 32 x 32 .66, .69, .69 (python -m tests.benchmarks.image_size).
Each function changes the paper scale of its experiment in place; its arms are those that a claim reads.
"""

from collections.abc import Callable

from .common import Config, group, in_tensorfloat32
from .lr_decay_images import decayed_at, rate, transfer

SEEDS = (0, 1, 2)
PS10_EPOCH, CIFAR_EPOCH = 156, 390


def in_proportion(config: Config, share: float, epoch: int) -> None:
    """Steps, decays and branch points times a share, to whole epochs.

    Args:
        config: with its arms; changed in place.
        share: of the steps.
        epoch: steps.
    """

    def short(steps: int) -> int:
        return max(1, round(steps * share / epoch)) * epoch

    for own in (config, *config.arms.values()):
        if "steps" in own:
            own.steps = short(own.steps)
        schedule, start = own.get("schedule", {}), own.get("start", {})
        if schedule.get("milestones"):
            schedule.milestones = tuple(map(short, schedule.milestones))
        if start.get("at") and start["at"] != "end":
            start.at = short(start["at"])
    config.checkpoint_every = min(config.checkpoint_every, config.steps)


def keep(config: Config, *arms: str) -> None:
    """Leaves out all other arms."""
    config.arms = group({arm: config.arms[arm] for arm in config.arms if arm in arms})


def stages(config: Config) -> None:
    """L3: stages of 6 epochs, 36 in all, 3 seeds."""
    in_proportion(config, 1 / 5, PS10_EPOCH)
    config.sweep.seed = SEEDS


def noise(config: Config) -> None:
    """L4: 6000 examples with more jitter, which a network memorises in 75 epochs, 3 seeds, without the rate of 0.001."""
    epoch = 6000 // 128
    config.data.update(n=6000, num_test=4000, jitter=0.2)
    for arm in [arm for arm in config.arms if arm.endswith("constant_2")]:
        del config.arms[arm]
    for arm in config.arms.values():
        if "schedule" in arm:
            arm.schedule.milestones = (25 * epoch, 50 * epoch)
    config.update(steps=75 * epoch, log_every=epoch, checkpoint_every=25 * epoch)
    config.probes.subsets = epoch
    config.sweep.seed = SEEDS


def root_cause(config: Config) -> None:
    """L5: 720 steps, 3 seeds; curvature of gradient descent without momentum alone."""
    epoch, steps = 15, 720
    config.update(steps=steps, log_every=epoch, checkpoint_every=steps // 3, micro_batch=0, batch_statistics="batch")
    config.probes = group(dict(subsets=3 * epoch))
    config.spectra.batch_size = config.data.n
    for name, arm in config.arms.items():
        for key in ("micro_batch", "batch_statistics"):
            if key in arm:
                del arm[key]
        if name.endswith("decay"):
            arm.schedule.milestones = (steps // 3, 2 * steps // 3)
            arm.start.at = steps // 3
    config.arms.gradient_descent.update(steps=450, probes=dict(spectrum=3 * epoch, batch_sharpness=3 * epoch))
    config.sweep.seed = SEEDS


def rules(config: Config) -> None:
    """L6: stages of 12 epochs, 3 seeds, and the arms that claims read: step decay, AutoDecay and the growing batch."""
    keep(config, "step_decay", "auto_decay", "growing_batch_1", "growing_batch_2", "growing_batch_3")
    stage = 12 * PS10_EPOCH
    config.arms.step_decay.schedule.milestones = (stage, 2 * stage)
    config.update(steps=3 * stage, checkpoint_every=stage)
    config.arms.auto_decay.steps = 9 * stage // 2
    config.arms.growing_batch_1.steps = stage
    at = stage
    for number, (epoch, log) in enumerate(((15, 36), (2, 12)), start=2):
        at += 12 * epoch
        config.arms[f"growing_batch_{number}"].update(steps=at, log_every=log, probes=dict(subsets=log))
    config.sweep.seed = SEEDS


def average(config: Config) -> None:
    """L10: stages of 20 epochs, 3 seeds."""
    in_proportion(config, 2 / 3, PS10_EPOCH)
    config.sweep.seed = SEEDS


def transfer_patterns(config: Config) -> None:
    """L7_ps10: stages of 20 epochs, 3 seeds; transfer as at paper scale."""
    stage = 20 * PS10_EPOCH
    config.update(steps=3 * stage, checkpoint_every=stage)
    config.arms.source.schedule.milestones = (stage, 2 * stage)
    for name, arm in config.arms.items():
        if name != "source":
            arm.start.at = int(name[-1]) * stage
    config.sweep.seed = SEEDS


def smaller_network(config: Config) -> None:
    """WRN-16-4 in place of WRN-28-10 and of WRN-16-10."""
    config.model.update(depth=16, widen=4)


def sgd_decay(config: Config) -> None:
    """L2: WRN-16-4, 20 epochs in place of 150, with decays at two of the three places, 4 and 8, in proportion."""
    smaller_network(config)
    in_proportion(config, 20 / 150, CIFAR_EPOCH)
    del config.arms["decay_3"]


def full_batch(config: Config) -> None:
    """L1: WRN-16-4 on 1000 images, 400 steps, the rate of 0.5, which gets farthest in so few, two decays; curvature too."""
    smaller_network(config)
    config.data.num_train = 1000
    config.update(batch_size=1000, steps=400, log_every=20, checkpoint_every=80)
    config.probes.update(accuracy=20, spectrum=40, batch_sharpness=40)
    config.spectra.update(k=1, examples=1000, batch_size=config.micro_batch, batch_statistics=True)
    config.arms = group(decayed_at(80, 160, setting="larger", learning_rate=0.5))


def explained(config: Config) -> None:
    """L9: WRN-16-4, 40 epochs in place of 200, decays at 12 and 24."""
    smaller_network(config)
    in_proportion(config, 1 / 5, CIFAR_EPOCH)


def patches(config: Config) -> None:
    """L8: WRN-16-4, 20 epochs in place of 60, without the noise on activations, which no claim reads."""
    smaller_network(config)
    in_proportion(config, 1 / 3, CIFAR_EPOCH)
    keep(config, "large", "small")


def on_tiny_images(config: Config) -> None:
    """L7: no ImageNet in 8 minutes: WRN-16-4 on 100 classes of Tiny ImageNet at 32 x 32, to the others and to CIFAR-10."""
    small = transfer("small")
    config.data = small.data
    config.data.update(num_train=None, num_test=None)
    config.model = group(dict(name="wide_resnet", depth=16, widen=4, width=16))
    config.optimizer.l2 = 5e-4
    config.probes = small.probes
    config.update(batch_size=128, step_loop="scan", augment="crop_flip")
    epoch = 25_000 // 128
    ends = [15 * epoch, 20 * epoch, 25 * epoch]
    config.update(steps=ends[-1], log_every=epoch, checkpoint_every=5 * epoch)
    config.probes.accuracy = epoch
    arms = dict(small.arms)
    for name, arm in arms.items():
        if name != "source":
            arm.start.at = ends[int(name[-1]) - 1]
    config.arms = group(arms)
    config.arms.source = rate(0.1, schedule=dict(name="step_decay", milestones=tuple(ends[:2]), factor=0.1))


def networks(config: Config) -> None:
    """L11: 9 epochs, 3 seeds; decays after 3 and 6."""
    in_proportion(config, 1 / 5, PS10_EPOCH)
    config.sweep.seed = SEEDS


def plateaus(config: Config) -> None:
    """L12: 14 epochs at a constant rate, 3 seeds."""
    in_proportion(config, 14 / 90, PS10_EPOCH)
    config.sweep.seed = SEEDS


def on_small_images(shorter: Callable[[Config], None]) -> Callable[[Config], None]:
    """The same on PS10 images of 8 x 8, at a sixteenth of the cost."""

    def change(config: Config) -> None:
        shorter(config)
        config.data.image_size = 8

    return change


ON_PATTERNS = {
    "L3": stages,
    "L4": noise,
    "L5": root_cause,
    "L6": rules,
    "L10": average,
    "L7_ps10": transfer_patterns,
    "L11": networks,
    "L12": plateaus,
}
ON_IMAGES = {"L1": full_batch, "L2": sgd_decay, "L9": explained, "L8": patches, "L7": on_tiny_images}
MEDIUM = {
    **{experiment: in_tensorfloat32(on_small_images(shorter)) for experiment, shorter in ON_PATTERNS.items()},
    **{experiment: in_tensorfloat32(shorter) for experiment, shorter in ON_IMAGES.items()},
}
