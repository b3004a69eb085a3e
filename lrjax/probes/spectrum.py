"""The top eigenpairs of curvature matrices through training, each measurement warm-started from the one before."""

from collections.abc import Mapping
from inspect import signature
from typing import Any

import numpy as np
import optax
from jax.sharding import Mesh

from lrjax.devices import parallel
from lrjax.errors import LrjaxError
from lrjax.experiment.config.canonical import Config
from lrjax.experiment.loop.probe import Probe
from lrjax.experiment.step.curvature_losses import MATRICES, examples, model_losses
from lrjax.experiment.step.train_step import Engine
from lrjax.keys import key
from lrjax.probes.host_probe import View, host_probe
from lrjax.spectra import operators
from lrjax.spectra.adam import adam_preconditioner, adam_state
from lrjax.spectra.bound import Bound
from lrjax.spectra.eigenpairs import Eigen, check_request
from lrjax.spectra.lanczos import lanczos
from lrjax.spectra.operators import Operator


class NotFinite(LrjaxError):
    """A product of a matrix is not finite."""


def spectrum(static: Config, engine: Engine, mesh: Mesh) -> Probe:
    """The k largest eigenvalues of each of `spectra.matrices`, on the fixed subset of `spectra.examples`.

    Arrays: "<matrix>_values" and "<matrix>_residuals" [lanes, k], "<matrix>_products", the largest eigenvalue by its name in
    `MATRICES` ("lambda_h1", "lambda_k1") and, with hessian and gradient_covariance, "cos_hk" = |<e_H, e_K>|. NaN, with no
    products, where a lane has diverged, has ended, or (preconditioned_hessian) has made no step yet. The l2 penalty, label
    noise and augmentation are no part of the loss.
    """
    settings = static.spectra
    functions = model_losses(static)
    # Made once: the programs of products are kept by operator.
    made = {name: MATRICES[name].make(functions, static.loss) for name in settings.matrices}

    def pick(num_train: int, params: Any) -> tuple[np.ndarray, int]:
        at_once = settings.batch_size or parallel.examples_at_once(params, settings.batch_statistics)
        return examples(num_train, settings.examples, settings.seed), at_once

    def measure_one(view: View, memory: dict[str, np.ndarray]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        found, vectors = {}, {}
        for name, plain in made.items():
            operator = operator_at(name, plain, static, view)
            if operator is None:
                continue
            alone = not settings.batch_statistics  # whether an example's loss depends on no other of its batch
            bound = operator.bind(view.variables, view.batches, "params", checks=view.first, additive=alone)
            pairs = top(bound, memory[name], settings)
            if pairs is not None:
                vectors[name] = np.asarray(pairs.vectors)
                found |= arrays(name, pairs)
        return found | cos_hk(vectors), vectors

    vectors = {name: int(settings.k) for name in settings.matrices}
    return host_probe(static, engine, mesh, pick, measure_one, _nothing(settings), vectors)


def operator_at(name: str, operator: Operator, static: Config, view: View) -> Operator | None:
    """A matrix as it is at a state; None for the preconditioned Hessian before the first step: no second moments yet."""
    if name != "preconditioned_hessian":
        return operator
    return None if view.step == 0 else operators.preconditioned(operator, adam_diagonal(static, view))


def leading_pairs(bound: Bound, start: np.ndarray | None, settings: Any, k: int | None = None) -> Eigen:
    """The `spectra.k` (or k) largest eigenvalues with their vectors, by Lanczos.

    Args:
        bound: a bound operator.
        start: vectors [., D] to start from; None, or zeros, for a random one.
        settings: the config group `spectra`.
        k: how many, in place of `settings.k`.

    Raises:
        NotFinite: a product is not finite, as where a lane is about to diverge.
        LrjaxError: what is asked for does not fit the operator.
    """
    count = int(settings.k) if k is None else k
    check_request(bound, count, "LA", settings.max_steps)
    warm = start if start is not None and start.any() else None
    try:
        return lanczos(
            bound, count, tol=settings.tol, max_steps=settings.max_steps, start=warm, key=key(settings.seed, "probe")
        )
    except LrjaxError as error:  # what was asked for is checked above, so only a product can be refused
        raise NotFinite(str(error)) from error


def top(bound: Bound, start: np.ndarray, settings: Any) -> Eigen | None:
    """`leading_pairs`, None where a product is not finite."""
    try:
        return leading_pairs(bound, start, settings)
    except NotFinite:
        return None


def alignment(first: Any, second: Any) -> float:
    """|cos| of the angle between two unit vectors.

    Example:
        >>> alignment([0.6, 0.8], [-1.0, 0.0])
        0.6
    """
    return min(1.0, abs(float(np.dot(np.asarray(first, np.float64), np.asarray(second, np.float64)))))


def cos_hk(vectors: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Alignment of the top eigenvectors of Hessian and gradient covariance, as "cos_hk"; empty unless both were measured."""
    if not {"hessian", "gradient_covariance"} <= vectors.keys():
        return {}
    return {"cos_hk": alignment(vectors["hessian"][0], vectors["gradient_covariance"][0])}


def adam_diagonal(static: Config, view: View) -> dict[str, Any]:
    """The diagonal of Adam's preconditioner at a state, a tree like the variables."""
    moments = adam_state(view.opt_state)
    arguments = signature(getattr(optax, static.optimizer.name)).parameters

    def setting(name: str) -> Any:
        given = static.optimizer.get(name)
        return view.hparams.get(f"optimizer.{name}", arguments[name].default if given is None else given)

    nu, count = moments.nu, np.asarray(moments.count)
    diagonal = adam_preconditioner(nu, count, setting("b2"), setting("eps"), setting("eps_root"))
    return view.variables | {"params": diagonal}


def arrays(name: str, pairs: Eigen) -> dict[str, Any]:
    """The arrays of the top pairs of a matrix."""
    return {
        f"{name}_values": pairs.values,
        f"{name}_residuals": pairs.residuals,
        f"{name}_products": pairs.products,
        MATRICES[name].scalar: pairs.values[0],
    }


def _nothing(settings: Any) -> dict[str, Any]:
    none = np.full(settings.k, np.nan)
    found: dict[str, Any] = {}
    for name in settings.matrices:
        found |= {f"{name}_values": none, f"{name}_residuals": none, f"{name}_products": 0}
        found |= {MATRICES[name].scalar: np.nan}
    both = {"hessian", "gradient_covariance"} <= set(settings.matrices)
    return found | ({"cos_hk": np.nan} if both else {})
