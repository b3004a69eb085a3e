"""The checks of the claims on images; those of the toy are in `toy_checks`."""

from typing import Any

import numpy as np

from lrjax.experiment.rundir.lanes import Arrays, Lanes
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.claim import Finding, NotMeasured
from lrjax.papers.exp_lr.observe import final_accuracy, finished, log10_rates, logit_distance, phases, settings
from lrjax.transforms.equilibrium import angular_update

POINT = 1.0  # points of accuracy by which two arms may differ on average and still count as the same
EARLY = 20  # steps in which float32 runs of the same functions have not parted yet
CLOSE = 1e-3  # in logits
SLOPE = 0.01
ANGLE = 0.1
ONE_SEED = "one seed, so no standard error"


def _arms(run: RunResult, *names: str) -> list[Lanes]:
    return [finished(run, name) for name in names]


def _accuracies(lanes: Lanes) -> np.ndarray:
    return 100 * np.array([final_accuracy(arrays) for _, arrays in lanes])


def _told(name: str, values: np.ndarray) -> str:
    return f"{name} {values.mean():.2f} % ({', '.join(f'{value:.1f}' for value in values)})"


def same_accuracy(*names: str) -> Any:
    """Mean final test accuracies of these arms differ by one point at most, and have a standard error of one point at most."""

    def check(run: RunResult) -> Finding:
        values = [_accuracies(lanes) for lanes in _arms(run, *names)]
        means = [own.mean() for own in values]
        apart = max(means) - min(means)
        told = "; ".join(_told(name, own) for name, own in zip(names, values, strict=True))
        # With these seeds, means of equal runs differ by chance.
        noise = max(own.std(ddof=1) / np.sqrt(own.size) if own.size > 1 else np.inf for own in values)
        verdict = "inconclusive"
        if apart <= POINT and noise <= POINT:
            verdict = "supported"
        elif apart > POINT + 2 * noise:
            verdict = "contradicted"
        error = f"standard error of a mean up to {noise:.2f}" if np.isfinite(noise) else ONE_SEED
        return Finding(verdict, f"{told}: {apart:.2f} points apart ({error})")

    return check


def early_logits(run: RunResult) -> Finding:
    """After 20 steps the logits of the twins agree to 1e-3, in every seed."""
    reference, twin = _arms(run, "weight_decay", "texp")
    found = []
    for (_, one), (_, other) in zip(reference, twin, strict=True):
        steps, distance = logit_distance(one, other)
        inside = (steps > 0) & (steps <= EARLY)
        if not inside.any():
            raise NotMeasured(f"no logits were recorded in the first {EARLY} steps")
        found.append(float(distance[inside].max()))
    verdict = "supported" if max(found) <= CLOSE else "contradicted"
    return Finding(verdict, f"largest difference {', '.join(f'{d:.1e}' for d in found)}")


def correction_matters(run: RunResult) -> Finding:
    """Without the correction of the buffer at step 0 the logits part at least ten times further, in every seed."""
    reference, twin, wrong = _arms(run, "weight_decay", "texp", "texp_uncorrected")
    ratios = []
    for (_, one), (_, right), (_, other) in zip(reference, twin, wrong, strict=True):
        ratios.append(float(logit_distance(one, other)[1][-1] / logit_distance(one, right)[1][-1]))
    verdict = "supported" if min(ratios) >= 10 else "contradicted" if max(ratios) < 2 else "inconclusive"
    return Finding(
        verdict, f"uncorrected over corrected, last step: {', '.join(f'{ratio:.0f}' for ratio in ratios)} times"
    )


def norm_follows_rate(run: RunResult) -> Finding:
    """log |w|^2 and log of the rate grow at the same slope, once |w|^2 is constant in the run with weight decay."""
    reference, lanes = _arms(run, "weight_decay", "texp")
    found, drift = [], []
    for (_, one), (_, arrays) in zip(reference, lanes, strict=True):
        half = len(arrays["step/log10_norm"]) // 2
        steps = np.arange(half, len(arrays["step/log10_norm"]))
        rate = np.polyfit(steps, log10_rates(arrays)[half:], 1)[0]
        found.append(float(2 * np.polyfit(steps, arrays["step/log10_norm"][half:], 1)[0] / rate))
        drift.append(float(2 * np.polyfit(steps, one["step/log10_norm"][half:], 1)[0] / rate))
    told = f"slope of log |w|^2 over that of log rate {', '.join(f'{s:.4f}' for s in found)}"
    told += f"; with weight decay log |w|^2 drifts at {', '.join(f'{d:.4f}' for d in drift)} of it"
    if max(abs(slope - 1) for slope in found) <= SLOPE:
        return Finding("supported", told)
    still = max(map(abs, drift)) <= SLOPE
    return Finding("contradicted" if still else "inconclusive", told + ("" if still else ": not at equilibrium"))


