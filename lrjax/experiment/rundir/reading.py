"""How checks and figures read the arrays of a lane, so that a record can keep what they read and nothing else.

A run has millions of numbers; a verdict rests on few of them. What a check or a figure makes of a long series it names:

    loss = derived(arrays, "mean of the last 100 step/loss", lambda own: own["step/loss"][-100:].mean())

On a run this computes. While a record is made, the result is noted under its name; in a record it is looked up.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrjax.errors import LrjaxError

Compute = Callable[[Mapping[str, Any]], ArrayLike]
PREFIX = "derived/"


class NotMeasured(Exception):
    """Raised where a run lacks what a check needs: a lane diverged, a probe was off.

    `lrjax.papers.claim.judge` makes it "inconclusive".

    Example:
        >>> def check(run):
        ...     raise NotMeasured("lane 3 (e = 1.5) diverged at step 120")
    """


class NotJudged(Exception):
    """Raised where a run could not have decided a claim: what it needs is not there yet, or lost.

    `lrjax.papers.claim.judge` makes it "not judged". No `NotMeasured`, which checks catch to go on with other lanes.

    Example:
        >>> def check(run):
        ...     raise NotJudged("arrays/block-000-000000400.npz is missing")
    """


class Withheld(Mapping[str, Any]):
    """The arrays of a lane that are not whole: to read any of them raises `NotJudged`.

    Args:
        why: in words.

    Example:
        >>> Withheld("lane 3 is at step 100 of 400: the run was preempted").get("step/loss")
        Traceback (most recent call last):
        ...
        lrjax.experiment.rundir.reading.NotJudged: lane 3 is at step 100 of 400: the run was preempted
    """

    def __init__(self, why: str):
        self._why = why

    def _refuse(self) -> NoReturn:
        raise NotJudged(self._why)

    def __getitem__(self, name: str) -> NoReturn:
        self._refuse()

    def __iter__(self) -> Iterator[str]:
        self._refuse()

    def __len__(self) -> int:
        self._refuse()


def derived(arrays: Mapping[str, Any], name: str, compute: Compute) -> NDArray[Any]:
    """A number, or a few, that are made of a lane's arrays.

    Args:
        arrays: of a lane.
        name: what it is, with every parameter of it and, where it reads another lane too, that lane; unique in a lane.
        compute: arrays -> numbers; may raise `lrjax.experiment.rundir.reading.NotMeasured`, which passes.

    Returns:
        What `compute` gives, as an array; of a record, what it gave of the run.

    Example:
        >>> derived({"step/loss": np.array([2.0, 1.0])}, "last step/loss", lambda own: own["step/loss"][-1]).item()
        1.0
    """
    make = getattr(arrays, "derive", None)
    return np.asarray(compute(arrays)) if make is None else make(name, compute)


def entries(arrays: Mapping[str, Any], name: str) -> int:
    """How many entries an array has, 0 where it was not recorded.

    Example:
        >>> entries({"step/loss": np.ones(3)}, "step/loss"), entries({}, "step/loss")
        (3, 0)
    """
    return int(derived(arrays, f"entries of {name}", lambda own: len(own.get(name, ()))))


class Recorded(Mapping[str, Any]):
    """A lane's arrays; reading one that its probe did not record raises `NotMeasured`.

    Args:
        arrays: of the lane.

    Example:
        >>> Recorded({})["noise/step"]
        Traceback (most recent call last):
        ...
        lrjax.experiment.rundir.reading.NotMeasured: noise/step was not recorded: its probe was off
    """

    def __init__(self, arrays: Mapping[str, Any]):
        self._arrays = arrays

    def __getitem__(self, name: str) -> Any:
        found = self._arrays.get(name)
        if found is None:
            raise NotMeasured(f"{name} was not recorded: its probe was off")
        return found

    def get(self, name: str, default: Any = None) -> Any:
        """An array, or the default where none was recorded."""
        return self._arrays.get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self._arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def derive(self, name: str, compute: Callable[[Mapping[str, Any]], Any]) -> NDArray[Any]:
        """`derived` of this lane."""
        make = getattr(self._arrays, "derive", None)
        return np.asarray(compute(self)) if make is None else make(name, lambda own: compute(Recorded(own)))


class Notes:
    """What was read of the lanes of one run.

    Attributes:
        quiet: how many `derived` are being computed, which note their result and not what they read.
    """

    def __init__(self) -> None:
        self.quiet = 0


class Watched(Mapping[str, Any]):
    """The arrays of a lane that note what is read of them.

    Attributes:
        read: names of arrays that were read as they are.
        made: name -> what was derived.

    Args:
        arrays: of the lane.
        notes: shared by the lanes of a run.

    Raises:
        LrjaxError: in `derive`, two different results have one name.

    Example:
        >>> lane = Watched({"step/loss": np.array([2.0, 1.0])}, Notes())
        >>> float(derived(lane, "last step/loss", lambda own: own["step/loss"][-1])), lane.read, list(lane.made)
        (1.0, set(), ['last step/loss'])
    """

    def __init__(self, arrays: Mapping[str, Any], notes: Notes):
        self.whole, self._notes = arrays, notes
        self.read: set[str] = set()
        self.made: dict[str, NDArray[Any]] = {}

    def __getitem__(self, name: str) -> Any:
        if not self._notes.quiet:
            self.read.add(name)
        return self.whole[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.whole)

    def __len__(self) -> int:
        return len(self.whole)

    def derive(self, name: str, compute: Compute) -> NDArray[Any]:
        """`derived` of this lane."""
        self._notes.quiet += 1
        try:
            found = np.asarray(compute(self))
        finally:
            self._notes.quiet -= 1
        if not self._notes.quiet:
            before = self.made.setdefault(name, found)
            if not np.array_equal(before, found, equal_nan=found.dtype.kind == "f"):
                raise LrjaxError(
                    f"two different results are derived under the name {name!r}; name each by its parameters"
                )
        return found


class Kept(Mapping[str, Any]):
    """The arrays of a lane in a record: what was read of them as they were, and what was derived.

    Args:
        arrays: name -> array; what was derived under `PREFIX`.
        names: of all arrays that the run had; one that is not kept cannot be read.

    Example:
        >>> lane = Kept({"derived/last step/loss": np.array(1.0)}, ["step/loss"])
        >>> derived(lane, "last step/loss", lambda own: own["step/loss"][-1]).item(), lane.get("noise/step")
        (1.0, None)
        >>> lane["step/loss"]
        Traceback (most recent call last):
        ...
        lrjax.experiment.rundir.reading.NotJudged: the record keeps no step/loss, which its run had; judge the run itself
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]], names: Iterable[str]):
        self._own = {name: array for name, array in arrays.items() if not name.startswith(PREFIX)}
        self._made = {name[len(PREFIX) :]: array for name, array in arrays.items() if name.startswith(PREFIX)}
        self._names = frozenset(names)

    def __getitem__(self, name: str) -> Any:
        if name in self._names and name not in self._own:
            raise NotJudged(f"the record keeps no {name}, which its run had; judge the run itself")
        return self._own[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._own)

    def __len__(self) -> int:
        return len(self._own)

    def derive(self, name: str, compute: Compute) -> NDArray[Any]:
        """`derived` of this lane."""
        return self._made[name] if name in self._made else np.asarray(compute(self))
