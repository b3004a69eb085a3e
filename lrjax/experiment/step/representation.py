"""Equivalent representations of one training run: weight decay, or an exponential learning rate without it.

A config says `representation`; its learning rate, l2 and momentum are always those of the run with weight decay. What a
step reads of the other representations is a row of tables that are made here on the host, in float64.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.errors import check
from lrjax.experiment.config.canonical import Config, freeze
from lrjax.experiment.step.schedules import table
from lrjax.transforms.gauge import gauge_rescale
from lrjax.transforms.plan import WDFreeTables, wd_free_plan, wd_free_tables
from lrjax.transforms.scaling import correct_statistics
from lrjax.transforms.sgd import WDFreeState, buffer_like
from lrjax.transforms.texp import larger_root
from lrjax.transforms.texp_tables import table_of, texp_tables

Tree = Any
# What may be measured of weights in a changing scale; the others read gradients or curvature.
PROBES = ("accuracy", "test_accuracy", "direction", "outputs", "target_angle", "predictions", "subsets")


class Coefficients(NamedTuple):
    """What each step of a lane reads beside its learning rate: arrays [T], or nothing.

    Attributes:
        tables: rate, momentum and buffer correction of the run without weight decay; None in the run with it.
        alpha: P_{t+1} / P_t, which running statistics follow; None in the run with weight decay.
        log10_scale: log10 P_t, with theta = P theta~; None in the run with weight decay.
        l2: weight decay, where it is scheduled in the run with it; else None.
    """

    tables: WDFreeTables | None = None
    alpha: Any = None
    log10_scale: Any = None
    l2: Any = None


NOTHING = Coefficients()
READ = (
    "representation",
    "optimizer",
    "schedule",
    "l2_schedule",
    "steps",
    "correct_buffer",
)  # keys that the coefficients depend on


def _wd_free(config: Config, rates: np.ndarray, decay: np.ndarray | float) -> tuple[WDFreeTables, np.ndarray]:
    momentum, nesterov = config.optimizer.momentum or 0.0, bool(config.optimizer.get("nesterov"))
    plan = wd_free_plan(rates, decay, momentum, config.steps, nesterov=nesterov)
    # A correction of zero, so that all forms without weight decay run in one compiled program.
    tables = wd_free_tables(plan, rescaled=True)
    none = np.zeros(config.steps, tables.mantissa.dtype), np.zeros(config.steps, np.int32)
    return tables._replace(correction=none), plan.log_scale


def _texp(config: Config, rates: np.ndarray, decay: Any, *, instant_drop: bool = True) -> Any:
    schedule, peak = config.schedule, config.optimizer.learning_rate
    starts = tuple(schedule.milestones) if schedule.name == "step_decay" else ()
    values = [peak * schedule.factor**phase for phase in range(len(starts) + 1)]
    return texp_tables(
        starts,
        values,
        decay,
        config.optimizer.momentum or 0.0,
        config.steps,
        instant_drop=instant_drop,
        correct_start=config.correct_buffer,
        correct_phases=config.correct_buffer,
    )


def _texp_no_drop(config: Config, rates: np.ndarray, decay: Any) -> Any:
    return _texp(config, rates, decay, instant_drop=False)


def _texp_fixed_exponent(config: Config, rates: np.ndarray, decay: Any) -> Any:
    """The growth of the first rate throughout, the drops of the schedule on top: no run with this weight decay equals it."""
    momentum, steps = config.optimizer.momentum or 0.0, np.arange(config.steps + 1)
    tables, log_scale = texp_tables(
        (), (config.optimizer.learning_rate,), decay, momentum, config.steps, correct_start=config.correct_buffer
    )
    shrink, _ = larger_root(config.optimizer.learning_rate, decay, momentum)
    log_lr = np.log(rates) - (2 * steps[:-1] + 1) * math.log1p(-float(shrink))
    return table_of(log_lr, momentum, tables.correction), log_scale


# name -> (config, learning rates, weight decay) -> (tables, log P [T + 1]); None: the run with weight decay itself
REPRESENTATIONS: dict[str, Callable | None] = {
    "weight_decay": None,
    "wd_free": _wd_free,  # TEXP++: exact for every schedule, nothing to correct
    "texp": _texp,  # the paper's TEXP, its buffer corrected once a phase (or not: `correct_buffer`)
    "texp_no_drop": _texp_no_drop,  # TEXP--
    "texp_fixed_exponent": _texp_fixed_exponent,
}


def check_representation(config: Config) -> None:
    """Refuses, with one sentence, what has no other representation; a momentum of 0 becomes None, which keeps no buffer.

    Args:
        config: one lane's, not frozen, durations in steps.

    Raises:
        LrjaxError: naming the key.
    """
    scheduled = config.l2_schedule.name != "constant"
    check(not scheduled or config.optimizer.l2 is not None, "l2_schedule needs a weight decay; give optimizer.l2")
    name = config.representation
    if name == "weight_decay":
        return
    if config.optimizer.momentum == 0:
        config.optimizer.momentum = None
    check(config.optimizer.name == "sgd", f"representation={name!r} is of SGD; set optimizer.name='sgd'")
    check(config.engine == "direct", f"representation={name!r} needs engine='direct'")
    check(
        config.optimizer.l2 is not None,
        f"representation={name!r} replaces weight decay; give optimizer.l2 of the run with it",
    )
    check(
        config.averaging is None,
        f"averaging={config.averaging!r} mixes weights of different scale under representation={name!r}; average in the "
        "run with weight decay, whose functions are the same",
    )
    check(
        config.rule.name == "none",
        f"rule.name={config.rule.name!r} changes rates while the run goes on, and those of representation={name!r} are "
        "planned before; set it to 'none'",
    )
    tuned = (config.fine_tune.head_rate, config.fine_tune.body_rate) != (1.0, 1.0)
    check(
        not tuned and (not config.start.arm or config.start.what == "run"),
        f"fine_tune and start.what={config.start.what!r} need representation='weight_decay': the scale of weights without it "
        "is another",
    )
    check(
        not config.model.get("eps", 0.0) and not config.model.get("affine", False),
        f"representation={name!r} needs model.eps=0 and model.affine=False; with them, convert groups of parameters in "
        "your own loop (lrjax.transforms)",
    )
    probes = sorted(set(config.probes) - set(PROBES))
    check(
        not probes,
        f"probes.{probes and probes[0]} would measure weights in a changing scale under representation={name!r}; measure it "
        "in the run with weight decay, whose functions are the same",
    )
    if name == "wd_free":
        return
    check(not scheduled, f"representation={name!r} has no scheduled weight decay; take 'wd_free'")
    check(not config.optimizer.get("nesterov"), f"representation={name!r} is of heavy-ball momentum; take 'wd_free'")
    check(
        name == "texp_fixed_exponent" or config.schedule.name in ("constant", "step_decay"),
        f"representation={name!r} needs schedule.name 'constant' or 'step_decay', not {config.schedule.name!r}; take "
        "'wd_free', which is exact for every schedule",
    )


def coefficients(config: Config, rates: np.ndarray) -> Coefficients:
    """The tables of one lane.

    Args:
        config: resolved.
        rates: [T], of the run with weight decay.

    Returns:
        `Coefficients`, host arrays [T].

    Raises:
        LrjaxError: the first step at which no exponential schedule equals the run.

    Example:
        >>> import lrjax.probes  # registers the probes that configs name
        >>> from lrjax import load_config
        >>> from lrjax.experiment.loop.sweep import expand as lanes_of
        >>> lane = lanes_of(load_config("configs/exp_lr.py:E7,scale=smoke"))[0].lanes[0]  # with weight decay
        >>> coefficients(lane.config, lane.learning_rates()).tables is None
        True
    """
    read = freeze({key: config[key] for key in READ})
    return _coefficients(read, rates.tobytes(), rates.dtype.str)


@functools.lru_cache(maxsize=64)  # lanes of other seeds share them, and they are asked for before and in the run
def _coefficients(config: Config, content: bytes, dtype_of_rates: str) -> Coefficients:
    rates = np.frombuffer(content, dtype_of_rates)
    l2 = config.optimizer.get("l2")
    scheduled = config.l2_schedule.name != "constant"
    decay = table(config.l2_schedule, l2, config.steps) if scheduled else l2
    build = REPRESENTATIONS[config.representation]
    if build is None:
        return Coefficients(l2=decay if scheduled else None)
    tables, log_scale = build(config, np.asarray(rates, np.float64), decay)
    dtype = jax.dtypes.canonicalize_dtype(np.float64)
    alpha = np.exp(np.diff(log_scale)).astype(dtype)
    return Coefficients(tables, alpha, (log_scale[:-1] / math.log(10)).astype(dtype))


def initial(static: Config, params: Tree) -> WDFreeState:
    """The optimizer state before the first step without weight decay."""
    return WDFreeState(jnp.int32(0), buffer_like(params, "optimizer.momentum" in static.arrays), jnp.int32(0))


def log10_rate(tables: WDFreeTables) -> Any:
    """log10 of the rates that the steps use, which may be beyond the range of floats."""
    return jnp.log10(tables.mantissa) + tables.exponent * math.log10(2.0)


def followed(model_state: Tree, row: Coefficients) -> Tree:
    """Model state after a step, its running statistics at the scale of the next step's weights."""
    return model_state if row.alpha is None else correct_statistics(model_state, row.alpha)


def rescaled(state: Any) -> Any:
    """A lane's state with its largest weight in [1/2, 1): the same functions, bit for bit (`gauge_rescale`)."""
    params, opt_state, model_state, _ = gauge_rescale(state.params, state.opt_state, state.model_state)
    return state._replace(params=params, opt_state=opt_state, model_state=model_state)


def gauge(opt_state: Tree) -> jax.Array:
    """k of the stored weights 2^k theta~; 0 in the run with weight decay."""
    return getattr(opt_state, "gauge", jnp.int32(0))
