"""From a config file to a plain frozen config: load, override, check, resolve, fingerprint, save."""

import ast
import difflib
import functools
import hashlib
import importlib
import inspect
import json
import re
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from ml_collections import ConfigDict, FieldReference, FrozenConfigDict

from lrjax import plugins
from lrjax.axes import replaced
from lrjax.errors import LrjaxError

Config: TypeAlias = Any  # a ConfigDict or FrozenConfigDict: a type checker cannot know their keys

SCALES = ("smoke", "small", "paper")
OPEN = ("sweep", "arms", "probes")  # dictionaries whose keys the user chooses
FEW = 20  # names that an error message lists


def check(ok: bool, message: str) -> None:
    """Raises LrjaxError(message) unless ok."""
    if not ok:
        raise LrjaxError(message)


def refuse(message: str) -> NoReturn:
    """Raises LrjaxError(message)."""
    raise LrjaxError(message)


def nearest(name: str, valid: Iterable[str]) -> str:
    """The end of an error message about an unknown name: the nearest valid one, or all of them.

    Example:
        >>> nearest("sed", ["seed", "scale"])
        "did you mean 'seed'?"
        >>> nearest("qqq", ["seed", "scale"])
        'valid names: scale, seed'
    """
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6 if len(names) <= FEW else 0.0)
    return f"did you mean {close[0]!r}?" if close else "valid names: " + ", ".join(names)


def config_folders() -> list[Path]:
    """Where `configs/` is looked for: the working directory, the checkout, the installed wheel."""
    package = Path(__file__).resolve().parent
    return [Path("configs"), package.parent / "configs", package / "_configs"]


def find_config(path: str) -> Path:
    """The config file that `path` names; `configs/X.py` and `X.py` are also looked up among the packaged configs.

    Raises:
        LrjaxError: no such file.
    """
    packaged = config_folders() if Path(path).parent in (Path("configs"), Path(".")) else []
    for candidate in [Path(path), *(folder / Path(path).name for folder in packaged)]:
        if candidate.is_file():
            return candidate
    known = sorted({p.name for f in config_folders() if f.is_dir() for p in f.glob("*.py")} - {"common.py"})
    raise LrjaxError(f"there is no config file {path!r}; {nearest(Path(path).name, known)}")


def _load_module(path: Path) -> types.ModuleType:
    """Imports a config file as a member of a package made for its folder, so that `from . import common` works."""
    folder = str(path.resolve().parent)
    package = "lrjax_configs_" + hashlib.sha256(folder.encode()).hexdigest()[:8]
    if package not in sys.modules:
        module = types.ModuleType(package)
        module.__path__ = [folder]
        sys.modules[package] = module
    return importlib.import_module(f"{package}.{path.stem}")


def load_config(spec: str, overrides: Mapping[str, Any] | None = None) -> Config:
    """Loads `FILE[:EXPERIMENT][,scale=SCALE]` and applies overrides by dotted key; needs no flags, works in a notebook.

    Args:
        spec: for example `"configs/benign_osc.py:E2,scale=smoke"`. Without an experiment the file's default is taken,
            without a scale `small`.
        overrides: dotted key -> value, for example `{"seed": 3, "sweep.e": (1.1, 1.25)}`. Keys under `sweep`, `arms`
            and `probes` may be new; all others must exist and keep their type (an int may stand for a float). A value
            for a key that the experiment sweeps takes the place of that axis.

    Returns:
        A locked ConfigDict.

    Raises:
        LrjaxError: no such file, experiment, scale or key, or a value of the wrong type.

    Example:
        >>> import lrjax
        >>> config = lrjax.load_config("configs/benign_osc.py:E2,scale=smoke", {"seed": 3})
        >>> config.experiment, config.scale, config.seed
        ('E2', 'smoke', 3)
    """
    module, experiment, scale = read_spec(spec)
    config = module.EXPERIMENTS[experiment](scale)
    config.experiment, config.scale = experiment, scale
    config.lock()
    overrides = overrides or {}
    apply_overrides(config, overrides)
    return _unsweep(config, overrides)


