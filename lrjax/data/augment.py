"""Random changes of a batch of images, afresh at each visit."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

PAD = 4


def none(key: jax.Array, x: jax.Array) -> jax.Array:
    """The batch as it is."""
    return x


def crop_flip(key: jax.Array, x: jax.Array) -> jax.Array:
    """A crop at a random place of the image padded by 4 zero pixels, then a flip from left to right of every other image.

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
