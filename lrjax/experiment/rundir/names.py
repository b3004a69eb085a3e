"""Names of the lanes of a run, by what differs between them: `e=1.1 seed=0`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any


def lane_names(lanes: Sequence[Mapping[str, Any]]) -> list[str]:
    """A name for each lane, no two alike: its arm where there are several, and the swept values that differ.

    Args:
        lanes: records as in `RunResult.lanes`: "arm", and "values", dotted key -> what the sweep set.

    Example:
        >>> lanes = [{"arm": "main", "values": {"e": e, "seed": s, "steps": 9}} for e in (1.1, 2.0) for s in (0, 1)]
        >>> lane_names(lanes)
        ['e=1.1 seed=0', 'e=1.1 seed=1', 'e=2 seed=0', 'e=2 seed=1']
        >>> lane_names([{"arm": "sgd", "values": {}}, {"arm": "adam", "values": {}}])
        ['sgd', 'adam']
        >>> lane_names([{"arm": "main", "values": {"seed": 0}}] * 2)
        ['main', 'main #2']
    """
    several_arms = len({lane["arm"] for lane in lanes}) > 1
    keys = list(dict.fromkeys(key for lane in lanes for key in lane.get("values") or {}))
    varying = [key for key in keys if len({_shown((lane.get("values") or {}).get(key)) for lane in lanes}) > 1]
    short = _short(varying)
    names = []
    for lane in lanes:
        values = lane.get("values") or {}
        parts = [lane["arm"]] if several_arms else []
        parts += [f"{short[key]}={_shown(values[key])}" for key in varying if key in values]
        names.append(" ".join(parts) or lane["arm"])
    return _distinct(names)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.12g}"  # all digits that tell two values of a sweep apart, and no more
    return ",".join(map(_shown, value)) if isinstance(value, (list, tuple)) else str(value)


def _short(keys: Sequence[str]) -> dict[str, str]:
    """Dotted keys by their last words: as few of them as tell the keys apart.

    Example:
        >>> _short(["optimizer.learning_rate", "model.width", "data.width"])
        {'optimizer.learning_rate': 'learning_rate', 'model.width': 'model.width', 'data.width': 'data.width'}
    """
    last = Counter(key.split(".")[-1] for key in keys)
    return {key: key.split(".")[-1] if last[key.split(".")[-1]] == 1 else key for key in keys}


def _distinct(names: Sequence[str]) -> list[str]:
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} #{seen[name]}")
    return found
