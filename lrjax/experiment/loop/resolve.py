"""Resolves the config of a lane: checks it, converts durations to steps, derives keys, freezes it."""

import math

from lrjax import data, models
from lrjax.data import augment
from lrjax.errors import LrjaxError, check, nearest
from lrjax.experiment.config.canonical import Config, flatten, freeze
from lrjax.experiment.config.durations import DURATION_LISTS, DURATIONS, phases, to_steps
from lrjax.experiment.config.optimizers import optimizer_arguments
from lrjax.experiment.config.overrides import replace
from lrjax.experiment.loop.probe import CHECKS, PROBES
from lrjax.experiment.step import representation, rules, schedules
from lrjax.experiment.step.engines import ENGINES
from lrjax.experiment.step.losses import LOSSES
from lrjax.experiment.step.representation import check_representation
from lrjax.experiment.step.train_step import MATMUL_PRECISIONS

MOST_STEPS = 10**8  # of a lane; its schedule is a table in memory, and so is what is recorded at every step


def resolve_durations(config: Config, steps_per_epoch: int) -> None:
    """Replaces every duration of an unfrozen config by its number of steps, in place."""
    flat = flatten(config)
    for key in DURATIONS + DURATION_LISTS:
        if key in flat and flat[key] is not None:
            *path, leaf = key.split(".")
            node = config
            for part in path:
                node = node[part]
            if key in DURATION_LISTS:
                node[leaf] = tuple(to_steps(d, steps_per_epoch, key) for d in node[leaf])
            else:
                replace(node, leaf, to_steps(node[leaf], steps_per_epoch, key))
    for name, when in config.probes.items():
        replace(config.probes, name, phases(when, steps_per_epoch, f"probes.{name}"))


def _check_names(config: Config) -> None:
    choices = {
        "data.name": data.DATASETS,
        "model.name": models.MODELS,
        "loss": LOSSES,
        "engine": ENGINES,
        "schedule.name": schedules.SCHEDULES,
        "l2_schedule.name": schedules.SCHEDULES,
        "representation": representation.REPRESENTATIONS,
        "augment": augment.AUGMENTATIONS,
        "rule.name": rules.RULES,
        "order": ("shuffle", "iid", "cyclic"),
        "batch_statistics": ("batch", "micro_batch"),
        "compute_dtype": ("float32", "bfloat16", "float64"),
        "matmul_precision": MATMUL_PRECISIONS,
        "averaging": (None, "ema", "uniform", "schedule_free"),
        "lane_loop": ("auto", "vmap", "map", "single"),
        "step_loop": ("scan", "host"),
    }
    flat = flatten(config)
    for key, valid in choices.items():
        if flat[key] not in valid:
            names = [name for name in valid if name is not None]
            raise LrjaxError(f"unknown {key} {flat[key]!r}; {nearest(str(flat[key]), names)}")
    check(bool(PROBES) or not config.probes, "no probe is registered; import lrjax.probes first, as lrjax.run does")
    for name in set(config.probes) - set(PROBES):
        raise LrjaxError(f"unknown probe {name!r}; {nearest(name, PROBES)}")


def _check_rates(config: Config) -> None:
    """Validates values that are not durations, before anything is derived from them."""
    flat = flatten(config)
    for key in (
        *(f"optimizer.{k}" for k in config.optimizer),
        "label_noise",
        "e",
        "schedule.factor",
        "schedule.growth",
    ):
        value = flat.get(key)
        if isinstance(value, float):
            check(math.isfinite(value) and value >= 0, f"{key}={value} must be a finite number, zero or more")
    momentum = config.optimizer.get("momentum") or 0.0
    check(momentum < 1, f"optimizer.momentum={momentum} must be under 1")
    check(0 <= config.seed < 2**32, f"seed={config.seed} must lie in 0..{2**32 - 1}")
    check(flat.get("model.width", 1) >= 1, f"model.width={flat.get('model.width')} must be at least 1")
    check(config.data_devices >= 0, f"data_devices={config.data_devices} must be zero (chosen by lrjax) or more")


