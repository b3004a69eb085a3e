"""Checks behind the claims on images and on transfer: run files -> finding."""

import numpy as np

from lrjax.experiment.rundir.lanes import end, lanes
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.claim import Finding, NotMeasured, decided
from lrjax.papers.lr_decay.checks import by_sides, gap
from lrjax.papers.lr_decay.observe import Ratio, stages, transferability

TEST = "accuracy/test_accuracy"
MODES = ("fix", "finetune")


def _error(run: RunResult, accuracy: float) -> float:
    """Standard error of the difference of two accuracies on the test set."""
    count = run.config["data"]["num_test"] or 10_000
    return float(np.sqrt(2 * accuracy * (1 - accuracy) / count))


def _decayed(run: RunResult) -> list[str]:
    return sorted({lane["arm"] for lane in run.lanes if lane["arm"].startswith("decay")})


def full_batch(run: RunResult) -> Finding:
    """Test accuracy and training loss at the end of full-batch runs, decayed at several steps and never."""
    control = end(lanes(run, "constant"), TEST).mean()
    loss = float(np.mean([np.mean(a["step/loss"][-5:]) for _, a in lanes(run, "constant")]))
    text, sides = [f"no decay {control:.3f}, loss {loss:.3f}"], []
    for arm in _decayed(run):
        found = lanes(run, arm)
        value, own = end(found, TEST).mean(), float(np.mean([np.mean(a["step/loss"][-5:]) for _, a in found]))
        sides.append(value - control > 2 * _error(run, control) or own < 0.9 * loss)
        at = found[0][0]["start"]["at"]
        text.append(f"at step {at} {value:.3f}, loss {own:.3f}")
    return Finding(decided(not any(sides)), "; ".join(text))


def before_and_after(run: RunResult) -> Finding:
    """The gap at each decay of SGD against the run that was never decayed."""
    text, clear, none = [], [], []
    for arm in _decayed(run):
        found, control = gap(run, arm, "constant", TEST)
        error = _error(run, end(lanes(run, arm), TEST).mean())
        clear.append(found - control > 2 * error and found > 2 * error)
        none.append(abs(found - control) <= error)
        at = lanes(run, arm)[0][0]["start"]["at"]
        text.append(f"decay at step {at}: {found:+.3f}, without decay {control:+.3f} (+- {error:.3f})")
    word = "supported" if all(clear) else "contradicted" if all(none) else "inconclusive"
    return Finding(word, "best test accuracy after minus best before: " + "; ".join(text))


def linear_first(run: RunResult) -> Finding:
    """The share of I(F; Y) that a linear classifier explains, at the end of each stage."""
    found = lanes(run, "decay")[0][1]
    mu, whole = stages(found, "explained/mu"), stages(found, "explained/information")
    share = [m.end / w.end for m, w in zip(mu, whole, strict=True)]
    first = found["explained/mu"][1] / found["explained/information"][1]
    text = (
        f"{first:.2f} at the first measurement, " + ", ".join(f"{s:.2f}" for s in share) + " at the ends of the stages"
    )
    return Finding(decided(first > share[0] > share[-1]), f"mu / I(F; Y) {text}")


def patches(run: RunResult) -> Finding:
    """Patch-only accuracy half way and at the end, large rate then annealed against small rate."""
    name, clean = "accuracy/patch_accuracy", "accuracy/test_accuracy"
    half = lanes(run, "large")[0][0]["steps"] // 2
    values = {}
    for arm in ("large", "small"):
        _, arrays = lanes(run, arm)[0]
        steps = np.asarray(arrays["accuracy/step"])
        place = int(np.flatnonzero(steps <= half)[-1])
        values[arm] = float(arrays[name][place]), float(arrays[name][-1]), float(arrays[clean][-1])
    large, small = values["large"], values["small"]
    ok = small[0] > large[0] and large[1] > large[0] and large[2] >= small[2]
    text = "; ".join(
        f"{arm}: patch alone {half_way:.3f} half way, {last:.3f} at the end, clean {test:.3f}"
        for arm, (half_way, last, test) in values.items()
    )
    return Finding(decided(ok), text)


def _targets(run: RunResult) -> list[str]:
    arms = {lane["arm"].rsplit("_", 2)[0] for lane in run.lanes if lane["arm"].rsplit("_", 1)[-1].isdigit()}
    if not arms:
        raise NotMeasured("this run has no target")
    return sorted(arms)


def ratios(run: RunResult) -> dict[tuple[str, str], tuple[list[Ratio], np.ndarray]]:
    """(target, mode) -> T_2, T_3 and the mean accuracies after transfer of each snapshot."""
    source = lanes(run, "source")
    name = "subsets/test_all" if "subsets/test_all" in source[0][1] else TEST
    own = np.array([[stage.end for stage in stages(arrays, name)] for _, arrays in source])
    found = {}
    for target in _targets(run):
        for mode in MODES:
            after = np.array([end(lanes(run, f"{target}_{mode}_{i + 1}"), name) for i in range(own.shape[1])]).T
            count = run.config["data"]["num_test"] or 10_000
            found[target, mode] = transferability(own, after, examples=(count, count)), after.mean(axis=0)
    return found


def later_stages_transfer_less(run: RunResult) -> Finding:
    """T_3 < T_2 for every target and mode; decided where the bootstrap intervals do not overlap."""
    sides, text = [], []
    for (target, mode), (found, accuracy) in ratios(run).items():
        second, third = found
        if np.isnan(second.value) or np.isnan(third.value):
            sides.append(0)
        else:
            sides.append(int(third.high < second.low) - int(third.low > second.high))
        shown = ", ".join(
            f"T_{i} undefined" if np.isnan(r.value) else f"T_{i} {r.value:.2f} [{r.low:.2f}, {r.high:.2f}]"
            for i, r in enumerate(found, start=2)
        )
        text.append(f"{target} {mode}: {shown}, accuracy {'/'.join(f'{a:.3f}' for a in accuracy)}")
    return Finding(by_sides(sides), "; ".join(text))
