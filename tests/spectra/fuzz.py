"""Measurements as people write them, each against a dense float64 oracle: right to tolerance, or refused in a sentence.

    python -m tests.spectra.fuzz --cases 500 [--seed N]
    python -m tests.spectra.fuzz --case '{"operator": "ggn"}'

The first draws cases, prints those that fail, and a summary; the second repeats one. A case fails if its number is wrong, if
anything but an LrjaxError is raised, or if it is refused though `must_work` says that it is written as it should be.
"""

import argparse
import collections
import sys
import traceback
import warnings
from typing import NamedTuple

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np

from lrjax import spectra
from lrjax.errors import LrjaxError
from tests.spectra import fuzz_data as data
from tests.spectra import oracle
from tests.spectra.fuzz_cases import PER_EXAMPLE, SCALAR_LOSS, Case, cases, must_work
from tests.spectra.fuzz_models import Task, head

TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1}  # relative to the norm of the matrix


class Outcome(NamedTuple):
    """right, refused or failed, with the message."""

    word: str
    message: str = ""


def exact_matrix(task):
    """[D, D] in float64."""
    case, model, examples = task.case, task.model, task.data
    w = examples.w / examples.w.sum()
    steps = examples.y.shape[1]
    token = examples.mask * 1.0 if case.weights == "tokens" else np.repeat(w[:, None], steps, axis=1)
    token = token / token.sum()
    factor = np.stack(
        [
            np.asarray(examples.factor(examples.constants[number], jnp.asarray(y)), np.float64)
            for number, y in zip(examples.batch_of, examples.y, strict=True)
        ]
    )

    def outputs(v):
        return model.exact(model.coordinates.fill(v), jnp.asarray(examples.x)) * task.output_scale

    def losses(v):
        return head(case.head, outputs(v), jnp.asarray(examples.y)) * factor * task.scale

    def penalty(v):
        numbers = model.exact_numbers(model.coordinates.fill(v))
        return 0.5 * task.scale * jnp.sum(numbers**2) if case.penalty and case.weights != "summed" else 0.0

    at = model.coordinates.start
    if case.operator in ("hessian", "preconditioned"):
        return oracle.hessian(lambda v: jnp.sum(token * losses(v)) + penalty(v), at)
    if case.operator in PER_EXAMPLE:
        gradients = oracle.jacobian(lambda v: jnp.mean(losses(v), axis=1) + penalty(v), at)
        return oracle.second_moment(gradients, w, centred=case.operator == "gradient_covariance")
    values, jacobians = oracle.in_float64(outputs)(at), oracle.jacobian(outputs, at)
    values, jacobians = values.reshape(-1, data.CLASSES), jacobians.reshape(-1, data.CLASSES, at.size)
    if case.operator == "fisher":  # of all tokens of an example together
        return steps * oracle.sandwich(jacobians, oracle.output_fisher(case.distribution, values), token.ravel())
    kind = {"cross_entropy": "categorical", "squares": "gaussian"}.get(case.head)
    blocks = oracle.output_fisher(kind, values) if kind else np.zeros((len(values), data.CLASSES, data.CLASSES))
    blocks = blocks * (2.0 if kind == "gaussian" else 1.0) * (factor * task.scale).reshape(-1)[:, None, None]
    return oracle.sandwich(jacobians, blocks, token.ravel())


def operator_of(task):
    case, aux = task.case, {"has_aux": True} if task.case.form == "aux" else {}
    if case.operator == "hessian":
        return spectra.hessian(task.formed(task.loss), **aux)
    if case.operator == "ggn":
        return spectra.ggn(task.formed(task.predict), task.loss_of_outputs, **aux)
    if case.operator == "fisher":
        return spectra.fisher(task.formed(task.predict), distribution=case.distribution, **aux)
    if case.operator == "preconditioned":
        diagonal = jax.tree.map(_precondition, task.model.params)
        return spectra.preconditioned(spectra.hessian(task.formed(task.loss), **aux), diagonal)
    return getattr(spectra, case.operator)(task.formed(task.example_losses), **aux)


