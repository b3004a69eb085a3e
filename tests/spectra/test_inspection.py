"""Every wrong input of a binding ends in one sentence that says what to do."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrjax.errors import LrjaxError
from lrjax.spectra import bind, empirical_fisher, ggn, gradient_covariance, hessian, matrix
from lrjax.spectra.sources import batch_list
from tests.spectra import problems
from tests.spectra.problems import mlp_batch, mlp_params, mlp_predict, softmax_losses, split


@pytest.fixture(scope="module", autouse=True)
def _quickly_compiled():
    with problems.quick_compilation():
        yield


def losses(params, batch):
    return softmax_losses(mlp_predict(params, batch), batch)


def mean_loss(params, batch):
    return jnp.mean(losses(params, batch))


def of_predictions(outputs, batch):
    return softmax_losses(outputs, batch)


def dropout_of(draw):
    """A loss whose hidden units are dropped by `draw`, which remembers."""

    def loss(params, batch):
        kept = draw(batch[0].shape)
        return mean_loss(params, (batch[0] * kept, batch[1]))

    return loss


def numpy_dropout():
    random = np.random.default_rng(0)
    return dropout_of(lambda shape: random.random(shape) < 0.5)


def counted_key():
    calls = itertools.count()
    return dropout_of(lambda shape: jax.random.bernoulli(jax.random.key(next(calls)), 0.5, shape))


def scaled_by_batch(params, batch):
    each = losses(params, batch)
    return each / each.shape[0]


def with_leaf(value, layer="dense2"):
    params = mlp_params()
    params[layer]["kernel"] = params[layer]["kernel"].at[1, 2].set(value)
    return params


def empty(batch):
    return jax.tree.map(lambda a: a[:0], batch)


BATCH = mlp_batch()
BATCHES = split(BATCH)
# what is wrong -> (loss of one batch, parameters, batches, the sentence)
BAD = {
    "loss an example": (hessian(losses), mlp_params(), [BATCH], r"loss must be a scalar.*\(27,\).*jnp\.mean"),
    "loss a tuple": (hessian(lambda p, b: (mean_loss(p, b), 0.0)), mlp_params(), [BATCH], "has_aux=True"),
    "ggn loss an example": (ggn(mlp_predict, of_predictions), mlp_params(), [BATCH], "loss must be a scalar"),
    "mean for examples": (
        gradient_covariance(mean_loss),
        mlp_params(),
        [BATCH],
        r"one loss an example, shape \(27,\), not \(\)",
    ),
    "outputs for examples": (empirical_fisher(mlp_predict), mlp_params(), [BATCH], r"shape \(27,\), not \(27, 3\)"),
    "scaled by the batch": (
        empirical_fisher(scaled_by_batch),
        mlp_params(),
        [BATCH],
        "depends on the others of its batch",
    ),
    "an empty batch": (hessian(mean_loss), mlp_params(), [BATCH, empty(BATCH)], "batch 1 has no examples"),
    "an empty batch of a stream": (
        hessian(mean_loss),
        mlp_params(),
        lambda: iter([empty(BATCH)]),
        "batch 0 has no examples",
    ),
    "a batch without arrays": (hessian(mean_loss), mlp_params(), [{}], "batch 0 has no array with an axis of examples"),
    "a scalar batch": (hessian(mean_loss), mlp_params(), [1.0], "batch 0 has no array with an axis of examples"),
    "no batches": (hessian(mean_loss), mlp_params(), [], "there are no batches"),
    "an empty stream": (hessian(mean_loss), mlp_params(), lambda: iter([]), "there are no batches"),
    "a bare batch": (hessian(mean_loss), mlp_params(), BATCH, r"list of batches.*written \[batch\]"),
    "a bare array": (hessian(mean_loss), mlp_params(), BATCH[0], r"list of batches.*written \[batch\]"),
    "a bare dict": (hessian(mean_loss), mlp_params(), {"x": BATCH[0]}, r"list of batches.*written \[batch\]"),
    "a generator": (hessian(mean_loss), mlp_params(), iter(BATCHES), "function that returns a fresh iterator"),
    "NaN": (hessian(mean_loss), with_leaf(np.nan), [BATCH], "parameters dense2/kernel hold NaN or infinity"),
    "infinity": (gradient_covariance(losses), with_leaf(np.inf, "dense1"), [BATCH], "parameters dense1/kernel hold"),
    "numpy dropout": (hessian(numpy_dropout()), mlp_params(), [BATCH], "two calls.*differ.*dropout"),
    "a key that is counted up": (hessian(counted_key()), mlp_params(), [BATCH], "two calls.*differ.*fix its key"),
}


def assert_one_sentence(error):
    text = str(error.value)
    assert "\n" not in text
    assert 20 < len(text) < 300


@pytest.mark.parametrize(("operator", "params", "batches", "sentence"), BAD.values(), ids=BAD)
def test_what_cannot_be_bound_is_refused(operator, params, batches, sentence):
    with pytest.raises(LrjaxError, match=sentence) as error:
        bind(operator, params, batches)
    assert_one_sentence(error)


@pytest.mark.parametrize(
    "where", ["dense3", ("head", "*/weight"), lambda path: False], ids=["path", "patterns", "function"]
)
def test_a_choice_of_no_parameters_is_refused_with_what_there_is(where):
    with pytest.raises(LrjaxError, match=r"selects no parameters; there is: dense1/bias, .*dense2/kernel") as error:
        hessian(mean_loss).bind(mlp_params(), [BATCH], where)
    assert_one_sentence(error)


def test_parameters_without_a_float_are_refused():
    with pytest.raises(LrjaxError, match="no floating-point array"):
        hessian(mean_loss).bind({"steps": jnp.arange(3)}, [BATCH])


def shrinking(*lengths):
    """A stream that gives so many batches at each call."""
    left = iter(lengths)
    return lambda: iter(BATCHES[: next(left)])


def used_up():
    shared = iter(BATCHES)
    return lambda: shared


STREAMS = {"one iterator": used_up, "fewer": lambda: shrinking(7, 6), "more": lambda: shrinking(6, 7)}


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
@pytest.mark.parametrize(
    "operator", [hessian(mean_loss), gradient_covariance(losses)], ids=lambda operator: operator.name
)
def test_a_stream_that_changes_is_refused(stream, operator):
    with pytest.raises(
        LrjaxError, match=r"the stream gave [67] batches before and (\d|more) now.*fresh iterator"
    ) as error:
        bind(operator, mlp_params(), stream()).matvec(jnp.ones(43))
    assert_one_sentence(error)


def test_vectors_of_the_wrong_size_are_refused():
    bound = matrix(np.eye(4))
    for call in (
        lambda: bound.matvec(jnp.ones(3)),
        lambda: bound.matvec({"a": jnp.ones(2), "b": jnp.ones(3)}),
        lambda: bound.ravel([jnp.ones(5)]),
        lambda: bound.matmat(jnp.ones((2, 3))),
        lambda: bound.matmat(jnp.ones(4)),
    ):
        with pytest.raises(LrjaxError, match=r"\b4\b.* not |a tree like the parameters") as error:
            call()
        assert str(error.value).count("\n") == 0
    assert bound.products == 0


@pytest.mark.parametrize(
    "dense",
    [np.ones((2, 3)), np.array([[1.0, 2.0], [0.0, 1.0]]), np.ones(3), np.array([[1.0, 2.0], [-2.0, 1.0]])],
    ids=["oblong", "triangular", "a vector", "antisymmetric"],
)
def test_a_matrix_that_is_not_symmetric_is_refused(dense):
    with pytest.raises(LrjaxError, match="must be square, not of shape|is not symmetric"):
        matrix(dense)


def test_the_checks_can_be_left_out():
    """For losses that are dear to evaluate: what is wrong then shows later, or not at all."""
    bound = bind(hessian(mean_loss), with_leaf(np.nan), [BATCH], checks=False)
    assert bound.size == 43


@pytest.mark.parametrize("batches", [[BATCH], (BATCH, BATCH), [BATCH[0]]], ids=["list", "tuple", "list of arrays"])
def test_lists_of_batches_are_taken(batches):
    taken = batch_list(batches)
    assert isinstance(taken, list)
    assert len(taken) == len(batches)
