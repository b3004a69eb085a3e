"""Rules that read the training loss and change the learning rate: AutoDecay, reduce-on-plateau, SASA.

A rule is asked every `rule.every` steps. It sees the mean loss of those steps and answers with a factor for the learning
rate and whether the lane is to stop. All of it happens inside the compiled step, and its state lies in the TrainState: so
nothing compiles again, each lane of a block decides for itself, and a killed run goes on with the same bits.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrjax.errors import check
from lrjax.experiment.config.canonical import Config
from lrjax.experiment.step.hparams import HParams

EPS = 1e-12


class RuleOutput(NamedTuple):
    """Output of a rule at the end of an interval."""

    state: Any
    scale: jax.Array  # of the learning rate, in place of the one before
    stop: jax.Array  # bool


class Rule(NamedTuple):
    """A rule of the registry `RULES`.

    Attributes:
        init: settings -> state, a pytree of arrays.
        update: `(settings, state, scale, loss, seen) -> RuleOutput`: scale in force, mean loss of the stretch, what `observe`
            saw in each part of it (a dict of arrays [PARTS]).
        observe: `(hparams, learning_rate, params, gradient, opt_state) -> dict` of scalars at every step, averaged over parts.
    """

    init: Callable
    update: Callable
    observe: Callable | None = None


class RuleState(NamedTuple):
    """State of a rule with its multiplier of the learning rate and its stopping step."""

    scale: jax.Array  # of the learning rate
    stopped_at: jax.Array  # int32, the steps done when the rule stopped the lane; -1 before
    loss: jax.Array  # sum over the steps of this stretch
    seen: dict[str, jax.Array]  # sums over the parts of this stretch, each [PARTS]
    inner: Any


PARTS = 12  # of a stretch, for the batch means of SASA
KEPT = 2  # stretches behind one test of SASA
STUDENT = 1.714  # two-sided 90 % quantile of Student's t with PARTS * KEPT - 1 = 23 degrees of freedom


def auto_decay_init(settings: Any) -> dict[str, jax.Array]:
    """No loss seen yet."""
    window = jnp.zeros(settings.window)
    return {"f": jnp.float32(0), "t": jnp.int32(0), "window": window, "start": jnp.float32(jnp.nan)}


def auto_decay(settings: Any, state: dict, scale: jax.Array, loss: jax.Array, seen: dict) -> RuleOutput:
    """AutoDecay: decay where the smoothed loss is flat and has dropped in this stage; stop where it is flat and has not.

        f_t = beta f_{t-1} + (1 - beta) l_t,   g_t = f_t / (1 - beta^t)
        flat:    (max G - min G) / (min G + eps) < eta over the last `window` values G of g
        dropped: (g_t + eps) / (g_0 + eps) < zeta

    g_0 is the first loss in stage 1, afterwards the smoothed loss at the end of the stage before: the drop inside the first
    stretch after a decay counts. That, `window`, `eta` and `zeta` are our choice; beta = 0.9 is the paper's as remembered.

    Source: How Does Learning Rate Decay Help Modern Neural Networks?, version 1 and appendix A.

    Example:
        >>> from types import SimpleNamespace
        >>> settings = SimpleNamespace(beta=0.9, window=2, eta=0.05, zeta=0.9, factor=0.1)
        >>> state, scale = auto_decay_init(settings), jnp.float32(1)
        >>> for loss in (1.0, 0.1, 0.1, 0.1):
        ...     state, scale, stop = auto_decay(settings, state, scale, jnp.float32(loss), {})
        >>> round(float(scale), 3), bool(stop)
        (1.0, False)
    """
    t = state["t"] + 1
    f = settings.beta * state["f"] + (1 - settings.beta) * loss
    g = f / (1 - settings.beta ** t.astype(jnp.float32))
    start = jnp.where(jnp.isnan(state["start"]), loss, state["start"])
    window = jnp.roll(state["window"], -1).at[-1].set(g)
    low = jnp.min(window)
    flat = (t >= settings.window) & ((jnp.max(window) - low) / (low + EPS) < settings.eta)
    dropped = (g + EPS) / (start + EPS) < settings.zeta
    decay = flat & dropped
    inner = {
        "f": jnp.where(decay, 0.0, f),
        "t": jnp.where(decay, 0, t),
        "window": window,
        "start": jnp.where(decay, g, start),
    }
    return RuleOutput(inner, jnp.where(decay, scale * settings.factor, scale), flat & ~dropped)


def plateau_init(settings: Any) -> dict[str, jax.Array]:
    """No loss seen yet."""
    return {"best": jnp.float32(jnp.inf), "count": jnp.int32(0), "cooldown": jnp.int32(0)}


def plateau(settings: Any, state: dict, scale: jax.Array, loss: jax.Array, seen: dict) -> RuleOutput:
    """Reduce on plateau: decay once `patience` stretches in a row were no better than (1 - rtol) times the best one.

    The decisions of `optax.contrib.reduce_on_plateau`, which branches inside in a way that a program laid out over devices
    (`jax.shard_map`) cannot hold. PyTorch's decays one stretch later: when the count exceeds `patience`.

    Example:
        >>> from types import SimpleNamespace
        >>> settings = SimpleNamespace(factor=0.1, patience=2, rtol=0.0, cooldown=0, min_scale=0.0)
        >>> state, scale = plateau_init(settings), jnp.float32(1)
        >>> for loss in (1.0, 1.0, 1.0):
        ...     state, scale, stop = plateau(settings, state, scale, jnp.float32(loss), {})
        >>> round(float(scale), 3), bool(stop)
        (0.1, False)
    """
    better = loss < (1 - settings.rtol) * state["best"]
    count = jnp.where(better, 0, state["count"] + 1)
    waits = state["cooldown"] > 0
    fires = ~waits & (count == settings.patience)
    inner = {
        "best": jnp.where(better, loss, state["best"]),
        "count": jnp.where(waits | fires, 0, count),
        "cooldown": jnp.where(waits, state["cooldown"] - 1, jnp.where(fires, settings.cooldown, 0)),
    }
    lower = jnp.maximum(scale * settings.factor, settings.min_scale)
    return RuleOutput(inner, jnp.where(fires, lower, scale), jnp.bool_(False))


def sasa_observe(hparams: HParams, learning_rate: jax.Array, params: Any, gradient: Any, opt_state: Any) -> dict:
    """Both sides of the stationarity condition of SGD with momentum: <theta, g> and eta (1 + beta) |v|^2 / 2.

    Here theta' = theta - eta v and v' = beta v + g. In a stationary state E |theta|^2 does not change, whence the two are
    equal in the mean; g is the gradient of the whole objective, with weight decay.
    """
    l2, momentum = hparams.get("optimizer.l2", 0.0), hparams.get("optimizer.momentum", 0.0)
    trace = optax.tree_utils.tree_get(opt_state, "trace")
    whole = jax.tree.map(lambda g, p: g + l2 * p, gradient, params)
    inner = optax.tree_utils.tree_vdot(params, whole)
    square = learning_rate * (1 + momentum) / 2 * optax.tree_utils.tree_norm(trace, squared=True)
    return {"inner": inner, "square": square}


def sasa_init(settings: Any) -> dict[str, jax.Array]:
    """No part of a stretch seen yet."""
    return {"inner": jnp.zeros((KEPT, PARTS)), "square": jnp.zeros((KEPT, PARTS)), "count": jnp.int32(0)}


def sasa(settings: Any, state: dict, scale: jax.Array, loss: jax.Array, seen: dict) -> RuleOutput:
    """SASA: decay where <theta, g> - eta (1 + beta) |v|^2 / 2 is zero, up to `delta` of its second term.

    The 90 % confidence interval comes from the means of the 24 parts of the last two stretches (batch means); it must lie
    within +-delta of the mean of the second term. The number of parts and stretches is our choice.

    Source: Lang, Zhang & Xiao 2019, Using Statistics to Automate Stochastic Optimization.
    """
    inner, square = (jnp.roll(state[k], -1, axis=0).at[-1].set(seen[k]) for k in ("inner", "square"))
    count = state["count"] + 1
    difference = (inner - square).ravel()
    error = STUDENT * jnp.std(difference, ddof=1) / jnp.sqrt(float(difference.size))
    small = jnp.abs(jnp.mean(difference)) + error < settings.delta * jnp.mean(square)
    decay = (count >= KEPT) & small
    kept = {"inner": inner, "square": square, "count": jnp.where(decay, 0, count)}
    return RuleOutput(kept, jnp.where(decay, scale * settings.factor, scale), jnp.bool_(False))


RULES: dict[str, Rule | None] = {
    "none": None,
    "auto_decay": Rule(auto_decay_init, auto_decay),
    "plateau": Rule(plateau_init, plateau),
    "sasa": Rule(sasa_init, sasa, sasa_observe),
}


def check_rule(config: Config) -> None:
    """Refuses settings that a rule cannot work with.

    Raises:
        LrjaxError: the first that is wrong.
    """
    settings = config.rule
    if settings.name == "none":
        return
    check(settings.every >= 1, f"rule.every={settings.every} must be one step or more")
    check(0 < settings.factor < 1, f"rule.factor={settings.factor} must lie between 0 and 1: it multiplies the rate")
    check(0 <= settings.beta < 1, f"rule.beta={settings.beta} must lie in [0, 1)")
    check(settings.window >= 1, f"rule.window={settings.window} must be 1 or more")
    heavy_ball = config.optimizer.name == "sgd" and not config.optimizer.get("nesterov")
    check(
        settings.name != "sasa" or (heavy_ball and bool(config.optimizer.momentum)),
        "rule 'sasa' tests a condition of SGD with plain momentum; set optimizer.name='sgd', optimizer.momentum and "
        "optimizer.nesterov=False",
    )


def init(settings: Any) -> Any:
    """The state before the first step, () without a rule."""
    rule = RULES[settings.name]
    if rule is None:
        return ()
    names = ("inner", "square") if rule.observe else ()
    seen = {name: jnp.zeros(PARTS) for name in names}
    return RuleState(jnp.float32(1), jnp.int32(-1), jnp.float32(0), seen, rule.init(settings))


def advance(settings: Any, state: RuleState, step: jax.Array, loss: jax.Array, observed: dict) -> RuleState:
    """The state after a step.

    Args:
        settings: `static.rule`.
        state: before the step.
        step: number of the step, from 0.
        loss: of the step.
        observed: what `Rule.observe` saw.
    """
    rule = RULES[settings.name]
    assert rule is not None
    place = step % settings.every
    length = max(1, settings.every // PARTS)
    part = jnp.minimum(place // length, PARTS - 1)
    total = state.loss + loss.astype(jnp.float32)
    # The last part also takes what is left over.
    size = jnp.where(part == PARTS - 1, settings.every - (PARTS - 1) * length, length)
    seen = {name: state.seen[name].at[part].add(observed[name] / size) for name in state.seen}
    ends = place == settings.every - 1
    answer = rule.update(settings, state.inner, state.scale, total / settings.every, seen)
    stop = ends & answer.stop & (state.stopped_at < 0)

    def at_end(new: Any, old: Any) -> Any:
        return jax.tree.map(lambda a, b: jnp.where(ends, a, b), new, old)

    return RuleState(
        scale=at_end(answer.scale, state.scale).astype(jnp.float32),
        stopped_at=jnp.where(stop, step + 1, state.stopped_at),
        loss=jnp.where(ends, 0.0, total),
        seen={name: jnp.where(ends, 0.0, value) for name, value in seen.items()},
        inner=at_end(answer.state, state.inner),
    )
