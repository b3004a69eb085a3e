"""Order of the training examples, a pure function of seed and epoch, so that a resumed run needs seed and step alone."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.keys import key

PAGE = 1 << 13  # examples that one call orders: many short epochs, or one long one


@functools.partial(jax.jit, static_argnums=(2, 3))
def _page(seeds: jax.Array, first_epoch: jax.Array, epochs: int, n: int) -> tuple[jax.Array, jax.Array]:
    """Permutations and independent draws of `epochs` epochs, each int32 [len(seeds), epochs, n]."""

    def one(seed: jax.Array, epoch: jax.Array) -> tuple[jax.Array, jax.Array]:
        epoch_key = key(seed, "order", epoch)
        return jax.random.permutation(epoch_key, n), jax.random.randint(epoch_key, (n,), 0, n)

    indices = first_epoch + jnp.arange(epochs)
    return jax.vmap(lambda seed: jax.vmap(lambda epoch: one(seed, epoch))(indices))(seeds)


class Orders:
    """The batches of a block of lanes, made a page of epochs at a time.

    Args:
        seeds: one a lane.
        kinds: one a lane: "shuffle" (a fresh permutation an epoch), "iid" (with replacement) or "cyclic".
        n: training examples.
        batch_size: examples a step; an epoch has n // batch_size steps, the rest of its order is left out.

    Example:
        >>> orders = Orders([0, 0], ["shuffle", "cyclic"], n=6, batch_size=2)
        >>> orders.rows(0, 3).shape
        (2, 3, 2)
        >>> orders.rows(1, 3)[1].tolist()
        [[2, 3], [4, 5], [0, 1]]
    """

    def __init__(self, seeds: Sequence[int], kinds: Sequence[str], n: int, batch_size: int):
        self.seeds = np.asarray(seeds, np.uint32)
        self.kinds, self.n, self.batch_size = list(kinds), n, batch_size
        self.steps_per_epoch = n // batch_size
        self.skip = 0  # steps by which the place in the order is ahead of the step: see `lrjax.experiment.loop.branch`
        self.epochs = max(1, PAGE // n)
        self._pages: dict[int, np.ndarray] = {}

    def _load(self, page: int) -> np.ndarray:
        if page not in self._pages:
            self._pages = {p: a for p, a in self._pages.items() if p == page - 1}
            if all(kind == "cyclic" for kind in self.kinds):
                shuffled = iid = np.zeros((len(self.kinds), self.epochs, self.n), np.int32)
            else:
                shuffled, iid = map(np.asarray, _page(self.seeds, page * self.epochs, self.epochs, self.n))
            cyclic = np.broadcast_to(np.arange(self.n, dtype=np.int32), (self.epochs, self.n))
            choices = [{"shuffle": shuffled[i], "iid": iid[i], "cyclic": cyclic} for i in range(len(self.kinds))]
            order = np.stack([choice[kind] for choice, kind in zip(choices, self.kinds, strict=True)])
            used = order[:, :, : self.steps_per_epoch * self.batch_size]
            self._pages[page] = used.reshape(len(self.kinds), -1, self.batch_size)
        return self._pages[page]

    def rows(self, first_step: int, steps: int) -> np.ndarray:
        """Example indices of the steps first_step .. first_step + steps - 1: int32 [lanes, steps, batch_size]."""
        per_page = self.epochs * self.steps_per_epoch
        first_step += self.skip
        pieces = []
        while steps > 0:
            page, offset = divmod(first_step, per_page)
            piece = self._load(page)[:, offset : offset + steps]
            pieces.append(piece)
            first_step, steps = first_step + piece.shape[1], steps - piece.shape[1]
        return np.concatenate(pieces, axis=1)