def _precondition(leaf):
    """A positive number for each of a leaf; integers, booleans and keys have no moments, and stay."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf
    return jnp.asarray(0.5 + np.arange(np.size(leaf)).reshape(np.shape(leaf)) % 3, jnp.float32)


def settings_of(task):
    """What `bind` is told of the batches."""
    case, told = task.case, {}
    scalar, weights = case.operator in SCALAR_LOSS, lambda batch: data.unpack(case, batch)[2]
    if case.weights == "summed" and case.weights_said:
        told |= dict(weight=lambda batch: 1, num_examples=sum(case.sizes))
    elif case.weights != "equal" and case.weights_said:
        told |= dict(weight=(lambda batch: jnp.sum(jnp.asarray(weights(batch)))) if scalar else weights)
    axis = 1 if case.layout == "time_major" else 0
    if axis or (case.extra != "none" and case.extra_said):
        told |= dict(in_axes=data.pack(case, axis, axis, 0, None))
    if case.stream == "shuffles":
        told |= dict(shuffles=True)
    if case.differentiation != "auto":
        told |= dict(differentiation=case.differentiation)
    return told | (dict(keep_bytes=10**8) if case.keep else {})


def check_algorithm(case, bound, dense, norm, tolerance):
    """Compares one algorithm with the dense matrix."""
    key, near, size = jax.random.key(case.seed), tolerance * norm, bound.size
    values = oracle.eigenvalues(dense)
    rows = np.random.default_rng(case.seed).normal(size=(2, size)).astype(np.float32)
    if case.algorithm == "matvec":
        product = bound.matvec(bound.unravel(jnp.asarray(rows[0])))
        close(bound.ravel(product), rows[0] @ dense, near * np.linalg.norm(rows[0]))
    elif case.algorithm in ("lanczos", "extreme_values"):
        which = ("LA", "SA")[case.seed % 2]
        found = getattr(spectra, case.algorithm)(bound, min(2, size) if case.algorithm == "lanczos" else 1, which=which)
        close(found.values[0], values[-1] if which == "LA" else values[0], near)
        # A multiple eigenvalue is found once: the next may be any.
        close([np.abs(values - value).min() for value in found.values], np.zeros(len(found.values)), near)
    elif case.algorithm == "trace":
        close(spectra.trace(bound, key, num_probes=max(2, size)).value, values.sum(), tolerance * np.abs(values).sum())
    elif case.algorithm == "diagonal":
        close(spectra.diagonal(bound, key, num_probes=max(2, size)).value, np.diag(dense), near)
    elif case.algorithm == "frobenius":
        close(spectra.frobenius(bound, key, num_probes=max(2, size)).value, np.linalg.norm(dense), near)
    elif case.algorithm == "quadratic_form":
        quotients = np.einsum("kd,de,ke->k", rows, dense, rows) / np.sum(np.float64(rows) ** 2, axis=1)
        close(spectra.quadratic_form(bound, jnp.asarray(rows)), quotients, near)
    elif case.algorithm == "density":
        curve = spectra.density(bound, key, num_probes=4, num_steps=min(size, 8))
        assert curve.nodes.min() >= values[0] - near, f"a node {curve.nodes.min()} below {values[0]}"
        assert curve.nodes.max() <= values[-1] + near, f"a node {curve.nodes.max()} above {values[-1]}"
        moment = curve.moment(1)
        close(moment.value, values.mean(), near + 10 * moment.stderr)


def close(measured, right, near):
    measured, right = np.asarray(measured, np.float64), np.asarray(right, np.float64)
    assert measured.shape == right.shape, f"shape {measured.shape} instead of {right.shape}"
    off = np.abs(measured - right).max()
    assert off <= near, f"off by {off:.3g}, more than {near:.3g}: {measured} instead of {right}"


def measure(case):
    """Runs a case.

    Raises:
        AssertionError: a number is wrong.
    """
    task = Task(case)
    right = exact_matrix(task)
    if case.operator == "preconditioned":
        leaves = jax.tree.leaves(jax.tree.map(_precondition, task.model.params))
        chosen = [leaf.ravel() for leaf, mine in zip(leaves, task.model.coordinates.chosen, strict=True) if mine]
        root = np.sqrt(np.concatenate([np.asarray(part, np.float64) for part in chosen]))
        right = right / np.outer(root, root) if root.size == len(right) else None
    bound = operator_of(task).bind(task.model.params, task.data.source(), task.model.where, **settings_of(task))
    assert right is not None, "a complex leaf was preconditioned by a real one"
    assert bound.size == len(right), f"{bound.size} parameters instead of {len(right)}"
    norm, tolerance = np.linalg.norm(right, 2), TOLERANCE[case.inside]
    dense = np.asarray(bound.matmat(jnp.eye(bound.size, dtype=bound.dtype)), np.float64)
    near = max(tolerance * norm, 1e-6 * task.scale if norm == 0 else 0.0)
    close(oracle.eigenvalues(dense), oracle.eigenvalues(right), near)
    if task.model.ordered:
        close(dense, right, near)
    check_algorithm(case, bound, right if task.model.ordered else dense, near / tolerance, tolerance)


def attempt(case: Case) -> Outcome:
    """What became of a case."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            measure(case)
    except LrjaxError as error:
        text = str(error)
        sentence = "\n" not in text and len(text.split()) >= 6 and len(text) <= 700
        if not sentence:
            return Outcome("failed", f"refused, but not in a sentence: {text!r}")
        return (
            Outcome("failed", f"refused, though it must work: {text}") if must_work(case) else Outcome("refused", text)
        )
    except AssertionError as error:
        return Outcome("failed", str(error))
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)
        lines = [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}" for frame in where if "lrjax" in frame.filename]
        reason = str(error).strip().split("\n")[0][:300]
        return Outcome("failed", f"{type(error).__name__}: {reason} ({' '.join(lines[-4:])})")
    return Outcome("right")


def run(count: int, seed: int, report=lambda case, outcome: None) -> dict[Case, Outcome]:
    """Attempts `count` different cases, the same ones for a seed."""
    outcomes: dict[Case, Outcome] = {}

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=4 * count, database=None, deadline=None, phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @hypothesis.given(cases())
    def draw(case):
        if case not in outcomes and len(outcomes) < count:
            outcomes[case] = attempt(case)
            report(case, outcomes[case])

    draw()
    return outcomes


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", help="one case, as a failure prints it")
    chosen = parser.parse_args(arguments)

    def report(case, outcome):
        if outcome.word == "failed":
            print(f"--case '{case.to_json()}'\n    {outcome.message}", flush=True)

    if chosen.case:
        outcome = attempt(Case.from_json(chosen.case))
        print(*outcome)
        return int(outcome.word == "failed")
    outcomes = run(chosen.cases, chosen.seed, report)
    words = collections.Counter(outcome.word for outcome in outcomes.values())
    print(f"{len(outcomes)} cases: {words['right']} right, {words['refused']} refused, {words['failed']} failed")
    for text, times in collections.Counter(o.message for o in outcomes.values() if o.word == "refused").most_common():
        print(f"{times:4d} refused: {text}")
    return int(words["failed"] > 0)


if __name__ == "__main__":
    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.config.update("jax_disable_most_optimizations", True)  # programs run once or twice
    sys.exit(main())
