"""How Does Learning Rate Decay Help Modern Neural Networks? (You et al. 2019).

Paper: arXiv 1908.01878. Claim: a large initial rate keeps a network from memorising noise, and decay lets it learn complex
patterns, which transfer less; neither gradient descent in a quadratic nor escape from bad minima explains it. Most settings
are not known; those here are ours. PS10 runs use a residual MLP on the six-vector, which a wide ResNet sees at every pixel.

Run:    python -m lrjax.main --config=configs/lr_decay.py[:EXPERIMENT][,scale=smoke|small|medium|paper]

experiment | claim | scales | small: seeds, time on two CPU cores (L3, L10, and L4, L5 beside other jobs; else estimated)
L3 | PS10: simple patterns first, decay brings the complex ones; against constant rates | all | 3, 12 min
L4 | PS10 with each kind of noise: is less of it memorised? | all | 5, 23 min
L5 | root cause: SGD against full-batch gradient descent on the same data | all | 3, 19 min
L6 | rules that read the loss, and other schedules, against step decay | all | 3, 29 min
L10 | the undecayed run and its weight average: does averaging bring what decay brings? | all | 3, 2 min
L7_ps10 | transfer of each stage's snapshot to PS10 with new complex points | all | 3, 15 min
L11 | PS10: stages across networks and schedules, as version 1 has them | all | 3, 10 min
L12 | PS10: the plateau at a constant rate, by complexity of the patterns and by rate | all | 3, 20 min
L1 | CIFAR-10: full-batch gradient descent with decay at several steps | all | 1, 18 min
L2 | CIFAR-10: SGD with decay at several epochs, the gap before and after | all | 1, 14 min
L9 | CIFAR-10: label information explained by a linear classifier, by stage | all | 3, 25 min
L8 | CIFAR-10 with the patches of Li, Wei & Ma 2019: which rate memorises them | all | 1, 20 min
L7 | transfer of each snapshot: 100 classes of Tiny ImageNet to the others and CIFAR-10 | all | 1, 25 min

L1, L2, L7 and L8 are demonstrations at small scale: their networks are far from the paper's level (or, L1, its loss is still
falling), which no number of seeds mends, so that their claims are not judged there. One seed is run.
"""

import math

from . import lr_decay_images as images
from . import lr_decay_levels as levels
from . import lr_decay_medium as medium
from .common import Config, group
from .lr_decay_images import rate, step_decay
from .lr_decay_patterns import EPOCH, STAGE, milestones, patterns, with_curvature

DEFAULT = "L3"
LONG_AGO = -(10**9)  # start of an average that stays as it is: a step weighs 1 / (steps since then)


def stages(scale: str) -> Config:
    """L3: lrDecay against the constant rates of its stages. It goes on with the run at its first rate.

    All arms take 180 epochs, two to three times the stages, since the smallest constant rate needs them to converge.
    """
    config = patterns(scale)
    first, second = milestones(scale)
    config.steps = {"smoke": 3, "small": 9, "paper": 6}[scale] * first
    if scale == "small":
        config.update(log_every=2 * EPOCH[scale], checkpoint_every=10 * EPOCH[scale])
        config.probes.subsets = 2 * EPOCH[scale]
    config.arms = group(
        dict(
            constant_0=rate(0.1),
            constant_1=rate(0.01),
            constant_2=rate(0.001),
            decay=rate(0.1, schedule=step_decay(first, second), start=dict(arm="constant_0", at=first)),
        )
    )
    return config


def noise(scale: str) -> Config:
    """L4: a tenth of the training set is noise of one of three kinds.

    Small scale leaves out the constant rate of 0.001, which is not done with the complex patterns in any time that fits, and
    measures curvature beside.
    """
    config = patterns(scale)
    first, second = milestones(scale)
    if scale == "small":  # where a network that small memorises at all
        config.data.update(n=6000, num_test=4000, jitter=0.2)
        config.model.width = 192
        epoch = 6000 // 128
        first, second = 30 * epoch, 60 * epoch
        config.update(steps=90 * epoch, log_every=2 * epoch, checkpoint_every=10 * epoch)
        config.probes.subsets = 2 * epoch
        with_curvature(config, 10 * epoch, 512)
        config.sweep.seed = (0, 1, 2, 3, 4)
    arms = {}
    for kind in ("label", "point", "joint"):
        own = dict(data=dict(noise=kind))
        arms[f"{kind}_decay"] = rate(0.1, schedule=step_decay(first, second), **own)
        arms[f"{kind}_constant_1"] = rate(0.01, **own)
        if scale != "small":
            arms[f"{kind}_constant_2"] = rate(0.001, **own)
    config.arms = group(arms)
    return config


def in_parts(scale: str, part: int) -> dict:
    """Paper scale: a device holds one part of a large batch at a time, and BatchNorm has the statistics of each part."""
    return dict(micro_batch=part, batch_statistics="micro_batch") if scale == "paper" else {}


