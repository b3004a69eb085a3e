"""The cubic map beside what was recorded: its attractor under the residuals of a sweep, and the map experiment."""

from functools import cache

import numpy as np
from matplotlib.axes import Axes

from lrjax.experiment.rundir.lanes import Arrays, Lanes, diverged, recorded
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.experiment.rundir.reading import derived
from lrjax.papers.benign_osc import map_checks
from lrjax.papers.benign_osc.cubic_map import (
    CHAOS_ONSET,
    SIGN_STABLE_LIMIT,
    STABILITY_LIMIT,
    TWO_CYCLE_LIMIT,
    cubic_map_slope,
    lyapunov,
    orbit,
    period_two,
)
from lrjax.papers.benign_osc.drawing import as_drawn, judged, mark_limits
from lrjax.papers.benign_osc.observe import LABELS, visits, window_end
from lrjax.plots.drawing import BLUE, GREY, PURPLE, VERMILLION, Figure, canvas, legend_below, sample

_VISITS, _ORBIT = 120, 40  # points of a lane
_LOWEST = -9.0  # drawn for the exponent -inf of a superstable cycle, far below the axis


def residual_bifurcation(run: RunResult) -> Figure | None:
    """Residuals 1 - y f on strong visits late in the oscillating window, over the attractor of the cubic map."""
    lanes = recorded(run, "step/margin", "step/example", "features/weak", "data/strong")
    lanes = [pair for pair in lanes if pair[0]["arm"] != "time_matched" and not diverged(pair[0])]
    measured = [(lane["e"], _late_residuals(arrays, lane["e"])) for lane, arrays in lanes]
    measured = [(e, residuals) for e, residuals in measured if residuals.size]
    if not measured:
        return None
    fig, axes = canvas(1, 1, height=4.4)
    axis = axes[0, 0]
    axis.plot(*_attractor(), ",", color="#b0b0b0", rasterized=True)
    es = np.concatenate([np.full(residuals.size, e) for e, residuals in measured])
    values = np.concatenate([residuals for _, residuals in measured])
    axis.plot(es, values, ".", color=VERMILLION, markersize=3, alpha=0.35, markeredgewidth=0)
    axis.plot([], [], "o", color="#b0b0b0", markersize=4, label="attractor of the map")
    axis.plot([], [], "o", color=VERMILLION, markersize=4, label="measured")
    mark_limits(axis)
    axis.set(xlabel="$e$", ylabel="residual $1-yf$ on strong visits", xlim=(0.0, 1.68), ylim=(-0.8, 1.15))
    legend_below(fig, 2)
    caption = (
        "Grey: where the cubic map z' = z (1 + e - e z)^2 goes. Dots: strong visits in the second half of the "
        f"oscillating window (at most 4000 steps), all seeds, at most {_VISITS} dots a lane; they spread around the map where "
        "noise or the weak feature contributes. No claim judges this figure."
    )
    return Figure("residual_bifurcation", "The map over the measured residuals", caption, fig)


@cache
def _attractor() -> tuple[np.ndarray, np.ndarray]:
    """e and residual 1 - z of late iterates, one pair a dot."""
    e = np.linspace(0.02, SIGN_STABLE_LIMIT - 1e-3, 700)
    residuals = 1.0 - orbit(e, steps=60, burn_in=600)
    return np.broadcast_to(e, residuals.shape).ravel(), residuals.ravel()


@cache
def _exponents_of_map() -> tuple[np.ndarray, np.ndarray]:
    e = np.linspace(0.02, SIGN_STABLE_LIMIT - 1e-3, 500)
    return e, np.maximum(lyapunov(e, steps=1000, burn_in=500, starts=4), _LOWEST)


