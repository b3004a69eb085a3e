"""Random augmentation of a batch of images."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

PAD = 4


def none(key: jax.Array, x: jax.Array) -> jax.Array:
    """Identity."""
    return x


def crop_flip(key: jax.Array, x: jax.Array) -> jax.Array:
    """Random crop after padding by 4 zero pixels, then a horizontal flip with probability 1/2.

    Args:
        key: of this batch.
        x: images `[B, H, W, C]`.

    Returns:
        Images of the same shape.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> crop_flip(jax.random.key(0), jnp.ones((2, 32, 32, 3))).shape
        (2, 32, 32, 3)
    """
    n, height, width, channels = x.shape
    place_key, flip_key = jax.random.split(key)
    padded = jnp.pad(x, ((0, 0), (PAD, PAD), (PAD, PAD), (0, 0)))
    places = jax.random.randint(place_key, (n, 2), 0, 2 * PAD + 1)
    crop = jax.vmap(lambda image, at: jax.lax.dynamic_slice(image, (at[0], at[1], 0), (height, width, channels)))
    flip = jax.random.bernoulli(flip_key, 0.5, (n, 1, 1, 1))
    cropped = crop(padded, places)
    return jnp.where(flip, cropped[:, :, ::-1], cropped)


AUGMENTATIONS: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {"none": none, "crop_flip": crop_flip}
