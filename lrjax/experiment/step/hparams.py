"""The numbers of a config that are arguments of the compiled program."""

import jax

HParams = dict[str, jax.Array]  # dotted key -> scalar
