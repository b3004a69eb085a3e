"""Diagonal preconditioners of the optimizers of optax, from their states: the P of `lrjax.spectra.preconditioned`."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from inspect import Parameter, signature
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lrjax.errors import check, nearest
from lrjax.spectra.adam import averages, lost_of_average, matched, positive, root_of, wide
from lrjax.spectra.ranges import Numbers, in_range, traced
from lrjax.spectra.second_moments import plain, second_moments
from lrjax.spectra.selection import Tree

AGREEMENT = 1e-5  # relative, between a setting and the float32 in which a state holds it


def _adam(state: Any, *, b2: Numbers, eps: Numbers, eps_root: Numbers = 0.0) -> Tree:
    return root_of(averages(state.nu, b2, state.count), eps, eps_root)


def _amsgrad(state: Any, *, eps: Numbers, eps_root: Numbers = 0.0) -> Tree:
    return root_of(averages(state.nu_max, None, state.count), eps, eps_root)


def _adamax(state: Any) -> Tree:
    return averages(state.nu, None, state.count)  # largest gradients, not squares; eps is in them


def _adan(state: Any, *, b3: Numbers, eps: Numbers, eps_root: Numbers) -> Tree:
    return root_of(averages(state.n, b3, state.t), eps, eps_root)


def _adabelief(state: Any, *, b2: Numbers, eps: Numbers) -> Tree:
    return root_of(averages(state.nu, b2, state.count), eps, 0.0)  # eps_root is in nu


def _rmsprop(state: Any, *, eps: Numbers, decay: Numbers | None = None, eps_in_sqrt: bool = True) -> Tree:
    count = state.count if "count" in state._fields else None  # `count` is a method of tuples
    if count is not None:
        check(decay is not None, "the preconditioner of rmsprop with bias_correction=True needs decay")
    decay = None if count is None else decay
    moments = averages(state.nu, decay, count)
    if "mu" in state._fields:  # centred
        lost = 1.0 if decay is None else lost_of_average(decay, count)

        def centred(moment: Any, mean: Any) -> Any:
            mean, divisor = matched(wide(mean), lost)
            return moment - (mean / divisor) ** 2

        moments = jax.tree.map(centred, moments, state.mu)
    return root_of(moments, 0.0, eps) if eps_in_sqrt else root_of(moments, eps, 0.0)


def _adagrad(state: Any, *, eps: Numbers) -> Tree:
    return root_of(averages(state.sum_of_squares, None, None), 0.0, eps)


def _novograd(state: Any, *, eps: Numbers, eps_root: Numbers = 0.0) -> Tree:
    roots = root_of(averages(state.nu, None, state.count), eps, eps_root)  # one number a leaf
    return jax.tree.map(lambda root, like: jnp.broadcast_to(root, jnp.shape(like)), roots, state.mu)


def _prodigy(state: Any, *, b2: Numbers, eps: Numbers) -> Tree:
    lost = lost_of_average(b2, state.count)

    def divisor(root: Any) -> Any:
        root, rate, outside, unbiased = matched(root, state.estim_lr, eps, lost)
        return (root / rate + outside) / unbiased**0.5  # the moments are those of d g, d the estimated rate

    in_range("b2", b2, "from 0 to below 1")
    in_range("eps", eps, "0 or more")
    return jax.tree.map(divisor, root_of(averages(state.exp_avg_sq, None, state.count), 0.0, 0.0))


def _schedule_free_adamw(state: Any, *, b2: Numbers, eps: Numbers) -> Tree:
    return _rmsprop(state, eps=eps, decay=b2, eps_in_sqrt=False)


class Preconditioner(NamedTuple):
    """How an optimizer preconditions: the class names of its states, and the diagonal of one of them and of its settings."""

    states: tuple[str, ...]
    diagonal: Callable[..., Tree]


_ADAM = Preconditioner(("ScaleByAdamState",), _adam)
_RMS = ("ScaleByRmsState", "ScaleByRmsWithCountState", "ScaleByRStdDevState", "ScaleByRStdDevWithCountState")
PRECONDITIONERS: dict[str, Preconditioner] = {
    **dict.fromkeys(("adam", "adamw", "nadam", "nadamw", "yogi"), _ADAM),
    **dict.fromkeys(("adamax", "adamaxw"), Preconditioner(_ADAM.states, _adamax)),
    "amsgrad": Preconditioner(("ScaleByAmsgradState",), _amsgrad),
    "adan": Preconditioner(("ScaleByAdanState",), _adan),
    "adabelief": Preconditioner(("ScaleByBeliefState",), _adabelief),
    "ademamix": Preconditioner(("ScaleByAdemamixState",), _adam),
    "rmsprop": Preconditioner(_RMS, _rmsprop),
    "adagrad": Preconditioner(("ScaleByRssState",), _adagrad),
    "novograd": Preconditioner(("ScaleByNovogradState",), _novograd),
    "prodigy": Preconditioner(("ProdigyState",), _prodigy),
    "schedule_free_adamw": Preconditioner(("ScaleByRmsWithCountState",), _schedule_free_adamw),
}
"""Optimizers of optax with a diagonal preconditioner, for `preconditioner`; settings are those of the optimizer.

References:
    Cohen et al. 2022, Adaptive gradient methods at the edge of stability, arXiv 2207.14484, for Adam; optax's source.
