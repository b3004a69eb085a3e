"""The curves of a page: what lanes recorded, thinned and packed as JSON for the chart in the browser."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

MOST_POINTS = 800  # of a curve: as many as a wide screen has pixels for
FEWEST_POINTS = 40
FEW_POINTS = 150  # of a noisy curve, which is shown by means
TALL, MANY = 0.3, 0.05  # a curve is noisy where more than so many of its stretches cover that much of its range
BUDGET = 180_000  # numbers on a page, about 1.3 MB of text
TITLES = {"step/loss": "Loss", "step/accuracy": "Training accuracy", "step/learning_rate": "Learning rate"}
Grid = NDArray[Any]


class Line(NamedTuple):
    """One lane on the page: its name, what it shares its colour with, and its arrays, as in `RunResult.arrays`."""

    name: str
    setting: str
    arrays: Mapping[str, NDArray[Any]]


def names_of(lines: Iterable[Line]) -> list[str]:
    """Which arrays are curves, one number a time: loss, accuracy and learning rate first, then the probes'.

    Example:
        >>> names_of([Line("a", "a", {"step/loss": np.ones(3), "data/y": np.ones(3), "p/step": np.arange(3)})])
        ['step/loss']
    """
    found: dict[str, None] = {}
    for line in lines:
        for name, array in line.arrays.items():
            stream, _, key = name.partition("/")
            if array.ndim != 1 or not array.size or key == "step" or stream == "data":
                continue
            if np.issubdtype(array.dtype, np.floating) and (stream == "step" or f"{stream}/step" in line.arrays):
                found[name] = None
    first = [name for name in TITLES if name in found]
    # The training's own numbers before those of probes.
    return first + sorted((name for name in found if name not in TITLES), key=lambda n: (not n.startswith("step/"), n))


def thinned(y: NDArray[Any], most: int) -> tuple[Grid, NDArray[Any]]:
    """A value a step at no more than `most` places: the least and the greatest of each stretch, in their order, and the last.

    The places depend on the length alone, so that curves of one length share them. The last value is that of the last step:
    the page shows it as the end of the curve.

    Example:
        >>> x, y = thinned(np.array([0.0, 1.0, 0.0, 9.0, 0.0, 0.0, 5.0, 0.0]), 4)
        >>> x.tolist(), y.tolist()
        ([0, 3, 7], [0.0, 9.0, 0.0])
    """
    if y.size <= most:
        return np.arange(y.size), y
    edges = np.linspace(0, y.size - 1, (most - 1) // 2 + 1).astype(int)
    x = np.stack([edges[:-1], (edges[:-1] + edges[1:]) // 2], axis=1).ravel()
    kept = []
    for start, stop in zip(edges[:-1], edges[1:], strict=True):
        piece = y[start:stop]
        finite = np.isfinite(piece)
        low, high = (np.where(finite, piece, fill) for fill in (np.inf, -np.inf))
        kept += [piece[place] for place in sorted((int(low.argmin()), int(high.argmax())))]
    return np.append(x, y.size - 1), np.array([*kept, y[-1]])


def averaged(y: NDArray[Any], most: int) -> tuple[Grid, NDArray[Any]]:
    """The mean of each of at most `FEW_POINTS` stretches, at its last step.

    Example:
        >>> x, y = averaged(np.arange(600) % 2, 800)
        >>> x[:3].tolist(), y[:3].tolist()
        ([3, 7, 11], [0.5, 0.5, 0.5])
    """
    count = min(most, FEW_POINTS)
    if y.size <= count:
        return np.arange(y.size), y
    edges = np.linspace(0, y.size, count + 1).astype(int)
    return edges[1:] - 1, np.add.reduceat(y.astype(np.float64), edges[:-1]) / np.diff(edges)


def is_noisy(y: NDArray[Any]) -> bool:
    """Whether a curve would be a block of colour, as the loss of single examples is: many of its short stretches are tall.

    Example:
        >>> is_noisy(np.arange(9000) % 2), is_noisy(np.arange(9000))
        (True, False)
    """
    y = y[np.isfinite(y)]
    if y.size <= MOST_POINTS:
        return False
    if y.min() > 0 and y.max() > 100 * y.min():  # the page shows it on a logarithmic axis
        y = np.log(y)
    edges = np.linspace(0, y.size, min(y.size // 8, MOST_POINTS // 2) + 1).astype(int)[:-1]
    ranges = np.maximum.reduceat(y, edges) - np.minimum.reduceat(y, edges)
    return bool(np.mean(ranges > TALL * np.ptp(y)) > MANY)


def packed(lines: Sequence[Line]) -> dict[str, Any] | None:
    """What the chart needs, ready for `as_json`; None where there is no curve.

    Args:
        lines: the lanes.

    Returns:
        lanes (name, setting as a number), grids (lists of steps), charts (key, title, whether its curves are means, as those
        of noisy numbers are, curves of lane, grid, values), most
        (points a curve), left_out (names of curves for which there is no room).
    """
    names = names_of(lines)
    counts = {name: sum(name in line.arrays for line in lines) for name in names}
    shown = list(names)
    while len(shown) > 1 and FEWEST_POINTS * sum(counts[name] for name in shown) > BUDGET:
        shown.pop()
    if not shown:
        return None
    most = int(np.clip(BUDGET // sum(counts[name] for name in shown), FEWEST_POINTS, MOST_POINTS))
    grids: dict[tuple[float, ...], int] = {}
    charts = []
    for name in shown:
        # A few that are noisy cover the others. A rate is never noise.
        measured = name.startswith("step/") and name != "step/learning_rate"
        noisy = [is_noisy(line.arrays[name]) for line in lines if measured and name in line.arrays]
        mean = sum(noisy) > len(noisy) / 10
        title = f"{title_of(name)} (means)" if mean else title_of(name)
        curves = _curves(lines, name, averaged if mean else thinned, most, grids)
        charts.append({"key": name, "title": title, "mean": mean, "curves": curves})
    settings = {setting: n for n, setting in enumerate(dict.fromkeys(line.setting for line in lines))}
    lanes = [{"name": line.name, "setting": settings[line.setting]} for line in lines]
    return {
        "lanes": lanes, "grids": [list(grid) for grid in grids], "charts": charts, "most": most,
        "left_out": [title_of(name) for name in names[len(shown) :]],
    }  # fmt: skip


def title_of(name: str) -> str:
    """The name of a curve for a reader.

    Example:
        >>> title_of("step/loss"), title_of("test_accuracy/weak_accuracy")
        ('Loss', 'test accuracy: weak accuracy')
    """
    stream, _, key = name.replace("_", " ").partition("/")
    return TITLES.get(name, key if stream == "step" else f"{stream}: {key}")


def _curves(
    lines: Sequence[Line],
    name: str,
    thin: Callable[[NDArray[Any], int], tuple[Grid, NDArray[Any]]],
    most: int,
    grids: dict[tuple[float, ...], int],
) -> list[dict[str, Any]]:
    stream = name.split("/")[0]
    curves = []
    for lane, line in enumerate(lines):
        y = line.arrays.get(name)
        if y is None or not y.size:
            continue
        if stream == "step":
            x, values = thin(y, most)
        else:
            steps = line.arrays[f"{stream}/step"][: y.size]
            place, values = thin(y[: steps.size], most)
            x = steps[place]
        grid = grids.setdefault(tuple(x.tolist()), len(grids))
        curves.append({"lane": lane, "x": grid, "y": [_short(value) for value in values.tolist()]})
    return curves


def _short(value: float) -> float | None:
    return float(f"{value:.5g}") if np.isfinite(value) else None


def as_json(content: Any) -> Markup:
    """JSON that may stand inside a <script> element: nothing in it can end the element.

    Example:
        >>> as_json({"name": "</script><b>"})
        Markup('{"name":"\\\\u003c/script\\\\u003e\\\\u003cb\\\\u003e"}')
    """
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