def read_spec(spec: str) -> tuple[types.ModuleType, str, str]:
    """`FILE[:EXPERIMENT][,scale=SCALE]` -> (the file as a module, experiment, scale).

    Raises:
        LrjaxError: no such file, experiment or scale.

    Example:
        >>> read_spec("configs/benign_osc.py:E2")[1:]
        ('E2', 'small')
    """
    match = re.fullmatch(r"(.+?\.py)(?:[:,](.*))?", spec)
    check(match is not None, f"cannot read --config={spec}; write FILE.py[:EXPERIMENT][,scale=SCALE]")
    path, argument = match.group(1), match.group(2) or ""  # pyright: ignore[reportOptionalMemberAccess]
    plugins.load()
    module = _load_module(find_config(path))
    check(hasattr(module, "EXPERIMENTS"), f"{path} defines no EXPERIMENTS; name a config file of a paper")
    experiment, scale = module.DEFAULT, "small"
    for part in filter(None, argument.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            experiment = key
        elif key == "scale":
            scale = value
        else:
            raise LrjaxError(f"cannot read {part!r} in --config={spec}; write FILE[:EXPERIMENT][,scale=SCALE]")
    check(scale in SCALES, f"unknown scale {scale!r}; {nearest(scale, SCALES)}")
    known = module.EXPERIMENTS
    check(experiment in known, f"unknown experiment {experiment!r} in {path}; {nearest(experiment, known)}")
    return module, experiment, scale


def _unsweep(config: Config, overrides: Mapping[str, Any]) -> Config:
    """Takes keys out of the sweep: what the user gives for a swept key, value or axis, takes the place of its axis."""
    axes = flatten(config.sweep)
    left = replaced(axes, {key for key in axes if f"sweep.{key}" in overrides}, overrides)
    if left != axes:
        with config.unlocked():
            config.sweep = ConfigDict()
        for key, values in left.items():
            _set_open(config, f"sweep.{key}", values)
    return config


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


# Keys that hold a number of steps, or a duration such as "3 epochs".
DURATIONS = (
    *("steps", "log_every", "checkpoint_every", "averaging_start"),
    *("schedule.warmup", "schedule.cooldown", "l2_schedule.warmup", "rule.every"),
)
DURATION_LISTS = ("schedule.milestones", "l2_schedule.milestones")


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


@functools.cache
def optimizer_arguments(name: str) -> tuple[str, ...]:
    """The arguments of an optax optimizer, beside the learning rate.

    Raises:
        LrjaxError: optax has no optimizer of that name.

    Example:
        >>> optimizer_arguments("sgd")[:2]
        ('momentum', 'nesterov')
    """
    import optax  # here, because `--list` and a refused flag need no JAX
    from optax import contrib

    optimizers = [n for m in (optax, contrib) for n, f in vars(m).items() if callable(f) and _takes_learning_rate(f)]
    if name not in optimizers:
        raise LrjaxError(f"unknown optimizer.name {name!r}; {nearest(name, optimizers)}")
    return tuple(inspect.signature(optimizer_of(name)).parameters)[1:]


def optimizer_of(name: str) -> Callable:
    """The optimizer of that name, of optax or of optax.contrib."""
    import optax
    from optax import contrib

    return getattr(optax, name, None) or getattr(contrib, name)


def _takes_learning_rate(function: Any) -> bool:
    try:
        return next(iter(inspect.signature(function).parameters), None) == "learning_rate"
    except (TypeError, ValueError):
        return False


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


def apply_overrides(config: Config, overrides: Mapping[str, Any]) -> Config:
    """Sets dotted keys in place, with clear errors, and returns the config.

    Raises:
        LrjaxError: an unknown key (the nearest valid one is named) or a value of the wrong type.
    """
    # The optimizer's name first: it decides which other keys there are.
    for dotted, value in sorted(overrides.items(), key=lambda item: item[0] != "optimizer.name"):
        *path, leaf = dotted.split(".")
        if path and path[0] in OPEN:
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
        if not isinstance(node, ConfigDict) or leaf not in node or isinstance(node[leaf], ConfigDict):
            names = [name for name in flatten(config) if not name.endswith(f".{dotted}")]  # as in sweep.TYPO
            raise LrjaxError(f"unknown config key {dotted!r}; {nearest(dotted, names)}")
        if value is None and _may_be_none(node, leaf):
            node[leaf] = None
            continue
        value = _coerce(dotted, value, node.get_type(leaf))
        replace(node, leaf, value)
    return config


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


def freeze(content: Mapping[str, Any] | Config) -> Config:
    """A FrozenConfigDict."""
    return FrozenConfigDict(content)


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