"""


def _settings(optimizer: str, given: Mapping[str, Any], injected: Mapping[str, Any]) -> dict[str, Any]:
    parameters = [
        one for one in signature(PRECONDITIONERS[optimizer].diagonal).parameters.values() if one.name != "state"
    ]
    names = [one.name for one in parameters]
    check(
        set(given) <= set(names),
        f"the preconditioner of {optimizer!r} takes {names or 'no settings'}, not {sorted(set(given) - set(names))}",
    )
    settings = {name: injected[name] for name in names if name in injected} | dict(given)
    for name in given.keys() & injected.keys():
        if not traced(given[name], injected[name]):
            same = np.allclose(np.asarray(given[name]), np.asarray(injected[name]), rtol=AGREEMENT, atol=0)
            check(
                bool(same),
                f"{name}={given[name]}, but the optimizer state holds {name}={injected[name]:.6g}; leave it out",
            )
    missing = [one.name for one in parameters if one.default is Parameter.empty and one.name not in settings]
    check(
        not missing, f"the preconditioner of {optimizer!r} needs {', '.join(missing)}, as the optimizer was made with"
    )
    return settings


def _is_masked(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)


def preconditioner(
    optimizer: str, opt_state: Tree, *, group: Hashable | list[Hashable] = None, **settings: Numbers
) -> Tree:
    r"""The diagonal P by which an optimizer of optax divides its momentum, from its state, for `preconditioned`.

    With t updates made, `nu` and the others as in the state, and the settings of the optimizer:

    ====================================  ==========================================================  =====================
    optimizer                             P                                                           `edge` of P^-1 H
    ====================================  ==========================================================  =====================
    adam, adamw, yogi                     sqrt(nu / (1 - b2^t) + eps_root) + eps                      adam, adamw
    nadam, nadamw                         the same                                                    nadam
    amsgrad                               sqrt(nu_max + eps_root) + eps                               adam
    adamax, adamaxw                       nu, the largest gradients                                   adam, adamw
    adabelief                             sqrt(nu / (1 - b2^t)) + eps                                 adam
    rmsprop                               sqrt(nu + eps), or sqrt(nu) + eps (`eps_in_sqrt=False`)     heavy_ball
    adagrad                               sqrt(sum_of_squares + eps)                                  gradient_descent
    novograd                              sqrt(nu + eps_root) + eps, one number a leaf                heavy_ball
    prodigy                               (sqrt(exp_avg_sq) / d + eps) / sqrt(1 - b2^t)               adam, rate d eta
    adan                                  sqrt(n / (1 - b3^t) + eps_root) + eps                       none
    ademamix                              as adam                                                     none
    schedule_free_adamw                   sqrt(nu / (1 - b2^t)) + eps                                 none
    ====================================  ==========================================================  =====================

    rmsprop without momentum has that of momentum 0, 2 / eta; centred, nu is less by mu^2, and with bias correction both are
    divided by 1 - decay^t. prodigy's d is `estim_lr`. Lion, Muon, Adafactor and SGD have no such diagonal, and are refused.
    Adam, yogi and adamax keep their moments in the same class, so that the name must be right.

    Args:
        optimizer: a name in `PRECONDITIONERS`.
        opt_state: of any optax optimizer with this one in it (chain, masked, partition, inject_hyperparams, MultiSteps,
            apply_if_finite, schedule_free), or a train state or `nnx.Optimizer` that holds one.
        group: which, where there are several: a label of `optax.partition`, or the path of its state; a list of groups
            with the same settings gives the diagonal of all their parameters.
        **settings: of the optimizer, by its names in the table (prodigy's betas[1] is b2). What `optax.inject_hyperparams`
            holds may be left out, and is compared where given.

    Returns:
        A pytree like the parameters, float32 or wider; `optax.MaskedNode` for parameters of other groups.

    Raises:
        LrjaxError: an unknown optimizer; none of it in the state, or several; settings that are missing, unknown or others
            than the state's; no update made; entries of P that are zero, NaN or infinite.

    References:
        Cohen et al. 2022, Adaptive gradient methods at the edge of stability, arXiv 2207.14484: Adam. The others are the
        divisors in optax's source, with the papers that it names.

    Example:
        >>> tx = optax.amsgrad(0.1, b2=0.5, eps=0.0)
        >>> _, state = tx.update(jnp.array([3.0, 4.0]), tx.init(jnp.ones(2)))
        >>> preconditioner("amsgrad", state, eps=0.0).tolist()
        [3.0, 4.0]
    """
    check(
        optimizer in PRECONDITIONERS,
        f"no preconditioner is known for {optimizer!r}; {nearest(optimizer, PRECONDITIONERS)}",
    )
    if isinstance(group, list):
        check(bool(group), "group=[] names no group")
        parts = [preconditioner(optimizer, opt_state, group=one, **settings) for one in group]
        return jax.tree.map(_only, *parts, is_leaf=_is_masked)
    found = second_moments(opt_state, optimizer, PRECONDITIONERS[optimizer].states, group)
    numbers = _settings(optimizer, settings, plain(dict(found.injected)))
    return positive(PRECONDITIONERS[optimizer].diagonal(found.state, **numbers))


def _only(*entries: Any) -> Any:
    held = [entry for entry in entries if not _is_masked(entry)]
    check(len(held) <= 1, "the groups share parameters; name each group once")
    return held[0] if held else optax.MaskedNode()
