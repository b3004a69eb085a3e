"""States of optax's optimizers after three updates, and the divisor of Adam in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

PARAMS = {"b": np.linspace(0.5, 1.0, 3), "w": np.linspace(-1.0, 1.0, 8).reshape(4, 2)}
_DRAWS = np.random.default_rng(0)
GRADIENTS = [{name: _DRAWS.normal(size=value.shape) * 0.3 for name, value in PARAMS.items()} for _ in range(3)]
B1, B2, EPS, ROOT = 0.8, 0.9, 1e-3, 1e-4


def after(tx, gradients=GRADIENTS, params=PARAMS, **extra):
    """The optimizer's state after an update with each gradient."""
    params = jax.tree.map(jnp.asarray, params)
    state = tx.init(params)
    for gradient in gradients:
        updates, state = tx.update(jax.tree.map(jnp.asarray, gradient), state, params, **extra)
        params = optax.apply_updates(params, updates)
    return state


def average(values, decay, start=0.0):
    """The moving average of some values, in numpy."""
    for value in values:
        start = decay * start + (1 - decay) * value
    return start


def of(name, gradients=GRADIENTS):
    return [gradient[name] for gradient in gradients]


def adam(gradients, eps_root=ROOT, b2=B2, eps=EPS):
    nu = average([g**2 for g in gradients], b2) / (1 - b2 ** len(gradients))
    return np.sqrt(nu + eps_root) + eps


ALL = {"b2": B2, "eps": EPS, "eps_root": ROOT}
