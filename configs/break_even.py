"""The Break-Even Point on Optimization Trajectories of Deep Neural Networks (Jastrzebski et al. 2020).

Paper: arXiv 2002.09572, ICLR 2020. Claim: the learning rate and the batch size of the early phase decide how sharp a loss
surface, and how noisy a gradient, training will see from then on: a large rate breaks even early, at a small lambda_H and
lambda_K, and keeps K better conditioned. The paper reports max lambda_K 0.87 (eta 0.1) against 3.01 (0.01), and max
Tr(K) / lambda_K 14.29 against 10.69.

Run:    python -m lrjax.main --config=configs/break_even.py[:EXPERIMENT][,scale=smoke|small|medium|paper]

experiment | claim | scales | run time (small, three seeds, two CPU cores; estimated, but E3 and E10)
E3 | both conjectures for the learning rate, 0.1 against 0.01 (SimpleCNN, CIFAR-10) | all | 29 min
E3_full | both conjectures for the rate (also 0.001) and the batch size; one seed at small scale: demonstration | all | 46 min
E1 | a small rate's way parts from a large one's once lambda_K exceeds the latter's | all | 15 min
E2 | lambda_K and lambda_H grow together, H and K aligned, until break-even; alpha* falls to about 2 | all | 25 min
E4 | both conjectures on ResNet-32 without normalisation | all | 25 min
E5 | both conjectures on an LSTM (IMDB reviews) | all | 15 min
E6 | BatchNorm alone does not condition K, a large rate does; with it eta = 1 trains | all | 25 min
E7_mlp | both conjectures on a perceptron | all | 15 min
E7_densenet | both conjectures on a DenseNet; one seed at small scale: demonstration | all | 13 min
E7_bert | both conjectures in fine-tuning a BERT from real weights; one seed at small scale: demonstration | all | 30 min
E8 | momentum acts like a larger rate | all | 28 min
E9 | K from batches of 128 and from single examples agree | all | 6 min
E10 | does the early rate decide later curvatures? it is switched before and after break-even; 5 seeds | all | 39 min

E3 and E10 were timed beside other jobs, which took half of both cores. Never judged at small scale: assumption 2 in E3 and E4,
where H is measured on 128 examples, and Tr(H) / lambda_H, for which one eigenvalue of H is computed.
"""

from ml_collections.config_dict import placeholder

from . import break_even_images as on_images
from . import break_even_medium as on_medium
from .break_even_images import SEEDS, images, rates
from .common import Config, group

DEFAULT = "E3"


def texts(scale: str) -> Config:
    """E5: an LSTM on IMDB, at paper scale with the sweep over batch sizes."""
    config = images(scale)
    config.data = group(dict(name="imdb", num_train=placeholder(int), num_test=placeholder(int), vocabulary=20_000))
    config.data.update(length=80, subset_seed=0)
    config.model = group(dict(name="lstm", vocabulary=20_000, embedding=128, width=128))
    config.update(loss="logistic", augment="none", step_loop="scan")
    if scale == "paper":
        with config.ignore_type():
            config.update(steps="50 epochs", log_every=5, checkpoint_every=195)
        config.spectra.examples = 1250  # 5 %
        often = "1 epochs until 5 epochs, 5 epochs"
        config.probes = group(dict(break_even=often, predictions="1 epochs", accuracy="5 epochs"))
        config.sweep = group(dict(seed=SEEDS[scale]))
        config.arms = group(dict(rate=dict(sweep=dict(optimizer=dict(learning_rate=(1.0, 0.3, 0.1, 0.03))))))
        for size in (8, 32, 128, 512):
            length = 25_000 // size
            probes = dict(break_even=5 * length, predictions=length, accuracy=5 * length)
            arm = dict(batch_size=size, optimizer=dict(learning_rate=0.1), log_every=length, probes=probes)
            config.arms[f"batch_{size}"] = group(arm)
        return config
    config.data.update(num_train=256 if scale == "smoke" else 10_000, num_test=32 if scale == "smoke" else 1000)
    if scale == "smoke":
        config.data.update(vocabulary=200, length=12)
        config.model.update(vocabulary=200, embedding=4, width=4)
    large, small = dict(break_even=200, predictions=80), dict(break_even=500, predictions=200)
    config = rates(config, scale, (1.0, 3200, large), (0.1, 8000, small))
    return on_images.quicker(config, width=32) if scale == "small" else config


def perceptron(scale: str) -> Config:
    """E7_mlp: 784-300-100-10 on FashionMNIST at paper scale; the same hidden layers on CIFAR-10 at the others."""
    config = images(scale)
    config.model = group(dict(name="mlp", widths=(300, 100) if scale != "smoke" else (8, 4)))
    config.update(augment="none", step_loop="scan")
    if scale == "paper":
        config.data = image_folder("fashion_mnist", 28, 10, (60_000, 10_000))
        config.data.channels = 1
        with config.ignore_type():
            config.steps = "50 epochs"
            config.checkpoint_every = "10 epochs"
        config.probes = group(dict(break_even="1 epochs until 10 epochs, 5 epochs", predictions=60, accuracy=460))
        config.log_every = 4
        config.sweep = group(dict(optimizer=dict(learning_rate=(0.3, 0.1, 0.03, 0.01)), seed=SEEDS[scale]))
        return config
    large, small = dict(break_even=300, predictions=150), dict(break_even=900, predictions=450)
    config = rates(config, scale, (0.1, 6000, large), (0.01, 18_000, small))
    if scale == "small":
        config = on_images.quicker(config, width=0)
        config.batch_size = 64  # as in E3
    return config


