"""How far an override reaches: to every lane, arms included, or it is refused with the keys that do what was meant.

An arm's own value gives way where all arms have the same one, which then is no difference that the experiment is about.
Where they differ, as in the rates of `lr_decay:L3`, one value for all would make other arms of them, and nobody can have
meant that: the error names the arms, and the key of an arm, which always may be set.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from lrjax.errors import LrjaxError, check
from lrjax.experiment.config.axes import without
from lrjax.experiment.config.canonical import Config, flatten, nested

Values = dict[str, tuple[Any, ...]]
NAMED = 4  # arms that a message names
RATES = ("optimizer.learning_rate", "e")  # two names of one number


class Design(NamedTuple):
    """What an experiment sets before a user overrides it.

    Attributes:
        base: dotted key -> value of a lane that no arm and no sweep changes.
        axes: dotted key -> values of the common sweep.
        arms: arm -> dotted key -> the values that the arm sets itself: one, or those of its own sweep.
    """

    base: dict[str, Any]
    axes: Values
    arms: dict[str, Values]


def columns(axes: Mapping[str, Any]) -> Values:
    """The values of each key of the axes of a `config.sweep`.

    Example:
        >>> columns({"e,seed": ((0.5, 0), (1.1, 1)), "steps": 3})
        {'e': (0.5, 1.1), 'seed': (0, 1), 'steps': (3,)}
    """
    found: Values = {}
    for key, values in axes.items():
        values = tuple(values) if isinstance(values, (tuple, list)) else (values,)
        names = key.split(",")
        for place, name in enumerate(names):
            rows = values if len(names) == 1 else (row[place] for row in values if isinstance(row, (tuple, list)))
            found[name] = tuple(rows)
    return found


def _own(settings: Any) -> Values:
    flat = flatten(settings) if isinstance(settings, (Mapping, ConfigDict)) else {}
    swept = {key.removeprefix("sweep."): value for key, value in flat.items() if key.startswith("sweep.")}
    return columns(swept) | {key: (value,) for key, value in flat.items() if not key.startswith("sweep.")}


def design_of(config: Config) -> Design:
    """What a config sets itself, to be read before overrides are applied.

    Example:
        >>> design_of(ConfigDict({"e": 1.0, "sweep": {"e": (0.5, 1.1)}, "arms": {"small": {"e": 0.2}}}))
        Design(base={'e': 1.0}, axes={'e': (0.5, 1.1)}, arms={'small': {'e': (0.2,)}})
    """
    base = {key: value for key, value in flatten(config).items() if key.split(".")[0] not in ("sweep", "arms")}
    arms = {arm: _own(settings) for arm, settings in config.get("arms", ConfigDict()).items()}
    return Design(base, columns(flatten(config.get("sweep", ConfigDict()))), arms)


def _swept(overrides: Mapping[str, Any], prefix: str = "sweep.") -> dict[str, str]:
    """Key -> the override that sweeps it."""
    axes = [key for key, value in overrides.items() if key.startswith(prefix) and value is not None]
    return {name: axis for axis in axes for name in axis.removeprefix(prefix).split(",")}


def _check_once(overrides: Mapping[str, Any], arm: str) -> None:
    """Refuses a key of an arm that is given a value and an axis."""
    prefix = f"arms.{arm}."
    for key, axis in _swept(overrides, f"{prefix}sweep.").items():
        value = overrides.get(prefix + key)
        given = f"{prefix}{key}={value!r} and {axis}={overrides[axis]!r}"
        check(value is None, f"{prefix}{key} is given twice, by {given}; leave one of them out")


def settle(config: Config, overrides: Mapping[str, Any], design: Design) -> None:
    """Makes overrides that were applied reach the arms that set the same keys, in place.

    What the arms of an experiment set in place of its own sweep stays where `sweep.KEY` gives that sweep other values.

    Args:
        config: after overrides.
        overrides: dotted key -> value, as of `lrjax.load_config`.
        design: of the config before.

    Raises:
        LrjaxError: an override that cannot reach an arm, or a rate that is given twice.
    """
    if "arms" not in config:
        return
    for arm in config.arms:
        _check_once(overrides, arm)
        _settle_own(config, arm, overrides)
    axes = _swept(overrides)
    asked = {key: key for key in overrides if key.split(".")[0] not in ("sweep", "arms")} | axes
    for key, written in asked.items():
        apart = {arm: own[key] for arm, own in design.arms.items() if _keeps(config, arm, key, own, overrides)}
        if not apart or (key in axes and key in design.axes):
            continue
        silent = [arm for arm in design.arms if arm in config.arms and arm not in apart]
        silent = [arm for arm in silent if not _named(arm, key, overrides)]
        common = design.axes.get(key, (design.base.get(key),)) if silent else ()
        values = [value for own in apart.values() for value in own] + list(common)
        wanted = overrides[written]
        other = {arm: own for arm, own in apart.items() if key in axes or own != (wanted,)}
        if other and any(value != values[0] for value in values):
            raise LrjaxError(_refusal(written, wanted, key, other, swept=key in axes))
        for arm in apart:
            _drop(config, arm, key)
    _check_rates(config, overrides, asked)


def _named(arm: str, key: str, overrides: Mapping[str, Any]) -> bool:
    """Whether the user speaks of this key of this arm."""
    prefix = f"arms.{arm}."
    axes = (axis.removeprefix(f"{prefix}sweep.") for axis in overrides if axis.startswith(f"{prefix}sweep."))
    return prefix + key in overrides or any(key in axis.split(",") for axis in axes)


def _keeps(config: Config, arm: str, key: str, own: Values, overrides: Mapping[str, Any]) -> bool:
    return arm in config.arms and key in own and not _named(arm, key, overrides)


def _settle_own(config: Config, arm: str, overrides: Mapping[str, Any]) -> None:
    """In one arm, a value that the user gives takes the place of the arm's own axis, and an axis that of its value."""
    prefix = f"arms.{arm}."
    given = set()
    for key in _swept(overrides, f"{prefix}sweep."):
        _drop(config, arm, key, axes=False)
        given.add(key)
    for dotted, value in overrides.items():
        key = dotted.removeprefix(prefix)
        if dotted.startswith(prefix) and not key.startswith("sweep.") and value is not None:
            _drop(config, arm, key, values=False)
            given.add(key)
    for key, other in (RATES, RATES[::-1]):
        if key in given and not _named(arm, other, overrides):
            _drop(config, arm, other)


