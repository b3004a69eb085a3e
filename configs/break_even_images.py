"""Experiments of `break_even` with SimpleCNN and ResNet-32 on CIFAR-10, and the keys that all of its experiments share."""

from . import common
from .common import Config, group

OFTEN = "60 until 2 epochs, 1 epochs until 20 epochs, 5 epochs"  # what this and all schedules cost: less than training
SEEDS = {"smoke": (0,), "small": (0,), "paper": (0, 1, 2)}


def measured(config: Config, scale: str) -> Config:
    """Settings of the probes: the paper's L = 25 batches of M = 128, and 5 % of the training set for H."""
    config.paper = "break_even"
    config.spectra.update(noise_batches=25, noise_batch_size=128, predicted=200)
    if scale == "paper":
        config.spectra.update(k=5, tol=0.02, max_steps=16, examples=2500, predicted=1000)
    else:
        config.spectra.update(k=1, tol=0.05, max_steps=6, examples=512)
    if scale == "smoke":
        config.spectra.update(k=2, noise_batches=4, noise_batch_size=16, examples=0, predicted=16)
        config.spectra.update(
            next_steps=2, trace_products=4, sharpness_batches=2, noise_grid=((4, 16), (4, 1), (16, 1))
        )
    return config


def images(scale: str) -> Config:
    """SimpleCNN on CIFAR-10 by plain SGD: the keys of most experiments."""
    config = common.on_cifar10(measured(common.base(), scale), 10_000, 1000)
    config.update(batch_size=128, steps=1000, log_every=10, checkpoint_every=500)
    config.model = group(dict(name="simple_cnn", width=32, norm="none"))
    config.probes = group(dict(break_even=100, predictions=50, accuracy=250))
    if scale == "smoke":
        config.data.update(num_train=256, num_test=32)
        config.model.width = 4
        config.update(batch_size=32, steps=8, log_every=4, checkpoint_every=8)
        config.probes = group(dict(break_even=4, predictions=4, accuracy=8))
    if scale == "paper":
        config.data.update(num_train=None, num_test=None)
        config.augment = "crop_flip"
        config.probes = group(dict(break_even=OFTEN, predictions=390, accuracy=390))
        with config.ignore_type():
            config.update(steps="200 epochs", step_loop="scan", checkpoint_every="10 epochs")
    return config


def shortened(config: Config, scale: str) -> Config:
    """Arms of smoke scale: eight steps, all measured alike."""
    if scale == "smoke":
        for arm in config.arms.values():
            with arm.unlocked():
                del arm.steps, arm.probes
    return config


def rates(config: Config, scale: str, large: tuple, small: tuple) -> Config:
    """Two arms of (rate, steps, probes); at paper scale one sweep of both rates over three seeds."""
    if scale == "paper":
        config.sweep = group(dict(optimizer=dict(learning_rate=(large[0], small[0])), seed=SEEDS[scale]))
        return config
    arms = {
        name: dict(optimizer=dict(learning_rate=rate), steps=steps, probes=probes)
        for name, (rate, steps, probes) in (("large_rate", large), ("small_rate", small))
    }
    config.arms = group(arms)
    return shortened(config, scale)


def smaller(config: Config, width: int = 16) -> Config:
    """Half the width, 4000 images, S = 32, and a Lanczos that is accurate enough to compare: three seeds in half an hour."""
    config.data.num_train = 4000
    if width:
        config.model.width = width
    config.batch_size = 32
    config.spectra.update(max_steps=16, examples=128)
    config.sweep.seed = (0, 1, 2)
    return config


def quicker(config: Config, width: int = 16) -> Config:
    """`smaller`, with K from batches of 32: its error goes with their number, and they are fewer examples."""
    config = smaller(config, width)
    config.spectra.update(noise_batch_size=32, max_steps=8)
    return config


def learning_rates(scale: str) -> Config:
    """E3: eta 0.1 and 0.01, each until well past the maxima of its trajectory, measured as often."""
    config = images(scale)
    large, small = (
        dict(break_even=often, batch_sharpness=often, predictions=each) for often, each in ((250, 50), (400, 80))
    )
    config = rates(config, scale, (0.1, 4000, large), (0.01, 6400, small))
    if scale != "small":
        config.probes.batch_sharpness = config.probes.break_even
    if scale == "small":
        config = smaller(config)
        config.batch_size = 64  # of 32, noise makes curvatures rise again at 0.1, and lanes diverge
    return config


