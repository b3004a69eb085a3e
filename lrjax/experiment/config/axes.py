"""Points of a sweep: grids, zips and chains over dotted config keys, and how `config.sweep` writes them down.

A point is a dict, dotted key -> value. The functions are for `sweep()` in a config file:

    def sweep():
        return chain(grid({"seed": range(3), "batch_size": (64, 128)}), zipped({"seed": (7, 8), "steps": (100, 200)}))
"""

import itertools
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from lrjax.errors import LrjaxError

Point = dict[str, Any]


def _plain(value: Any) -> Any:
    """What a command line can hold: numpy's numbers as Python's, lists as tuples."""
    value = value.tolist() if hasattr(value, "tolist") else value
    return tuple(map(_plain, value)) if isinstance(value, (list, tuple)) else value


def _columns(axes: Mapping[str, Iterable[Any]]) -> dict[str, list[Any]]:
    columns = {}
    for key, values in axes.items():
        if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
            raise LrjaxError(f"the axis {key}={values!r} is one value; write ({values!r},)")
        columns[key] = [_plain(value) for value in values]
        if not columns[key]:
            raise LrjaxError(f"the axis {key} has no value; give one or more")
    return columns


def grid(axes: Mapping[str, Iterable[Any]]) -> list[Point]:
    """Every combination of the values of several keys; the last key changes fastest.

    Args:
        axes: dotted key -> values.

    Raises:
        LrjaxError: an axis has no values.

    Example:
        >>> grid({"seed": range(2), "model.width": (8, 16)})[:2]
        [{'seed': 0, 'model.width': 8}, {'seed': 0, 'model.width': 16}]
    """
    columns = _columns(axes)
    return [dict(zip(columns, values, strict=True)) for values in itertools.product(*columns.values())]


def zipped(axes: Mapping[str, Iterable[Any]]) -> list[Point]:
    """The first value of each key, then the second of each, and so on.

    Args:
        axes: dotted key -> values, as many for each.

    Raises:
        LrjaxError: the axes have different lengths, or no values.

    Example:
        >>> zipped({"batch_size": (64, 128), "steps": (200, 100)})
        [{'batch_size': 64, 'steps': 200}, {'batch_size': 128, 'steps': 100}]
    """
    columns = _columns(axes)
    lengths = {key: len(values) for key, values in columns.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{key} has {length}" for key, length in lengths.items())
        raise LrjaxError(f"zipped axes need as many values each; {said}")
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def chain(*sweeps: Iterable[Point]) -> list[Point]:
    """The points of one sweep after those of another; a point that comes again is left out.

    Example:
        >>> chain(grid({"seed": (0, 1)}), grid({"seed": (1, 2)}))
        [{'seed': 0}, {'seed': 1}, {'seed': 2}]
    """
    unique = {tuple(sorted((key, repr(value)) for key, value in p.items())): p for p in itertools.chain(*sweeps)}
    return list(unique.values())


def crossed(*sweeps: Iterable[Point]) -> list[Point]:
    """Every point of one sweep with every point of the others, as a grid of zips needs it.

    Raises:
        LrjaxError: two of them set the same key.

    Example:
        >>> crossed(zipped({"batch_size": (64, 128), "steps": (200, 100)}), grid({"seed": (0, 1)}))[1]
        {'batch_size': 64, 'steps': 200, 'seed': 1}
    """
    combined = []
    for parts in itertools.product(*map(list, sweeps)):
        keys = [key for part in parts for key in part]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise LrjaxError(f"crossed sweeps both set {', '.join(twice)}; let one of them do it")
        combined.append({key: value for part in parts for key, value in part.items()})
    return combined


def product(axes: Mapping[str, Any]) -> list[Point]:
    """Every point of the axes of a `config.sweep`: key -> values, or "KEY,KEY" -> tuples of values that go together.

    Raises:
        LrjaxError: an axis has no values or one of them twice, one that joins keys lacks a value for some, or a key stands
            in two axes.

    Example:
        >>> product({"e": (0.5, 1.1), "seed": (0,)})
        [{'e': 0.5, 'seed': 0}, {'e': 1.1, 'seed': 0}]
        >>> product({"e,seed": ((0.5, 3), (1.1, 4))})
        [{'e': 0.5, 'seed': 3}, {'e': 1.1, 'seed': 4}]
    """
    columns, places = [], {}
    for key, values in axes.items():
        names = key.split(",")
        for name in names:
            if places.setdefault(name, key) != key:
                raise LrjaxError(f"{name} stands in sweep.{places[name]} and in sweep.{key}; remove one of them")
        values = values if isinstance(values, (tuple, list)) else (values,)
        if not values:
            raise LrjaxError(f"sweep.{key} has no value; give one or more")
        rows = values if len(names) > 1 else [(value,) for value in values]
        if not all(isinstance(row, (tuple, list)) and len(row) == len(names) for row in rows):
            raise LrjaxError(f"sweep.{key} joins {len(names)} keys; give a tuple of {len(names)} for each point")
        for place, value in enumerate(values):  # one run that counts as several would look surer than it is
            if value in values[:place]:
                raise LrjaxError(f"sweep.{key} has {value!r} more than once; give each value once")
        columns.append([dict(zip(names, row, strict=True)) for row in rows])
    return crossed(*columns)


def without(axes: Mapping[str, Any], taken: Collection[str]) -> dict[str, Any]:
    """The axes of a `config.sweep` less some keys; of an axis that joins keys, the others stay.

    Example:
        >>> without({"e,seed": ((0.5, 0), (0.5, 1)), "steps": (3, 4)}, {"seed"})
        {'e': (0.5,), 'steps': (3, 4)}
    """
    left = {}
    for key, values in axes.items():
        names = key.split(",")
        kept = [place for place, name in enumerate(names) if name not in taken]
        if len(kept) == len(names):
            left[key] = values
        elif kept:
            rows = dict.fromkeys(tuple(row[place] for place in kept) for row in values)
            left[",".join(names[place] for place in kept)] = tuple(r if len(kept) > 1 else r[0] for r in rows)
    return left


def replaced(axes: Mapping[str, Any], new: Collection[str], taken: Collection[str] = ()) -> dict[str, Any]:
    """The axes of a `config.sweep` of which some are new: these stay, and what they or `taken` set leaves the others.

    Example:
        >>> replaced({"e": (0.5, 1.1), "steps": (3, 4), "e,seed": ((0.9, 7),)}, {"e,seed"})
        {'steps': (3, 4), 'e,seed': ((0.9, 7),)}
    """
    gone = {name for key in new for name in key.split(",")} | set(taken)
    left = {}
    for key, values in axes.items():
        left |= {key: values} if key in new else without({key: values}, gone)
    return left


def as_axes(points: list[Point]) -> dict[str, Any]:
    """The axes of a `config.sweep` that hold these points: one a key where they are a grid, else one that joins the keys.

    Args:
        points: distinct, all of the same keys.

    Example:
        >>> as_axes(grid({"e": (0.5, 1.1), "seed": (0, 1)}))
        {'e': (0.5, 1.1), 'seed': (0, 1)}
        >>> as_axes(zipped({"e": (0.5, 1.1), "seed": (0, 1)}))
        {'e,seed': ((0.5, 0), (1.1, 1))}
    """
    keys = list(points[0])
    values = {key: tuple(dict.fromkeys(point[key] for point in points)) for key in keys}
    rows = [tuple(point[key] for key in keys) for point in points]
    if set(itertools.product(*values.values())) == set(rows):
        return values
    return {",".join(keys): tuple(rows)}
