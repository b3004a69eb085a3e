"""What makes the paper scale of `break_even` shorter: the paper's networks and data within eight minutes of one H100.

Estimated from a step of 0.7 ms (SimpleCNN) or 4 ms (ResNet-32), 15 ms a chunk, and 1 s (a cheap one) or 2 to 3 s a measurement.
"""

from .common import Config, group, in_tensorfloat32

CHUNK = 130  # steps: a chunk of ten, as at paper scale, takes longer to read than to compute


def _shorter(config: Config, epochs: int, **probes: str | int) -> None:
    """Fewer epochs without augmentation, so that the training set is learned in them, and fewer measurements."""
    config.steps = f"{epochs} epochs"
    config.update(augment="none", log_every=CHUNK, checkpoint_every=f"{epochs // 2} epochs")
    config.probes = group(dict(probes))


def _cheap(config: Config) -> None:
    """One eigenvalue of H on 512 examples, as in E1."""
    config.spectra.update(k=1, max_steps=12, examples=512)


def learning_rates(config: Config) -> None:
    """E3: 60 epochs, not 200, and 22 measurements a lane."""
    often = "1 epochs until 4 epochs, 3 epochs"
    _shorter(config, 60, break_even=often, batch_sharpness=often, predictions="2 epochs", accuracy="10 epochs")


def sweeps(config: Config) -> None:
    """E3_full: the batch sizes alone, each for about as long as it needs to learn, in 12 measurements; the rates are E3's."""
    _cheap(config)
    config.augment = "none"
    del config.arms.rate
    for size, epochs in ((8, 12), (128, 36), (1024, 144)):
        length, arm = 50_000 // size, config.arms[f"batch_{size}"]
        every = epochs // 12 * length
        arm.steps, arm.log_every, arm.checkpoint_every = epochs * length, every, epochs * length
        arm.probes = group(dict(break_even=every, predictions=every, accuracy=every))


def trajectories(config: Config) -> None:
    """E1: the submission's pair of rates alone, 20 measurements a lane and a prediction every tenth of an epoch."""
    _shorter(config, 20, break_even="39 until 1 epochs, 2 epochs", predictions=39, accuracy="10 epochs")
    config.log_every = 39
    config.arms.rate.sweep.optimizer.learning_rate = (0.1, 0.01)
    config.arms.again.sweep.optimizer.learning_rate = (0.01,)


def early_phase(config: Config) -> None:
    """E2: eta 0.02 and 0.01, which start below the edge, with three seeds and 15 measurements."""
    often = "130 until 2 epochs, 2 epochs"
    _shorter(config, 20, break_even=often, next_step=often, predictions="2 epochs", accuracy="10 epochs")
    config.sweep = group(dict(optimizer=dict(learning_rate=(0.02, 0.01)), seed=(0, 1, 2)))
    config.spectra.examples = 2500  # 5 %, as is asked where H and K are compared


def residual(config: Config) -> None:
    """E4: 20 epochs, not 200, and 10 measurements; whether the maxima have passed the premises say."""
    _cheap(config)
    _shorter(config, 20, break_even="2 epochs", predictions="2 epochs", accuracy="10 epochs")


def texts(config: Config) -> None:
    """E5: eta 1.0 and 0.3 alone, 25 epochs, not 50, and 12 measurements."""
    config.arms = group(dict(rate=dict(sweep=dict(optimizer=dict(learning_rate=(1.0, 0.3))))))
    config.update(steps="25 epochs", log_every=65, checkpoint_every="25 epochs")
    config.spectra.update(k=1, max_steps=12)
    config.probes = group(dict(break_even="2 epochs", predictions="1 epochs", accuracy="5 epochs"))


def batch_norm(config: Config) -> None:
    """E6: 20 epochs, not 200, and 10 measurements."""
    _cheap(config)
    _shorter(config, 20, break_even="2 epochs")


def perceptron(config: Config) -> None:
    """E7_mlp: as at paper scale in longer chunks, with a prediction an epoch."""
    config.log_every = 117
    config.probes.update(predictions="1 epochs", accuracy="1 epochs")


def dense_network(config: Config) -> None:
    """E7_densenet: 3000 steps of either rate, 3 measurements: a demonstration."""
    config.update(steps=3000, checkpoint_every=3000)
    config.spectra.update(k=1, max_steps=12, examples=512)
    config.probes = group(dict(break_even=1000, accuracy=3000, predictions=1000))


def fine_tuning(config: Config) -> None:
    """E7_bert: 2000 steps of each rate, 4 measurements: a demonstration."""
    config.update(steps=2000, checkpoint_every=2000)
    config.probes = group(dict(break_even=500, accuracy=2000, predictions=500))


def momentum(config: Config) -> None:
    """E8: 60 epochs, not 200, and 20 measurements."""
    _cheap(config)
    _shorter(config, 60, break_even="3 epochs", predictions="3 epochs", accuracy="10 epochs")


def estimator(config: Config) -> None:
    """E9: 20 epochs, not 200, with a state an epoch."""
    _shorter(config, 20, noise_grid="1 epochs")


def switched(config: Config) -> None:
    """E10: half as many measurements."""
    config.probes.break_even = 390


MEDIUM = {
    "E3": learning_rates,
    "E3_full": sweeps,
    "E1": trajectories,
    "E2": early_phase,
    "E4": residual,
    "E5": texts,
    "E6": batch_norm,
    "E7_mlp": perceptron,
    "E7_densenet": dense_network,
    "E7_bert": in_tensorfloat32(fine_tuning),
    "E8": momentum,
    "E9": estimator,
    "E10": switched,
}
