"""From one lane's config to the numbers that run: checked, durations in steps, derived keys filled in, frozen."""

import math

from lrjax.config import (
    DURATION_LISTS,
    DURATIONS,
    Config,
    check,
    flatten,
    freeze,
    nearest,
    optimizer_arguments,
    replace,
)
from lrjax.errors import LrjaxError


def to_steps(duration: int | str, steps_per_epoch: int, key: str) -> int:
    """A duration in steps.

    Example:
        >>> to_steps("3 epochs", 100, "steps"), to_steps(250, 100, "steps"), to_steps("250 steps", 100, "steps")
        (300, 250, 250)
    """
    if isinstance(duration, int) and not isinstance(duration, bool):
        return duration
    number, _, unit = str(duration).strip().partition(" ")
    scale = {"": 1, "step": 1, "steps": 1, "epoch": steps_per_epoch, "epochs": steps_per_epoch}.get(unit.strip())
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if scale is None or not math.isfinite(value):
        raise LrjaxError(f"{key}={duration!r} is no duration; write a number of steps or, say, '3 epochs'")
    return round(value * scale)


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
    for name, every in config.probes.items():
        if every != "end":
            replace(config.probes, name, to_steps(every, steps_per_epoch, f"probes.{name}"))


def _check_names(config: Config) -> None:
    from lrjax import data, models, probes, schedules, step
    from lrjax.data import augment  # the registries stand above the config file in the tree

    choices = {
        "data.name": data.DATASETS,
        "model.name": models.MODELS,
        "loss": step.LOSSES,
        "engine": step.ENGINES,
        "schedule.name": schedules.SCHEDULES,
        "augment": augment.AUGMENTATIONS,
        "order": ("shuffle", "iid", "cyclic"),
        "averaging": (None, "ema", "uniform"),
        "lane_loop": ("auto", "vmap", "map", "single"),
        "step_loop": ("scan", "host"),
    }
    flat = flatten(config)
    for key, valid in choices.items():
        if flat[key] not in valid:
            names = [name for name in valid if name is not None]
            raise LrjaxError(f"unknown {key} {flat[key]!r}; {nearest(str(flat[key]), names)}")
    for name in set(config.probes) - set(probes.PROBES):
        raise LrjaxError(f"unknown probe {name!r}; {nearest(name, probes.PROBES)}")


def _check_rates(config: Config) -> None:
    """What is no number of steps: before anything is derived from it."""
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
    check(1 <= config.batch_size <= num_train, f"batch_size={config.batch_size} must lie in 1..{num_train} (examples)")
    single = config.lane_loop != "single" or config.lanes_per_device == 1
    check(single, f"lane_loop='single' needs lanes_per_device=1, not {config.lanes_per_device}")
    milestones = flatten(config).get("schedule.milestones", ())
    ascending = all(a < b for a, b in zip(milestones, milestones[1:], strict=False)) and all(m > 0 for m in milestones)
    check(ascending, f"schedule.milestones={tuple(milestones)} must be positive and in ascending order")
    warmup = config.schedule.get("warmup", 0)
    check(0 <= warmup < config.steps, f"schedule.warmup={warmup} must lie in 0..steps={config.steps}, steps excluded")
    for name, every in config.probes.items():
        multiple = every == "end" or (every >= 1 and every % config.log_every == 0)
        check(multiple, f"probes.{name}={every} must be 'end' or a multiple of log_every={config.log_every}")


def resolve(config: Config) -> Config:
    """Checks one lane's config, turns durations into steps, fills in what follows from other keys, and freezes it.

    Args:
        config: a config without `sweep` and `arms` still to apply (see `lrjax.sweep.plan`).

    Raises:
        LrjaxError: the first thing that is wrong, with what to write instead.
    """
    from lrjax import data

    config = config.copy_and_resolve_references()
    _check_names(config)
    allowed = (*optimizer_arguments(config.optimizer.name), "name", "learning_rate", "l2")
    for key, value in config.optimizer.items():
        if key not in allowed and value is not None:
            raise LrjaxError(f"optimizer {config.optimizer.name!r} takes no {key!r}; {nearest(key, allowed)}")
    _check_rates(config)
    source = data.DATASETS[config.data.name]
    source.complete(config)
    num_train = source.num_train(config)
    if config.batch_size == "full":
        replace(config, "batch_size", num_train)
    resolve_durations(config, max(1, num_train // max(1, int(config.batch_size))))
    _check_numbers(config, num_train)
    return freeze(config)
