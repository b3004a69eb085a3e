"""Randomness: a typed key is a pure function of (seed, purpose, step)."""

import jax

PURPOSES = ("data", "init", "order", "step", "test", "probe")


def key(seed: jax.typing.ArrayLike, purpose: str, step: jax.typing.ArrayLike | None = None) -> jax.Array:
    """The key for one purpose of one run, folded with a step where the purpose recurs.

    Example:
        >>> import jax
        >>> bool(jax.random.uniform(key(0, "init")) == jax.random.uniform(key(0, "order")))
        False
    """
    made = jax.random.fold_in(jax.random.key(seed), PURPOSES.index(purpose))
    return made if step is None else jax.random.fold_in(made, step)
