"""Diagonal preconditioners of the optimizers of optax: each against its formula in numpy, or a sentence."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrjax.errors import LrjaxError
from lrjax.spectra.preconditioner import PRECONDITIONERS, preconditioner
from lrjax.transforms import wd_free_adamw
from tests.spectra.optimizer_states import ALL, B1, B2, EPS, GRADIENTS, PARAMS, ROOT, adam, after, average, of


def amsgrad(gradients):
    largest, nu = 0.0, 0.0
    for step, g in enumerate(gradients, 1):
        nu = B2 * nu + (1 - B2) * g**2
        largest = np.maximum(largest, nu / (1 - B2**step))
    return np.sqrt(largest + ROOT) + EPS


def adamax(gradients):
    largest = np.zeros_like(gradients[0])
    for g in gradients:
        largest = np.maximum(np.abs(g) + EPS, B2 * largest)
    return largest


def adan(gradients):
    before, n = gradients[0], 0.0
    for g in gradients:
        n, before = 0.95 * n + 0.05 * (g + (1 - B2) * (g - before)) ** 2, g
    return np.sqrt(n / (1 - 0.95**3) + ROOT) + EPS


def adabelief(gradients):
    mu, nu = 0.0, 0.0
    for g in gradients:
        mu = B1 * mu + (1 - B1) * g
        nu = B2 * nu + (1 - B2) * (g - mu) ** 2 + ROOT
    return np.sqrt(nu / (1 - B2**3)) + EPS


def yogi(gradients):
    nu = 1e-6
    for g in gradients:
        nu = nu - (1 - B2) * np.sign(nu - g**2) * g**2
    return np.sqrt(nu / (1 - B2**3)) + EPS


def rms(gradients, *, inside=True, unbiased=False, centred=False, start=0.0):
    lost = 1 - B2**3 if unbiased else 1.0
    nu = average([g**2 for g in gradients], B2, start) / lost
    if centred:
        nu = nu - (average(gradients, B2) / lost) ** 2
    return np.sqrt(nu + EPS) if inside else np.sqrt(nu) + EPS


def novograd(gradients):
    nu = np.sum(gradients[0] ** 2)
    for g in gradients[1:]:
        nu = B2 * nu + (1 - B2) * np.sum(g**2)
    return np.full(gradients[0].shape, np.sqrt(nu + ROOT) + EPS)


TABLE = {
    "adam": (optax.adam(0.1, b2=B2, eps=EPS, eps_root=ROOT), ALL, adam),
    "adamw": (optax.adamw(0.1, b2=B2, eps=EPS, eps_root=ROOT), ALL, adam),
    "nadam": (optax.nadam(0.1, b2=B2, eps=EPS, eps_root=ROOT), ALL, adam),
    "nadamw": (optax.nadamw(0.1, b2=B2, eps=EPS, eps_root=ROOT), ALL, adam),
    "ademamix": (optax.contrib.ademamix(0.1, b2=B2, eps=EPS, eps_root=ROOT), ALL, adam),
    "amsgrad": (optax.amsgrad(0.1, b2=B2, eps=EPS, eps_root=ROOT), {"eps": EPS, "eps_root": ROOT}, amsgrad),
    "adamax": (optax.adamax(0.1, b2=B2, eps=EPS), {}, adamax),
    "adamaxw": (optax.adamaxw(0.1, b2=B2, eps=EPS), {}, adamax),
    "adan": (optax.adan(0.1, b2=B2, b3=0.95, eps=EPS, eps_root=ROOT), {"b3": 0.95, "eps": EPS, "eps_root": ROOT}, adan),
    "adabelief": (optax.adabelief(0.1, b1=B1, b2=B2, eps=EPS, eps_root=ROOT), {"b2": B2, "eps": EPS}, adabelief),
    "yogi": (optax.yogi(0.1, b2=B2, eps=EPS), {"b2": B2, "eps": EPS}, yogi),
    "rmsprop": (optax.rmsprop(0.1, decay=B2, eps=EPS, momentum=0.5, initial_scale=0.3), {"eps": EPS}, None),
    "adagrad": (optax.adagrad(0.1, eps=EPS), {"eps": EPS}, lambda g: np.sqrt(0.1 + sum(a**2 for a in g) + EPS)),
    "novograd": (optax.novograd(0.1, b2=B2, eps=EPS, eps_root=ROOT), {"eps": EPS, "eps_root": ROOT}, novograd),
    "schedule_free_adamw": (
        optax.contrib.schedule_free_adamw(0.1, b2=B2, eps=EPS),
        {"b2": B2, "eps": EPS},
        lambda g: adam(g, eps_root=0.0),
    ),
}
TABLE["rmsprop"] = (*TABLE["rmsprop"][:2], lambda g: rms(g, start=0.3))


@pytest.mark.x64
@pytest.mark.parametrize("name", TABLE)
def test_preconditioner_is_the_divisor_of_the_optimizer(name):
    tx, settings, formula = TABLE[name]
    diagonal = preconditioner(name, after(tx), **settings)
    for leaf in PARAMS:
        np.testing.assert_allclose(diagonal[leaf], formula(of(leaf)), rtol=1e-9, err_msg=leaf)


def test_table_has_every_preconditioner():
    assert set(TABLE) | {"prodigy"} == set(PRECONDITIONERS)


@pytest.mark.x64
@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("centred", [True, False])
def test_every_form_of_rmsprop_has_its_divisor(inside, unbiased, centred):
    tx = optax.rmsprop(0.1, decay=B2, eps=EPS, eps_in_sqrt=inside, centered=centred, bias_correction=unbiased)
    diagonal = preconditioner("rmsprop", after(tx), eps=EPS, decay=B2, eps_in_sqrt=inside)
    expected = rms(of("w"), inside=inside, unbiased=unbiased, centred=centred)
    np.testing.assert_allclose(diagonal["w"], expected, rtol=1e-9)


@pytest.mark.x64
def test_prodigy_is_adam_at_its_own_rate():
    """While its rate d is constant its update is that of Adam at d eta, divided by the P of Adam."""
    tx = optax.contrib.prodigy(0.5, betas=(B1, B2), eps=EPS, estim_lr0=1e-2, estim_lr_coef=0.0)
    diagonal = preconditioner("prodigy", after(tx), b2=B2, eps=EPS)
    lost = 1 - B2**3
    expected = (np.sqrt(average([g**2 for g in of("w")], B2)) + EPS) / np.sqrt(lost)
    np.testing.assert_allclose(diagonal["w"], expected, rtol=1e-9)
    params, state = jax.tree.map(jnp.asarray, PARAMS), after(tx, GRADIENTS[:2])
    updates, _ = tx.update(jax.tree.map(jnp.asarray, GRADIENTS[2]), state, params)
    momentum = average(of("w"), B1) / (1 - B1**3)
    np.testing.assert_allclose(updates["w"], -1e-2 * 0.5 * momentum / expected, rtol=1e-9)


def test_injected_settings_are_read_and_compared():
    state = after(optax.inject_hyperparams(optax.adamw)(0.1, b2=B2, eps=EPS, eps_root=ROOT))
    np.testing.assert_allclose(preconditioner("adamw", state)["w"], adam(of("w")), rtol=1e-5)
    np.testing.assert_allclose(preconditioner("adamw", state, b2=B2)["w"], adam(of("w")), rtol=1e-5)
    with pytest.raises(LrjaxError, match=r"b2=0.999, but the optimizer state holds b2=0.9"):
        preconditioner("adamw", state, b2=0.999)


REFUSED = {
    "lion": (optax.lion(0.1), "adam", ALL, "Lion keeps no second moments"),
    "sgd": (optax.sgd(0.1, momentum=0.9), "adam", ALL, "measure the Hessian itself"),
    "plain sgd": (optax.sgd(0.1), "adam", ALL, "pass the state of that optimizer"),
    "adafactor": (optax.adafactor(0.1), "adam", ALL, "Adafactor"),
    "adadelta": (optax.adadelta(0.1), "rmsprop", {"eps": EPS}, "Adadelta"),
    "wd_free_adamw": (wd_free_adamw(0.1, weight_decay=0.1), "adamw", ALL, "rescaled gradient"),
    "amsgrad as adam": (optax.amsgrad(0.1), "adam", ALL, r"for preconditioner\('amsgrad', ...\)"),
    "unknown": (optax.adam(0.1), "adagard", ALL, "did you mean .adagrad."),
    "missing": (optax.adam(0.1), "adam", {"eps": EPS}, "needs b2"),
    "foreign": (optax.adam(0.1), "adam", ALL | {"b1": 0.9}, r"takes \['b2', 'eps', 'eps_root'\], not \['b1'\]"),
    "b2 of one": (optax.adam(0.1), "adam", ALL | {"b2": 1.0}, "below 1"),
    "negative eps": (optax.adam(0.1), "adam", ALL | {"eps": -1e-8}, "eps must be 0 or more"),
    "unsaid decay": (optax.rmsprop(0.1, bias_correction=True), "rmsprop", {"eps": EPS}, "needs decay"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_such_diagonal_is_refused_with_a_sentence(name):
    tx, optimizer, settings, words = REFUSED[name]
    with pytest.raises(LrjaxError, match=words):
        preconditioner(optimizer, after(tx), **settings)


@pytest.mark.parametrize("name", [name for name in TABLE if name != "adagrad"])
def test_no_preconditioner_before_the_first_update(name):
    tx, settings, _ = TABLE[name]
    if name == "rmsprop":  # which does not count: its moments must not all be zero
        tx = optax.rmsprop(0.1, decay=B2, eps=EPS)
    with pytest.raises(LrjaxError, match="before the first update"):
        preconditioner(name, after(tx, []), **settings)
