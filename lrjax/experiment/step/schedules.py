"""Learning-rate schedules by name. A schedule is an `optax.Schedule`; the loop evaluates it on the host to a per-step table."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lrjax.errors import check

Settings = Mapping[str, Any]


def constant(settings: Settings, peak: float, steps: int) -> optax.Schedule:
    """The same rate at every step."""
    return optax.constant_schedule(peak)


def step_decay(settings: Settings, peak: float, steps: int) -> optax.Schedule:
    """peak * factor^(number of `milestones` <= step); the step at a milestone already uses the lower rate.

    Example:
        >>> schedule = step_decay({"milestones": (10, 20), "factor": 0.1}, 1.0, 30)
        >>> [round(float(schedule(t)), 6) for t in (9, 10, 20)]
        [1.0, 0.1, 0.01]
    """
    return optax.piecewise_constant_schedule(peak, {int(m): settings["factor"] for m in settings["milestones"]})


def cosine(settings: Settings, peak: float, steps: int) -> optax.Schedule:
    """peak * (1 + cos(pi t / steps)) / 2, after a linear warm-up over `warmup` steps."""
    return optax.warmup_cosine_decay_schedule(0.0 if settings["warmup"] else peak, peak, settings["warmup"], steps)


def large_step(settings: Settings, peak: float, steps: int) -> optax.Schedule:
    """Rate grows by `growth` per percent of training for half of it, then a tenth of the peak to 90 %, then a hundredth.

    The large-step recipe of github.com/tml-epfl/sgd-sparse-features (its README), the study whose CIFAR-10 settings
    `benign_osc:E0` takes over; `peak` is the initial rate there, so the rate reaches peak * growth^50.
    """
    half, late = steps // 2, int(0.9 * steps)

    def schedule(count):
        percent = 100.0 * jnp.minimum(count, half) / steps
        grown = peak * settings["growth"] ** percent
        return grown * jnp.where(count < half, 1.0, jnp.where(count < late, 0.1, 0.01))

    return schedule


def wsd(settings: Settings, peak: float, steps: int) -> optax.Schedule:
    """Warm-up, stable, decay: linear over `warmup` steps, constant, then down by a factor `factor` over the last `cooldown`.

        eta_t = peak * factor^((t - s) / T) for t >= s = steps - T, T = cooldown

    Source: MiniCPM (arXiv 2404.06395), section 4, which decays exponentially; a tenth of the run is enough for it.

    Example:
        >>> schedule = wsd({"warmup": 0, "cooldown": 10, "factor": 0.1}, 1.0, 100)
        >>> [round(float(schedule(t)), 3) for t in (0, 90, 95)]
        [1.0, 1.0, 0.316]
    """

    def shape(place):
        return settings["factor"] ** place

    return _cooled(settings, peak, steps, shape)


def cooldown(settings: Settings, peak: float, steps: int) -> optax.Schedule:
    """Warm-up, constant, then peak * (1 - sqrt((t - s) / T)) over the last T = `cooldown` steps.

    Source: Haegele et al. 2024 (arXiv 2405.18392), section 3: it beats a linear one.

    Example:
        >>> schedule = cooldown({"warmup": 0, "cooldown": 16}, 1.0, 100)
        >>> [round(float(schedule(t)), 3) for t in (0, 84, 88, 99)]
        [1.0, 1.0, 0.5, 0.032]
    """
    return _cooled(settings, peak, steps, lambda place: 1 - jnp.sqrt(place))


def _cooled(settings: Settings, peak: float, steps: int, shape: Callable) -> optax.Schedule:
    last, warmup = max(1, settings["cooldown"]), settings["warmup"]

    def schedule(count):
        place = jnp.clip((count - (steps - last)) / last, 0.0, 1.0)
        warm = jnp.minimum(1.0, (count + 1) / (warmup + 1))
        return peak * warm * shape(place)

    return schedule


SCHEDULES: dict[str, Callable[[Settings, float, int], optax.Schedule]] = {
    "constant": constant,
    "step_decay": step_decay,
    "cosine": cosine,
    "large_step": large_step,
    "wsd": wsd,
    "cooldown": cooldown,
}


def table(settings: Settings, peak: float, steps: int) -> np.ndarray:
    """The schedule as an array: what the run uses, and what its logs say it used.

    Returns:
        [steps], float32 (float64 where JAX has it enabled).

    Example:
        >>> table({"name": "step_decay", "milestones": (2,), "factor": 0.5}, 1.0, 4)
        array([1. , 1. , 0.5, 0.5], dtype=float32)
    """
    schedule = SCHEDULES[settings["name"]](settings, peak, steps)
    dtype = jax.dtypes.canonicalize_dtype(np.float64)
    rates = np.broadcast_to(np.asarray(schedule(jnp.arange(steps)), dtype), (steps,))
    check(bool(np.isfinite(rates).all()), f"schedule {settings['name']!r} leaves the range of its floats")
    return rates