def _drop(config: Config, arm: str, key: str, *, values: bool = True, axes: bool = True) -> None:
    """Takes a key out of what an arm sets and out of its own sweep; groups that become empty go too."""
    settings = config.arms[arm]
    if not isinstance(settings, ConfigDict):
        return
    flat = flatten(settings)
    kept = {name: value for name, value in flat.items() if not name.startswith("sweep.")}
    own = {name.removeprefix("sweep."): value for name, value in flat.items() if name.startswith("sweep.")}
    if values:
        kept.pop(key, None)
    left = without(own, {key}) if axes else own
    if len(kept) + len(own) == len(flat) and left == own:
        return
    settings = nested(kept | {f"sweep.{axis}": points for axis, points in left.items()})
    with config.unlocked():
        config.arms[arm] = ConfigDict(settings)
    config.lock()


def listed(arms: Mapping[str, tuple[Any, ...]]) -> str:
    """Arms with the values that they set, as words.

    Example:
        >>> listed({"large": (0.1,), "small": (0.01, 0.001)})
        'large (0.1) and small (0.01, 0.001)'
    """
    words = [f"{arm} ({', '.join(map(repr, values))})" for arm, values in arms.items()]
    shown = words[:NAMED] + ([f"{len(words) - NAMED} more"] if len(words) > NAMED else [])
    return " and ".join([*([", ".join(shown[:-1])] if shown[1:] else []), shown[-1]])


def _refusal(written: str, value: Any, key: str, apart: Values, *, swept: bool) -> str:
    noun = "arm" if len(apart) == 1 else "arms"
    first = next(iter(apart))
    wanted = "VALUE" if swept else repr(value)
    remedy = f"--config.arms.{first}.{key}={wanted}"
    if swept:
        remedy += f" or --config.arms.{first}.sweep.{key}='(VALUE, VALUE)'"
    others = " and so on for the others" if len(apart) > 1 else ""
    return (
        f"{written}={value!r} does not reach the {noun} {listed(apart)}: this experiment compares arms that differ in "
        f"{key}; set it in an arm by {remedy}{others}, or take an arm out by --config.arms.{first}=None"
    )


def _check_rates(config: Config, overrides: Mapping[str, Any], asked: Mapping[str, str]) -> None:
    """Refuses a learning rate beside an e (or the other way round), with all the keys that would have to go."""
    if "e" not in config:
        return
    for key, other in (RATES, RATES[::-1]):
        given = key in asked and _is_rate(overrides[asked[key]])
        now = design_of(config)
        places = [other] if other in now.axes or now.base.get(other) is not None else []
        places += [
            f"arms.{arm}.{'sweep.' if f'sweep.{other}' in flatten(config.arms[arm]) else ''}{other}"
            for arm, own in now.arms.items()
            if any(value is not None for value in own.get(other, ())) and not _named(arm, other, overrides)
        ]
        if given and places and (overrides.get(other) is not None or other not in overrides):
            remedy = " ".join(f"--config.{place}=None" for place in places)
            raise LrjaxError(
                f"give one of e and optimizer.learning_rate, and set the other to None: they are one number, and this "
                f"experiment sets {other}; to go by {key}, add {remedy}"
            )


def _is_rate(value: Any) -> bool:
    """Whether it could be one; what cannot is refused where lanes are planned."""
    return all(
        isinstance(v, (int, float)) and v >= 0 for v in (value if isinstance(value, (tuple, list)) else (value,))
    )


def exceptions(config: Config, overrides: Mapping[str, Any]) -> list[str]:
    """Notes on overrides that do not reach a lane: what is swept as well, and arms beside the sweep of their experiment.

    Args:
        config: from `lrjax.load_config` with these overrides.
        overrides: dotted key -> value.

    Example:
        >>> from lrjax.experiment.config.load import load_config
        >>> overrides = {"sweep.e": (1.1, 1.25)}
        >>> exceptions(load_config("configs/benign_osc.py:E2,scale=smoke", overrides), overrides)
        ["sweep.e is not for the arms long (1.1) and small_rate (0.2), which set e beside the experiment's own sweep"]
    """
    arms = design_of(config).arms
    notes = []
    for key, axis in _swept(overrides).items():
        if overrides.get(key) is not None:
            notes.append(f"{key}={overrides[key]!r} is the value of no lane: {axis} gives the values")
        apart = {arm: own[key] for arm, own in arms.items() if key in own and not _named(arm, key, overrides)}
        if apart:
            noun = "arm" if len(apart) == 1 else "arms"
            which = "which sets" if len(apart) == 1 else "which set"
            notes.append(
                f"{axis} is not for the {noun} {listed(apart)}, {which} {key} beside the experiment's own sweep"
            )
    return notes
