"""The points of an experiment: each arm crossed with the sweep, as dotted keys and values."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from lrjax.errors import LrjaxError, check
from lrjax.experiment.config.axes import Point, product, replaced, without
from lrjax.experiment.config.canonical import Config, flatten
from lrjax.experiment.config.reach import RATES


def points(config: Config) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Every (arm, swept values, arm's overrides) of an experiment: each arm crossed with the product of the sweep.

    An arm may bring a `sweep` of its own, which adds to the common one. What an arm sets itself is not swept in it.
    Keys joined by a comma are swept together: `{"e,seed": ((0.5, 3), (1.1, 4))}` has two points. Of e and the learning
    rate, which are one number, the one that an arm sets takes the place of the other.

    Raises:
        LrjaxError: an axis is wrong, or reaches no arm.

    Example:
        >>> from ml_collections import ConfigDict
        >>> points(ConfigDict({"arms": {}, "sweep": {"e": (0.5, 1.1), "seed": (0,)}}))
        [('main', {'e': 0.5, 'seed': 0}, {}), ('main', {'e': 1.1, 'seed': 0}, {})]
        >>> arms = {"late": {"steps": 9, "sweep": {"e": (2.0,)}}, "main": {}}
        >>> points(ConfigDict({"arms": arms, "sweep": {"steps": (1, 2)}}))[:2]
        [('late', {'e': 2.0}, {'steps': 9}), ('main', {'steps': 1}, {})]
    """
    found, common, reached = [], flatten(config.sweep), set()
    for arm in list(config.arms) or ["main"]:
        settings = config.arms.get(arm, ConfigDict())
        check(
            isinstance(settings, ConfigDict),
            f"arms.{arm}={settings!r} is no set of keys; write arms.{arm}={{'KEY': VALUE}}",
        )
        overrides = flatten(settings)
        own = {key.removeprefix("sweep."): overrides.pop(key) for key in list(overrides) if key.startswith("sweep.")}
        overrides |= _other_rate(config, overrides, own)
        axes = without(replaced(common | own, own), overrides)
        reached |= {name for key in axes if key not in own for name in key.split(",")}
        found += [(arm, values, overrides) for values in product(axes)]
    for name in {name for key in common for name in key.split(",")} - reached:
        remedy = f"set arms.{next(iter(config.arms))}.{name}, or take the axis out by sweep.{name}=None"
        raise LrjaxError(f"sweep.{name} reaches no lane, since every arm sets {name} itself; {remedy}")
    return found


def _other_rate(config: Config, overrides: Mapping[str, Any], own: Mapping[str, Any]) -> Point:
    """Empties, in an arm that sets one of e and the learning rate, the other."""
    names = {name for key in own for name in key.split(",")} | {k for k, v in overrides.items() if v is not None}
    given = [key for key in RATES if key in names]
    return {key: None for key in RATES if key not in given} if "e" in config and len(given) == 1 else {}
