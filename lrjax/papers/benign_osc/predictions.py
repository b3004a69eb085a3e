"""Predictions printed before a run: e, the phase of the map, conditions R1-R4 with margins."""

from typing import Any

from lrjax.data.signal_noise import KAPPA
from lrjax.experiment.config.canonical import Config
from lrjax.papers.benign_osc.conditions import conditions
from lrjax.papers.benign_osc.cubic_map import SIGN_STABLE_LIMIT, lyapunov, mean_residual, phase
from lrjax.papers.benign_osc.theory import capacity

MOST_ROWS = 24
HEAD = (
    f"{'e':>6} {'eta':>7} {'map':<15} {'Lyapunov':>8} {'<1-yf>':>7} {'K':>6}   margins (a condition holds at 1 or more)"
)


def _row(config: Config) -> str:
    data, e = config.data, config.e
    found = conditions(
        n=data.n,
        n_weak=data.n_weak,
        dim=data.dim,
        width=config.model.width,
        u_norm=data.u_norm,
        v_norm=data.v_norm,
        sigma_p=data.sigma_p,
        e=e,
    )
    margins = "  ".join(f"{c.name} {c.margin:.2f}{'' if c.holds else '!'}" for c in found)
    oscillates = 0 < e < SIGN_STABLE_LIMIT
    exponent = f"{float(lyapunov(e)):+.2f}" if oscillates else "-"
    residual = f"{float(mean_residual(e)):.4f}" if oscillates else "-"
    k = f"{float(capacity(e)):.3f}" if e > 0 else "-"
    eta = config.optimizer.learning_rate
    return (
        f"{e:>6.4g} {eta:>7.4g} {phase(e) if e > 0 else 'at rest':<15} {exponent:>8} {residual:>7} {k:>6}   {margins}"
    )


def before(groups: list[Any]) -> str:
    """One line for each distinct setting of an experiment on the synthetic data; "" for images.

    Args:
        groups: from `lrjax.experiment.loop.sweep.expand`.
    """
    configs = [lane.config for group in groups for lane in group.lanes if lane.config.data.name in ("signal_noise",)]
    if not configs:
        return ""
    kappas = sorted({KAPPA[config.loss] for config in configs})
    rows = list(dict.fromkeys(_row(config) for config in _distinct(configs)[:MOST_ROWS]))
    more = len(_distinct(configs)) - MOST_ROWS
    lines = [f"expected (e = kappa eta |u|^2 / m, kappa = {', '.join(f'{k:g}' for k in kappas)}):", HEAD, *rows]
    return "\n".join(lines + ([f"... and {more} more settings"] if more > 0 else []))


def _distinct(configs: list[Any]) -> list[Any]:
    keyed = {
        (c.e, c.data.n, c.data.n_weak, c.data.dim, c.data.v_norm, c.data.sigma_p, c.model.width): c for c in configs
    }
    return [keyed[key] for key in sorted(keyed)]
