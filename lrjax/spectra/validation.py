"""Input validation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.errors import LrjaxError, check, path_of, refuse
from lrjax.spectra.batches import Batches
from lrjax.spectra.examples import extremes, in_float64, plain, rows_of, stacked
from lrjax.spectra.frameworks import Tree
from lrjax.spectra.programs import Functions, Remembered, compiled
from lrjax.spectra.rules import Rule
from lrjax.spectra.selection import Selection, in_float32, select
from lrjax.spectra.where import Where

AGREEMENT = 1e-3  # relative; far above rounding, far below what a batch's own statistics change
HALF_AGREEMENT = 3e-2  # the same for losses that compute in half precision
FEW = 32  # of single examples, a check takes this part twice, beside the batch once
SMALL = 32  # examples
PASSED = Remembered()  # losses an example that have been called as they are, by what they were called with
PART = 6  # a check takes this part of a batch twice, and one of the batch before: less than a forward pass together


def finite(params: Tree, name: str) -> None:
    """Refuses NaN and infinity.

    Raises:
        LrjaxError: names the first bad leaf.
    """
    for path, leaf in jax.tree.leaves_with_path(params):
        good = bool(jnp.all(jnp.isfinite(leaf)))
        check(good, f"parameters {path_of(path)} hold NaN or infinity: the {name} does not exist there")


def prepare(params: Tree, where: Where, name: str) -> tuple[Selection, Tree, Tree]:
    """Selection, the selected parameters (half precision as float32) and the others.

    Raises:
        LrjaxError: nothing is selected, or a selected leaf holds NaN or infinity; `name` is the quantity in the message.
    """
    selection = select(params, where)
    selected, rest = selection.split(params)
    selected = in_float32(selected)
    finite(selected, name)
    return selection, selected, rest


@compiled(static=2)
def _value(functions: Any, rule: Rule, selection: Selection, selected: Tree, rest: Tree, batch: Tree) -> Any:
    return rule.value(functions, selection.merge(selected, rest), batch)


@compiled(static=2)
def _values(functions: Any, rule: Rule, selection: Selection, selected: Tree, rest: Tree, batches: Any) -> Any:
    params = selection.merge(selected, rest)
    return [rule.value(functions, params, batch) for batch in batches]


def value_shape(rule: Rule, functions: Functions, chosen: tuple[Selection, Tree, Tree], batch: Tree) -> Any:
    """Shape and dtype of what is differentiated; traced once for equal functions, never compiled."""
    return _value.of(functions, rule, chosen[0]).eval_shape(*chosen[1:], batch)


class Inspection:
    """Checks of a loss on a few examples of each batch, in the pass that counts them: pass it as `look` to `Batches`.

    Right shape, the same at two calls, finite; one that is a mean over examples has the mean of its parts, and one of
    single examples does not depend on the others. A loss that raises on a part of a batch is not at fault: `unchecked` says
    what could not be checked.

    The loss is called as it is, outside any compiled program, which takes a dispatch an operation. Losses of single examples
    that have passed are checked again by a compiled program, for as long as function, shapes and selection are the same.

    Args:
        rule: of the matrix.
        functions: the caller's.
        chosen: selection, selected parameters and the others.
        additive: whether a batch's loss is the mean over its examples.

    Raises:
        LrjaxError: when called, names the fault.
    """

    def __init__(self, rule: Rule, functions: Functions, chosen: tuple[Selection, Tree, Tree], additive: bool = True):
        self.rule, self.functions, self.chosen, self.additive = rule, functions, chosen, additive
        self.unchecked: list[str] = []
        self.before: tuple[Tree, Any] | None = None  # examples of the batch before, and their value

    def __call__(self, number: int, batch: Tree, batches: Batches) -> None:
        """Checks a batch."""
        if number == 0:
            # The loss itself is called below, whatever it hides from a trace.
            self.rule.check_value(value_shape(self.rule, self.functions, self.chosen, batch), batches.sizes[0])
        parts = self._parts(number, batch, batches)
        passed, key = PASSED.of(self.functions), self._key(batch, batches)
        if parts is not None and key in passed:
            *values, whole = map(_host, _values(self.functions, self.rule, *self.chosen, (*parts, batch)))
            return self._compare_rows(number, batch, values, whole)
        self._check(number, batch, parts, batches)
        if parts is not None and not self.rule.scalar and not self.unchecked:
            passed[key] = True

    def _key(self, batch: Tree, batches: Batches) -> Any:
        leaves, treedef = jax.tree.flatten((self.chosen[1:], batch))
        shapes = tuple((np.shape(leaf), str(getattr(leaf, "dtype", type(leaf)))) for leaf in leaves)
        return self.rule, self.chosen[0], treedef, shapes, batches.axes(batch)

    def _check(self, number: int, batch: Tree, parts: tuple[Tree, Tree] | None, batches: Batches) -> None:
        """Calls the loss as it is."""
        first = self._same_twice(batch, parts) if number == 0 else None
        if parts is None or not self.additive:
            return
        try:
            values = (self.value(parts[0]) if first is None else first, self.value(parts[1]))
            if self.rule.scalar:
                self._compare_means(number, (parts, values), batches)
            else:
                self._compare_rows(number, batch, values, self.value(batch))
        except LrjaxError:
            raise
        except Exception as error:
            self._skip("that the loss of a batch is the mean over its examples", error)

    def _skip(self, what: str, error: Exception | str) -> None:
        reason = error if isinstance(error, str) else f"on a part of a batch it raised {type(error).__name__}"
        sentence = f"not checked: {what} ({reason})"
        if sentence not in self.unchecked:
            self.unchecked.append(sentence)

    def _parts(self, number: int, batch: Tree, batches: Batches) -> tuple[Tree, Tree] | None:
        size = batches.sizes[number]
        if size == 0:
            self._skip("that the loss of a batch is the mean over its examples", "no axis holds them")
            return None
        try:
            axes = batches.axes(batch, number)
            # In a small batch each leaf has its two examples: a forward pass of it costs little.
            least = min(size // 2, sum(axis is not None for axis in axes))
            count = max(1, size // (PART if self.rule.scalar else FEW), least if size <= SMALL else 0)
            self.chosen_rows = extremes(batch, axes, count, size)
            return rows_of(batch, axes, self.chosen_rows[0]), rows_of(batch, axes, self.chosen_rows[1])
        except LrjaxError:
            raise
        except Exception as error:
            self._skip("the loss on parts of a batch", f"its examples cannot be picked: {type(error).__name__}")
            return None

    def value(self, batch: Tree) -> Any:
        """The loss as it is, called outside any compiled program."""
        selection, selected, rest = self.chosen
        return jax.tree.map(_host, self.rule.value(self.functions, selection.merge(selected, rest), batch))

    def _same_twice(self, batch: Tree, parts: tuple[Tree, Tree] | None) -> Any:
        """Calls the loss twice on the first part, or on the batch where that raises; the value on the part."""
        few = batch if parts is None else parts[0]
        try:
            first = self.value(few)
        except Exception as error:
            if parts is None:
                raise
            self._skip("the loss on parts of a batch", error)
            few = batch
            first = self.value(batch)
        again = self.value(few)
        pairs = zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True)
        check(
            all(np.array_equal(a, b, equal_nan=True) for a, b in pairs),
            "two calls of the loss with the same arguments differ: turn dropout and other randomness off, or fix its key "
            "inside the loss, since a matrix needs one function",
        )
        if few is batch or not self.additive:
            _check_finite(first, 0)
        return None if few is batch else first

    def _compare_rows(self, number: int, batch: Tree, values: Any, value: Any) -> None:
        whole = np.asarray(value, np.float64)
        _check_finite(whole, number)
        if any(np.shape(value)[:1] != index.shape for index, value in zip(self.chosen_rows, values, strict=True)):
            self._skip("that an example does not depend on the others of its batch", "the batch has a fixed length")
            return
        for index, value in zip(self.chosen_rows, values, strict=True):
            alone, together = np.asarray(value, np.float64), whole[index]
            if not _near(together, alone, AGREEMENT) and not _near(together, alone, self._tolerance(batch)):
                refuse(self.rule.coupled)

    def _compare_means(self, number: int, parts: tuple[tuple, tuple], batches: Batches) -> None:
        pieces, values = list(parts[0]), list(parts[1])
        axes = batches.axes(pieces[0], number)
        last = pieces[1], values[1]
        if self.before is not None and _same_rest(self.before[0], pieces[0], axes):
            pieces.append(self.before[0])
            values.append(self.before[1])
        self.before = last
        whole = stacked(pieces, axes)
        value = self.value(whole)
        _check_finite(value, number)
        weights = [float(np.sum(batches.measure(piece, number).weight)) for piece in (*pieces, whole)]
        self._check_mean(pieces, whole, weights, (values, value))

    def _check_mean(self, pieces: list[Tree], whole: Tree, weights: list[float], values: tuple[list, Any]) -> None:
        if self._is_mean(weights, values, AGREEMENT):
            return
        # Cancellation inside a sum is no fault of the loss, nor is half precision.
        try:
            with jax.enable_x64(True):
                wide = [self._wide_value(piece) for piece in (*pieces, whole)]
            if self._is_mean(weights, (wide[:-1], wide[-1]), self._tolerance(whole)):
                return
        except Exception:
            if self._is_mean(weights, values, self._tolerance(whole)):
                return
        alone, together = (np.asarray(v, np.float64) for v in values)
        if np.all(np.isfinite(alone)) and np.isclose(np.sum(alone), together, rtol=AGREEMENT, atol=0.0):
            refuse(
                "the loss is the sum over the examples of a batch, not their mean: use jnp.mean, or pass "
                "weight=lambda batch: 1 and num_examples=N to have the sum over all batches divided by N"
            )
        refuse(
            "the loss of a batch is not the mean of its parts' losses by what they weigh: for a mask or counted tokens pass "
            "weight=lambda batch: batch['mask'].sum(), for leaves without examples in_axes=, and for examples that share "
            "statistics (BatchNorm) or a dropout key additive=False, which averages over whole batches"
        )

    @staticmethod
    def _is_mean(weights: list[float], values: tuple[list, Any], tolerance: float) -> bool:
        terms = [w * float(v) for w, v in zip(weights, values[0], strict=False) if w > 0]
        whole = weights[-1] * float(values[1])
        return abs(sum(terms) - whole) <= tolerance * max(sum(map(abs, terms)), abs(whole))

    def _wide_value(self, batch: Tree) -> float:
        selection, selected, rest = self.chosen
        wide = [jax.tree.map(in_float64, tree) for tree in (selected, rest, batch)]
        return float(self.rule.value(self.functions, selection.merge(*wide[:2]), wide[2]))

    def _tolerance(self, batch: Tree) -> float:
        selection, selected, rest = self.chosen
        program: Callable = lambda *a: self.rule.value(self.functions, selection.merge(*a[:2]), a[2])  # noqa: E731
        text = str(jax.make_jaxpr(program)(selected, rest, batch))
        return HALF_AGREEMENT if "bf16[" in text or "f16[" in text else AGREEMENT


def _host(value: Any) -> np.ndarray:
    return np.asarray(jnp.asarray(value, jnp.promote_types(jnp.result_type(value), jnp.float32)))


def _check_finite(value: Any, number: int) -> None:
    finite = all(bool(np.all(np.isfinite(leaf))) for leaf in jax.tree.leaves(value))
    check(finite, f"the loss is NaN or infinite on batch {number}: look at its data and at the parameters")


def _near(found: np.ndarray, right: np.ndarray, tolerance: float) -> bool:
    return found.shape == right.shape and np.allclose(
        found, right, rtol=tolerance, atol=tolerance * np.max(np.abs(right))
    )


def _same_rest(one: Tree, other: Tree, axes: Any) -> bool:
    """Whether two batches agree in the leaves that hold no examples."""
    a, b = jax.tree.leaves(one), jax.tree.leaves(other)
    return len(a) == len(b) and all(
        np.array_equal(plain(x), plain(y)) for x, y, axis in zip(a, b, axes, strict=True) if axis is None
    )
