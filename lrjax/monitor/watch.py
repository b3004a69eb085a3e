"""`Monitor`: instruments beside a training loop, on a schedule that keeps to a budget."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.monitor import history, measure, schedule
from lrjax.monitor.advice import MEDIANS, jumps
from lrjax.monitor.arguments import check_arguments, check_concrete, sentence_of
from lrjax.monitor.case import Case
from lrjax.monitor.groups import groups_of
from lrjax.monitor.learning_rate import named_rates, rate_in_use, rates_in
from lrjax.monitor.ledger import Ledger
from lrjax.monitor.optimizer_facts import Facts
from lrjax.monitor.programs import Programs, batch_size_of, check_loss, check_params, scalars, signature_of
from lrjax.monitor.report import Report
from lrjax.monitor.virtual_step import check_state
from lrjax.spectra.frameworks import Tree

MOST_NOTICES = 50  # kinds of faults that are told
_DIGITS = re.compile(r"[\d.]+")


class MonitorWarning(UserWarning):
    """A measurement that could not be made; the training goes on."""


class Monitor:
    """Watches a training loop and tells what its learning rate is doing.

    `update` goes before the step that donates its arguments. It makes a virtual step, from copies, when a measurement is due,
    and returns at once on all other steps: parameters, optimizer state and random numbers of the training are bit-equal with
    and without it.

    Args:
        loss_fn: `(params, batch) -> scalar`, deterministic, the mean over the batch as in the training.
        optimizer: of optax (`init`, `update`), also inside `optax.MultiSteps`, `partition`, `masked`, `inject_hyperparams`,
            `apply_if_finite`; an `nnx.Optimizer` too.
        learning_rate: a number or a schedule; not needed where `optax.inject_hyperparams` holds it. Without it the rate is
            said to be unknown, and lines that depend on it are left out.
        num_steps: of the run; horizons and the window of the averaged parameters follow from it.
        every: steps between two measurements of tier 1 (gain, sizes, clock, noise, gap), which take at most two training
            steps' worth of operations in that time.
        budget: share of the training's operations that tier 2 (curvature) may take; 0 for none of it.
        probe: batches on which the loss is compared at several parameters; by default the first that `update` sees.
        groups: how parameters are grouped: "layer", "block", "role", "leaf", "all", a function `(path, leaf) -> name`, or
            `("labels", tree)` as for `optax.partition`.
        has_aux: whether `loss_fn` returns `(scalar, auxiliary data)`.
        extra_args: `(params, batch) -> keywords` of `optimizer.update` beside value, grad and value_fn.
        gradient_fn: `(params, batch) -> tree` that the optimizer gets in place of the gradient.
        path: a file that gets each measurement as a line of JSON.

    Raises:
        LrjaxError: arguments that cannot be used. Later `update` raises nothing: what cannot be measured is a
            `MonitorWarning`, once, and a line of the report.

    Example:
        >>> import optax
        >>> loss = lambda w, x: jnp.mean((x @ w - 1) ** 2) / 2
        >>> optimizer, w = optax.sgd(0.1), jnp.zeros(2)
        >>> state, batch = optimizer.init(w), jnp.eye(2)
        >>> monitor = Monitor(loss, optimizer, learning_rate=0.1, num_steps=40, every=10, budget=0)
        >>> for step in range(40):
        ...     _ = monitor.update(step, w, state, batch)
        ...     updates, state = optimizer.update(jax.grad(loss)(w, batch), state, w)
        ...     w = optax.apply_updates(w, updates)
        >>> [round(row["gain_ratio"], 3) for row in monitor.rows() if "gain_ratio" in row]
        [0.975, 0.975]
    """

    def __init__(
        self,
        loss_fn: Callable[[Tree, Tree], Any],
        optimizer: Any,
        *,
        learning_rate: float | Callable[[Any], Any] | None = None,
        num_steps: int | None = None,
        every: int = 100,
        budget: float = 0.02,
        probe: Sequence[Tree] | None = None,
        groups: Any = "layer",
        has_aux: bool = False,
        extra_args: Callable | None = None,
        gradient_fn: Callable | None = None,
        path: Any = None,
    ):
        check_arguments(loss_fn, optimizer, learning_rate, num_steps, every, budget, probe, groups)
        self.loss_fn, self.optimizer, self.learning_rate = loss_fn, optimizer, learning_rate
        self.num_steps = None if num_steps is None else int(num_steps)
        self.every, self.budget = int(every), float(budget)
        self._groups, self._path = groups, path
        self._options = {"has_aux": has_aux, "extra_args": extra_args, "gradient_fn": gradient_fn}
        self._given = None if probe is None else list(probe)
        self._rows: list[dict[str, Any]] = []
        self._notices: list[str] = []
        self._kinds: set[str] = set()
        self._setup: measure.Setup | None = None
        self._next, self._last = 0, -1
        self._ledger = Ledger()
        self._mean: Tree = None
        self._averaged: int | None = None
        self._samples = 0
        self._off = False

    def update(self, step: int, params: Tree, opt_state: Tree, batch: Tree) -> dict[str, Any]:
        """Measures what is due, before the step is made.

        Args:
            step: number of the step that is about to be made.
            params: the parameters before it.
            opt_state: the optimizer's state before it.
            batch: the batch that it will use.

        Returns:
            The measurement as a flat dict of floats, as loggers of W&B, TensorBoard and clu take it; empty on most steps.
        """
        try:
            if self._last <= step < self._next or self._off:
                return {}
            if self._setup is not None and step > self._last and self._setup.averages_alone(step):
                return self._glance(int(step), params, self._setup)
            return self._visit(int(step), params, opt_state, batch)
        except MonitorWarning:  # the caller's filter makes errors of warnings
            raise
        except Exception as error:  # whatever it is, it must not end somebody's training
            self._next = (int(step) if isinstance(step, (int, np.integer)) else self._last) + self.every
            self._off = self._setup is None
            self._notice(sentence_of(error))
            return {}

    def _notice(self, text: str) -> None:
        """Warns once of each kind of fault: texts that differ in their numbers alone are one."""
        kind = _DIGITS.sub("#", text)
        new = kind not in self._kinds and len(self._kinds) < MOST_NOTICES
        self._kinds.add(kind)
        if new:
            self._notices.append(text)
            warnings.warn(text, MonitorWarning, stacklevel=4)

    def _glance(self, step: int, params: Tree, setup: measure.Setup) -> dict[str, Any]:
        """A visit that adds to the mean of the parameters and waits for nothing."""
        check_concrete(params)
        began, self._last = self._ledger.visit(), step
        self._average(step, params)
        self._next = setup.schedule.next_after(step, self._averaged)
        self._ledger.leave(began)
        return {}

    def _visit(self, step: int, params: Tree, opt_state: Tree, batch: Tree) -> dict[str, Any]:
        check_concrete(params, opt_state, batch)
        jax.block_until_ready(params)
        began = self._ledger.visit()
        if self._setup is None:
            self._prepare(step, params, opt_state, batch)
        setup = self._setup
        assert setup is not None
        if step < self._last:  # training went back to a checkpoint
            setup.schedule.start(step)
            self._mean, self._averaged = None, None
            self._rows = [row for row in self._rows if row["step"] < step]
        self._last = step
        if signature_of(batch) != setup.signature:
            self._notice(
                f"batches change their shapes: those of other shapes than the first, such as that of step {step}, are not "
                "measured; pad them to one shape, so that nothing is compiled again"
            )
            self._next = step + 1
            return {}
        setup.collect(batch)
        self._average(step, params)
        row = self._measured(step, params, opt_state, batch)
        self._next = step + 1 if setup.wants_batches else setup.schedule.next_after(step, self._averaged)
        self._ledger.leave(began)
        return row

    def _prepare(self, step: int, params: Tree, opt_state: Tree, batch: Tree) -> None:
        check_params(params)
        check_state(self.optimizer, opt_state, params)
        names = groups_of(params, self._groups)
        programs = Programs(self.loss_fn, self.optimizer, names, **self._options)
        check_loss(programs, params, batch)
        facts = programs.facts(params, opt_state, batch)
        costs = schedule.costs_of(programs, params, opt_state, batch, None)
        rows = schedule.schedule_of(
            costs, every=self.every, budget=self.budget, num_steps=self.num_steps,
            probes=None if self._given is None else len(self._given), batch_size=batch_size_of(batch),
        )  # fmt: skip
        planned = schedule.Schedule(rows, self.num_steps)
        planned.start(step)
        self._setup = measure.Setup(programs, facts, rows, planned, signature_of(batch), names, self._given)
        self._setup.notice = self._notice

    def _average(self, step: int, params: Tree) -> None:
        setup = self._setup
        assert setup is not None
        if not setup.schedule.averaging(step) or (
            self._averaged is not None and step < self._averaged + setup.schedule.stride
        ):
            return
        if self._mean is None:
            self._samples = 0
            wide = lambda p: jnp.promote_types(jnp.asarray(p).dtype, jnp.float32)  # noqa: E731
            self._mean = jax.tree.map(lambda p: np.zeros(jnp.shape(p), wide(p)), params)
        self._samples += 1
        began = time.perf_counter()
        self._mean = setup.programs("mean", self._mean, params, np.float32(self._samples))
        self._averaged = step
        self._ledger.charge("mean", began)

    def _measured(self, step: int, params: Tree, opt_state: Tree, batch: Tree) -> dict[str, Any]:
        setup = self._setup
        assert setup is not None
        row: dict[str, Any] = {}
        due = [name for name in setup.schedule.at(step) if not measure.too_early(setup, name, opt_state)]
        if not due:
            return {}
        mean = self._mean if "gap" in due else None
        for name in due:
            began = time.perf_counter()
            try:
                row |= measure.INSTRUMENTS[name](setup, params, opt_state, batch, mean)
            except Exception as error:  # one that fails must not keep the others from theirs
                self._notice(f"{name}: {sentence_of(error)}")
            self._ledger.charge(name, began)
        setup.schedule.made(due, step)
        setup.made = None  # nothing of a visit is held until the next
        if "decay" in row and not np.any(row.get("update_rms", 1.0)):  # as a warm-up begins at 0
            del row["decay"]
        if "gap" in due:
            self._mean, self._averaged = None, None
        setup.last_batch = measure.copied(batch)
        if not row:
            return {}
        following = setup.programs.following_rates(params, opt_state, batch)
        rate = rate_in_use(opt_state, step, self.learning_rate, following)
        flat: dict[str, Any] = {"step": step} | scalars(row, tuple(dict.fromkeys(setup.groups)))
        flat |= named_rates(rate, following or rates_in(opt_state)) | {"rate_source": rate.source}
        self._rows.append(flat)
        setup.follow(flat, step)
        recent = Case(self._rows[-3 * MEDIANS :], setup.facts, tuple(dict.fromkeys(setup.groups)), None, False, False)
        if "update_rms" in row and "gradient_curvature" not in row and jumps(recent):
            flat |= self._confirmed(params, opt_state, batch)
        self._write(flat)
        return {key: value for key, value in flat.items() if isinstance(value, float)}

    def _confirmed(self, params: Tree, opt_state: Tree, batch: Tree) -> dict[str, float]:
        """The curvature along the gradient at a jump of the update, which tells whether a spike announces itself."""
        setup = self._setup
        assert setup is not None
        if "curvature" not in setup.schedule.rows or measure.too_early(setup, "curvature", opt_state):
            return {}
        began = time.perf_counter()
        found = measure.INSTRUMENTS["curvature"](setup, params, opt_state, batch, None)
        self._ledger.charge("curvature", began)
        return found

    def _write(self, row: dict[str, Any]) -> None:
        if self._path is None:
            return
        try:
            history.append_line(self._path, row)
        except OSError as error:
            self._notice(
                f"measurements are not written to {self._path}: {error.strerror}; mend it or pass another path"
            )

    def rows(self) -> list[dict[str, Any]]:
        """All measurements, a flat dict each, with the step."""
        return [dict(row) for row in self._rows]

    def share(self) -> tuple[float, float]:
        """Measured shares of the training's wall time since the first step: of tier 1 and of tier 2, compilation left out."""
        tiers, training = self._ledger.seconds(self._setup.rows if self._setup is not None else {})
        return tiers[0] / training, tiers[1] / training

    def report(self) -> Report:
        """What is known by now: a table, advice with its evidence, a figure."""
        setup = self._setup
        return Report(
            rows=self.rows(),
            facts=setup.facts if setup is not None else Facts("unknown"),
            groups=tuple(dict.fromkeys(setup.groups)) if setup is not None else (),
            num_steps=self.num_steps,
            batch_size=setup.batch_size if setup is not None else None,
            full_batch=setup is not None and setup.full_batch,
            coupled=setup is not None and setup.coupled,
            costs=schedule.table(setup.rows, self._ledger) if setup is not None else [],
            shares=self.share(),
            notices=tuple(self._notices),
        )
