"""Curvature operators as values, and their binding to parameters and batches."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from lrjax.devices import parallel
from lrjax.errors import check
from lrjax.spectra import validation
from lrjax.spectra.batches import Batches
from lrjax.spectra.bound import Bound
from lrjax.spectra.differentiation import DIFFERENTIATION
from lrjax.spectra.examples import plain
from lrjax.spectra.frameworks import Tree
from lrjax.spectra.products import Products, highest
from lrjax.spectra.programs import Functions
from lrjax.spectra.rules import LinearizeContext, Rule, mean_gradient, whole
from lrjax.spectra.selection import in_float32, like_selected, named_leaves, select
from lrjax.spectra.sources import BatchSource
from lrjax.spectra.where import Where

if TYPE_CHECKING:
    from jaxtyping import PRNGKeyArray


def bind(
    operator: Operator,
    params: Tree,
    batches: BatchSource,
    where: Where = None,
    *,
    weight: Callable[[Tree], Any] | None = None,
    num_examples: int | None = None,
    in_axes: Tree = 0,
    shuffles: bool = False,
    additive: bool = True,
    differentiation: str = "auto",
    mesh: Mesh | None = None,
    chunk: int | None = None,
    keep_bytes: int = 0,
    checks: bool = True,
) -> Bound:
    """An operator at fixed parameters, averaged over all examples of the batches.

    The matrix is sum_b w_b A_b / sum_b w_b, A_b that of batch b and w_b its weight. Binding compiles nothing but the
    checks; the first product compiles. Later products compile again only for another number of vectors, another shape of
    batch or another choice of parameters. Bindings share programs: binding again an operator made of the same function
    objects compiles nothing, at other parameters, on other data, with another key or diagonal. A function that is created
    anew (a lambda, a `functools.partial`, the result of `jax.jit`) is another object and compiles again. Programs are freed
    when one of their functions is garbage-collected.

    Args:
        operator: from `lrjax.spectra.operators`.
        params: a pytree of any library, an NNX or an Equinox module, or the variables of a Flax model. Half-precision
            leaves are measured in float32.
        batches: a list of batches (any pytrees), a loader that can be read again, or a function that returns a fresh iterator
            over them, so that they stream. The last may be short: every example weighs the same.
        where: which parameters: see `lrjax.spectra.selection.select`. The others are constants.
        weight: batch -> what it weighs in the mean, by default its number of examples: the sum of a mask, the number of valid
            tokens. For operators of single examples (the Fishers, K) an array [B], the weight of each example; g and K use
            the same.
        num_examples: what weights are divided by, in place of their sum. A loss that sums over its examples has
            weight=lambda batch: 1 and num_examples=N.
        in_axes: where examples lie, as in `jax.vmap`: an axis, None for leaves without (constants, keys), or a tree of
            them, the prefix of a batch; keys of a dict may be left out.
        shuffles: whether a stream may give other batches at each pass, as a loader that shuffles does.
        additive: whether the loss of a batch is the mean over its examples. False where it is not, such as with the batch
            statistics of BatchNorm or a dropout mask: the matrix is then the mean over batches, by their weights.
        differentiation: "forward_over_reverse"; "reverse_over_reverse", for losses without a forward mode
            (`jax.custom_vjp`), in 1.0 to 1.1 times the time on a CPU (docs/speed.md) and more memory; "auto" takes the
            first that works.
        mesh: spreads each batch over the devices of the mesh; with several processes each passes the same batches.
        chunk: vectors multiplied at once. None for as many as an algorithm asks for while the linearisations, about one
            batch's for each vector, stay under 4 GiB.
        keep_bytes: the linearisations of the batches are kept between products while they take no more than this.
        checks: validate the loss (deterministic? right shape? a mean?) and the parameters (finite?) first. It calls the loss on
            parts of each batch, outside any compiled program, in less than a forward pass.

    Returns:
        The bound operator; `unchecked` says what could not be checked. `matmat` on k vectors takes about k times the memory of
        the tangents of one batch.

    Raises:
        LrjaxError: no examples, or leaves that disagree about their number; a loss that is not a scalar, not deterministic,
            not finite, or not the mean over its examples; coupled per-example losses; NaN or complex parameters; nothing
            selected; a function without the derivatives that the matrix needs; in products, a stream that gives other batches.

    References:
        Yao et al. 2020, PyHessian: Neural networks through the lens of the Hessian: products summed over batches.

    Example:
        >>> from lrjax.spectra import hessian
        >>> op = hessian(lambda w, x: jnp.mean((x @ w) ** 2))
        >>> bound = bind(op, jnp.zeros(2), [jnp.eye(2), jnp.ones((1, 2))])  # 2 x^T x / 3
        >>> bound.matvec(jnp.array([3.0, 0.0])).tolist(), bound.num_examples
        ([4.0, 2.0], 3)
    """
    selection = select(params, where)
    selected, rest = selection.split(params)
    selected = in_float32(selected)
    look = None
    if checks:
        validation.finite(selected, operator.name)
        look = validation.Inspection(operator.rule, operator.functions, (selection, selected, rest), additive)
    data = Batches(
        batches,
        mesh,
        weight=weight,
        num_examples=num_examples,
        in_axes=in_axes,
        per_example=not operator.rule.scalar,
        shuffles=shuffles,
        look=look,
    )
    if mesh is not None:
        selected, rest = parallel.put_shared((selected, rest), mesh)
    definition = (operator.rule, operator.functions, operator.key)
    products = Products(definition, selection, (selected, rest), data, chunk, keep_bytes, differentiation)
    scale = _root(operator, selected)
    product = highest(products if scale is None else functools.partial(_scaled, products, scale))
    bound = Bound(
        product,
        selected,
        matvec=product,
        name=operator.name,
        num_examples=data.num_examples,
        psd=operator.psd,
        unchecked=tuple(look.unchecked) if look is not None else ("not checked: the loss (checks=False)",),
        differentiation=DIFFERENTIATION[1 + products.rule.reverse],
    )
    bound.of_squares = not operator.rule.scalar
    bound.known = frozenset(named_leaves(params))
    bound.wide, bound.holes = _wide(products, scale), products.holes
    return bound


def _root(operator: Operator, selected: Tree) -> jax.Array | None:
    """P^(-1/2) of the selected parameters."""
    if operator.diagonal is None:
        return None
    known = frozenset(named_leaves(operator.diagonal))
    remedy = "choose the parameters that it covers by where="
    leaves = like_selected(selected, operator.diagonal, "the diagonal", known, remedy)
    for path, leaf in zip(named_leaves(selected), leaves, strict=True):
        if not isinstance(leaf, jax.core.Tracer):
            bad = int(np.sum(~(np.isfinite(leaf) & (np.asarray(leaf) > 0))))
            check(
                bad == 0,
                f"the diagonal of a preconditioner must be positive and finite; {path or 'the array'} has {bad} entries of "
                f"{np.size(leaf)} that are zero, negative or not finite (an optimizer's eps keeps them from zero)",
            )
    dtype = jnp.result_type(*jax.tree.leaves(selected))
    return jax.lax.rsqrt(jnp.concatenate([jnp.asarray(leaf, dtype).reshape(-1) for leaf in leaves]))


def _scaled(products: Callable[[jax.Array], jax.Array], scale: jax.Array, vectors: jax.Array) -> jax.Array:
    factor = scale if vectors.ndim == 1 else scale[None]
    return products(vectors * factor) * factor


def _wide(products: Products, scale: jax.Array | None) -> Callable[[jax.Array], np.ndarray]:
    if scale is None:
        return products.in_float64
    root = np.asarray(scale, np.float64)[None]
    return lambda vectors: products.in_float64(jnp.atleast_2d(vectors) * scale[None]) * root


def _same_numbers(a: Tree, b: Tree) -> bool:
    """Whether two trees hold equal arrays; a traced array equals itself alone."""
    (first, treedef), (second, other) = jax.tree.flatten(a), jax.tree.flatten(b)
    return treedef == other and all(x is y or _equal(x, y) for x, y in zip(first, second, strict=True))


def _equal(x: Any, y: Any) -> bool:
    if isinstance(x, jax.core.Tracer) or isinstance(y, jax.core.Tracer) or jnp.result_type(x) != jnp.result_type(y):
        return False
    return np.array_equal(plain(x), plain(y))


@dataclasses.dataclass(frozen=True, eq=False)
class Operator:
    """A curvature matrix as a value; made by the functions of `lrjax.spectra.operators`. It holds no parameters and no data.

    Two operators are equal if they are of one kind, their functions are the same objects and their arrays have the same
    numbers. Equal operators share compiled programs, and so do those that differ in key or diagonal.

    Attributes:
        name: of the matrix, for results and messages.
        rule: `lrjax.spectra.rules.Rule`, how A v follows from the functions.
        functions: of the caller.
        key: for operators that draw labels.
        diagonal: P of P^(-1/2) A P^(-1/2), a tree like params; None for A itself.

    Raises:
        LrjaxError: in `bind`.

    References:
        Operators apart from algorithms: Golmant et al. 2018, pytorch-hessian-eigenthings.

    Example:
        >>> from lrjax.spectra import hessian
        >>> loss = lambda w, x: jnp.mean((x @ w) ** 2)
        >>> hessian(loss) == hessian(loss), hessian(loss) == hessian(lambda w, x: jnp.mean((x @ w) ** 2))
        (True, False)
    """

    name: str
    rule: Rule
    functions: Functions
    key: PRNGKeyArray | None = None
    diagonal: Tree = None

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Operator)
            and (self.name, self.rule, self.functions) == (other.name, other.rule, other.functions)
            and _same_numbers((self.key, self.diagonal), (other.key, other.diagonal))
        )

    def __hash__(self) -> int:
        return hash((self.name, self.rule, self.functions))

    @property
    def psd(self) -> bool:
        """Whether the matrix is positive semi-definite by construction."""
        return self.rule.psd

    def matvec(self, params: Tree, v: Tree, batch: Tree) -> Tree:
        """A v for the mean over one batch; a pure function that may be jitted, mapped and differentiated.

        It compiles nothing itself, and jitted it keeps the operator's functions for as long as the program.
        """
        mean = mean_gradient(self.functions, params, batch, whole) if self.rule.centred else None
        context = LinearizeContext(mean_gradient=mean, key=self.key, reverse=self.rule.reverse)
        root = jax.tree.map(jnp.sqrt, self.diagonal)
        scaled = v if root is None else jax.tree.map(jnp.divide, v, root)
        product = self.rule.linearize(self.functions, params, batch, context)(scaled)
        return product if root is None else jax.tree.map(jnp.divide, product, root)

    bind = bind  # one signature and one docstring for the function and the method
