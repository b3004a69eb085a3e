"""A config as plain data: flat, frozen, canonical JSON, and its fingerprint."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from ml_collections import ConfigDict, FrozenConfigDict

Config: TypeAlias = Any  # a ConfigDict or FrozenConfigDict: a type checker cannot know their keys


def flatten(config: Mapping[str, Any] | Config, prefix: str = "") -> dict[str, Any]:
    """Nested mapping -> {dotted key: leaf}.

    Example:
        >>> flatten({"optimizer": {"name": "sgd"}, "seed": 0})
        {'optimizer.name': 'sgd', 'seed': 0}
    """
    flat = {}
    for key, value in config.items():
        if isinstance(value, (Mapping, ConfigDict)):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """{dotted key: leaf} -> nested dictionaries, the inverse of `flatten`.

    Example:
        >>> nested({"optimizer.name": "sgd", "seed": 0})
        {'optimizer': {'name': 'sgd'}, 'seed': 0}
    """
    whole: dict[str, Any] = {}
    for dotted, value in flat.items():
        *path, leaf = dotted.split(".")
        node = whole
        for part in path:
            node = node.setdefault(part, {})
        node[leaf] = value
    return whole


def freeze(content: Mapping[str, Any] | Config) -> Config:
    """A FrozenConfigDict."""
    return FrozenConfigDict(content)


def tuples(value: Any) -> Any:
    """JSON as a config file would have it: JSON has lists where a config has tuples.

    Example:
        >>> tuples({"sweep": {"e": [0.5, 1.1]}})
        {'sweep': {'e': (0.5, 1.1)}}
    """
    if isinstance(value, dict):
        return {key: tuples(item) for key, item in value.items()}
    return tuple(map(tuples, value)) if isinstance(value, list) else value


def to_json(config: Mapping[str, Any] | ConfigDict) -> str:
    """Canonical JSON of a config: sorted keys, tuples as lists."""

    def plain(value: Any) -> Any:
        if isinstance(value, (Mapping, ConfigDict)):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, (tuple, list)) else value

    return json.dumps(plain(config), sort_keys=True)


def fingerprint(config: Mapping[str, Any] | ConfigDict) -> str:
    """Ten hex digits that name what a config computes; where the data lies on this machine does not count.

    Example:
        >>> fingerprint({"seed": 0, "data_dir": "a"}) == fingerprint({"seed": 0, "data_dir": "b"})
        True
    """
    content = {key: value for key, value in json.loads(to_json(config)).items() if key != "data_dir"}
    return hashlib.sha256(to_json(content).encode()).hexdigest()[:10]