def angles_agree(run: RunResult) -> Finding:
    """The angle between measurements, averaged over a phase and over seeds, is the same with and without weight decay.

    Late in a run rounding has made twins as different as two seeds, so a deviation counts beyond two standard errors.
    """
    reference, twin = _arms(run, "weight_decay", "texp")
    ratios = np.array([_phase_angles(b) / _phase_angles(a) for (_, a), (_, b) in zip(reference, twin, strict=True)])
    means = ratios.mean(axis=0)
    noise = ratios.std(axis=0, ddof=1) / np.sqrt(len(ratios)) if len(ratios) > 1 else np.full_like(means, np.inf)
    apart = np.abs(means - 1)
    verdict = "inconclusive"
    if (apart <= ANGLE).all():
        verdict = "supported"
    elif (apart > ANGLE + 2 * noise).any():
        verdict = "contradicted"
    told = ", ".join(_with_error(mean, error, 3) for mean, error in zip(means, noise, strict=True))
    return Finding(verdict, f"TEXP over weight decay by phase: {told}")


def _phase_angles(arrays: Arrays) -> np.ndarray:
    """The mean angle between measurements in each phase that has one."""
    step, found = arrays["direction/step"], []
    for start, stop in phases(arrays):
        inside = (step > start) & (step <= stop)
        if inside.any():
            found.append(arrays["direction/angle"][inside].mean())
    return np.array(found)


def equilibrium_angle(run: RunResult) -> Finding:
    """In the second half of the first phase steps turn the weights by sqrt(2 eta lambda / (1 + gamma)) (root mean square)."""
    arms = {lane["arm"] for lane in run.lanes}
    name = next((name for name in ("weight_decay", "step_decay") if name in arms), None)
    if name is None:
        raise NotMeasured("no arm has a constant rate with weight decay")
    ratios = []
    for lane, arrays in finished(run, name):
        start, stop = phases(arrays)[0]
        late = arrays["step/angle"][(start + stop) // 2 : stop].astype(np.float64)
        expected = float(angular_update(*settings(run, lane)))
        ratios.append(float(np.sqrt(np.mean(late**2)) / expected))
    verdict = "supported" if max(abs(ratio - 1) for ratio in ratios) <= ANGLE else "contradicted"
    return Finding(verdict, f"measured over predicted {', '.join(f'{r:.3f}' for r in ratios)}")


def _with_error(mean: float, error: float, digits: int) -> str:
    return f"{mean:.{digits}f} " + (f"+- {error:.{digits}f}" if np.isfinite(error) else f"({ONE_SEED})")


def _higher(one: np.ndarray, other: np.ndarray) -> tuple[str, float, float]:
    """Verdict on mean(one) > mean(other): every seed agrees, and the mean gain is beyond two standard errors."""
    gains = one - other
    error = float(gains.std(ddof=1) / np.sqrt(gains.size)) if gains.size > 1 else np.inf
    clear = abs(gains.mean()) > 2 * error
    verdict = "inconclusive"
    if clear and (gains > 0).all():
        verdict = "supported"
    elif clear and (gains < 0).all():
        verdict = "contradicted"
    return verdict, float(gains.mean()), error


def drop_needed(run: RunResult) -> Finding:
    """TEXP ends above TEXP--."""
    values = [_accuracies(lanes) for lanes in _arms(run, "texp", "texp_no_drop")]
    verdict, gain, error = _higher(*values)
    return Finding(
        verdict, f"{_told('TEXP', values[0])}; {_told('TEXP--', values[1])}: gain {_with_error(gain, error, 2)} points"
    )


def drop_passes(run: RunResult) -> Finding:
    """Under a constant exponent a drop of the rate helps at first and not at the end of the phase.

    Train accuracy of the arm with drops minus that without, in the first and in the last quarter of each phase after a drop.
    """
    dropped, constant = _arms(run, "drops", "no_drops")
    early, late = [], []
    for (_, one), (_, other) in zip(dropped, constant, strict=True):
        gain = 100 * (one["step/accuracy"] - other["step/accuracy"])
        for start, stop in phases(one)[1:]:
            quarter = max(1, (stop - start) // 4)
            early.append(float(gain[start : start + quarter].mean()))
            late.append(float(gain[stop - quarter : stop].mean()))
    first, last = float(np.mean(early)), float(np.mean(late))
    verdict = "inconclusive"
    if first > POINT:
        verdict = "supported" if last < first / 2 else "contradicted"
    told = f"gain {first:.2f} points of train accuracy in the first quarter after a drop, {last:.2f} in the last"
    return Finding(verdict, told)


def cosine_wins(run: RunResult) -> Finding:
    """Cosine ends above step decay."""
    values = [_accuracies(lanes) for lanes in _arms(run, "cosine", "step_decay")]
    verdict, gain, error = _higher(*values)
    return Finding(
        verdict,
        f"{_told('cosine', values[0])}; {_told('step decay', values[1])}: gain {_with_error(gain, error, 2)} points",
    )


def l2_decay_suffices(run: RunResult) -> Finding:
    """Dropping weight decay instead of the rate ends within one point of step decay, or above it."""
    values = [_accuracies(lanes) for lanes in _arms(run, "l2_decay", "step_decay")]
    loss = values[1].mean() - values[0].mean()
    noise = max(own.std(ddof=1) / np.sqrt(own.size) if own.size > 1 else np.inf for own in values)
    known = noise <= POINT
    verdict = "supported" if loss <= POINT and known else "contradicted" if loss > POINT + 2 * noise else "inconclusive"
    return Finding(verdict, f"{_told('weight decay drops', values[0])}; {_told('rate drops', values[1])}")