def image_folder(source: str, size: int, num_classes: int, full: tuple[int, int]) -> Config:
    """A prepared image data set of tfds other than CIFAR-10."""
    keys = dict(name="image_set", source=source, format="tfds", train_split="train", test_split="test", image_size=size)
    keys |= dict(
        first_class=0, num_classes=num_classes, num_train=placeholder(int), num_test=placeholder(int), subset_seed=0
    )
    return group(keys | dict(full_train=full[0], full_test=full[1], resident=0, channels=3))


def dense_network(scale: str) -> Config:
    """E7_densenet: DenseNet-121 on ImageNet at 64 x 64 (paper), a small one on Tiny ImageNet at 32 x 32."""
    config = images(scale)
    sizes = {"smoke": (22, 2), "small": (22, 8), "paper": (121, 32)}[scale]
    config.model = group(dict(name="densenet", depth=sizes[0], growth=sizes[1], stem="small"))
    config.update(augment="none", batch_size=32 if scale != "smoke" else 16)
    if scale == "paper":
        config.model.stem = "imagenet"
        config.data = image_folder("imagenet2012", 64, 1000, (1_281_167, 50_000))
        config.data.update(test_split="validation", resident=8192)
        with config.ignore_type():
            config.update(steps="10 epochs", checkpoint_every="1 epochs", log_every=40)
        config.probes = group(dict(break_even=5000, accuracy=40_000, predictions=2000))
        config.sweep = group(dict(optimizer=dict(learning_rate=(0.1, 0.01))))
        return config
    config.data = image_folder("tiny_imagenet32", 32, 20, (5000, 1000))
    config.data.test_split = "validation"
    config.data.update(num_train=256 if scale == "smoke" else 5000, num_test=32 if scale == "smoke" else 500)
    if scale == "small":  # a step has 32 images, so a measurement of 3200 would cost more than a hundred steps
        config.spectra.update(noise_batch_size=32, examples=256, max_steps=4)
    return rates(config, scale, (0.1, 600, dict(break_even=150)), (0.01, 1500, dict(break_even=250)))


def fine_tuning(scale: str) -> Config:
    """E7_bert: fine-tuning by plain SGD: BERT-base on MNLI (paper), MiniLM on IMDB. Name the files of real weights:

    --config.model.weights=FOLDER/model.safetensors --config.data.vocabulary=FOLDER/vocab.txt
    """
    config = images(scale)
    name, size = {
        "smoke": ("imdb_wordpiece", "tiny"),
        "small": ("imdb_wordpiece", "minilm"),
        "paper": ("mnli", "base"),
    }[scale]
    length = {"smoke": 16, "small": 64, "paper": 128}[scale]
    config.data = group(
        dict(name=name, num_train=placeholder(int), num_test=placeholder(int), vocabulary="", subset_seed=0)
    )
    config.data.length = length
    config.model = group(dict(name="bert", size=size, vocabulary=30_522, positions=512, weights=""))
    config.update(augment="none", step_loop="scan", batch_size=32, log_every=5)
    if scale == "paper":
        with config.ignore_type():
            config.update(steps="3 epochs", log_every=100, checkpoint_every="1 epochs")
        config.probes = group(dict(break_even=3000, accuracy=4000, predictions=2000))
        config.spectra.update(k=1, max_steps=8)
        config.sweep = group(dict(optimizer=dict(learning_rate=(0.06, 0.02, 0.006))))
        return config
    config.data.update(num_train=256 if scale == "smoke" else 2000, num_test=32 if scale == "smoke" else 200)
    if scale == "smoke":
        config.log_every = 4
    else:
        config.spectra.update(noise_batch_size=16, examples=128, max_steps=3, predicted=100)
    every = dict(break_even=75, predictions=75)
    return rates(config, scale, (0.06, 150, every), (0.006, 300, dict(break_even=100, predictions=75)))


EXPERIMENTS = {
    "E3": on_images.learning_rates,
    "E3_full": on_images.sweeps,
    "E1": on_images.trajectories,
    "E2": on_images.early_phase,
    "E4": on_images.residual,
    "E5": texts,
    "E6": on_images.batch_norm,
    "E7_mlp": perceptron,
    "E7_densenet": dense_network,
    "E7_bert": fine_tuning,
    "E8": on_images.momentum,
    "E9": on_images.estimator,
    "E10": on_images.switched,
}

MEDIUM = on_medium.MEDIUM
