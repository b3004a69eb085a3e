"""The two-layer ReLU^2 patch network of "Benign Oscillation": only the first layer is trained."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lrjax.models.linen import from_linen
from lrjax.models.model import Model, takes

HEAD = (1.0, -1.0)  # the fixed second layer: class +1 minus class -1


class TwoLayer(nn.Module):
    """f(x) = (1/m) sum_j j sum_r sum_p max(<w_jr, x_p>, 0)^2, j in {+1, -1}.

    Filters have shape [2, m, 1, d] (shared by the patches) or [2, m, P, d].
    """

    width: int
    share_filters: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Patches [B, P, d] -> f [B]."""
        slots = 1 if self.share_filters else x.shape[1]
        filters = self.param("filters", nn.initializers.normal(1.0), (2, self.width, slots, x.shape[2]))
        if self.share_filters:  # one plain matmul: its gradient is one too
            flat = filters.reshape(2 * self.width, x.shape[2]) @ x.reshape(-1, x.shape[2]).T
            products = flat.reshape(2, self.width, *x.shape[:2])
        else:
            products = jnp.einsum("jrpd,bpd->jrbp", filters, x)
        active = jnp.maximum(products, 0.0)
        return jnp.einsum("jrbp,j->b", jnp.square(active), jnp.array(HEAD, x.dtype)) / self.width


def normal_filters(static: Any, hparams: dict[str, jax.Array], data: dict[str, Any], key: jax.Array) -> dict:
    """Filters ~ N(0, init_scale^2)."""
    slots = 1 if static.model.share_filters else data["column"].shape[1]
    shape = (2, static.model.width, slots, data["basis"].shape[1])
    return {"filters": hparams["model.init_scale"] * jax.random.normal(key, shape)}


def planted_filters(static: Any, hparams: dict[str, jax.Array], data: dict[str, Any], key: jax.Array) -> dict:
    """All neurons of class +1 alike with U = strong_start and V = weak_start, those of class -1 zero."""
    u, v = data["basis"][0], data["basis"][1]
    strong = jnp.sqrt(hparams["model.strong_start"]) * u / jnp.sum(u * u)
    weak = jnp.sqrt(hparams["model.weak_start"]) * v / jnp.sum(v * v)
    shape = (static.model.width, 1 if static.model.share_filters else data["column"].shape[1], u.size)
    active = jnp.broadcast_to((strong + weak)[None, None, :], shape)
    return {"filters": jnp.stack([active, jnp.zeros_like(active)])}


INITS = {"normal": normal_filters, "planted": planted_filters}


@takes("width", "share_filters", "init", "init_scale", "strong_start", "weak_start")
def two_layer(settings: Any, num_classes: int) -> Model:
    """Builds `TwoLayer`; `settings` needs width and share_filters, num_classes is 2 in its single output."""
    return from_linen(TwoLayer(width=settings["width"], share_filters=settings["share_filters"]))