def _late_residuals(arrays: Arrays, e: float) -> np.ndarray:
    def late(own: Arrays) -> np.ndarray:
        stop = min(window_end(own, e), len(own["step/margin"]))
        found = []
        for label in LABELS:
            seen = visits(own, label)
            z = seen.z[(seen.step >= stop // 2) & (seen.step < stop)]
            found.append(1.0 - z[sample(z.size, _VISITS // 2)])
        return as_drawn(np.concatenate(found))

    return derived(arrays, f"{_VISITS} residuals late in the oscillating window", late)


def map_diagram(run: RunResult) -> Figure | None:
    """Bifurcation diagram of the recorded y f, with the closed-form 2-cycle, and the Lyapunov exponent below."""
    lanes = recorded(run, "step/margin")
    lanes = [pair for pair in lanes if not diverged(pair[0])]
    if not lanes:
        return None
    fig, axes = canvas(3, 1, height=8.8, sharex=True, height_ratios=(3, 1.5, 2))
    top, middle, bottom = axes[:, 0]
    es = np.array([lane["e"] for lane, _ in lanes])
    last = [_last_values(arrays) for _, arrays in lanes]
    everywhere = np.repeat(es, [values.size for values in last]), np.concatenate(last)
    top.plot(*everywhere, ".", color=BLUE, markersize=1.6, markeredgewidth=0, rasterized=True)
    top.plot([], [], "o", color=BLUE, markersize=4, label=f"recorded: last {_ORBIT} steps")
    _two_cycle(top)
    top.set(ylabel="$z = yf$", ylim=(-0.05, 1.75))
    mark_limits(top)
    orbits = [map_checks.in_numbers(lane, arrays) for lane, arrays in lanes]
    dead = [found.e for found in orbits if found.dead]
    if dead:
        judged(top, min(dead), 0.0, label="judged: first dead neuron")
    top.legend(loc="lower left")
    _swings(middle, orbits)
    alive = [values[-1] > 0.0 for values in last]  # a flipped neuron is dead, z = 0, and no longer follows the map
    _exponents(bottom, [pair for pair, on in zip(lanes, alive, strict=True) if on])
    bottom.set(xlabel="$e$", ylabel="Lyapunov exponent", xlim=(0.0, 1.68), ylim=(-2.5, 1.0))
    bottom.legend(loc="lower right", ncols=2)
    caption = (
        "One neuron trained on one example, one column of dots a rate and seed. Above: y f settles on 1, then on the 2-cycle "
        "(line: closed form, dashed where it no longer attracts), doubles its period and turns chaotic near e = 1.302; runs "
        f"at z = 0 have lost their neuron to a sign flip. Middle: the largest distance from 1 over the last {map_checks.LAST} "
        "steps (0 is drawn at 1e-8), which is judged: below the lower dotted line for e < 1, above the upper one beyond "
        "(shaded: rates that are judged). Below: growth rate of small differences along the recorded second half of each "
        "run, and of the map itself."
    )
    return Figure("map_diagram", "The cubic map: fixed point, 2-cycle, chaos", caption, fig)


def _last_values(arrays: Arrays) -> np.ndarray:
    return derived(arrays, f"last {_ORBIT} of step/margin", lambda own: as_drawn(own["step/margin"][-_ORBIT:]))


def _swings(axis: Axes, orbits: list[map_checks.Orbit]) -> None:
    """The judged distance from the fixed point, with both thresholds."""
    axis.set_yscale("log")
    shown = [(found.e, max(found.swing, 1e-8)) for found in orbits if not found.dead]
    if shown:
        axis.plot(*np.array(shown).T, ".", color=BLUE, markersize=3, markeredgewidth=0)
    near = map_checks.NEAR
    spans = (
        (near, STABILITY_LIMIT - near, map_checks.RESTS),
        (STABILITY_LIMIT + near, SIGN_STABLE_LIMIT, map_checks.SWINGS),
    )
    for start, stop, level in spans:
        axis.axvspan(start, stop, color=GREY, alpha=0.12, linewidth=0, zorder=0)
        axis.plot([start, stop], [level] * 2, color=PURPLE, linestyle=":", linewidth=1.4)
    axis.set_ylabel("largest $|z-1|$")


def _two_cycle(axis: Axes) -> None:
    grid = np.linspace(STABILITY_LIMIT + 1e-6, SIGN_STABLE_LIMIT, 200)
    cycle = np.array([period_two(e)[1] for e in grid])
    for chosen, style, label in (
        (grid <= TWO_CYCLE_LIMIT, "-", "2-cycle, closed form"),
        (grid >= TWO_CYCLE_LIMIT, "--", None),
    ):
        axis.plot(grid[chosen], cycle[chosen, 0], style, color=VERMILLION, label=label)
        axis.plot(grid[chosen], cycle[chosen, 1], style, color=VERMILLION)
    axis.axvline(CHAOS_ONSET, color=GREY, linestyle="-.", linewidth=0.9, zorder=0)
    axis.annotate(
        "chaos:\n$e=1.302$",
        (CHAOS_ONSET, 1.01),
        xycoords=axis.get_xaxis_transform(),
        ha="center",
        va="bottom",
        fontsize=8.5,
        color="#555555",
    )


def _exponents(axis: Axes, lanes: Lanes) -> None:
    axis.plot(*_exponents_of_map(), color=GREY, linewidth=0.9, label="map")
    found = [_exponent(arrays, lane["e"]) for lane, arrays in lanes]
    es = [lane["e"] for lane, _ in lanes]
    axis.plot(es, np.maximum(found, _LOWEST), ".", color=BLUE, markersize=3.5, label="recorded orbits")
    axis.axhline(0.0, color="black", linewidth=0.8)


def _exponent(arrays: Arrays, e: float) -> float:
    def mean_log(own: Arrays) -> np.float32:
        late = own["step/margin"][len(own["step/margin"]) // 2 :].astype(float)
        with np.errstate(divide="ignore"):
            return np.float32(np.log(np.abs(cubic_map_slope(late, e))).mean())

    return float(derived(arrays, "Lyapunov exponent over the second half", mean_log))
