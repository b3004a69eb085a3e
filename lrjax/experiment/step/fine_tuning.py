"""Fine-tuning: separate learning rates for the head and the body of a network."""

from typing import Any

import jax

from lrjax.experiment.config.canonical import Config

Tree = Any
HEAD = "head"


def trains_body(static: Config) -> bool:
    """Whether anything but the head is trained."""
    return static.fine_tune.body_rate != 0


def trained(static: Config, params: Tree) -> Tree:
    """Parameters without derivatives where they stay as they are, so that no backward pass is made for them."""
    if trains_body(static):
        return params
    return {name: part if name == HEAD else jax.lax.stop_gradient(part) for name, part in params.items()}


def scaled(static: Config, updates: Tree) -> Tree:
    """Updates times `fine_tune.head_rate` for the layer "head" and `fine_tune.body_rate` for all else.

    The rate acts after momentum and weight decay, as a learning rate of its own would.

    Example:
        >>> from types import SimpleNamespace as N
        >>> scaled(N(fine_tune=N(head_rate=10.0, body_rate=0.0)), {"stem": {"w": 2.0}, "head": {"w": 3.0}})
        {'stem': {'w': 0.0}, 'head': {'w': 30.0}}
    """
    head, body = static.fine_tune.head_rate, static.fine_tune.body_rate
    if head == body == 1:
        return updates
    return {
        name: jax.tree.map(lambda u, rate=head if name == HEAD else body: rate * u, part)
        for name, part in updates.items()
    }
