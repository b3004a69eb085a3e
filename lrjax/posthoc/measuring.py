"""One stored state measured: eigenpairs of each matrix, and on request density, trace and the spread between subsets."""

import functools
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrjax import data
from lrjax.devices import parallel
from lrjax.errors import check
from lrjax.experiment.config.canonical import Config, freeze, to_json
from lrjax.experiment.step.curvature_losses import MATRICES, examples, model_losses
from lrjax.experiment.step.engines import ENGINES
from lrjax.keys import key
from lrjax.posthoc.checkpoints import Point
from lrjax.probes.host_probe import View
from lrjax.probes.spectrum import NotFinite, leading_pairs, operator_at
from lrjax.spectra.bound import Bound
from lrjax.spectra.density import Density, density
from lrjax.spectra.eigenpairs import Eigen
from lrjax.spectra.operators import Operator
from lrjax.spectra.subset import batches_of, spread
from lrjax.spectra.trace import trace
from lrjax.spectra.training_edge import training_edge

Record = dict[str, Any]
PROBES = 10


class Extras(NamedTuple):
    """Measurements beside eigenpairs.

    Attributes:
        density: the spectral density.
        trace: the trace.
        spread: lambda_1 on so many other subsets of the same size; 0 for none.
        probes: random vectors of density and trace.
    """

    density: bool = False
    trace: bool = False
    spread: int = 0
    probes: int = PROBES


class Measured(NamedTuple):
    """A matrix at a point: a row of the table, its eigenvectors, and the density where asked for."""

    row: Record
    vectors: np.ndarray | None
    density: Density | None


class _Instruments(NamedTuple):
    """Functions made once for all lanes and steps of a static config, since compiled programs are kept by function.

    Attributes:
        static: with all that models need.
        weights: `(params, hparams, data) -> params of the model`.
        operator: of a matrix.
        looked: matrices whose loss was looked at; once is enough.
    """

    static: Config
    weights: Callable
    operator: Callable[[str], Operator]
    looked: set[str]


@functools.lru_cache(maxsize=16)
def _instruments(static_json: str) -> _Instruments:
    static = freeze(json.loads(static_json))
    functions = model_losses(static)
    operator = functools.cache(lambda name: MATRICES[name].make(functions, static.loss))
    engine = ENGINES[static.engine](static, static.data.num_classes)
    return _Instruments(static, jax.jit(engine.weights), operator, set())


def _instruments_of(static: Config) -> _Instruments:
    content = json.loads(to_json(static))
    content["data"]["num_classes"] = data.DATASETS[static.data.name].spec(static).num_classes
    content["spectra"] = {"batch_statistics": content["spectra"]["batch_statistics"]}
    return _instruments(to_json(content))


def measure(point: Point, before: Mapping[str, np.ndarray], extras: Extras) -> list[Measured]:
    """The matrices of `spectra.matrices` of a lane at a step, on the examples that the spectrum probe takes.

    Args:
        point: from `lrjax.posthoc.checkpoints.points`.
        before: matrix -> eigenvectors [k, D] to start from.
        extras: what is wanted beside eigenpairs.

    Returns:
        A result a matrix; the preconditioned Hessian has none before the first step, where Adam has no second moments.

    Raises:
        LrjaxError: k larger than the size, or a spread where the subset is the whole training set.
    """
    settings, made, hparams = point.lane.config.spectra, _instruments_of(point.static), point.lane.hparams()
    count = len(point.train["y"])
    index = examples(count, settings.examples, settings.seed)
    check(
        not extras.spread or index.size < count,
        f"a spread needs a subset, and it is all {count} examples; give --examples=N below that",
    )
    train = {name: point.train[name] for name in ("x", "y")}
    params = made.weights(point.state.params, hparams, point.data)
    at_once = settings.batch_size or parallel.examples_at_once(params, settings.batch_statistics)
    variables = jax.tree.map(jnp.asarray, {"params": params, "model_state": point.state.model_state})
    view = View(variables, [], count, point.state.opt_state, hparams, point.step, finite=True, first=False)
    found = []
    for name in settings.matrices:
        operator = operator_at(name, made.operator(name), made.static, view)
        if operator is None:
            continue

        def bound_on(chosen: np.ndarray, operator: Operator = operator, name: str = name) -> Bound:
            batches = jax.tree.map(jnp.asarray, batches_of(train, chosen, at_once))
            bound = operator.bind(variables, batches, "params", checks=name not in made.looked)
            made.looked.add(name)
            return bound

        own = _matrix(bound_on, index, count, before.get(name), settings, extras)
        found.append(own._replace(row=_labelled(point, name, own.row)))
    return found


