r"""When does a run break even? Five detectors on measured series: the condition itself, and four proxies of it.

D1 is the paper's definition, the first step at which SGD is unstable along the top eigenvector of the Hessian. The paper
thought it too costly and looked at proxies: D2 the peak of lambda_K, D3 the step stretch alpha*, D4 loss increases, D5 the
parting of trajectories. Each works on plain arrays; "not reached" (None) is an answer.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrjax.errors import check
from lrjax.spectra.stability import sampling_factor

Series = NDArray[np.float64]

PATIENCE = 2  # consecutive measurements that must agree, so that noise in one does not decide
WINDOW = 5  # measurements of the moving average; the paper's window is not published
STRETCH = 2.0  # alpha* near which both rates of the paper's figure 2 settle
FREQUENT = 0.3  # share of steps that raise the loss from which on increases are frequent


class Detection(NamedTuple):
    """When something happened.

    Attributes:
        step: interpolated between measurements; None where it was not reached.
        at: the first measurement that shows it; None as well.
        note: why it was not reached, or what else is to be known.
    """

    step: float | None
    at: int | None
    note: str = ""


class Stability(NamedTuple):
    """Equation 1 through training, at each measurement.

    Attributes:
        lhs: (1 - eta lambda)^2 + kappa eta^2 s^2; stable up to 1.
        full_batch: eta lambda / 2, which is 1 at the edge of full-batch gradient descent.
        noise_share: kappa s^2 / (lambda^2 + kappa s^2), what the spread of curvatures adds to the instability.
        break_even: lambda_BE at the measured s, (1 + sqrt(1 - eta^2 kappa s^2)) / eta; NaN where the noise alone is unstable.
        break_even_scaled: lambda_BE at the measured c = s / lambda, 2 / (eta (1 + kappa c^2)).
    """

    lhs: Series
    full_batch: Series
    noise_share: Series
    break_even: Series
    break_even_scaled: Series


def stability(
    sharpness: ArrayLike, std: ArrayLike, learning_rate: ArrayLike, batch_size: int, num_examples: int
) -> Stability:
    """Equation 1 and its closed forms, for plain SGD.

    Args:
        sharpness: lambda_H^1 at each measurement [T].
        std: s, standard deviation of the per-example curvatures along e_H^1 [T].
        learning_rate: eta, one or [T].
        batch_size: S.
        num_examples: N.

    Returns:
        Arrays [T].

    Source: The Break-Even Point on Optimization Trajectories, section 3, equation 1; closed forms derived from it.

    Example:
        >>> found = stability([2.0, 20.0], [0.0, 0.0], 0.1, 128, 10_000)
        >>> found.lhs.round(3).tolist(), found.full_batch.tolist(), found.break_even.tolist()
        ([0.64, 1.0], [0.1, 1.0], [20.0, 20.0])
    """
    curvature, spread = np.asarray(sharpness, np.float64), np.asarray(std, np.float64)
    rate = np.broadcast_to(np.asarray(learning_rate, np.float64), curvature.shape)
    noise = sampling_factor(batch_size, num_examples) * spread**2
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(1 - rate**2 * noise)
        return Stability(
            lhs=(1 - rate * curvature) ** 2 + rate**2 * noise,
            full_batch=rate * curvature / 2,
            noise_share=noise / (curvature**2 + noise),
            break_even=(1 + root) / rate,
            break_even_scaled=2 / (rate * (1 + noise / curvature**2)),
        )


def first_crossing(steps: ArrayLike, values: ArrayLike, threshold: float, *, patience: int = PATIENCE) -> Detection:
    """The first time a series reaches a threshold from below and stays there for `patience` measurements.

    Values that are not finite are left out. A crossing that too few measurements follow counts as not reached.

    Args:
        steps: [T], ascending.
        values: [T].
        threshold: reached where value >= threshold.
        patience: consecutive measurements, 1 or more.

    Example:
        >>> first_crossing([0, 10, 20, 30], [0.0, 0.5, 1.5, 2.0], 1.0)
        Detection(step=15.0, at=20, note='')
        >>> first_crossing([0, 10, 20], [0.0, 2.0, 0.0], 1.0, patience=2).note
        'not reached for 2 measurements in a row: at most 2, threshold 1'
    """
    check(patience >= 1, f"patience={patience} must be 1 or more")
    at, found = _finite(steps, values)
    if not found.size:
        return Detection(None, None, "not measured")
    reached = found >= threshold
    for i in range(found.size - patience + 1):
        if reached[i : i + patience].all():
            if i == 0:
                return Detection(float(at[0]), int(at[0]), "from the first measurement on")
            share = (threshold - found[i - 1]) / (found[i] - found[i - 1])
            return Detection(float(at[i - 1] + share * (at[i] - at[i - 1])), int(at[i]))
    short = f" for {patience} measurements in a row" if reached.any() else ""
    return Detection(None, None, f"not reached{short}: at most {found.max():.3g}, threshold {threshold:g}")


def direct(
    steps: ArrayLike,
    sharpness: ArrayLike,
    std: ArrayLike,
    learning_rate: ArrayLike,
    batch_size: int,
    num_examples: int,
    *,
    patience: int = PATIENCE,
) -> Detection:
    """D1, the break-even point itself: the first step at which the left side of equation 1 reaches 1.

    Args:
        steps: [T], ascending.
        sharpness, std, learning_rate, batch_size, num_examples: as in `stability`.
        patience: consecutive measurements that must be unstable.

    Source: The Break-Even Point on Optimization Trajectories, section 3.

    Example:
        >>> direct([0, 50, 100, 150], [5.0, 15.0, 25.0, 30.0], [0.0] * 4, 0.1, 128, 10_000).at
        100
    """
    lhs = stability(sharpness, std, learning_rate, batch_size, num_examples).lhs
    found = first_crossing(steps, lhs, 1.0, patience=patience)
    return found._replace(note="unstable from the first measurement on") if found.note.startswith("from") else found


def smoothed(values: ArrayLike, window: int = WINDOW) -> Series:
    """The centred moving average; near the ends over what there is. NaN counts as missing.

    Example:
        >>> smoothed([0.0, 3.0, 0.0, 9.0], window=3).tolist()
        [1.5, 1.0, 4.0, 4.5]
    """
    found = np.asarray(values, np.float64)
    known, kernel = np.isfinite(found), np.ones(min(window, max(1, found.size)))
    if not known.any():
        return found
    with np.errstate(invalid="ignore"):
        sums = np.convolve(np.where(known, found, 0.0), kernel, "same")
        return sums / np.convolve(known.astype(float), kernel, "same")


def peak(steps: ArrayLike, values: ArrayLike, *, window: int = WINDOW) -> Detection:
    """D2: where the smoothed series is largest; not reached where that is the last measurement, since it still rises.

    Example:
        >>> peak([0, 1, 2, 3, 4], [0.0, 1.0, 5.0, 1.0, 0.0], window=1).at
        2
        >>> peak([0, 1, 2], [0.0, 1.0, 2.0], window=1).note
        'still rising at the end'
    """
    at, found = _finite(steps, values)
    if not found.size:
        return Detection(None, None, "not measured")
    top = int(np.argmax(smoothed(found, window)))
    if top == found.size - 1:
        return Detection(None, None, "still rising at the end")
    return Detection(float(at[top]), int(at[top]))


def stretch(
    steps: ArrayLike, alpha_star: ArrayLike, *, threshold: float = STRETCH, patience: int = PATIENCE
) -> Detection:
    """D3: the first time that alpha* <= threshold, see `lrjax.probes.next_step`.

    Example:
        >>> stretch([0, 10, 20, 30], [8.0, 4.0, 2.0, 1.5]).at
        20
    """
    found = first_crossing(steps, -np.asarray(alpha_star, np.float64), -threshold, patience=patience)
    if found.note.startswith("not reached"):
        lowest = float(np.nanmin(np.asarray(alpha_star, np.float64)))
        return found._replace(note=f"not reached: at least {lowest:.3g}, threshold {threshold:g}")
    return found


def increases(
    steps: ArrayLike, increase_rate: ArrayLike, *, threshold: float = FREQUENT, patience: int = PATIENCE
) -> Detection:
    """D4: the first time that more than a share of `threshold` of the steps from there raise the training loss.

    Example:
        >>> increases([0, 10, 20, 30], [0.0, 0.25, 0.5, 0.5]).at
        20
    """
    return first_crossing(steps, increase_rate, threshold, patience=patience)


class Parting(NamedTuple):
    """Distance of one trajectory from another.

    Attributes:
        distance: [T], L2 distance of each point to the closest point of the other trajectory.
        radius: the largest distance of a point of the other trajectory to its own closest neighbour.
        detection: when the first trajectory leaves the neighbourhood that the radius makes.
    """

    distance: Series
    radius: float
    detection: Detection


def distances(points: ArrayLike, others: ArrayLike) -> Series:
    """L2 distances [n, m] between rows.

    Example:
        >>> distances([[0.0, 0.0]], [[3.0, 4.0]]).tolist()
        [[5.0]]
    """
    a, b = np.asarray(points, np.float64), np.asarray(others, np.float64)
    squared = np.sum(a**2, axis=1)[:, None] + np.sum(b**2, axis=1)[None, :] - 2 * a @ b.T
    return np.sqrt(np.maximum(squared, 0.0))


def parting(steps: ArrayLike, points: ArrayLike, others: ArrayLike, *, patience: int = PATIENCE) -> Parting:
    """D5: when a run leaves the neighbourhood of the trajectory of a run with a larger rate.

    The neighbourhood has no threshold of its own: it is as wide as the largest gap of the other trajectory.

    Args:
        steps: [T] of the first run.
        points: [T, n] predictions of the first run.
        others: [U, n] predictions of the other run, U of 2 or more.
        patience: consecutive measurements outside.

    Source: The Break-Even Point on Optimization Trajectories, figure 1.

    Example:
        >>> found = parting([0, 1, 2, 3], [[0.0], [1.0], [5.0], [6.0]], [[0.0], [1.0], [2.0]])
        >>> found.distance.tolist(), found.radius, found.detection.at
        ([0.0, 0.0, 3.0, 4.0], 1.0, 2)
    """
    check(len(np.asarray(others)) >= 2, "a trajectory has two points or more")
    return left(steps, distances(points, others).min(axis=1), widest_gap(others), patience=patience)


def widest_gap(points: ArrayLike) -> float:
    """The largest distance of a point of a trajectory [T, n] to its own closest neighbour.

    Example:
        >>> widest_gap([[0.0], [1.0], [3.0]])
        2.0
    """
    own = distances(points, points)
    np.fill_diagonal(own, np.inf)
    return float(own.min(axis=1).max())


def left(steps: ArrayLike, distance: Series, radius: float, *, patience: int = PATIENCE) -> Parting:
    """The parting of a run whose distance [T] from the other trajectory is known, from a neighbourhood of this radius.

    Example:
        >>> left([0, 1, 2], np.array([0.0, 2.0, 3.0]), 1.0).detection.at
        1
    """
    return Parting(distance, radius, first_crossing(steps, distance, np.nextafter(radius, np.inf), patience=patience))


def _finite(steps: Any, values: Any) -> tuple[Series, Series]:
    at, found = np.asarray(steps, np.float64), np.asarray(values, np.float64)
    check(at.shape == found.shape, f"{found.size} values at {at.size} steps")
    return at[np.isfinite(found)], found[np.isfinite(found)]
