"""MODULE:NAME of one's own: what `lrjax diagnose` takes of it, and the same of a checkpoint."""

import importlib
import itertools
import os
import reprlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from lrjax.errors import check, nearest, refuse
from lrjax.posthoc.foreign import load
from lrjax.posthoc.matching import found_in

MOST_BATCHES = 16  # that are taken of an iterator, which may have no end; `diagnose` reads no more
NEEDED = ("loss_fn", "params", "batches")


class Problem(NamedTuple):
    """What is diagnosed.

    Attributes:
        loss_fn: (params, batch) -> scalar.
        params: a template: arrays, or their `jax.ShapeDtypeStruct`.
        batches: a list, or a function without arguments that returns an iterator, of which the first `MOST_BATCHES` are used.
        optimizer: of optax, or None.
        opt_state: a template; that of `optimizer.init(params)` for None.
        learning_rate: a number, a schedule or None.
        num_steps: of the whole training, or None.
        params_at: where in the checkpoint the parameters are, where several trees are like them.
        opt_state_at: the same for the state of the optimizer.
    """

    loss_fn: Callable[[Any, Any], Any]
    params: Any
    batches: Sequence[Any] | Callable[[], Iterable[Any]]
    optimizer: Any = None
    opt_state: Any = None
    learning_rate: Any = None
    num_steps: int | None = None
    params_at: str | None = None
    opt_state_at: str | None = None


class Restored(NamedTuple):
    """A checkpoint's part: its parameters, the state of the optimizer or None, its step or None, and what is to be told."""

    params: Any
    opt_state: Any
    step: int | None
    notes: list[str]


def find_problem(name: str) -> Problem:
    """The problem of MODULE:NAME; MODULE is also looked for in the working directory.

    Args:
        name: NAME is a mapping or an object with the attributes of `Problem`, or a function without arguments that returns one.

    Raises:
        LrjaxError: there is no such module or name, or it is no problem.

    Example:
        >>> find_problem("lrjax.posthoc.problem")
        Traceback (most recent call last):
        ...
        lrjax.errors.LrjaxError: 'lrjax.posthoc.problem' names no object; write MODULE:NAME, such as my_module:problem
    """
    module, colon, attribute = name.partition(":")
    check(
        bool(module and colon and attribute), f"{name!r} names no object; write MODULE:NAME, such as my_module:problem"
    )
    found = getattr(_imported(module), attribute, None)
    if found is None:
        public = [other for other in vars(sys.modules[module]) if not other.startswith("_")]
        refuse(f"{module} has no {attribute!r}; {nearest(attribute, public)}" if public else f"{module} is empty")
    made = found() if callable(found) and not hasattr(found, "loss_fn") else found
    return _checked(made, name)


def restore(problem: Problem, path: str | Path, step: int | None = None) -> Restored:
    """A problem's parameters, and its optimizer's state, as a checkpoint has them.

    Args:
        problem: with the templates.
        path: see `lrjax.posthoc.foreign.load`.
        step: the latest for None.

    Raises:
        LrjaxError: the checkpoint cannot be read, or does not fit.
    """
    stored = load(path, step)
    params = found_in(stored.leaves, problem.params, "params", place=str(stored.place), at=problem.params_at)
    template = problem.opt_state
    if template is None and problem.optimizer is not None:
        template = jax.eval_shape(problem.optimizer.init, params)
    if template is None:
        return Restored(params, None, stored.step, [])
    state = found_in(stored.leaves, template, "opt_state", place=str(stored.place), at=problem.opt_state_at)
    notes = [f"the state of the optimizer is unknown: {stored.place} has parameters alone"] if state is None else []
    return Restored(params, state, stored.step, notes)


def batches_of(problem: Problem) -> list[Any]:
    """The batches to measure on.

    Raises:
        LrjaxError: there is none.
    """
    given = problem.batches
    batches = [*itertools.islice(given(), MOST_BATCHES)] if callable(given) else [*given]
    check(bool(batches), "batches is empty; give a list of batches, or a function that returns an iterator")
    return batches


def _imported(module: str) -> Any:
    if module.endswith(".py") or "/" in module:
        stem = module.removesuffix(".py").strip("./").replace("/", ".")
        refuse(f"{module!r} is a file; name it as Python imports it: {stem}:NAME")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)  # as `python -m` has it, and the console script has not
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not error.name or not f"{module}.".startswith(f"{error.name}."):
            raise  # of something that the module imports
        refuse(f"there is no module {error.name!r} in {here}, nor is it installed; go to its folder, or set PYTHONPATH")


def _checked(made: Any, name: str) -> Problem:
    fields = Problem._fields
    if isinstance(made, Mapping):
        for key in made:
            check(key in fields, f"{name} has the key {key!r}, which is none of a problem; {nearest(str(key), fields)}")
        given = dict(made)
    else:
        given = {key: getattr(made, key) for key in fields if hasattr(made, key)}
    missing = ", ".join(key for key in NEEDED if given.get(key) is None)
    check(not missing, f"{name} has no {missing}; give a mapping or an object with {', '.join(NEEDED)}")
    problem = Problem(**given)
    for key, (fits, kind) in KINDS.items():
        value = getattr(problem, key)
        check(value is None or fits(value), f"{key} of {name} must be {kind}, not {reprlib.repr(value)}")
    return problem


def _is_number(value: Any) -> bool:
    return not isinstance(value, (str, bytes)) and np.ndim(value) == 0 and np.asarray(value).dtype.kind in "iuf"


KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "loss_fn": (callable, "a function of (params, batch)"),
    "batches": (
        lambda value: isinstance(value, (list, tuple)) or callable(value),
        "a list, or a function that returns an iterator",
    ),
    "optimizer": (lambda value: hasattr(value, "init") and hasattr(value, "update"), "an optax.GradientTransformation"),
    "learning_rate": (lambda value: callable(value) or _is_number(value), "a number or an optax schedule"),
    "num_steps": (lambda value: isinstance(value, int) and value > 0, "a whole number above 0"),
    "params_at": (lambda value: isinstance(value, str), "a path in the checkpoint"),
    "opt_state_at": (lambda value: isinstance(value, str), "a path in the checkpoint"),
}