def _labelled(point: Point, name: str, row: Record) -> Record:
    rates = point.lane.learning_rates()
    rate = float(rates[min(point.step, rates.size - 1)])
    edge = training_edge(point.lane.config.optimizer, rate, name)
    head = {"lane": point.lane.index, "step": point.step, "matrix": name, "learning_rate": rate}
    return head | {"edge": edge and float(edge.values), "edge_of": edge and edge.name} | row


def _matrix(
    bound_on: Callable[[np.ndarray], Bound], index: np.ndarray, count: int, start: Any, settings: Any, extras: Extras
) -> Measured:
    begun = time.monotonic()
    bound = bound_on(index)
    row: Record = {"examples": bound.num_examples, "parameters": bound.size}
    try:
        pairs = leading_pairs(bound, start, settings)
    except NotFinite as error:
        none = [None] * settings.k
        row |= {"values": none, "residuals": none, "converged": [False] * settings.k, "products": bound.products}
        return Measured(row | {"seconds": time.monotonic() - begun, "problem": str(error)}, None, None)
    assert pairs.vectors is not None
    vectors = np.asarray(pairs.vectors)
    row |= {name: getattr(pairs, name).tolist() for name in ("values", "residuals", "converged")}
    row |= {"products": pairs.products, "seconds": time.monotonic() - begun}
    more, found = _extras(bound, pairs, settings, extras)
    if extras.spread:
        more["spread"] = _spread(bound_on, vectors[0], (index.size, count), settings, extras.spread)
    return Measured(row | more, vectors, found)


def _extras(bound: Bound, pairs: Eigen, settings: Any, extras: Extras) -> tuple[Record, Density | None]:
    row, found, seed = {}, None, key(settings.seed, "probe")
    if extras.trace:
        method = "xnystrace" if bound.psd else "xtrace"
        estimate = trace(bound, jax.random.fold_in(seed, 1), num_probes=2 * extras.probes, method=method)
        row["trace"] = {name: getattr(estimate, name) for name in ("value", "stderr", "products", "method")}
    if extras.density:
        sure = np.flatnonzero(pairs.converged)
        assert pairs.vectors is not None
        known = pairs._replace(values=pairs.values[sure], vectors=pairs.vectors[sure])
        deflate = known if 0 < sure.size < bound.size else None
        probes, steps = extras.probes, settings.max_steps
        found = density(bound, jax.random.fold_in(seed, 2), num_probes=probes, num_steps=steps, deflate=deflate)
        row["density"] = {"products": found.products, "probes": probes, "steps": found.nodes.shape[1]}
    return row, found


def _spread(bound_on: Callable, top: np.ndarray, sizes: tuple[int, int], settings: Any, resamples: int) -> Record:
    size, count = sizes
    seed = jax.random.fold_in(key(settings.seed, "probe"), 3)
    found = spread(
        lambda index: float(leading_pairs(bound_on(index), top, settings, k=1).values[0]),
        count,
        size=size,
        resamples=resamples,
        key=seed,
    )
    return {"values": found.values.tolist(), "mean": found.mean, "std": found.std, "relative": found.relative}
