"""`diagnose`: the instruments of the monitor once, at one set of parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import optax  # noqa: F401 -- of the example

from lrjax.errors import LrjaxError, check
from lrjax.monitor import measure, schedule
from lrjax.monitor.cost import Row
from lrjax.monitor.groups import groups_of
from lrjax.monitor.learning_rate import named_rates, rate_in_use, rates_in
from lrjax.monitor.optimizer_facts import Facts
from lrjax.monitor.programs import Programs, batch_size_of, check_loss, check_params, scalars, signature_of
from lrjax.monitor.report import Report
from lrjax.monitor.virtual_step import check_state
from lrjax.spectra.frameworks import Tree

MOST = 16  # batches that are read


def diagnose(
    loss_fn: Callable[[Tree, Tree], Any],
    params: Tree,
    batches: Any,
    optimizer: Any = None,
    opt_state: Tree = None,
    *,
    learning_rate: float | Callable[[Any], Any] | None = None,
    num_steps: int | None = None,
    step: int | None = None,
    average: Tree = None,
    full_batch: bool = False,
    groups: Any = "layer",
    has_aux: bool = False,
    extra_args: Callable | None = None,
    gradient_fn: Callable | None = None,
) -> Report:
    """What the learning rate does at these parameters, for example those of a checkpoint.

    Each of up to 16 batches makes a virtual step; curvature is that of the loss on them.

    Args:
        loss_fn: `(params, batch) -> scalar`, deterministic.
        params: a pytree of floating-point arrays.
        batches: a list of equally shaped batches, or a function that returns an iterator over them.
        optimizer: of optax; without it what needs a step is left out.
        opt_state: its state; without it that of `optimizer.init`, and the report says so.
        learning_rate: a number or a schedule; not needed where the state holds it.
        num_steps: of the run that the parameters are from.
        step: at which they were; default the count in the state, or 0.
        average: a mean of the parameters over the last twentieth of the run, or an exponential one, for the valley gap.
        full_batch: whether the training is on the batches as one, so that the edges of full-batch training hold.
        groups, has_aux, extra_args, gradient_fn: as for `Monitor`.

    Returns:
        The `Report`.

    Raises:
        LrjaxError: input that cannot be used, in one sentence.

    Example:
        >>> import jax.numpy as jnp
        >>> loss = lambda w, x: jnp.mean((x @ w - 1) ** 2) / 2
        >>> batches = [jnp.array([[1.0, 0.0], [0.0, s]]) for s in (1.0, 2.0, 3.0)]
        >>> report = diagnose(loss, jnp.zeros(2), batches, optax.sgd(0.1), learning_rate=0.1)
        >>> report.table[-4]["instrument"], report.table[-4]["reading"]
        ('batch sharpness', '0.10 of the line')
    """
    check_params(params)
    data = _listed(batches)
    names = groups_of(params, groups)
    programs = Programs(loss_fn, optimizer, names, has_aux=has_aux, extra_args=extra_args, gradient_fn=gradient_fn)
    check_loss(programs, params, data[0])
    notices = []
    if optimizer is not None and opt_state is not None:
        check_state(optimizer, opt_state, params)
    if optimizer is not None and opt_state is None:
        opt_state = optimizer.init(params)
        notices.append("opt_state was not passed: steps are made from the state of a new run")
    facts = Facts("unknown") if optimizer is None else programs.facts(params, opt_state, data[0])
    count = measure.count_of(opt_state) if step is None and opt_state is not None else step
    at = int(count or 0)
    size = len(data)
    rows = {name: Row(0, 0.0, size, 1) for name in measure.INSTRUMENTS}
    setup = measure.Setup(programs, facts, rows, schedule.Schedule(rows, num_steps), signature_of(data[0]), names, data)
    setup.batch_size = batch_size_of(data[0])
    wanted = [name for name in measure.INSTRUMENTS if optimizer is not None or name in measure.WITHOUT_STEP]
    found = _measured(setup, wanted, params, opt_state, data, average, notices)
    rate = None
    if opt_state is not None:
        rate = rate_in_use(opt_state, at, learning_rate, programs.following_rates(params, opt_state, data[0]))
    flat = []
    for row in found:
        one: dict[str, Any] = {"step": at} | scalars(row, tuple(dict.fromkeys(names)))
        if rate is not None:
            one |= named_rates(rate, rates_in(opt_state))
        one["rate_source"] = rate.source if rate is not None else "unknown: no optimizer state"
        flat.append(one)
    return Report(
        rows=flat, facts=facts, groups=tuple(dict.fromkeys(names)), num_steps=num_steps, batch_size=setup.batch_size,
        full_batch=full_batch, coupled=setup.coupled, notices=tuple(notices), step_known=count is not None,
    )  # fmt: skip


def _listed(batches: Any) -> list[Tree]:
    iterator: Any = batches() if callable(batches) else batches
    check(
        isinstance(iterator, (list, tuple)) or hasattr(iterator, "__next__"),
        "batches must be a list of batches, or a function that returns an iterator over them",
    )
    data = [batch for _, batch in zip(range(MOST), iterator, strict=False)]
    check(bool(data), "there are no batches")
    shapes = {signature_of(batch) for batch in data}
    check(len(shapes) == 1, "batches have different shapes; pad them to one, or leave the short one out")
    return data


def _measured(
    setup: measure.Setup,
    names: list[str],
    params: Tree,
    opt_state: Tree,
    data: list[Tree],
    average: Tree,
    notices: list[str],
) -> list[dict[str, Any]]:
    """A row a batch of what is measured on single batches, the rest in the first."""
    rows: list[dict[str, Any]] = [{} for _ in data]
    mean = None
    if average is not None:
        check(
            jax.tree.structure(average) == jax.tree.structure(params),
            "average must be a tree like params: the mean of the parameters",
        )
        mean = average
    for index, batch in enumerate(data):
        setup.last_batch, setup.made = data[index - 1] if index % 2 else None, None  # pairs that share no batch
        for name in names if index == 0 else [name for name in names if name in measure.BY_BATCH]:
            try:
                rows[index] |= measure.INSTRUMENTS[name](setup, params, opt_state, batch, mean)
            except LrjaxError as error:
                text = f"{name}: {str(error).splitlines()[0]}"
                if text not in notices:
                    notices.append(text)
    return [row for row in rows if row]