def root_cause(scale: str) -> Config:
    """L5: the same data and number of steps with and without mini-batch noise; n = 2000 without jitter.

    BatchNorm takes the statistics of the whole batch at small scale, those of each part of 125 at paper scale. The full
    batch is never shuffled, so that its parts, and with them its objective, are the same at every step.
    """
    config = patterns(scale)
    config.data.update(n=2000, num_test=2000, jitter=0.0)
    epoch, steps = 15, 2400
    if scale == "smoke":
        config.data.update(n=128, num_test=64)
        epoch, steps = 4, 24
    config.update(steps=steps, log_every=epoch, checkpoint_every=10 * epoch)
    every = 10 * epoch if scale != "smoke" else epoch
    config.probes.subsets = every
    third, twice = steps // 3 // epoch * epoch, 2 * steps // 3 // epoch * epoch
    decayed = dict(schedule=step_decay(third, twice))
    full = dict(batch_size="full", order="cyclic") | in_parts(scale, 125)
    last = 5 * steps // 8 // epoch * epoch
    with_curvature(config, every, config.data.n, 125 if scale == "paper" else None)  # the full batch's parts are these
    plain = full | dict(optimizer=dict(learning_rate=0.1, momentum=None, nesterov=None))
    config.arms = group(
        dict(
            sgd=rate(0.1),
            sgd_decay=rate(0.1, start=dict(arm="sgd", at=third), **decayed),
            full_batch=rate(0.1, **full),
            full_batch_decay=rate(0.1, start=dict(arm="full_batch", at=third), **full, **decayed),
            gradient_descent=plain | dict(steps=last),
        )
    )
    return config


def rules(scale: str) -> Config:
    """L6: what decides when to decay. Rules may take half as long again as step decay does.

    Small scale leaves out two rules that did not decay in that time, plateau and sasa: no claim reads them.
    """
    config = patterns(scale)
    epoch, stage = EPOCH[scale], STAGE[scale]
    first, second = milestones(scale)
    steps = 3 * stage * epoch
    longer = dict(steps=9 * stage * epoch // 2 // epoch * epoch)
    heavy_ball = dict(optimizer=dict(learning_rate=0.1, nesterov=False))
    growth = {"smoke": (64, 128), "small": (1280, 10_000), "paper": (1280, 10_000)}[scale]
    config.arms = group(
        dict(
            step_decay=rate(0.1, schedule=step_decay(first, second)),
            auto_decay=rate(0.1, rule=dict(name="auto_decay"), **longer),
            plateau=rate(0.1, rule=dict(name="plateau"), **longer),
            sasa=heavy_ball | longer | dict(rule=dict(name="sasa")),
            cosine=rate(0.1, schedule=dict(name="cosine")),
            wsd=rate(0.1, schedule=dict(name="wsd", cooldown=steps // 10, factor=0.01)),
            cooldown=rate(0.1, schedule=dict(name="cooldown", cooldown=steps // 5)),
            schedule_free=dict(
                optimizer=dict(name="schedule_free_sgd", learning_rate=1.0, momentum=None, nesterov=None, b1=0.9),
                schedule=dict(name="wsd", warmup=epoch),
                averaging="schedule_free",
            ),
            growing_batch_1=rate(0.1, steps=first, **in_parts(scale, 128)),
        )
    )
    if scale == "small":
        del config.arms["plateau"], config.arms["sasa"]
    at, last = first, "growing_batch_1"
    for number, size in enumerate(growth, start=2):
        own = config.data.n // size  # steps of an epoch
        steps = at + stage * own
        phase: dict = dict(batch_size=size, steps=steps, log_every=math.gcd(at, stage * own))
        phase |= in_parts(scale, 128 if size % 128 == 0 else 125) | dict(start=dict(arm=last, at="end"))
        phase["probes"] = dict(subsets=phase["log_every"])
        config.arms[f"growing_batch_{number}"] = rate(0.1, **phase)
        at, last = steps, f"growing_batch_{number}"
    return config


def average(scale: str) -> Config:
    """L10: if averaging the weights of the undecayed run brings what decay brings, the gain was oscillation.

    An arm decays where the average ends, and measures the line from that average, which it keeps, to its weights.
    """
    config = patterns(scale)
    first, second = milestones(scale)
    config.update(steps=second, averaging="uniform", averaging_start=first)
    line = {"smoke": 1, "small": 4, "paper": 10}[scale] * EPOCH[scale]
    config.arms = group(
        dict(
            constant=rate(0.1),
            decay=rate(0.1, schedule=step_decay(first), start=dict(arm="constant", at=first)),
            decay_after=rate(
                0.1,
                steps=second + first,
                schedule=step_decay(second),
                start=dict(arm="constant", at=second),
                averaging_start=LONG_AGO,
                probes=dict(path_to_average=line),
            ),
        )
    )
    return config


def transfer_patterns(scale: str) -> Config:
    """L7_ps10: snapshots of the three stages, trained further on few examples of new complex points."""
    config = patterns(scale)
    first, second = milestones(scale)
    steps = config.steps
    n = {"smoke": 128, "small": 2560, "paper": 2560}[scale]
    own = n // 32 if scale == "smoke" else n // 128
    length = {"smoke": 2, "small": 50, "paper": 50}[scale] * own
    arms = dict(source=rate(0.1, schedule=step_decay(first, second)))
    for number, at in enumerate((first, second, steps), start=1):
        for mode, tune in (("fix", dict(head_rate=10.0, body_rate=0.0)), ("finetune", dict(head_rate=10.0))):
            arms[f"new_{mode}_{number}"] = rate(
                0.01,
                data=dict(complex_draw=1, n=n),
                steps=length,
                log_every=own,
                checkpoint_every=length,
                probes=dict(subsets=own if scale == "smoke" else 10 * own),
                fine_tune=tune,
                schedule=step_decay(length * 2 // 3),
                start=dict(arm="source", at=at, what="weights", fresh=("head",)),
            )
    config.arms = group(arms)
    return config


EXPERIMENTS = {
    "L3": stages,
    "L4": noise,
    "L5": root_cause,
    "L6": rules,
    "L10": average,
    "L7_ps10": transfer_patterns,
    "L11": levels.networks,
    "L12": levels.plateaus,
    "L1": images.full_batch,
    "L2": images.sgd_decay,
    "L9": images.explained,
    "L8": images.patches,
    "L7": images.transfer,
}

MEDIUM = medium.MEDIUM
