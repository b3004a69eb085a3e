"""A data set as host arrays, and a row of the registry of data sets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

Files = tuple[Path, str]  # folder of the data sets, a folder in it
Stream = Callable[[Any], dict[str, Any]]  # indices of training examples int [m] -> "x" [m, ...], "y" [m] on the host


class Dataset(NamedTuple):
    """A training set and named test sets, as host arrays whose leading axis counts examples.

    Attributes:
        train: "x" `[n, ...]`, "y" `[n]` int32, and arrays of the data set's own, such as "patched" `[n]` bool.
        tests: name -> a dict of the same kind; "test" is the usual one.
        num_classes: number of labels.

    Example:
        >>> import numpy as np
        >>> split = {"x": np.zeros((4, 32, 32, 3), np.float32), "y": np.zeros(4, np.int32)}
        >>> Dataset(train=split, tests={"test": split}, num_classes=10).train["y"].shape
        (4,)
    """

    train: dict[str, Any]
    tests: dict[str, dict[str, Any]]
    num_classes: int


def _nothing(config: Any) -> None:
    """No derived keys."""


def _no_stream(config: Any) -> None:
    """All training examples are in memory."""


def _no_files(config: Any) -> Files | None:
    """It is made, not read."""


class Source(NamedTuple):
    """A data set of the registry `lrjax.data.DATASETS`.

    Attributes:
        load: config -> `Dataset` that all lanes share; with `per_lane` (static, hparams) -> a dict of one lane's arrays
            with "train", made inside the compiled program.
        spec: config -> `Dataset` of shapes, without the disk.
        complete: fills in, in place, keys of an unfrozen config that follow from others.
        per_lane: whether each lane has its own data.
        arrays: dotted keys of numbers that are hparams rather than static.
        describe: the loaded data -> arrays [lanes, ...] to keep in the run directory.
        kinds: names of the values of "kind" int32 [n] in each split, where examples are of several kinds.
        stream: config -> a function that reads training examples as they are needed, or None where `load` has them all.
            "train" of `load` is then a part of them, for the probes.
        e_per_rate: config -> e / learning rate, of data for which the normalised rate e is defined; None elsewhere.
        size: config -> the number of training examples, where `spec` does not have it.
        files: config -> the folder of the data sets and the one in it that `load` reads, to be taken to a machine without
            them; None where it reads none.
    """

    load: Callable
    spec: Callable[[Any], Dataset]
    complete: Callable[[Any], None] = _nothing
    per_lane: bool = False
    arrays: tuple[str, ...] = ()
    describe: Callable | None = None
    kinds: tuple[str, ...] = ()
    stream: Callable[[Any], Stream | None] = _no_stream
    size: Callable[[Any], int] | None = None
    e_per_rate: Callable[[Any], float] | None = None
    files: Callable[[Any], Files | None] = _no_files

    def num_train(self, config: Any) -> int:
        """The number of training examples, without reading them."""
        return self.size(config) if self.size else self.spec(config).train["y"].shape[0]
