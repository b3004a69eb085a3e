"""Checkpoints of any training, by orbax or as safetensors: which steps there are, and the arrays of one. No pickle is read."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lrjax.errors import by_path, check, refuse
from lrjax.experiment.rundir.checkpoint import is_tree, read_tree
from lrjax.models.pretrained import read_safetensors

STEP = re.compile(r"(?:[A-Za-z][\w\-]*[_\-])?(\d+)")
NAMED = re.compile(r"(?:(?:step|ckpt|checkpoint)[_\-]?)?(\d+)", re.IGNORECASE)  # a folder of one tree: no "resnet-50"
PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib", ".p")
READS = "lrjax reads folders of orbax and .safetensors files"


class Checkpoint(NamedTuple):
    """The leaves of a checkpoint.

    Attributes:
        place: the folder or file that was read.
        leaves: path, joined by "/" (in a safetensors file by what its writer took) -> array; a string or None stays one.
        step: of the training: of the steps of a `CheckpointManager` that of the folder, else a leaf `step`, else the folder's
            name if it says step, ckpt, checkpoint or nothing else; None where none is there.
    """

    place: Path
    leaves: Mapping[str, Any]
    step: int | None


def load(path: str | Path, step: int | None = None) -> Checkpoint:
    """Reads a checkpoint that any program has written.

    Args:
        path: a `.safetensors` file, or a folder of orbax: a tree (`StandardSave`, `PyTreeSave`), the items of one step, or
            the steps of a `CheckpointManager`.
        step: one of those stored; the latest for None.

    Raises:
        LrjaxError: there is none, it is damaged or of another kind (a pickle is never opened), or it lacks that step.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from safetensors.numpy import save_file
        >>> file = Path(tempfile.mkdtemp()) / "model.safetensors"
        >>> save_file({"dense.kernel": np.ones(2)}, file)
        >>> load(file).leaves
        {'dense.kernel': array([1., 1.])}
    """
    path = Path(path).expanduser()
    check(path.exists(), f"there is no checkpoint {path}; give the folder or the file that the training wrote")
    if path.is_file():
        _check_file(path)
        check(step is None, f"{path} is a file and has no steps; leave --step out")
        return Checkpoint(path, read_safetensors(path), None)
    folder, number = _chosen(path, step)
    leaves = _leaves(folder)
    counted = _counted(leaves) if folder == path else None  # of one tree its own count tells more than a name
    return Checkpoint(folder, leaves, number if counted is None else counted)


def steps_in(folder: Path) -> dict[int, Path]:
    """The steps of a `CheckpointManager`, ascending; whatever its prefix and number of digits.

    Raises:
        LrjaxError: two folders have the same number.
    """
    found: dict[int, Path] = {}
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        named = STEP.fullmatch(path.name)
        if named and (is_tree(path) or _items(path)):
            other = found.setdefault(int(named[1]), path)
            check(other is path, f"{folder} has step {named[1]} twice, {other.name} and {path.name}; give one of them")
    return dict(sorted(found.items()))


def _chosen(path: Path, step: int | None) -> tuple[Path, int | None]:
    """The folder of one step, and the number in its name."""
    steps = {} if is_tree(path) else steps_in(path)
    if steps:
        known = ", ".join(map(str, steps))
        check(step is None or step in steps, f"step {step} is not stored in {path}; stored are {known}")
        number = max(steps) if step is None else step
        return steps[number], number
    check(is_tree(path) or bool(_items(path)), _is_none(path))
    named = NAMED.fullmatch(path.resolve().name)
    number = int(named[1]) if named else None
    check(step in (None, number), f"{path} is a single checkpoint; leave --step out, or give the folder of all steps")
    return path, number


def _items(folder: Path) -> dict[str, Path]:
    """The trees of one step: `params`, `opt_state`, `default`, ...; what is JSON beside them is none."""
    return {path.name: path for path in sorted(folder.iterdir()) if path.is_dir() and is_tree(path)}


def _leaves(folder: Path) -> dict[str, Any]:
    items = {"": folder} if is_tree(folder) else _items(folder)
    trees = {name: by_path(read_tree(path)) for name, path in items.items()}
    return {f"{name}/{path}".strip("/"): leaf for name, tree in trees.items() for path, leaf in tree.items()}


def _counted(leaves: Mapping[str, Any]) -> int | None:
    """The leaf `step` of a train state, where there is one, a whole number."""
    paths = {path: path.removesuffix("/value").split("/") for path in leaves}  # the box of NNX
    found = [
        np.asarray(leaves[path]) for path, parts in paths.items() if parts[-1] == "step" and "opt_state" not in parts
    ]
    whole = [int(leaf) for leaf in found if leaf.ndim == 0 and leaf.dtype.kind in "iu"]
    return whole[0] if len(whole) == 1 else None


def _check_file(path: Path) -> None:
    if path.suffix == ".safetensors":
        return
    if path.suffix in PICKLES:
        refuse(
            f"{path} is a pickle, which runs whatever it holds when it is read; where you trust it, load it yourself and "
            "write the parameters with safetensors.numpy.save_file"
        )
    if path.suffix in (".npz", ".npy"):
        refuse(f"{path} may hold pickles and is not read; write its arrays with safetensors.numpy.save_file")
    refuse(f"{path} is no checkpoint that is known; {READS}: write it with safetensors.numpy.save_file")


def _is_none(path: Path) -> str:
    """What is said of a folder that is no checkpoint."""
    if (path / "config.json").is_file() and (path / "status.json").is_file():
        return f"{path} is a run of lrjax; lrjax spectra {path} measures its checkpoints"
    below = [sub for sub in sorted(path.iterdir()) if sub.is_dir() and steps_in(sub)]
    if below:
        return f"{path} is no checkpoint of orbax, but {below[0]} has some; give that"
    files = [sub for sub in sorted(path.iterdir()) if sub.suffix in (".safetensors", *PICKLES)]
    if files:
        return f"{path} is no checkpoint of orbax; give the file in it, {files[0]}"
    return f"{path} holds no finished checkpoint of orbax; {READS}"
