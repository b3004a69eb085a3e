"""One measurement of each instrument: from programs to rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.errors import check
from lrjax.monitor import clock, schedule
from lrjax.monitor.cost import Row
from lrjax.monitor.critical import critical_multiple
from lrjax.monitor.history import rates
from lrjax.monitor.instruments import valley_gap
from lrjax.monitor.learning_rate import count_of as count_of
from lrjax.monitor.optimizer_facts import Facts
from lrjax.monitor.programs import Programs, batch_size_of
from lrjax.monitor.trees import like
from lrjax.monitor.virtual_step import value_of
from lrjax.spectra import hessian, lanczos, preconditioned, preconditioner
from lrjax.spectra.frameworks import Tree
from lrjax.spectra.second_moments import plain, walk

CHANGED = 1.25  # a change of the learning rate by this factor, after which the clock is read again
TOLERANCE = 0.05  # relative residual of the largest eigenvalue


def copied(batch: Tree) -> Tree:
    """A batch that stays when the training gives its own away, or fills its arrays anew."""
    return jax.tree.map(lambda x: jnp.copy(x) if isinstance(x, jax.Array) else np.copy(x), batch)


class Setup:
    """What a monitor knows after its first step.

    Attributes:
        programs, facts, rows, schedule, signature, groups: see their classes.
        probe: batches on which the loss is compared.
        full_batch: whether all batches are the same.
        coupled: whether weight decay is in the gradient.
    """

    def __init__(
        self,
        programs: Programs,
        facts: Facts,
        rows: dict[str, Row],
        planned: schedule.Schedule,
        signature: tuple,
        groups: tuple[str, ...],
        probe: list[Tree] | None,
    ):
        self.programs, self.facts, self.rows = programs, facts, rows
        self.schedule, self.signature, self.groups = planned, signature, groups
        self.probe = [] if probe is None else probe
        self.first: Tree = None
        self.compared = False
        self.wanted = schedule.probe_batches(rows) if probe is None else 0
        self.full_batch, self.coupled = False, False
        self.batch_size: int | None = None
        self.last_batch: Tree = None
        self.vector: Any = None
        self.made: tuple[Tree, Tree] | None = None  # gradient and update of the virtual step of this visit
        self.notice: Callable[[str], None] = lambda text: None
        self._turns: dict[str, int] = {}
        self._clock_rates: dict[str, float] | None = None
        # Compiled, since each binding of an operator looks at the loss first, one operation after the other.
        self.loss = jax.jit(lambda params, batch: value_of(programs.loss_fn, params, batch, programs.has_aux))

    @property
    def wants_batches(self) -> bool:
        """Whether the probe set is not complete, or no second batch has been compared with the first."""
        return not self.compared or (len(self.probe) < self.wanted and not self.full_batch)

    def virtual(self, params: Tree, opt_state: Tree, batch: Tree) -> tuple[Tree, Tree]:
        """Gradient and update of the virtual step, made once a visit."""
        made = self.made if self.made is not None else self.programs("virtual", params, opt_state, batch)
        self.made = made
        return made

    def follow(self, row: dict[str, Any], step: int) -> None:
        """The share that decay takes goes with the rate: it is read again where that has changed, or where it was 0."""
        now, then = rates(row), self._clock_rates
        if any(name.startswith("decay/") for name in row):
            self._clock_rates = now
        elif "clock" in self.schedule.due and (
            then is None
            or any(not 1 / CHANGED <= now.get(name, 0) / rate <= CHANGED for name, rate in then.items() if rate)
        ):
            self.schedule.again("clock", step)

    def in_turn(self, name: str) -> list[Tree]:
        """Batches of the probe set, others each time, so that a mean over measurements is one over many batches."""
        count, begin = min(self.rows[name].batches, len(self.probe)), self._turns.get(name, 0)
        self._turns[name] = begin + count
        return [self.probe[(begin + index) % len(self.probe)] for index in range(count)]

    def averages_alone(self, step: int) -> bool:
        """Whether nothing is due at a step but, perhaps, its parameters for the mean."""
        return not self.wants_batches and not self.schedule.at(step)

    def collect(self, batch: Tree) -> None:
        """Adds a batch to the probe set; where the second is the first again, training is on the full batch."""
        if not self.wants_batches:
            return
        if self.first is None:
            self.first, self.batch_size = copied(batch), batch_size_of(batch)
        elif not self.compared:
            self.full_batch, self.compared, self.first = _equal(self.first, batch), True, ()
        if len(self.probe) < self.wanted and not self.full_batch:
            self.probe.append(copied(batch))


def _equal(left: Tree, right: Tree) -> bool:
    return all(
        np.array_equal(_plain(a), _plain(b)) for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    )


def _plain(leaf: Any) -> np.ndarray:
    keys = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if keys else leaf)


def _batches(setup: Setup, name: str) -> list[Tree]:
    return setup.probe[: setup.rows[name].batches]


def _step(setup: Setup, params: Tree, opt_state: Tree, batch: Tree, mean: Tree) -> dict[str, Any]:
    numbers, gradient, update = setup.programs("step", params, opt_state, batch)
    setup.made = gradient, update
    return setup.programs.told(numbers)


def _clock(setup: Setup, params: Tree, opt_state: Tree, batch: Tree, mean: Tree) -> dict[str, Any]:
    decay = jax.device_get(setup.programs("decay", params, opt_state, batch))
    setup.coupled = bool(decay.coupled)
    if setup.coupled and setup.facts.kind not in ("sgd", "heavy_ball"):
        # Divided by second moments, or anything else, a decay in the gradient has no share of the weights.
        decay = decay._replace(rate=np.full_like(decay.rate, np.nan))
    sizes = [int(np.size(leaf)) for leaf in jax.tree.leaves(params)]
    shares = np.array(list(clock.by_group(decay, setup.groups, sizes).values()))
    return {"decay": shares / setup.facts.accumulation}  # a call of the optimizer, as steps are counted


def _noise(setup: Setup, params: Tree, opt_state: Tree, batch: Tree, mean: Tree) -> dict[str, Any]:
    if setup.last_batch is None or setup.full_batch:
        return {}
    programs = setup.programs
    # Without an optimizer there is no step that has it.
    gradient = (
        programs("gradient", params, batch)[1]
        if programs.optimizer is None
        else setup.virtual(params, opt_state, batch)[0]
    )
    noise, signal = jax.device_get(programs("noise", params, gradient, setup.last_batch))
    return {"noise": noise, "signal": signal}


def _gap(setup: Setup, params: Tree, opt_state: Tree, batch: Tree, mean: Tree) -> dict[str, Any]:
    batches = _batches(setup, "gap")
    if mean is None or not batches:
        return {}
    average = jax.tree.map(lambda m, p: m.astype(jnp.asarray(p).dtype), mean, params)
    losses = [[setup.programs("loss", theta, one) for one in batches] for theta in (params, average)]
    here, there = np.mean(np.asarray(jax.device_get(losses), np.float64), axis=1)
    found = {"probe_loss": here, "mean_loss": there}
    if here <= 0:
        setup.notice("the valley gap is a share of the loss, which must be positive; add a constant to loss_fn")
        return found
    return found | {"valley_gap": valley_gap(here, there)}


def _rho(setup: Setup, params: Tree, opt_state: Tree, batch: Tree, mean: Tree) -> dict[str, Any]:
    """Slope -g.u and curvature u.Hu along the step on the probe set: of the loss, not of the batch that made the step."""
    batches = setup.in_turn("rho")
    if not batches:
        return {}
    update = setup.virtual(params, opt_state, batch)[1]
    lines = [jax.device_get(setup.programs("line", params, update, one)) for one in batches]
    _, slope, curvature = np.mean(lines, axis=0)
    rho = curvature / -slope if slope < 0 else np.nan
    return {"full_rho": rho, "step_slope": slope, "step_curvature": curvature}


def _batch_sharpness(setup: Setup, params: Tree, opt_state: Tree, batch: Tree, mean: Tree) -> dict[str, Any]:
    chosen = setup.in_turn("batch_sharpness")
    if not chosen:
        return {}
    return {"batch_sharpness": np.mean([float(setup.programs("curvature", params, one, None)) for one in chosen])}


def diagonal_of(setup: Setup, params: Tree, opt_state: Tree) -> Tree | None:
    """P of Adam, in the structure of the parameters; None for SGD and for optimizers without a known one."""
    facts = setup.facts
    if facts.kind != "adam":
        return None
    check(facts.eps is not None, "the eps of Adam is unknown, as its updates were 0 at the first measurement")
    held = {name for node in walk(opt_state) for name in getattr(node.state, "hyperparams", {}) or {}}
    known = {"b2": facts.b2, "eps": facts.eps}
    settings = {name: float(value) for name, value in known.items() if name not in held and value is not None}
    labels = [node.labels for node in walk(opt_state) if type(node.state).__name__ == "ScaleByAdamState"]
    group = [one[-1] for one in labels] if len(labels) > 1 and all(labels) else None
    diagonal = preconditioner("adam", opt_state, group=group, **settings)
    return like(params, diagonal)


def too_early(setup: Setup, name: str, opt_state: Tree) -> bool:
    """Whether an instrument needs second moments of Adam before its first update (the first of `optax.MultiSteps`, too)."""
    if name not in PRECONDITIONED or setup.facts.kind != "adam":
        return False
    states = [node.state for node in walk(opt_state) if type(node.state).__name__ == "ScaleByAdamState"]
    return any(int(np.asarray(plain(state.count))) == 0 for state in states)


def _one(batch: Tree) -> float:
    return 1.0


def _sharpness(setup: Setup, params: Tree, opt_state: Tree, batch: Tree, mean: Tree) -> dict[str, Any]:
    batches = _batches(setup, "sharpness")
    if not batches:
        return {}
    diagonal = diagonal_of(setup, params, opt_state)
    operator = hessian(setup.loss)
    if diagonal is not None:
        operator = preconditioned(operator, diagonal)
    # All batches have one shape, so that each weighs the same, whatever it holds.
    bound = operator.bind(params, batches, weight=_one, additive=False)
    steps = min(schedule.PRODUCTS, bound.size)
    top = lanczos(bound, 1, start=setup.vector, max_steps=steps, tol=TOLERANCE, verify=False)
    assert top.vectors is not None
    setup.vector = top.vectors[0]
    value = float(top.values[0])
    return {"sharpness": value, "sharpness_residual": float(top.residuals[0]) / max(abs(value), 1e-30)}


def _critical(setup: Setup, params: Tree, opt_state: Tree, batch: Tree, mean: Tree) -> dict[str, Any]:
    update = setup.virtual(params, opt_state, batch)[1]
    return {
        "critical_multiple": critical_multiple(
            lambda c: float(setup.programs("loss_at", params, update, np.float32(c), batch))
        )
    }


def _curvature(setup: Setup, params: Tree, opt_state: Tree, batch: Tree, mean: Tree) -> dict[str, Any]:
    diagonal = diagonal_of(setup, params, opt_state)
    return {"gradient_curvature": float(setup.programs("curvature", params, batch, diagonal))}


INSTRUMENTS: dict[str, Callable[..., dict[str, Any]]] = {
    "step": _step,
    "clock": _clock,
    "noise": _noise,
    "gap": _gap,
    "rho": _rho,
    "batch_sharpness": _batch_sharpness,
    "sharpness": _sharpness,
    "critical": _critical,
    "curvature": _curvature,
}
"""Measurements of a monitor: name -> `(setup, params, opt_state, batch, mean of the parameters) -> row`."""

PRECONDITIONED = ("sharpness", "curvature")
"""Those that read the second moments of Adam."""

BY_BATCH = ("step", "noise", "critical", "curvature")
"""Those that `diagnose` makes on each batch."""

WITHOUT_STEP = ("noise", "batch_sharpness", "sharpness")
"""Those that need no optimizer."""