def sweeps(scale: str) -> Config:
    """E3_full: the three rates at S = 128, and three batch sizes at eta = 0.05."""
    config = images(scale)
    small = scale == "small"
    by_rate = dict(sweep=dict(optimizer=dict(learning_rate=(0.1, 0.01, 0.001))))
    config.arms = group(dict(rate=by_rate))
    if small:
        config.arms.rate = group(by_rate | dict(steps=1500, probes=dict(break_even=150)))
    epochs = {8: "8 epochs", 128: "12 epochs", 1024: "20 epochs"}
    every = {8: "1 epochs", 128: "2 epochs", 1024: "4 epochs"}
    for size in (8, 128, 1024):
        arm = dict(batch_size=size, optimizer=dict(learning_rate=0.05))
        if small:
            length = 10_000 // size
            arm |= dict(steps=epochs[size], log_every=length, checkpoint_every=epochs[size])
            arm |= dict(probes=dict(break_even=every[size], predictions=every[size], accuracy=epochs[size]))
        config.arms[f"batch_{size}"] = group(arm)
    if scale == "smoke":
        config.arms.rate.sweep.optimizer.learning_rate = (0.1, 0.001)
        for size, smaller in ((8, 8), (128, 32), (1024, 128)):
            config.arms[f"batch_{size}"].batch_size = smaller
    if scale == "paper":
        for size in (8, 1024):  # chunks, and measurements, are counted in steps of the batch size
            length = 50_000 // size
            arm = config.arms[f"batch_{size}"]
            with arm.unlocked():
                arm.log_every = length
                arm.probes = group(dict(break_even=5 * length, predictions=5 * length, accuracy=5 * length))
        config.sweep = group(dict(seed=SEEDS[scale]))
    return config


def trajectories(scale: str) -> Config:
    """E1: predictions often enough to draw the way; the submission's pair of rates, at paper scale the final one's too."""
    config = images(scale)
    config.spectra.predicted = {"smoke": 16, "small": 200, "paper": 1000}[scale]
    if scale == "paper":
        with config.ignore_type():
            config.update(steps="20 epochs", augment="none")
        config.spectra.update(k=1, max_steps=6, examples=512)  # 20 epochs are cheap, so must be what looks at them
        config.probes = group(dict(break_even="20 until 1 epochs, 1 epochs", predictions=10, accuracy=390))
        rates_of = dict(sweep=dict(optimizer=dict(learning_rate=(0.1, 0.01, 0.001))))
        again = dict(order="iid", sweep=dict(optimizer=dict(learning_rate=(0.01, 0.001))))
        config.arms = group(dict(rate=rates_of, again=again))
        config.sweep = group(dict(seed=SEEDS[scale]))
        return config
    large, small = dict(break_even=80, predictions=40), dict(break_even=200, predictions=100)
    config = rates(config, scale, (0.1, 1200, large), (0.01, 3000, small))  # up to two thirds of the training set
    # The same rate in another order of batches: how far two trajectories part anyway.
    config.arms.again = group(config.arms.small_rate.to_dict() | dict(order="iid"))
    return quicker(config) if scale == "small" else config


def early_phase(scale: str) -> Config:
    """E2: eta 0.2, 0.02, 0.01 and 0.001 up to the peak, with what a next step would do; at small scale 0.05 and 0.02."""
    config = images(scale)
    config.probes.next_step = 4 if scale == "smoke" else 50
    if scale == "paper":
        with config.ignore_type():
            config.update(steps="20 epochs", augment="none")
        config.spectra.update(k=1, max_steps=6, examples=512)
        often = "60 until 2 epochs, 1 epochs"
        late = dict(predictions=390, accuracy=390, hessian_trace="10 epochs")
        config.probes = group(
            late | dict.fromkeys(("break_even", "next_step", "batch_sharpness", "fisher_trace"), often)
        )
        config.sweep = group(dict(optimizer=dict(learning_rate=(0.2, 0.02, 0.01, 0.001)), seed=tuple(range(5))))
        return config
    large, small = (dict(break_even=often, next_step=often, predictions=5 * often) for often in (50, 100))
    # The small network starts at lambda_H of 10 to 20, where 0.2 is beyond the edge; these break even early, and apart.
    config = rates(config, scale, (0.05, 1250, large), (0.02, 2500, small))
    config.probes.update(dict(batch_sharpness=4, fisher_trace=4, hessian_trace="end") if scale == "smoke" else {})
    if scale == "small":
        config = quicker(config)
        config.spectra.examples = 512  # what is asked of H beside K
    return config


