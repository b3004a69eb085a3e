"""From one lane's config to the numbers that run: checked, durations in steps, derived keys filled in, frozen."""

import math
from collections.abc import Iterable

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


def phases(when: int | str, steps_per_epoch: int, key: str) -> tuple[tuple[int, int | None], ...]:
    """How often a probe measures, as (every, until) pairs: every so many steps up to and with step `until`.

    Args:
        when: "EVERY until STEP, ..., EVERY", each a duration; "end" in place of the last for no more; one EVERY alone.
        steps_per_epoch: of the lane.
        key: for messages.

    Raises:
        LrjaxError: it cannot be read, or the steps do not ascend.

    Example:
        >>> phases("10 until 200, 100 until 1 epochs, 1 epochs", 500, "probes.spectrum")
        ((10, 200), (100, 500), (500, None))
        >>> phases("10 until 200, end", 500, "probes.spectrum"), phases("end", 500, "probes.spectrum")
        (((10, 200),), ())
    """
    *early, last = (piece.strip() for piece in str(when).split(","))
    found: list[tuple[int, int | None]] = []
    for piece in early:
        every, until, stop = piece.partition(" until ")
        check(bool(until), f"{key}={when!r}: {piece!r} has no end; write, say, '10 until 200, 1 epochs'")
        found.append((to_steps(every, steps_per_epoch, key), to_steps(stop, steps_per_epoch, key)))
    check(
        " until " not in last,
        f"{key}={when!r} does not say what comes after; end it with ', end' or, say, ', 1 epochs'",
    )
    stops = [0, *(stop for _, stop in found)]
    ascending = all(a < b for a, b in zip(stops, stops[1:], strict=False))
    check(ascending, f"{key}={when!r}: the steps after 'until' must be positive and ascend; here they are {stops[1:]}")
    return tuple(found) if last == "end" else (*found, (to_steps(last, steps_per_epoch, key), None))


def due(when: Iterable[tuple[int, int | None]], at: int) -> bool:
    """Whether (every, until) pairs ask for a measurement at a step.

    Example:
        >>> [at for at in range(0, 60, 5) if due(((5, 10), (20, None)), at)]
        [0, 5, 10, 20, 40]
    """
    every = next((every for every, until in when if until is None or at <= until), None)
    return every is not None and at % every == 0


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
    from lrjax import data, models, probes, representation, rules, schedules, step
    from lrjax.data import augment  # the registries stand above the config file in the tree

    choices = {
        "data.name": data.DATASETS,
        "model.name": models.MODELS,
        "loss": step.LOSSES,
        "engine": step.ENGINES,
        "schedule.name": schedules.SCHEDULES,
        "l2_schedule.name": schedules.SCHEDULES,
        "representation": representation.REPRESENTATIONS,
        "augment": augment.AUGMENTATIONS,
        "rule.name": rules.RULES,
        "order": ("shuffle", "iid", "cyclic"),
        "batch_statistics": ("batch", "micro_batch"),
        "compute_dtype": ("float32", "bfloat16"),
        "averaging": (None, "ema", "uniform", "schedule_free"),
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


def _check_spectra(config: Config, num_train: int) -> None:
    """What the probes spectrum and noise are asked for, if they are."""
    if "noise_grid" in config.probes:
        from lrjax.probes.noise_grid import grid

        grid(config.spectra.noise_grid, num_train)
    if not {"spectrum", "noise", "break_even"} & set(config.probes):
        return
    from lrjax.probes.noise import batch_sizes
    from lrjax.probes.spectrum import ADAMS, LIKELIHOODS, MATRICES

    settings = config.spectra
    for key, least in (("k", 1), ("examples", 0), ("batch_size", 0), ("noise_batches", 2), ("noise_batch_size", 1)):
        check(settings[key] >= least, f"spectra.{key}={settings[key]} must be {least} or more")
    k, most = settings.k, settings.max_steps
    check(most >= k, f"spectra.max_steps={most} is fewer than the spectra.k={k} eigenvalues asked for")
    check(
        0 < settings.tol < 1, f"spectra.tol={settings.tol} must lie between 0 and 1: it is relative to the eigenvalue"
    )
    check(0 <= settings.seed < 2**32, f"spectra.seed={settings.seed} must lie in 0..{2**32 - 1}")
    check(bool(settings.matrices), f"spectra.matrices is empty; name one or more of {', '.join(MATRICES)}")
    for name in settings.matrices:
        check(name in MATRICES, f"unknown matrix {name!r} in spectra.matrices; {nearest(str(name), MATRICES)}")
    check(len(set(settings.matrices)) == len(settings.matrices), f"spectra.matrices={settings.matrices} repeats one")
    if "break_even" in config.probes:
        batch_sizes(num_train, settings.noise_batches, settings.noise_batch_size)
    if "noise" in config.probes:
        batch_sizes(min(settings.examples, num_train) or num_train, settings.noise_batches, settings.noise_batch_size)
    if "spectrum" not in config.probes:
        return
    coupled = [name for name in settings.matrices if MATRICES[name].of_examples and settings.batch_statistics]
    check(
        not coupled,
        f"{' and '.join(coupled)} is made of per-example gradients, which spectra.batch_statistics=True does not leave; "
        "set it to False, or measure the noise of mini-batches with probes.noise",
    )
    likely = "fisher" not in settings.matrices or config.loss in LIKELIHOODS
    check(
        likely, f"loss {config.loss!r} is no -log p(y | x), so there is no fisher; name ggn in spectra.matrices instead"
    )
    moments = "preconditioned_hessian" not in settings.matrices or config.optimizer.name in ADAMS
    check(
        moments, f"preconditioned_hessian needs one of {', '.join(ADAMS)}; optimizer.name is {config.optimizer.name!r}"
    )


def resolve(config: Config) -> Config:
    """Checks one lane's config, turns durations into steps, fills in what follows from other keys, and freezes it.

    Args:
        config: a config without `sweep` and `arms` still to apply (see `lrjax.sweep.plan`).

    Raises:
        LrjaxError: the first thing that is wrong, with what to write instead.
    """
    from lrjax import data, rules
    from lrjax.representation import check_representation

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
    _check_spectra(config, source.spec(config).train["y"].shape[0])  # those in memory
    check_representation(config)
    rules.check_rule(config)
    return freeze(config)
