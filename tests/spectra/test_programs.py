"""Operators are values: what is compiled serves every equal one, and is forgotten with the functions it was made from."""

import functools
import gc
import weakref
from typing import NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
import pytest

from lrjax import spectra
from lrjax.spectra import (
    Distribution,
    batch_gradients,
    batch_sharpness,
    bind,
    covariance_trace,
    curvature_along,
    empirical_fisher,
    fisher,
    ggn,
    gradient_covariance,
    gradient_norms,
    hessian,
    lanczos,
    preconditioned,
)
from lrjax.spectra.programs import Functions, compiled
from tests.spectra import problems

KEY, TIMES = jax.random.key(0), 50
PARAMS, X = jnp.array([0.5, -1.0, 2.0]), jnp.arange(12.0).reshape(4, 3) / 10
BATCHES = [X, X + 1]


@pytest.fixture(scope="module", autouse=True)
def _quickly_compiled():
    with problems.quick_compilation():
        yield


def counted(traces):
    """A loss an example that counts its traces."""
    scale = jnp.array([1.0, 2.0, 3.0])

    def example_loss(w, x):
        if isinstance(w, jax.core.Tracer):
            traces.append(1)
        return jnp.tanh(x @ (scale * w))

    return example_loss


def mean_of(example_loss):
    return lambda w, x: jnp.mean(example_loss(w, x))


def squared(outputs, x):
    return jnp.mean(outputs**2)


# what is made anew each time from one function -> whether that function is the mean loss
OPERATORS = {
    "hessian": (hessian, True),
    "preconditioned": (lambda f: preconditioned(hessian(f), jnp.ones(3)), True),
    "ggn": (lambda f: ggn(f, squared), False),
    "fisher": (lambda f: fisher(f, distribution="gaussian"), False),
    "Monte Carlo": (lambda f: fisher(f, KEY, distribution="gaussian", num_samples=2), False),
    "empirical_fisher": (empirical_fisher, False),
    "gradient_covariance": (gradient_covariance, False),
}
MAKERS = pytest.mark.parametrize(("make", "of_mean"), OPERATORS.values(), ids=OPERATORS)


def function_for(of_mean, traces):
    example_loss = counted(traces)
    return mean_of(example_loss) if of_mean else example_loss


def test_fifty_fresh_hessians_of_one_loss_are_traced_once():
    traces = []
    loss = mean_of(counted(traces))
    for turn in range(TIMES):
        bind(hessian(loss), PARAMS + turn, BATCHES, checks=False).matvec(PARAMS)
    assert len(traces) == 1


@MAKERS
@pytest.mark.parametrize("options", [{}, {"keep_bytes": 10**6}, {"chunk": 1}], ids=["plain", "kept", "chunks"])
def test_a_fresh_operator_of_the_same_functions_traces_nothing(options, make, of_mean):
    traces = []
    function = function_for(of_mean, traces)

    def use():
        bound = make(function).bind(PARAMS, BATCHES, **options)
        return bound.matmat(jnp.eye(3)), bound.matvec(PARAMS)

    first, before = use(), len(traces)
    assert before > 0
    for _ in range(3):
        assert all(map(np.array_equal, use(), first))
    assert len(traces) == before


@MAKERS
def test_operators_of_the_same_functions_are_equal_and_hash_alike(make, of_mean):
    function = function_for(of_mean, [])
    assert make(function) == make(function)
    assert hash(make(function)) == hash(make(function))
    assert make(function) != make(function_for(of_mean, []))


def test_a_key_and_a_diagonal_are_data_of_one_program():
    traces = []
    f = counted(traces)
    for turn in range(3):
        bind(fisher(f, jax.random.key(turn), distribution="gaussian"), PARAMS, BATCHES, checks=False).matvec(PARAMS)
        bind(preconditioned(empirical_fisher(f), PARAMS**2 + turn), PARAMS, BATCHES, checks=False).matvec(PARAMS)
    assert len(traces) == 2


class Model:
    """Whose loss is a method."""

    def __init__(self, traces):
        self.example_loss = counted(traces)

    def loss(self, w, x):
        return jnp.mean(self.example_loss(w, x))


class Fixed(NamedTuple):
    """Nothing can refer to it weakly."""

    example_loss: object

    def loss(self, w, x):
        return jnp.mean(self.example_loss(w, x))


def test_a_method_of_the_same_object_is_the_same_function_and_is_collected_with_it():
    traces = []
    model = Model(traces)
    assert hessian(model.loss) == hessian(model.loss) != hessian(Model(traces).loss)
    for _ in range(3):
        bind(hessian(model.loss), PARAMS, BATCHES, checks=False).matvec(PARAMS)
    assert len(traces) == 1
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None


