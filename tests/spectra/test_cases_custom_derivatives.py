"""Losses with derivative rules of their own: right in every matrix, or refused by the name of the function."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrjax import spectra
from lrjax.errors import LrjaxError
from tests.spectra import oracle
from tests.spectra.verdicts import refused, sentence

RANDOM = np.random.default_rng(0)
X, W = np.float32(RANDOM.normal(size=(10, 3))), np.float32([0.3, -0.5, 0.8])
X64, W64 = np.float64(X), np.float64(W)
BATCHES = [X[:6], X[6:]]


def calling():
    """The forward rule calls the function itself."""
    f = jax.custom_vjp(jnp.sin)
    f.defvjp(lambda v: (f(v), jnp.cos(v)), lambda c, g: (c * g,))
    return f


def plain():
    f = jax.custom_vjp(jnp.sin)
    f.defvjp(lambda v: (jnp.sin(v), v), lambda v, g: (jnp.cos(v) * g,))
    return f


def with_argument():
    f = jax.custom_vjp(lambda scale, v: jnp.sin(scale * v), nondiff_argnums=(0,))
    f.defvjp(lambda scale, v: (f(scale, v), v), lambda scale, v, g: (scale * jnp.cos(scale * v) * g,))
    return functools.partial(f, 1.0)


def of_a_tree():
    f = jax.custom_vjp(lambda tree: {"y": jnp.sin(tree["v"])})
    f.defvjp(lambda tree: (f(tree), tree), lambda tree, g: ({"v": jnp.cos(tree["v"]) * g["y"]},))
    return lambda v: f({"v": v})["y"]


def in_a_scan():
    f = calling()
    return lambda v: jax.lax.scan(lambda carry, row: (carry, f(row)), 0.0, v)[1]


FUNCTIONS = {
    "calling": calling,
    "plain": plain,
    "with_argument": with_argument,
    "of_a_tree": of_a_tree,
    "in_a_scan": in_a_scan,
    "jitted": lambda: jax.jit(calling()),
    "mapped": lambda: jax.vmap(calling()),
    "checkpointed": lambda: jax.checkpoint(calling()),
    "custom_jvp": lambda: _with_jvp(),
}


def _with_jvp():
    f = jax.custom_jvp(jnp.sin)
    f.defjvp(lambda primals, tangents: (f(primals[0]), jnp.cos(primals[0]) * tangents[0]))
    return f


def gradients():
    return oracle.jacobian(lambda w: jnp.sin(X64 @ w) ** 2, W64)


def jacobian():
    return oracle.jacobian(lambda w: jnp.sin(X64 @ w), W64)


def operators(f):
    each = lambda w, b: f(b @ w) ** 2  # noqa: E731
    predict = lambda w, b: f(b @ w)  # noqa: E731
    return {
        "hessian": spectra.hessian(lambda w, b: jnp.mean(each(w, b))),
        "ggn": spectra.ggn(predict, lambda out, b: jnp.mean(out**2)),
        "fisher": spectra.fisher(predict, distribution="gaussian"),
        "bernoulli": spectra.fisher(predict, distribution="bernoulli"),
        "empirical_fisher": spectra.empirical_fisher(each),
        "gradient_covariance": spectra.gradient_covariance(each),
        "preconditioned": spectra.preconditioned(spectra.hessian(lambda w, b: jnp.mean(each(w, b))), jnp.full(3, 4.0)),
    }


def exact():
    hessian = oracle.hessian(lambda w: jnp.mean(jnp.sin(X64 @ w) ** 2), W64)
    p = 1 / (1 + np.exp(-np.sin(X64 @ W64)))
    return {
        "hessian": hessian,
        "ggn": 2 * oracle.second_moment(jacobian()),
        "fisher": oracle.second_moment(jacobian()),
        "bernoulli": oracle.second_moment(jacobian() * np.sqrt(p * (1 - p))[:, None]),
        "empirical_fisher": oracle.second_moment(gradients()),
        "gradient_covariance": oracle.second_moment(gradients(), centred=True),
        "preconditioned": hessian / 4,
    }


EXACT = exact()


def dense(bound):
    return np.asarray(bound.matmat(jnp.eye(bound.size)))


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("name", EXACT)
def test_every_matrix_is_right_with_a_rule_for_reverse_mode_alone(function, name):
    bound = operators(FUNCTIONS[function]())[name].bind(W, BATCHES)
    np.testing.assert_allclose(dense(bound), EXACT[name], atol=1e-5 * np.abs(EXACT[name]).max())


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("differentiation", ["auto", "forward_over_reverse", "reverse_over_reverse"])
def test_every_mode_is_right_without_rules(name, differentiation):
    bound = operators(jnp.sin)[name].bind(W, BATCHES, differentiation=differentiation)
    np.testing.assert_allclose(dense(bound), EXACT[name], atol=1e-5 * np.abs(EXACT[name]).max())
    assert bound.differentiation in ("forward_over_reverse", "reverse_over_reverse")


def test_the_mode_is_chosen_at_bind_and_told():
    assert operators(jnp.sin)["hessian"].bind(W, BATCHES).differentiation == "forward_over_reverse"
    assert operators(calling())["hessian"].bind(W, BATCHES).differentiation == "reverse_over_reverse"


@pytest.mark.parametrize("name", ["hessian", "ggn", "gradient_covariance"])
def test_a_mode_that_cannot_work_is_refused(name):
    bind = operators(calling())[name].bind
    refused(
        lambda: dense(bind(W, BATCHES, differentiation="forward_over_reverse")), "custom_vjp", "reverse_over_reverse"
    )
    refused(lambda: bind(W, BATCHES, differentiation="backwards"), "differentiation")


@pytest.mark.parametrize("settings", [{"keep_bytes": 10**8}, {"chunk": 2}, {"where": lambda path: True}])
def test_the_mode_works_with_the_other_settings_of_bind(settings):
    for name in ("hessian", "ggn", "gradient_covariance"):
        bound = operators(calling())[name].bind(W, BATCHES, **settings)
        np.testing.assert_allclose(dense(bound), EXACT[name], atol=1e-5 * np.abs(EXACT[name]).max())


@pytest.mark.parametrize("function", ["calling", "plain", "jitted"])
def test_measurements_of_examples(function):
    f = FUNCTIONS[function]()
    each = lambda w, b: f(b @ w) ** 2  # noqa: E731
    direction = np.float32([1.0, 2.0, -1.0])
    unit = np.float64(direction) / np.linalg.norm(direction)
    second = [unit @ oracle.hessian(lambda w, i=i: jnp.sin(X64[i] @ w) ** 2, W64) @ unit for i in range(10)]
    measured = spectra.curvature_along(each, W, direction, BATCHES)
    np.testing.assert_allclose(measured, second, atol=1e-5 * np.abs(second).max())
    norms = spectra.gradient_norms(each, W, BATCHES)
    np.testing.assert_allclose(norms, np.sum(gradients() ** 2, axis=1), rtol=1e-4)
    sharpness = spectra.batch_sharpness(lambda w, b: jnp.mean(each(w, b)), W, BATCHES)
    right = []
    for rows in (X64[:6], X64[6:]):
        loss = lambda w, rows=rows: jnp.mean(jnp.sin(rows @ w) ** 2)  # noqa: E731
        g = oracle.jacobian(loss, W64)
        right.append(g @ oracle.hessian(loss, W64) @ g / (g @ g))
    np.testing.assert_allclose(sharpness.values, right, rtol=1e-4)


def test_lanczos_and_verification_with_reverse_over_reverse():
    found = spectra.lanczos(operators(calling())["hessian"].bind(W, BATCHES), 1)
    np.testing.assert_allclose(found.values[0], oracle.eigenvalues(EXACT["hessian"])[-1], rtol=1e-4)
    assert found.converged[0]


def host_sine():
    """A kernel of another library: forward and backward go to the host, and there is no more to differentiate."""

    def on_host(function, v):
        return jax.pure_callback(lambda a: function(np.asarray(a)), jax.ShapeDtypeStruct(v.shape, v.dtype), v)

    @jax.custom_vjp
    def host_kernel(v):
        return on_host(np.sin, v)

    host_kernel.defvjp(lambda v: (on_host(np.sin, v), v), lambda v, g: (on_host(np.cos, v) * g,))
    return host_kernel


def twice_refusing():
    @jax.custom_vjp
    def no_second_derivative(v):
        return jnp.sin(v)

    once = jax.custom_vjp(lambda v: jnp.cos(v))
    once.defvjp(lambda v: (jnp.cos(v), v), _raise)
    no_second_derivative.defvjp(lambda v: (jnp.sin(v), v), lambda v, g: (once(v) * g,))
    return no_second_derivative


def _raise(v, g):
    raise NotImplementedError("no second derivative of this kernel")


@pytest.mark.parametrize("function", [host_sine, twice_refusing])
def test_what_has_no_second_derivative_is_refused_by_its_name(function):
    refused(
        lambda: dense(operators(function())["hessian"].bind(W, BATCHES)), "host_kernel", "second derivative", "callback"
    )


def test_gradients_of_what_has_no_second_derivative_are_right_or_refused():
    for name in ("gradient_covariance", "empirical_fisher", "ggn"):
        try:
            measured = dense(operators(twice_refusing())[name].bind(W, BATCHES))
        except LrjaxError as error:
            sentence(error)
        else:
            np.testing.assert_allclose(measured, EXACT[name], atol=1e-5 * np.abs(EXACT[name]).max())


@pytest.mark.parametrize("operator", [spectra.gradient_covariance, spectra.empirical_fisher])
def test_losses_without_any_derivative_are_refused_however_batched(operator):
    """K takes a mean gradient over several batches, which must not fail before the sentence."""

    def each(w, b):
        return jax.pure_callback(lambda a: np.asarray(a), jax.ShapeDtypeStruct((len(b),), jnp.float32), b @ w)

    x = np.ones((4, 3), np.float32)
    for batches in ([x], [x[:2], x[2:]]):
        refused(lambda batches=batches: operator(each).bind(np.ones(3, np.float32), batches), "differentiated")
