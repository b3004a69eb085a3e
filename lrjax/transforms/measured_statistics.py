"""Running statistics that are measured: those of the present weights, and the powers of the weights' scale they follow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lrjax.errors import check, refuse
from lrjax.transforms.leaves import Entry, canonical, is_array, named_leaves
from lrjax.transforms.statistics import STATISTICS, is_eps, known_power

if TYPE_CHECKING:
    from jaxtyping import Array, Float, PyTree

Apply = Callable[..., tuple[Any, Any]]
DIGITS = 6  # decays are given in decimals: a measured one is rounded to so many where its error allows


def recompute_statistics(
    apply: Apply,
    params: optax.Params,
    model_state: PyTree,
    batches: Iterable[Float[Array, "B ..."]],
    *,
    decay: float | None = None,
) -> PyTree:
    """Replaces running statistics by those of the present weights over some batches, for an evaluation.

    Means and variances are those of all examples together: the mean of the batch variances plus the variance of the
    batch means. Batches have the same size, such as the training batches of `lrjax.data`. The decay of each running average
    is measured on the first batch, by two calls of `apply` that differ in the statistics alone.

    Args:
        apply: `apply(params, model_state, x, *, train) -> (outputs, model_state)`, of a `Model` or of any network; jit it
            before.
        params, model_state: of the step; model_state in any form that `gauge_rescale` takes.
        batches: inputs `[B, ...]`, at least one.
        decay: of the running averages in `apply`, the factor of the old value (0.9 in lrjax, 0.99 in Flax); None takes the
            measured one of each average.

    Returns:
        model_state with the new statistics. Those that `apply` leaves as they are (a frozen normalisation) are kept.

    Raises:
        LrjaxError: no batch; a model without running statistics, or whose `apply` does not update them; a statistic that is
            no exponential average, or whose measured decay is not the given one.

    References:
        Ioffe & Szegedy (2015), Batch Normalization, Algorithm 2: population statistics from several batches.

    Example:
        >>> def apply(params, state, x, *, train):
        ...     mean, var = state["batch_stats"]["norm"]["mean"], state["batch_stats"]["norm"]["var"]
        ...     new = {"mean": 0.9 * mean + 0.1 * x.mean(0), "var": 0.9 * var + 0.1 * x.var(0)}
        ...     return x, {"batch_stats": {"norm": new}}
        >>> state = {"batch_stats": {"norm": {"mean": jnp.zeros(1), "var": jnp.ones(1)}}}
        >>> x = jnp.array([[1.0], [3.0], [5.0], [7.0]])
        >>> new = recompute_statistics(apply, {}, state, [x[:2], x[2:]])["batch_stats"]["norm"]
        >>> float(new["mean"][0].round(4)), float(new["var"][0].round(4)), float(x.var())
        (4.0, 5.0, 5.0)
    """
    if decay is not None:
        check(0 <= decay < 1, f"decay must be in [0, 1), the factor of the old value, not {decay}")
    probe = _Probe.of(apply, params, model_state)
    rest = iter(batches)
    first = next(rest, None)
    if first is None:
        refuse("recompute_statistics needs at least one batch")
    probe, after, decays = probe.with_decays(first, decay)
    rows = [probe.of_batch(after, decays), *(probe.of_batch(probe.after(x), decays) for x in rest)]
    new = {number: jnp.stack([row[number] for row in rows]).mean(0) for number in decays}
    for number in decays:
        if probe.powers[number] == 2:
            means = jnp.stack([row[probe.mean_of(number)] for row in rows])
            new[number] = new[number] + means.var(0)
    return probe.filled(new)


class _Probe(NamedTuple):
    """The network, and which leaves of its state are running statistics."""

    apply: Apply
    params: PyTree
    model_state: PyTree
    entries: Sequence[Entry]
    powers: Sequence[int]
    statistics: Sequence[int]  # numbers of leaves

    @classmethod
    def of(cls, apply: Apply, params: PyTree, model_state: PyTree) -> _Probe:
        entries = named_leaves(model_state)
        powers = [known_power(e.name, entries) or 0 if is_array(e.leaf) and not e.parameter else 0 for e in entries]
        numbers = [n for n, power in enumerate(powers) if power and not is_eps(entries[n].name)]
        check(
            bool(numbers),
            "this network keeps no running statistics: model_state holds no running mean and variance, as in 'batch_stats'",
        )
        debiased = [entries[n].name for n in numbers if "batch_state_index" in entries[n].name]
        check(
            not debiased,
            f"{(debiased or [''])[0]!r} is debiased by a counter, which a new value does not set: build eqx.nn.BatchNorm with "
            "mode='ema'",
        )
        return cls(apply, params, model_state, entries, powers, numbers)

    def filled(self, values: Mapping[int, Any]) -> PyTree:
        """model_state with some leaves replaced."""
        leaves = [
            jnp.asarray(values[number], canonical(entry.leaf, entry.name).dtype) if number in values else entry.leaf
            for number, entry in enumerate(self.entries)
        ]
        return jax.tree.unflatten(jax.tree.structure(self.model_state), leaves)

    def after(self, x: Any, start: float | Mapping[int, float] = 0.0) -> dict[int, jax.Array]:
        """The statistics after a batch, from constant ones."""
        begin = dict.fromkeys(self.statistics, start) if not isinstance(start, Mapping) else start
        state = self.filled({n: np.full(np.shape(self.entries[n].leaf), value) for n, value in begin.items()})
        _, new = self.apply(self.params, state, x, train=True)
        by_name = {entry.name: entry.leaf for entry in named_leaves(new)}
        missing = [self.entries[n].name for n in self.statistics if self.entries[n].name not in by_name]
        check(
            not missing,
            f"apply returns a state without {(missing or [''])[0]!r}: return the updated model_state, in the form it is given",
        )
        return {n: _wide(by_name[self.entries[n].name]) for n in self.statistics}

    def with_decays(self, x: Any, decay: float | None) -> tuple[_Probe, dict[int, jax.Array], dict[int, float]]:
        """The probe of the statistics that are updated, those after a batch from zero, and the decay of each."""
        from_zero = self.after(x)
        # Of the size of the statistics themselves, so that rounding does not hide the decay.
        start = {n: float(jnp.max(jnp.abs(value))) or 1.0 for n, value in from_zero.items()}
        raised = self.after(x, start)
        changes = {n: np.asarray(raised[n] - from_zero[n], np.float64) / start[n] for n in self.statistics}
        kept = [n for n in self.statistics if not np.any(from_zero[n]) and np.all(changes[n] == 1)]
        check(
            len(kept) < len(self.statistics),
            "apply leaves the running statistics as they are: return the updated ones when called with train=True (in Flax "
            "mutable=['batch_stats'], use_running_average=False)",
        )
        if kept:  # what is normalised with them must be so with their true values
            others = [n for n in self.statistics if n not in kept]
            return self._replace(statistics=others).with_decays(x, decay)
        return self, from_zero, {n: self._decay(n, changes[n], decay) for n in self.statistics}

    def _decay(self, number: int, change: np.ndarray, decay: float | None) -> float:
        entry = self.entries[number]
        rounding = 16 * float(jnp.finfo(canonical(entry.leaf).dtype).eps)
        measured = float(np.median(change))
        check(
            bool(np.all(np.abs(change - measured) <= rounding)) and -rounding <= measured < 1 + rounding,
            f"{entry.name!r} is no exponential average of batch statistics, in which the old value has a factor in [0, 1): "
            f"measured {measured:.4g}; does apply depend on the statistics when called with train=True, or debias them?",
        )
        if decay is not None:
            check(
                abs(decay - measured) <= rounding + 0.01 * (1 - measured),
                f"decay={decay:g} is not that of {entry.name!r}, whose old value apply takes times {measured:.4g}; leave decay "
                "out to use the measured one",
            )
            return float(decay)
        check(
            rounding <= 0.5 * (1 - measured),
            f"the decay of {entry.name!r} cannot be measured in {entry.leaf.dtype}: give decay, or keep statistics in float32",
        )
        rounded = round(measured, DIGITS)
        return rounded if abs(rounded - measured) <= rounding else measured

    def of_batch(self, after: Mapping[int, jax.Array], decays: Mapping[int, float]) -> dict[int, jax.Array]:
        """The statistics of a batch, which a running average from zero holds in part."""
        return {n: after[n] / (1 - decays[n]) for n in decays}

    def mean_of(self, variance: int) -> int:
        """The leaf of the mean beside a variance."""
        names = {self.entries[n].name: n for n in self.statistics if self.powers[n] == 1}
        name = self.entries[variance].name
        parent, _, last = name.rpartition("/")
        beside = [n for other, n in names.items() if other.rpartition("/")[0] == parent] if last in STATISTICS else []
        if len(beside) != 1:
            refuse(
                f"{name!r} has no running mean beside it that is updated too, which the variance of all examples needs"
            )
        return beside[0]


def _is_statistic(name: str) -> bool:
    return name.rpartition("/")[2] in STATISTICS


def _wide(leaf: Any) -> jax.Array:
    leaf = canonical(leaf)
    return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))


def statistic_powers(
    apply: Apply,
    params: optax.Params,
    model_state: PyTree,
    x: Float[Array, "B ..."],
    labels: PyTree[str] | Callable[[optax.Params], PyTree[str]] | None = None,
    group: str = "si",
) -> dict[str, int]:
    """Homogeneity degree of each running statistic in a group of parameters, measured.

    A mean before whose normalisation the activations have degree d scales by c^d, a variance by c^2d. Without affine
    d = 1; behind trained scales and biases d may be 2, and 0 where no parameter of the group stands before.

    Args:
        apply: `apply(params, model_state, x, *, train) -> (outputs, model_state)`.
        params, model_state: generic values, neither zero nor one; model_state in any form that `gauge_rescale` takes.
        x: a batch of inputs `[B, ...]`.
        labels, group: which parameters scale, as for `gauge_rescale`.

    Returns:
        `{path: power}` for the argument `statistics` of `gauge_rescale` and `correct_statistics`.

    Raises:
        LrjaxError: naming a statistic that is no power of c, or that a batch leaves at zero.

    References:
        Li & Arora (2020), An Exponential Learning Rate Schedule for Deep Learning, appendix C: degrees of homogeneity.

    Example:
        >>> def apply(params, state, x, *, train):
        ...     h = x @ params["w"]
        ...     return h, {"batch_stats": {"norm": {"mean": 0.1 * h.mean(0), "var": 0.1 * h.var(0)}}}
        >>> statistic_powers(apply, {"w": jnp.eye(2)}, {}, jnp.array([[1.0, 2.0], [3.0, 5.0]]))
        {'batch_stats/norm/mean': 1, 'batch_stats/norm/var': 2}
    """
    tree = jax.tree.map(lambda _: group, params) if labels is None else labels(params) if callable(labels) else labels
    scaled = jax.tree.map(lambda label, part: jax.tree.map(_four_times, part) if label == group else part, tree, params)
    # From zero, so that the batch alone is seen.
    leaves = [
        jnp.zeros_like(canonical(entry.leaf)) if is_array(entry.leaf) and _is_measured(entry) else entry.leaf
        for entry in named_leaves(model_state)
    ]
    # A state a call: an nnx module built from it may update it in place.
    starts = [jax.tree.unflatten(jax.tree.structure(model_state), leaves) for _ in range(2)]
    before, after = (
        named_leaves(apply(p, start, x, train=True)[1]) for p, start in zip((params, scaled), starts, strict=True)
    )
    powers = {}
    for entry, other in zip(before, after, strict=True):
        if is_array(entry.leaf) and _is_measured(entry):
            powers[entry.name] = _measured_power(
                entry.name, np.asarray(entry.leaf, np.float64), np.asarray(other.leaf, np.float64)
            )
    for entry in named_leaves(model_state):
        if is_eps(entry.name) and is_array(entry.leaf):
            variance = entry.name.replace("norm_eps/", "batch_stats/")[: -len("eps")] + "var"
            powers[entry.name] = powers.get(variance, 2)
    return powers


def _is_measured(entry: Entry) -> bool:
    in_collection = "batch_stats" in entry.name.split("/")
    return not entry.parameter and (in_collection or _is_statistic(entry.name))


def _four_times(leaf: Any) -> Any:
    return 4 * canonical(leaf) if is_array(leaf) else leaf


def _measured_power(name: str, a: np.ndarray, b: np.ndarray) -> int:
    check(
        bool(np.any(a) and np.any(b)),
        f"{name} stays zero after a batch, which tells no power: give generic params, and let apply return the updated state",
    )
    power = round(float(np.log2(np.linalg.norm(b) / np.linalg.norm(a)) / 2))
    check(
        bool(np.linalg.norm(b - 4.0**power * a) <= 1e-3 * np.linalg.norm(b)),
        f"{name} is no power of the scale of the group: what reaches it adds terms of different degree",
    )
    return power
