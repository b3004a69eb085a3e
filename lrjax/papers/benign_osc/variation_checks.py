"""Checks behind the claims on what was varied: noise, weak examples, schedule, batch, width, order: run files -> finding."""

from collections.abc import Callable

import numpy as np

from lrjax.experiment.rundir.lanes import diverged, end, lanes
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.benign_osc.checks import CHANCE, FULL, span
from lrjax.papers.claim import Finding, NotMeasured, decided


def table(run: RunResult, arm: str, key: str) -> dict[tuple[float, float], float | None]:
    """A phase table: (value of the key, e) -> mean weak-only accuracy over seeds, None where a seed diverged."""
    cells: dict[tuple[float, float], list] = {}
    for lane, arrays in lanes(run, arm, allow_diverged=True):
        value = None if diverged(lane) else float(arrays["test_accuracy/weak_accuracy"][-1])
        cells.setdefault((float(lane["values"][key]), float(lane["e"])), []).append(value)
    return {cell: None if None in values else float(np.mean(values)) for cell, values in cells.items()}


def _cells(run: RunResult, wanted: list[tuple[str, str, float, float, Callable[[float | None], bool]]]) -> Finding:
    parts, ok = [], True
    for arm, key, value, e, passes in wanted:
        cells = table(run, arm, key)
        if (value, e) not in cells:
            raise NotMeasured(f"no lane at {key} = {value:g}, e = {e:g}")
        cell = cells[value, e]
        ok &= passes(cell)
        parts.append(f"{key.removeprefix('data.')}={value:g}, e={e:g}: {'diverged' if cell is None else f'{cell:.3f}'}")
    return Finding(decided(ok), "; ".join(parts))


def noise_edges(run: RunResult) -> Finding:
    """R2: little noise lets a small rate learn; R1: much noise defeats a large one (a run that diverges has failed too)."""
    low = ("noise", "data.kn", 4.0, 0.5, lambda accuracy: accuracy is not None and accuracy >= 0.95)
    return _cells(run, [low, ("noise", "data.kn", 60.0, 1.25, lambda accuracy: accuracy is None or accuracy < 0.7)])


def no_weak_examples(run: RunResult) -> Finding:
    """Without a single weak example oscillation still teaches v, and a small rate does not."""
    high = ("n_weak", "data.n_weak", 0.0, 1.25, lambda accuracy: accuracy is not None and accuracy >= 0.95)
    return _cells(
        run, [high, ("n_weak", "data.n_weak", 0.0, 0.9, lambda accuracy: accuracy is not None and accuracy <= CHANCE)]
    )


def _weak(run: RunResult, arm: str) -> np.ndarray:
    return end(lanes(run, arm), "test_accuracy/weak_accuracy")


def full_batch(run: RunResult) -> Finding:
    """Gradient descent without SGD noise, below and above its own threshold."""
    stable, oscillating = _weak(run, "full_batch_stable"), _weak(run, "full_batch_oscillating")
    ok = stable.max() <= CHANCE and oscillating.min() >= FULL
    return Finding(decided(ok), f"e_gd=0.9: {span(stable)}, e_gd=1.25: {span(oscillating)}")


def schedule(run: RunResult) -> Finding:
    """A long and a short large-rate phase before the decay."""
    long, short = _weak(run, "decay_8k"), _weak(run, "decay_2k")
    ok = long.mean() >= 0.98 and short.mean() <= 0.65
    return Finding(decided(ok), f"decayed after 8k steps: {span(long)}, after 2k: {span(short)}")


def label_noise(run: RunResult) -> Finding:
    """Label noise drives accumulation without oscillation, at e = 0.9 and not (in this time) at 0.2."""
    driven, slow = _weak(run, "label_noise"), _weak(run, "label_noise_small_rate")
    ok = driven.min() >= FULL and slow.max() <= 0.65
    return Finding(decided(ok), f"e=0.9 with noise: {span(driven)}, e=0.2 with noise: {span(slow)}")


def robust(run: RunResult) -> Finding:
    """Width, order of the examples, filters of their own for each patch."""
    arms = ("wide", "iid", "cyclic", "unshared_filters")
    values = {arm: _weak(run, arm) for arm in arms}
    ok = all(v.min() >= FULL for v in values.values())
    return Finding(decided(ok), "; ".join(f"{arm}: {span(v)}" for arm, v in values.items()))


def time_scale(run: RunResult) -> Finding:
    """Half the weak feature needs four times the steps: time goes as 1/eps."""
    short, long = _weak(run, "weaker"), _weak(run, "weaker_long")
    ok = short.mean() <= 0.75 and long.min() >= FULL
    return Finding(decided(ok), f"|v| = 0.05: {span(short)} at 16k, {span(long)} at 64k steps")


def averaging(run: RunResult) -> Finding:
    """Averaged iterates while the run still oscillates (8k steps)."""
    found = lanes(run, "averaged")
    last, mean = end(found, "test_accuracy/weak_accuracy"), end(found, "test_accuracy/averaged_weak_accuracy")
    loss = [(float(a["features/loss"][-1]), float(a["features/averaged_loss"][-1])) for _, a in found]
    text = f"weak-only, averaged {span(mean)}, last iterate {span(last)}; training loss {np.mean([b for _, b in loss]):.4f} "
    ok = mean.mean() >= last.mean() and all(b <= a for a, b in loss)
    return Finding(decided(ok), text + f"against {np.mean([a for a, _ in loss]):.4f}")
