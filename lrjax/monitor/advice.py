"""What may be said of a learning rate: each line with its formula, its source and its calibration.

What is not said, whatever the numbers: that the rate can be raised by the headroom of a batch (Adam at ten times its best
rate shows headroom too); that rho = 2 means a rate that is too high (it is an identity at stationarity); that 2 / lambda_1 is
the largest rate for mini-batches, momentum or Adam; that update / weight should be 1e-3; that the noise scale is the critical
batch size; how to scale the rate of Adam with the batch; anything about generalisation from sharpness.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lrjax.monitor import history
from lrjax.monitor.case import Case
from lrjax.monitor.clock import decay_clock
from lrjax.monitor.lines import edge_lines
from lrjax.monitor.optimizer_facts import Facts  # noqa: F401 -- of the example

GAP_DECAY = 0.10  # mean of the last valley gaps above which decay or averaging pays now
GAP_KEEP = 0.08  # and below which it does not
GAPS = 2  # that are averaged: one alone scatters, and earlier ones tell of another time
GAP_SMALL = 0.02  # the largest of a rate that is far too small
GAIN_SMALL_RATE = 0.95
RHO_SMALL_RATE = 0.5
JUMP = 2.0  # update size over its median
ANGLES = (0.5, 2.0)  # measured over predicted, at equilibrium
TAUS = 3.0
CALIBRATION = {  # on networks that no limit was fitted to, docs/howto/monitor-calibration.md
    "decay": "right in 7 of 7 test cells",
    "keep": "right in 30 of 33 test cells",
    "far_too_small": "with a larger rate the loss fell at least twice as far in 23 of 23 test cells",
}
BEYOND = 1.5  # of a line of stability, from which on training is not settled at it
AT_EDGE = 0.8  # share of a line of stability from which on the edge is named
MEDIANS = 100
LEVELS = ("warning", "advice", "information")


class Advice(NamedTuple):
    """A sentence about the learning rate.

    Attributes:
        code: "decay", "keep", "undecided", "far_too_small", "edge", "spike", "decay_inactive", "not_in_equilibrium",
            "not_finite", "zero_update", "zero_rate", "accumulation".
        level: "advice", "warning" or "information".
        sentence: for a reader.
        evidence: the formula with the numbers.
        source: where the rule is from.
    """

    code: str
    level: str
    sentence: str
    evidence: str
    source: str


def _finite(case: Case) -> list[Advice]:
    row = next((row for row in reversed(case.rows) if "loss" in row), None)
    if row is None:
        return []
    bad = [name for name in ("loss", "gradient_norm") if not math.isfinite(row[name])]
    if not bad:
        return []
    words = " and ".join({"loss": "the loss", "gradient_norm": "the gradient"}[name] for name in bad)
    verb = "is" if len(bad) == 1 else "are"
    text = f"At step {row['step']} {words} {verb} not finite: the run has diverged, or the batch holds NaN."
    return [Advice("not_finite", "warning", text, f"loss {row['loss']:g}, |g| {row['gradient_norm']:g}", "")]


def _zero(case: Case) -> list[Advice]:
    row = next((row for row in reversed(case.rows) if "loss" in row), None)
    if row is None:
        return []
    still = [name for name in case.groups if row.get(f"update_rms/{name}") == 0]
    found = []
    if case.rate == 0:
        text = f"The learning rate is 0 at step {row['step']}: this step changes nothing."
        return [Advice("zero_rate", "warning", text, "eta = 0", "")]
    dead = [name for name in still if row.get(f"gradient_sizes/{name}") == 0]
    held = [name for name in still if name not in dead]
    for names, why in (
        (dead, "get no gradient: frozen, unused or dead"),
        (held, "get a gradient but no update: masked or frozen"),
    ):
        if names:
            text = f"{_listed(names)} {why}."
            found.append(Advice("zero_update", "warning", text, f"RMS of u is 0 at step {row['step']}", ""))
    return found


def _accumulation(case: Case) -> list[Advice]:
    k = case.facts.accumulation
    if k <= 1:
        return []
    text = f"A step has {k} micro-batches (optax.MultiSteps); the virtual step is the one after the last of them."
    return [Advice("accumulation", "information", text, f"k = {k}", "")]


def _source(formula: str, code: str) -> str:
    return f"{formula}; limits of ours, {CALIBRATION[code]} (docs/howto/monitor-calibration.md)"


def _gap(case: Case) -> list[Advice]:
    gaps = history.recent(history.at_rate(case.rows), "valley_gap", GAPS)
    if not gaps.size:
        return []
    formula = "valley gap (L(theta) - L(mean theta)) / L(theta)"
    evidence, mean = "gap " + ", ".join(f"{gap:.1%}" for gap in gaps), gaps.mean()
    evidence += f", mean {mean:.1%}" if gaps.size > 1 else ", measured once"
    if gaps.size >= GAPS and mean > GAP_DECAY and gaps.min() > GAP_KEEP:
        text = "Decay or average now: much of the loss is oscillation, which a smaller rate or averaged weights remove."
        return [Advice("decay", "advice", text, f"{evidence}, above {GAP_DECAY:.0%}", _source(formula, "decay"))]
    # A gap scatters by some hundredths from one measurement to the next, so that one alone shows no narrow valley.
    error = gaps.std(ddof=1) / math.sqrt(gaps.size) if gaps.size > 1 else math.inf
    if mean + error < GAP_KEEP:
        text = "Keep the rate: little of the loss is oscillation, so that a decay gains little now."
        evidence += f" +- {error:.1%}, below {GAP_KEEP:.0%}"
        return [Advice("keep", "advice", text, evidence, _source(formula, "keep"))]
    text = "Whether a decay pays now is undecided."
    limits = f"; decay needs a mean above {GAP_DECAY:.0%} of two gaps above {GAP_KEEP:.0%}, keep a mean below "
    limits += f"{GAP_KEEP:.0%} by its standard error; either needs two measurements"
    return [Advice("undecided", "information", text, evidence + limits, formula)]


def _too_small(case: Case) -> list[Advice]:
    gain = history.median(case.rows, "gain_ratio", 10)
    rho = history.rho(case.rows)
    gaps = history.recent(case.rows, "valley_gap", GAPS)
    # The first steps of a good rate see little curvature too, so that it is said some way into the run; at one step alone,
    # that of a checkpoint, there is no more than one gap.
    enough = GAPS if len({row["step"] for row in case.rows}) > 1 else 1
    if gain is None or gaps.size < enough or not history.series(case.rows, "step_slope")[0].size:
        return []
    if case.decayed or case.rising:
        return []
    # Few batches of a nearly stationary loss may not resolve rho; the gain ratio alone then decides.
    if not (gain > GAIN_SMALL_RATE and (rho is None or rho < RHO_SMALL_RATE) and gaps.max() < GAP_SMALL):
        return []
    text = "The rate is far too small for where the training is: try 3 to 30 times of it."
    full = "not resolved" if rho is None else f"{rho:.2g} below {RHO_SMALL_RATE}"
    evidence = f"gain ratio {gain:.3f} above {GAIN_SMALL_RATE}, rho of the loss {full}, largest gap {gaps.max():.1%}"
    return [Advice("far_too_small", "advice", text, evidence, _source("steps that see no curvature", "far_too_small"))]


def level(rows: history.Rows, name: str) -> float | None:
    """A curvature as it is compared with its line: a mean over batches, or a median, at the present rate."""
    values = history.recent(history.at_rate(rows), name, 10 if name == "batch_sharpness" else 5)
    if not values.size:
        return None
    return float(values.mean() if name == "batch_sharpness" else np.median(values))


def _edge(case: Case) -> list[Advice]:
    found = []
    for name, line in edge_lines(case.facts, case.rate, case.full_batch).items():
        value = level(case.rows, name)
        if line.value is None or value is None or name == "gradient_curvature" or value < AT_EDGE * line.value:
            continue
        words = {"batch_sharpness": "batch sharpness", "sharpness": "the largest eigenvalue"}[name]
        ratio = f"{words} is {value / line.value:.2f} of {line.formula}"
        if value < BEYOND * line.value:
            text = f"Training is at its edge of stability: {ratio}. It settles there by itself; that is no fault."
        else:
            text = f"Curvature is beyond the line of stability: {ratio}. Training does not stay here: it moves on or diverges."
        found.append(Advice("edge", "information", text, f"{value:.4g} against {line.value:.4g}", line.source))
    return found


def jumps(case: Case) -> list[tuple[str, float]]:
    """Groups whose last update is above twice the median of those before, and how many times."""
    sizes = history.step_sizes(case.rows, case.groups)[-MEDIANS - 1 :]
    known = sizes[:-1][np.isfinite(sizes[:-1]).all(axis=1)]
    if len(known) < 10:
        return []
    medians = np.median(known, axis=0)
    jumped = np.flatnonzero((sizes[-1] > JUMP * medians) & (medians > 0))
    found = [(case.groups[index], float(sizes[-1, index] / medians[index])) for index in jumped]
    return found if found and not case.decayed else []


def _spike(case: Case) -> list[Advice]:
    found = jumps(case)
    if not found:
        return []
    line = edge_lines(case.facts, case.rate, case.full_batch)["gradient_curvature"]
    curvature = history.recent([row for row in case.rows if "loss" in row][-1:], "gradient_curvature")
    confirmed = "not measured at this step"
    if line.value is not None and curvature.size:
        confirmed = f"{curvature[0] / line.value:.2f} of {line.formula}, " + (
            "above it" if curvature[0] > line.value else "below it: not confirmed"
        )
    worst, adam = max(times for _, times in found), case.facts.kind == "adam"
    text = (
        f"The update of {_listed([one for one, _ in found])} is {worst:.1f} times its median: a spike of the loss may come, "
        f"though not every jump brings one. Remedies: {'a smaller b2, ' if adam else ''}clipping of updates."
    )
    evidence = f"RMS of u over its median {worst:.2f}, above {JUMP:g}; curvature along the gradient {confirmed}"
    source = "arXiv 2506.04805, read as an abstract" if adam else "update sizes by group"
    return [Advice("spike", "warning", text, evidence, source)]


def _largest_decay(case: Case, group: str) -> float:
    """Share of the weights that decay takes in a step at the largest rate of the run so far, where rates are known."""
    name, rate = f"decay/{group}", "learning_rate"
    rows = [row for row in case.rows if math.isfinite(row.get(name, math.nan))]
    rates = history.recent(case.rows, rate, len(case.rows))
    if rates.size and all(row.get(rate, 0) > 0 for row in rows):
        return max(row[name] / row[rate] for row in rows) * float(rates.max())
    return max(row[name] for row in rows)


def _decay(case: Case) -> list[Advice]:
    found, slow, off = [], [], []
    for group in case.groups:
        rates = history.series(case.rows, f"decay/{group}")[1]
        rates = rates[np.isfinite(rates)]
        if not rates.size or not rates.max() > 0:
            continue
        clock = decay_clock(_largest_decay(case, group), case.facts, coupled=case.coupled)
        if case.rising:
            continue
        if case.num_steps is not None and clock.steps > case.num_steps:
            slow.append((group, clock.steps))
            continue
        now = decay_clock(float(rates[-1]), case.facts, coupled=case.coupled)
        passed = history.elapsed(case.rows, f"decay/{group}") / (clock.steps * clock.decay)  # in tau
        angle = history.median(case.rows, f"angle/{group}", 5)
        if passed > TAUS and now.angle and angle is not None:
            ratio = angle / now.angle
            if not ANGLES[0] <= ratio <= ANGLES[1]:
                off.append((group, ratio))
    if slow:
        steps = min(tau for _, tau in slow)
        text = (
            f"Weight decay will not act in this run on {_listed([one for one, _ in slow])}: it needs {steps:.3g} steps, "
            f"the run has {case.num_steps}."
        ) + ("" if case.coupled else " optax multiplies its decoupled decay by the learning rate.")
        source = "Wang & Aitchison 2024, arXiv 2405.13698"
        through = "(1 - b)" if case.coupled and case.facts.momentum else "1"
        found.append(
            Advice("decay_inactive", "advice", text, f"tau = {through} / (eta lambda) = {steps:.3g} steps", source)
        )
    if off:
        text = (
            f"{_listed([one for one, _ in off])}: not in the equilibrium of weight decay, or not scale-invariant; "
            "lrjax.transforms.scale_invariance tells which."
        )
        evidence = "angle of a step over its equilibrium " + ", ".join(f"{ratio:.2g}" for _, ratio in off[:3])
        source = "Wan et al. 2021; Kosson et al. 2024, arXiv 2305.17212"
        found.append(Advice("not_in_equilibrium", "information", text, evidence, source))
    return found


def _listed(names: list[str], most: int = 3) -> str:
    shown = ", ".join(name or "the parameters" for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


Rule = Callable[[Case], list[Advice]]
RULES: tuple[Rule, ...] = (_finite, _zero, _too_small, _gap, _spike, _edge, _decay, _accumulation)


def advise(case: Case) -> list[Advice]:
    """All that may be said of a run, the most important first.

    A rate that is far too small silences "keep the rate", and so does a spike that may come.

    Args:
        case: rows and facts.

    Returns:
        Advice, warnings and information.

    Example:
        >>> rows = [{"step": s, "valley_gap": 0.3, "loss": 1.0, "gradient_norm": 1.0} for s in (0, 100)]
        >>> [one.code for one in advise(Case(rows, Facts("sgd"), (), None, False, False))]
        ['decay']
    """
    if not case.rows:
        return []
    found = [one for rule in RULES for one in rule(case)]
    codes = {one.code for one in found}
    if "far_too_small" in codes:
        found = [one for one in found if one.code not in ("keep", "undecided")]
    if "spike" in codes:
        found = [one for one in found if one.code != "keep"]
    if codes & {"not_finite", "zero_rate"}:
        found = [one for one in found if one.code not in ("keep", "decay", "undecided", "far_too_small")]
    return sorted(found, key=lambda one: LEVELS.index(one.level))