def _check_numbers(config: Config, num_train: int) -> None:
    check(config.optimizer.learning_rate is not None, "no learning rate is set; give optimizer.learning_rate")
    for key in ("steps", "log_every", "checkpoint_every", "lanes_per_device"):
        check(config[key] >= 1, f"{key}={config[key]} must be at least 1")
    check(
        config.steps <= MOST_STEPS, f"steps={config.steps} must be {MOST_STEPS} or less: a lane keeps a table of them"
    )
    kept = config.keep_checkpoints
    few = isinstance(kept, int) and not isinstance(kept, bool) and kept >= 1
    check(kept == "all" or few, f"keep_checkpoints={kept!r} must be 'all' or a number, 1 or more")
    check(1 <= config.batch_size <= num_train, f"batch_size={config.batch_size} must lie in 1..{num_train} (examples)")
    part = config.micro_batch
    check(
        part >= 0 and config.batch_size % max(part, 1) == 0,
        f"micro_batch={part} must divide batch_size={config.batch_size}",
    )
    apart = config.batch_statistics == "micro_batch"
    check(not apart or part > 0, "batch_statistics='micro_batch' needs micro_batch, the examples of each part")
    exact = config.compute_dtype == "float32" or config.engine == "direct"
    check(exact, f"engine={config.engine!r} computes in float32 only; set compute_dtype='float32' or engine='direct'")
    single = config.lane_loop != "single" or config.lanes_per_device == 1
    check(single, f"lane_loop='single' needs lanes_per_device=1, not {config.lanes_per_device}")
    for name in ("schedule", "l2_schedule"):
        milestones = tuple(config[name].milestones)
        ascending = all(a < b for a, b in zip((0, *milestones), milestones, strict=False))
        check(ascending, f"{name}.milestones={milestones} must be positive and in ascending order")
        warmup = config[name].warmup
        check(0 <= warmup < config.steps, f"{name}.warmup={warmup} must lie in 0..steps={config.steps}, steps excluded")
    for name, when in config.probes.items():
        for every, _ in when:
            multiple = every >= 1 and every % config.log_every == 0
            check(multiple, f"probes.{name}={every} must be 'end' or a multiple of log_every={config.log_every}")


def _derive_rate(config: Config, per_rate: float) -> None:
    """Fills in, in place, learning rate and e from each other: e = eta * per_rate (benign oscillation, section 2)."""
    eta = config.optimizer.learning_rate
    check((config.e is None) != (eta is None), "give one of e and optimizer.learning_rate, and set the other to None")
    if eta is None:
        check(math.isfinite(config.e) and config.e >= 0, f"e={config.e} must be a finite number, zero or more")
        config.optimizer.learning_rate = config.e / per_rate
    else:
        config.e = eta * per_rate


def resolve(config: Config) -> Config:
    """Checks one lane's config, turns durations into steps, fills in what follows from other keys, and freezes it.

    Args:
        config: a config without `sweep` and `arms` still to apply (see `lrjax.experiment.loop.sweep.expand`).

    Raises:
        LrjaxError: the first thing that is wrong, with what to write instead.
    """
    config = config.copy_and_resolve_references()
    _check_names(config)
    allowed = (*optimizer_arguments(config.optimizer.name), "name", "learning_rate", "l2")
    for key, value in config.optimizer.items():
        if key not in allowed and value is not None:
            raise LrjaxError(f"optimizer {config.optimizer.name!r} takes no {key!r}; {nearest(key, allowed)}")
    _check_rates(config)
    source = data.DATASETS[config.data.name]
    source.complete(config)
    if source.e_per_rate is not None:
        _derive_rate(config, source.e_per_rate(config))
    num_train = source.num_train(config)
    if config.batch_size == "full":
        replace(config, "batch_size", num_train)
    resolve_durations(config, max(1, num_train // max(1, int(config.batch_size))))
    _check_numbers(config, num_train)
    in_memory = source.spec(config).train["y"].shape[0]
    for name in config.probes:
        if name in CHECKS:
            CHECKS[name](config, in_memory)
    check_representation(config)
    rules.check_rule(config)
    return freeze(config)
