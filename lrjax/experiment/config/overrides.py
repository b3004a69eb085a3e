"""Overrides of a config by dotted key, with the types of its values kept."""

import ast
import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict, FieldReference

from lrjax.errors import FEW, LrjaxError, check, nearest
from lrjax.experiment.config.canonical import Config, flatten, nested
from lrjax.experiment.config.durations import DURATIONS
from lrjax.experiment.config.meanings import suggestion
from lrjax.experiment.config.optimizers import optimizer_arguments

OPEN = ("sweep", "arms", "probes")  # dictionaries whose keys the user chooses


def _coerce(key: str, value: Any, expected: type) -> Any:
    if expected is type(None):
        return value
    if key in DURATIONS and isinstance(value, (int, str)) and not isinstance(value, bool):
        return value
    if key == "batch_size" and value == "full":
        return value
    if expected in (tuple, list) and isinstance(value, (tuple, list)):
        return tuple(value)
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        raise LrjaxError(f"{key} must be of type {expected.__name__}, not {value!r} ({type(value).__name__})")
    return value


def _may_be_none(node: Config, leaf: str) -> bool:
    """A placeholder may be emptied again; any other key needs a value."""
    return node[leaf] is None or isinstance(dict(node.items(preserve_field_references=True))[leaf], FieldReference)


def _set_open(config: Config, dotted: str, value: Any) -> None:
    """Sets a key of a dictionary whose keys the user chooses; None removes it (an arm, an axis of the sweep, a probe)."""
    *path, leaf = dotted.split(".")
    node = config
    with config.unlocked():
        for place, part in enumerate(path):
            if part not in node:
                node[part] = ConfigDict()
            node = node[part]
            check(
                isinstance(node, ConfigDict), f"{'.'.join(path[: place + 1])} is a value; {dotted} cannot lie below it"
            )
        if value is None:
            check(leaf in node, f"there is no {dotted!r} to remove; {nearest(leaf, node)}")
            del node[leaf]
            return
        with node.ignore_type():
            node[leaf] = value


def spelled_out(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Overrides with a key for each setting of an arm that is given whole; what it sets to None stays with the arm.

    Example:
        >>> spelled_out({"arms.wide": {"model.width": 64, "e": None}, "seed": 3})
        {'arms.wide': {'e': None}, 'arms.wide.model.width': 64, 'seed': 3}
    """
    found: dict[str, Any] = {}
    for dotted, value in overrides.items():
        if dotted.startswith("arms.") and dotted.count(".") == 1 and isinstance(value, Mapping):
            flat = flatten(value)
            found[dotted] = nested({key: own for key, own in flat.items() if own is None})
            found |= {f"{dotted}.{key}": own for key, own in flat.items() if own is not None}
        else:
            found[dotted] = value
    return found


def apply_overrides(config: Config, overrides: Mapping[str, Any]) -> Config:
    """Sets dotted keys in place, with clear errors, and returns the config.

    Raises:
        LrjaxError: an unknown key or arm (the nearest valid one is named) or a value of the wrong type.
    """

    # The optimizer's name first: it decides which other keys there are. Whole arms before keys of arms, but those that
    # are taken out last: they stay out.
    def place(item: tuple[str, Any]) -> int:
        arm = item[0].startswith("arms.") and item[0].count(".") == 1
        return 2 if arm and item[1] is None else 0 if arm or item[0] == "optimizer.name" else 1

    arms = set(config.get("arms", ()))  # where there is none, keys of arms make them
    for dotted, value in sorted(spelled_out(overrides).items(), key=place):
        *path, leaf = dotted.split(".")
        if path and path[0] in OPEN:
            arms |= {leaf} if path == ["arms"] and arms else set()
            _check_arm(sorted(arms), dotted, path)
            _set_open(config, dotted, value)
            continue
        node = config
        for part in path:
            node = node.get(part) if isinstance(node, ConfigDict) else None
        if (
            path == ["optimizer"]
            and leaf not in config.optimizer
            and leaf in optimizer_arguments(config.optimizer.name)
        ):
            with config.optimizer.unlocked():
                config.optimizer[leaf] = value
            continue
        group = node.get(leaf) if isinstance(node, ConfigDict) else None
        if isinstance(group, ConfigDict) and (value is None or isinstance(value, Mapping)):
            raise LrjaxError(_one_by_one(dotted, list(group)))
        if not isinstance(node, ConfigDict) or leaf not in node or isinstance(group, ConfigDict):
            names = [name for name in flatten(config) if name != f"sweep.{dotted}" and not name.startswith("arms.")]
            raise LrjaxError(f"unknown config key {dotted!r}; {suggestion(dotted, names + _arguments(config))}")
        if value is None and _may_be_none(node, leaf):
            node[leaf] = None
            continue
        value = _coerce(dotted, value, node.get_type(leaf))
        replace(node, leaf, value)
    return config


def _one_by_one(group: str, names: list[str]) -> str:
    """The sentence on a group of keys that was given as a whole."""
    removed = f", or take one out by --config.{group}.{names[0]}=None" if names and group in OPEN else ""
    named = f"; it has {', '.join(names)}" if names else ""
    return f"{group} is a group of keys, which are set one by one, --config.{group}.NAME=VALUE{removed}{named}"


def _check_arm(known: Sequence[str], dotted: str, path: list[str]) -> None:
    """Refuses a key of an arm that the experiment lacks: it would be an arm of its own beside the one that was meant."""
    if path[0] != "arms" or len(path) < 2 or not known or path[1] in known:
        return
    name, key = path[1], dotted.split(".", 2)[2]
    close = difflib.get_close_matches(name, known, n=1)
    meant = f"did you mean {close[0]!r}? " if close else ""
    arms = ", ".join(known[:FEW]) + (f" and {len(known) - FEW} more" if len(known) > FEW else "")
    raise LrjaxError(
        f"there is no arm {name!r} to set {key} in; {meant}this experiment has {arms}, and a new arm is given whole, as "
        f"--config.arms.{name}=\"{{'{key}': VALUE}}\""
    )


def _arguments(config: Config) -> list[str]:
    """The keys that the optimizer would take beside those that are there."""
    if "optimizer" not in config or "name" not in config.optimizer:
        return []
    taken = optimizer_arguments(config.optimizer.name)
    return [f"optimizer.{name}" for name in taken if name not in config.optimizer]


def replace(node: Config, leaf: str, value: Any) -> None:
    """Sets a key whose type may change, as from steps to "3 epochs"; `ignore_type` is slow, and seldom needed."""
    if type(value) is node.get_type(leaf):
        node[leaf] = value
    else:
        with node.ignore_type():
            node[leaf] = value


def parse_value(text: str) -> Any:
    """A command-line value as Python reads it, or the text itself.

    Example:
        >>> parse_value("0.1"), parse_value("(1, 2)"), parse_value("adam"), parse_value("None")
        (0.1, (1, 2), 'adam', None)
    """
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
