"""How long an experiment would take on one NVIDIA H100 or H200: from steps measured on such a card, else from FLOPs. No run."""

from typing import Any, NamedTuple

from lrjax.devices.accelerators import PEAK_FLOPS
from lrjax.experiment.config.canonical import Config
from lrjax.experiment.loop import sweep
from lrjax.experiment.loop.calibrate import block_steps, span

CARD = "H100"  # an H200 computes as fast and has more memory
LEAST_MS = 0.1  # a step of a block: what the measured MLP takes, whose arithmetic is a tenth of it
SAME = 0.02  # FLOPs that differ by no more are those of the measured network and batch
# Of the peak that training steps are assumed to reach where nothing was measured. In TF32 the measured networks reach 3 % to
# 19 %, by their width, and an MLP 1 %; float32 leaves the tensor cores idle and is bound by arithmetic sooner.
SHARE = {"float64": 0.3, "float32": 0.3, "tensorfloat32": 0.1, "bfloat16": 0.1}


class Measured(NamedTuple):
    """A training step that was timed on a card.

    Attributes:
        name: of the network.
        models: names of models with such layers; a pre-activation ResNet-32 has the convolutions of ResNet-32.
        flops: of a step, by which batch, images and widths are recognised.
        ms: a step.
    """

    name: str
    models: tuple[str, ...]
    flops: float
    ms: float


# One NVIDIA H200, batches of 128 images of CIFAR-10, in TF32, steps in one scan: the table of docs/speed.md.
SOURCE, DIGITS = "measured on an H200 in tensorfloat32, docs/speed.md", "tensorfloat32"
STEPS = (
    Measured("the MLP", ("mlp",), 4.996e8, 0.10),
    Measured("SimpleCNN", ("simple_cnn",), 1.507e10, 0.66),
    Measured("ResNet-32", ("resnet32", "preresnet"), 5.374e10, 3.98),
    Measured("WRN-16-4", ("wide_resnet",), 3.026e11, 3.28),
)


class CardTime(NamedTuple):
    """Estimated training steps of a group of lanes on one card.

    Attributes:
        seconds: of all steps of all its blocks.
        origin: what they are from.
        measured: steps of this network and precision were timed on a card; else `seconds` is rather too short.
    """

    seconds: float
    origin: str
    measured: bool = False


def digits(static: Config) -> str:
    """In which precision an NVIDIA card computes the products of a training step.

    Example:
        >>> from ml_collections import ConfigDict
        >>> digits(ConfigDict(dict(compute_dtype="float32", matmul_precision="bfloat16")))
        'tensorfloat32'
    """
    if static.compute_dtype != "float32":
        return static.compute_dtype
    return "float32" if static.matmul_precision == "float32" else "tensorfloat32"


def card_time(group: sweep.Group, found: dict[str, Any]) -> CardTime:
    """Estimates the training steps of a group of lanes.

    Args:
        group: of an experiment.
        found: what `lrjax.experiment.loop.dry_run.estimate` gives for it.
    """
    static, flops = group.static, found["flops_per_step"]
    precision = digits(static)
    peak = PEAK_FLOPS[CARD][precision]
    ms = 1e3 * flops / (SHARE[precision] * peak)
    origin = f"FLOPs at {SHARE[precision]:.0%} of the {precision} peak of {peak / 1e12:g} TFLOP/s, an assumed share"
    known = next((m for m in STEPS if static.model.name in m.models and abs(flops / m.flops - 1) <= SAME), None)
    if known and precision == DIGITS:
        ms, origin = known.ms, f"{known.name} at {known.ms:g} ms a step, {SOURCE}"
    elif known and precision in ("float32", "float64") and known.ms > ms:
        ms, origin = known.ms, f"{known.name} at {known.ms:g} ms a step or more in {precision}: {SOURCE}"
    each = ms * static.lanes_per_device
    if each < LEAST_MS:
        each, origin = LEAST_MS, f"{LEAST_MS:g} ms a step, the least of those {SOURCE}"
    measured = known is not None and precision == DIGITS
    return CardTime(each / 1e3 * block_steps(group, static.lanes_per_device), origin, measured)


def said(times: list[CardTime]) -> str:
    """The line of a dry run.

    Example:
        >>> said([CardTime(300.0, "FLOPs at 30 %"), CardTime(60.0, "FLOPs at 30 %")])
        'estimated time on one H100 or H200: 6 min of training steps or more (not run; from FLOPs at 30 %; compiling, ...)'
    """
    total, origins = span(sum(time.seconds for time in times)), "; ".join(dict.fromkeys(time.origin for time in times))
    steps = (
        f"about {total} of training steps" if all(t.measured for t in times) else f"{total} of training steps or more"
    )
    return (
        f"estimated time on one H100 or H200: {steps} (not run; from {origins}; compiling, probes, reading data and the "
        f"report come on top)"
    )
