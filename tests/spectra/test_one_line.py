"""The one-line form: the same numbers as operator, binding and algorithm, with the options of all three."""

import jax.numpy as jnp
import numpy as np
import pytest

from lrjax.errors import LrjaxError
from lrjax.spectra import hessian, lanczos, top_eigenvalues

DIAGONAL = jnp.array([5.0, 3.0, 1.0, -4.0])


def loss(params, scale):
    return jnp.mean(scale) * (jnp.sum(DIAGONAL * params["w"] ** 2) / 2 + 8 * jnp.sum(params["b"] ** 2))


PARAMS, BATCHES = {"w": jnp.ones(4), "b": jnp.ones(1)}, [jnp.ones(3), jnp.ones(2)]


def test_the_one_line_form_gives_the_bits_of_the_long_one():
    top = top_eigenvalues(loss, PARAMS, BATCHES, 2)
    long = lanczos(hessian(loss).bind(PARAMS, BATCHES), 2)
    np.testing.assert_allclose(top.values, [16.0, 5.0], rtol=1e-5)
    np.testing.assert_array_equal(top.values, long.values)
    assert top_eigenvalues(loss, PARAMS, BATCHES).values.shape == (1,)


def test_options_go_to_the_step_that_has_them():
    low = top_eigenvalues(loss, PARAMS, BATCHES, 1, where="w", which="SA", tol=1e-2, keep_bytes=10**6)
    np.testing.assert_allclose(low.values, [-4.0], rtol=1e-3)


@pytest.mark.parametrize(("option", "remedy"), [("wich", "did you mean 'which'"), ("operator", ""), ("bound", "")])
def test_an_unknown_option_is_refused_with_the_nearest(option, remedy):
    with pytest.raises(LrjaxError, match=f"no option '{option}'; {remedy}"):
        top_eigenvalues(loss, PARAMS, BATCHES, **{option: 1})
