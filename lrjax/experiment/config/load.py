"""Config files: found, imported, and loaded as an experiment at a scale."""

import hashlib
import importlib
import re
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from lrjax.errors import LrjaxError, check, nearest
from lrjax.experiment.config import plugins, reach
from lrjax.experiment.config.axes import replaced
from lrjax.experiment.config.canonical import Config, flatten
from lrjax.experiment.config.overrides import _set_open, apply_overrides, spelled_out

SCALES = ("smoke", "small", "medium", "paper")


def config_folders() -> list[Path]:
    """Where `configs/` is looked for: the working directory, the checkout, the installed wheel."""
    package = Path(__file__).resolve().parents[2]
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
    folders = [Path(path).parent, *config_folders()]
    known = sorted({p.name for f in folders if f.is_dir() for p in f.glob("*.py")} - {"common.py"})
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
        overrides: dotted key -> value, for example `{"seed": 3, "sweep.e": (1.1, 1.25)}`. Keys under `sweep` and
            `probes` may be new, and an arm that is given whole (`{"arms.wide": {"model.width": 64}}`); all others must
            exist and keep their type (an int may stand for a float). A value for a key that the experiment sweeps takes
            the place of that axis. All of them reach every lane, arms included, or are refused
            (`lrjax.experiment.config.reach`).

    Returns:
        A locked ConfigDict.

    Raises:
        LrjaxError: no such file, experiment, scale or key, a value of the wrong type, or one that arms set themselves.

    Example:
        >>> import lrjax
        >>> config = lrjax.load_config("configs/benign_osc.py:E2,scale=smoke", {"seed": 3})
        >>> config.experiment, config.scale, config.seed
        ('E2', 'smoke', 3)
    """
    module, experiment, scale = read_spec(spec)
    config = made(module, experiment, scale)
    config.experiment, config.scale = experiment, scale
    config.lock()
    overrides, design = spelled_out(overrides or {}), reach.design_of(config)
    apply_overrides(config, overrides)
    _unsweep(config, overrides)
    reach.settle(config, overrides, design)
    return config


def made(module: types.ModuleType, experiment: str, scale: str) -> Config:
    """An experiment of a config file at a scale.

    `medium` is what `MEDIUM[experiment]` of the file, a function that changes a config in place, makes of `paper`; an
    experiment that is not there is at `medium` what it is at `paper`.

    Raises:
        LrjaxError: the file has no `MEDIUM`.
    """
    if scale != "medium":
        return module.EXPERIMENTS[experiment](scale)
    shorter = getattr(module, "MEDIUM", None)
    check(
        shorter is not None,
        f"{module.__file__} has no MEDIUM, so its experiments have the scales smoke, small and paper",
    )
    config = module.EXPERIMENTS[experiment]("paper")
    if experiment in shorter:  # pyright: ignore[reportOperatorIssue]
        with config.ignore_type():
            shorter[experiment](config)  # pyright: ignore[reportOptionalSubscript]
    return config


def read_file(path: str) -> types.ModuleType:
    """A config file as a module.

    Raises:
        LrjaxError: there is no such file, or it has no experiments.
    """
    plugins.load()
    module = _load_module(find_config(path))
    check(hasattr(module, "EXPERIMENTS"), f"{path} defines no EXPERIMENTS; name a config file of a paper")
    check(bool(module.EXPERIMENTS), f"{path} has no experiment; write one into its EXPERIMENTS")
    return module


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
    module = read_file(path)
    experiment, scale = getattr(module, "DEFAULT", ""), "small"
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
    check(bool(experiment), f"{path} has no DEFAULT; write {path}:EXPERIMENT; valid names: {', '.join(known)}")
    check(experiment in known, f"unknown experiment {experiment!r} in {path}; {nearest(experiment, known)}")
    return module, experiment, scale


def _unsweep(config: Config, overrides: Mapping[str, Any]) -> None:
    """Takes keys out of the sweep: what the user gives for a swept key, value or axis, takes the place of its axis."""
    axes = flatten(config.sweep)
    left = replaced(axes, {key for key in axes if f"sweep.{key}" in overrides}, overrides)
    if left != axes:
        with config.unlocked():
            config.sweep = ConfigDict()
        for key, values in left.items():
            _set_open(config, f"sweep.{key}", values)
