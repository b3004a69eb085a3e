"""FLOPs of a traced function against closed forms, in loops as outside of them."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import lrjax
from lrjax.devices.flops import count
from lrjax.experiment.loop.dry_run import estimate
from lrjax.experiment.loop.sweep import expand
from lrjax.models.conv.convolution import conv

IMAGES = jax.ShapeDtypeStruct((8, 10, 10, 3), jnp.float32)
KERNEL = jax.ShapeDtypeStruct((3, 3, 3, 16), jnp.float32)
CONVOLUTION = 2 * 8 * 8 * 8 * 3 * 3 * 3 * 16


def own(x, kernel):
    return conv(x, kernel, padding="VALID")


def laxs(x, kernel):
    return lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@pytest.mark.parametrize("function", [own, laxs])
def test_a_convolution_counts_two_for_each_product_of_a_weight(function):
    assert count(function, IMAGES, KERNEL) == CONVOLUTION


def test_each_gradient_of_a_convolution_costs_as_much_as_the_convolution():
    def pulled(x, kernel, y):
        return jax.vjp(own, x, kernel)[1](y)

    y = jax.eval_shape(own, IMAGES, KERNEL)
    assert 3 * CONVOLUTION <= count(pulled, IMAGES, KERNEL, y) < 3.1 * CONVOLUTION


def test_a_derivative_along_image_and_kernel_counts_both_of_its_convolutions():
    def along_both(x, kernel):
        return jax.jvp(own, (x, kernel), (x, kernel))[1]

    assert count(along_both, IMAGES, KERNEL) == 3 * CONVOLUTION  # of which one is the convolution itself


def test_a_hessian_product_counts_nine_convolutions():
    def loss(x, kernel):
        return jnp.sum(own(x, kernel) ** 2)

    found = count(lambda *v: jax.jvp(jax.grad(loss, argnums=(0, 1)), v, v)[1], IMAGES, KERNEL)
    assert 9 * CONVOLUTION <= found < 9.3 * CONVOLUTION  # three of the gradient, two along each of them


def test_a_branch_costs_its_dearer_side():
    w = jax.ShapeDtypeStruct((16, 16), jnp.float32)
    found = count(lambda w: lax.cond(w[0, 0] > 0, lambda: w @ w @ w, lambda: w), w)
    assert 2 * 2 * 16**3 <= found < 2 * 2 * 16**3 + 100


def per_step(spec, **overrides):
    return estimate(expand(lrjax.load_config(spec, overrides))[0])["flops_per_step"]


def test_a_step_taken_in_parts_is_not_cheaper_than_one_taken_whole():
    spec = "configs/break_even.py:E3,scale=smoke"
    whole, parts = per_step(spec), per_step(spec, micro_batch=4)
    assert parts == pytest.approx(whole, rel=0.05)


def test_a_recurrent_network_pays_for_every_word():
    spec = "configs/break_even.py:E5,scale=smoke"
    short, long = per_step(spec), per_step(spec, **{"data.length": 48})
    assert 3.5 < long / short < 4.5  # 12 words and 48