def switched(scale: str) -> Config:
    """E10: eta 0.1 and 0.01 (small scale: 0.02), and runs that go from one to the other before and after break-even."""
    config = images(scale)
    sizes = {"smoke": (8, 2, 4, 4, 2), "small": (4000, 100, 2000, 2000, 200), "paper": (7800, 65, 2340, 2340, 195)}
    steps, early, from_large, from_small, every = sizes[scale]
    with config.ignore_type():
        log_every = {"smoke": every, "small": 10, "paper": 65}[scale]
        config.update(steps=steps, log_every=log_every, checkpoint_every=steps)
    if scale == "small":
        config = smaller(config)
        # Images that are shifted and mirrored are never fitted: where all are, no gradient and no curvature is left.
        config.data.num_train, config.augment = 10_000, "crop_flip"
        config.sweep = group(dict(seed=tuple(range(5))))
    if scale == "paper":
        config.spectra.update(k=1, max_steps=6, examples=512)
        config.augment = "none"
    config.probes = group(dict(break_even=every, accuracy=steps))
    small_rate = 0.02 if scale == "small" else 0.01  # at 0.01 three seeds break even after steps 4000 to 5000

    def then(arm: str, at: int, factor: float) -> dict:
        change = dict(name="step_decay", milestones=(at,), factor=factor)
        return dict(config.arms[arm].to_dict(), schedule=change, start=dict(arm=arm, at=at))

    config.arms = group(
        dict(large=dict(optimizer=dict(learning_rate=0.1)), small=dict(optimizer=dict(learning_rate=small_rate)))
    )
    config.arms.large_then_small = group(then("large", from_large, small_rate / 0.1))
    config.arms.small_then_large = group(then("small", from_small, 0.1 / small_rate))
    config.arms.small_early = group(then("small", early, 0.1 / small_rate))
    if scale != "small":
        config.sweep = group(dict(seed=SEEDS[scale]))
    return config


def residual(scale: str) -> Config:
    """E4: a ResNet without normalisation; at small scale of depth 14 and half the width."""
    config = images(scale)
    depth, width = {"smoke": (8, 4), "small": (14, 8), "paper": (32, 16)}[scale]
    config.model = group(dict(name="resnet32", depth=depth, width=width, norm="none", activation="pre"))
    large, small = dict(break_even=200), dict(break_even=400)
    config = rates(config, scale, (0.1, 3000, large), (0.01, 6000, small))
    return quicker(config, width=8) if scale == "small" else config


def batch_norm(scale: str) -> Config:
    """E6: SimpleCNN-BN at four rates, and SimpleCNN at 0.01 and at 1.0, where it diverges."""
    config = images(scale)
    every = {"smoke": 4, "small": 210, "paper": OFTEN}[scale]
    config.probes = group(dict(break_even=every))
    config.steps = 2100 if scale == "small" else config.steps
    with_norm = dict(model=dict(norm="batch"), sweep=dict(optimizer=dict(learning_rate=(0.001, 0.01, 0.1, 1.0))))
    without = dict(sweep=dict(optimizer=dict(learning_rate=(0.01, 1.0))))
    config.arms = group(dict(batch_norm=with_norm, plain=without))
    if scale == "smoke":
        config.arms.batch_norm.sweep.optimizer.learning_rate = (0.01, 1.0)
    if scale == "paper":
        config.sweep = group(dict(seed=SEEDS[scale]))
    return quicker(config) if scale == "small" else config


def momentum(scale: str) -> Config:
    """E8: three momenta at eta = 0.01, at small scale each until well past the maxima of its trajectory."""
    config = images(scale)
    config.optimizer.learning_rate = 0.01
    if scale == "small":
        arms = {}
        for name, beta, steps in (("no", 0.0, 6400), ("half", 0.5, 4800), ("heavy", 0.9, 4000)):
            probes = dict(break_even=steps // 16, predictions=steps // 40)
            arms[f"{name}_momentum"] = dict(steps=steps, probes=probes, sweep=dict(optimizer=dict(momentum=(beta,))))
        config.arms = group(arms)
        config = quicker(config)
        config.batch_size = 64  # as in E3
        return config
    config.sweep = group(dict(optimizer=dict(momentum=(0.0, 0.5, 0.9))))
    if scale == "paper":
        config.sweep.seed = SEEDS[scale]
    return config


def estimator(scale: str) -> Config:
    """E9: lambda_K from L batches of M examples, for several L and M at the same states."""
    config = images(scale)
    config.optimizer.learning_rate = 0.1
    if scale == "smoke":
        config.probes = group(dict(noise_grid=4))
        return config
    pairs = ((25, 128), (25, 32), (25, 8), (25, 1), (100, 32), (100, 1), (400, 1))
    config.spectra.noise_grid = (*pairs, (100, 128), (400, 32), (400, 128))[: None if scale == "paper" else len(pairs)]
    config.spectra.noise_grid = tuple(pair for pair in config.spectra.noise_grid if pair[0] * pair[1] <= 50_000)
    config.probes = group(dict(noise_grid=300 if scale == "small" else 390))
    if scale == "small":
        config.steps = 3000
        return smaller(config)
    config.sweep = group(dict(seed=SEEDS[scale]))
    return config