def test_an_operator_holds_the_programs_of_a_method_that_cannot_be_held_weakly():
    traces = []
    model = Fixed(counted(traces))
    operator, alive = hessian(model.loss), weakref.ref(model.example_loss)
    for _ in range(3):
        bind(operator, PARAMS, BATCHES, checks=False).matvec(PARAMS)
    assert len(traces) == 1
    del operator, model
    gc.collect()
    assert alive() is None


def test_a_lambda_and_a_partial_made_anew_are_new_functions_as_documented():
    f = mean_of(counted([]))
    for again in (lambda: lambda w, x: f(w, x), lambda: functools.partial(f), lambda: jax.jit(f)):
        assert hessian(again()) != hessian(again())
        same = again()
        assert hessian(same) == hessian(same)
    for word in ("lambda", "partial", "new function"):
        assert word in spectra.operators.__doc__


def alive_after(use, make, times):
    """How many of `times` functions are left once each has been used and dropped."""
    left = []
    for _ in range(times):
        function = make()
        left.append(weakref.ref(function))
        use(function)
        del function
    gc.collect()
    return sum(function() is not None for function in left)


def test_ten_dead_losses_are_collected():
    def use(loss):
        bind(hessian(loss), PARAMS, BATCHES).matvec(PARAMS)

    assert alive_after(use, lambda: mean_of(counted([])), 10) == 0


@MAKERS
@pytest.mark.parametrize("options", [{}, {"keep_bytes": 10**6}, {"chunk": 1}], ids=["plain", "kept", "chunks"])
def test_a_dead_function_is_collected_whatever_was_made_of_it(options, make, of_mean):
    def use(function):
        bound = make(function).bind(PARAMS, BATCHES, **options)
        bound.matmat(jnp.eye(3))
        lanczos(bound, 1)

    assert alive_after(use, lambda: function_for(of_mean, []), 2) == 0


# what takes a function itself -> whether that is the mean loss
MEASURES = {
    "batch_gradients": (lambda f: batch_gradients(f, PARAMS, BATCHES), True),
    "batch_sharpness": (lambda f: batch_sharpness(f, PARAMS, BATCHES), True),
    "curvature_along": (lambda f: curvature_along(f, PARAMS, PARAMS, BATCHES), False),
    "gradient_norms": (lambda f: gradient_norms(f, PARAMS, BATCHES), False),
    "covariance_trace": (lambda f: covariance_trace(f, PARAMS, BATCHES), False),
}


@pytest.mark.parametrize(("measure", "of_mean"), MEASURES.values(), ids=MEASURES)
def test_a_measure_is_traced_once_by_function_and_forgotten_with_it(measure, of_mean):
    traces = []
    function = function_for(of_mean, traces)
    measure(function)
    before = len(traces)
    measure(function)
    assert len(traces) == before > 0
    assert alive_after(measure, lambda: function_for(of_mean, []), 2) == 0


def test_the_functions_of_a_distribution_are_collected_while_the_predictions_live():
    def predict(w, x):
        return x @ w

    def use(information):
        own = Distribution(
            lambda output, y: -jnp.sum((output - y) ** 2) / 2,
            lambda key, output: output + jax.random.normal(key, output.shape),
            lambda output: output,
            information,
        )
        for key in (None, KEY):
            fisher(predict, key, distribution=own).bind(PARAMS, BATCHES, keep_bytes=10**6).matvec(PARAMS)

    assert alive_after(use, lambda: lambda parameters, u: 2 * u, 2) == 0


def test_what_is_compiled_is_dropped_with_the_first_of_its_functions():
    @compiled(static=1)
    def scaled(functions, factor, x):
        return factor * functions[0](functions[1](x))

    first, second = (lambda x: x + 1), (lambda x: 2 * x)
    assert scaled(Functions(first, second), 3, 1.0) == 9.0
    assert scaled.of(Functions(first, second), 3) is scaled.of(Functions(first, second), 3)
    assert scaled.of(Functions(first, second), 4) is not scaled.of(Functions(first, second), 3)
    assert len(scaled.made) == 2
    del second
    gc.collect()
    assert len(scaled.made) == 0


def test_a_bound_operator_keeps_the_functions_that_its_products_need():
    bound = bind(hessian(mean_of(counted([]))), PARAMS, BATCHES, checks=False)
    gc.collect()
    assert bound.matmat(jnp.eye(3)).shape == (3, 3)  # traced only now
