"""The Gram engine: exact SGD on the two-layer ReLU^2 network through inner products alone.

Every gradient of that network is a combination of the patches, so W(t) = W(0) + C(t) B with the basis B = [u, v, xi_1, ..],
and the network sees W only through A = W B^T. The step keeps A and C; a step costs O(m n) whatever the dimension d, and
W is rebuilt on demand. Derived here, not in the paper; equal to `direct` up to rounding.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from lrjax.errors import check
from lrjax.experiment.config.canonical import Config
from lrjax.experiment.step.hparams import HParams
from lrjax.experiment.step.losses import LOSSES
from lrjax.experiment.step.train_step import (
    Engine,
    StepInputs,
    TrainState,
    Tree,
    Update,
    initial_params,
    step_metrics,
    targets,
)
from lrjax.keys import key
from lrjax.models.two_layer import HEAD

UNROLLED = 4  # up to so many patches a step, outer products in one fused loop beat a small matmul


def _check_exact(static: Config) -> None:
    options = {key: value for key, value in static.optimizer.items() if key not in ("name", "learning_rate")}
    numbers = {key for key in static.arrays if key.startswith("optimizer.")} - {"optimizer.learning_rate"}
    plain = static.optimizer.name == "sgd" and not numbers and all(value is None for value in options.values())
    check(static.model.name == "two_layer", f"engine 'gram' is for model 'two_layer', not {static.model.name!r}")
    check(plain, "engine 'gram' is exact for plain SGD; for momentum, l2 or another optimizer set engine='direct'")


def engine(static: Config, num_classes: int = 1, shard_batch: Callable = lambda batch: batch) -> Engine:
    """Builds the engine; filters of one slot are shared by the patches, of P slots are one a patch.

    Args:
        static: what is compiled in of the resolved config.
        num_classes, shard_batch: as of `direct`; the network has one output, and inner products are not sharded.

    Raises:
        LrjaxError: another model or optimizer than the two-layer network under plain SGD.
    """
    _check_exact(static)
    example_loss = LOSSES[static.loss]

    def init(hparams: HParams, data: Tree, init_key: jax.Array) -> tuple[Tree, Tree, Tree]:
        filters = initial_params(None, static, hparams, data, init_key)[0]["filters"]
        inner = jnp.einsum("jrsd,bd->jrsb", filters, data["basis"])
        return {"inner": inner, "coefficients": jnp.zeros_like(inner)}, {}, ()

    def update(
        state: TrainState, hparams: HParams, data: Tree, row: StepInputs, *, axis_name: str | None = None
    ) -> Update:
        inner, gram = state.params["inner"], data["gram"]
        column, sign, y = (
            a[row.index] for a in (data["column"], data["sign"], data["train"]["y"])
        )  # [B, P], [B, P], [B]
        width, slots, head = inner.shape[1], inner.shape[2], jnp.array(HEAD, inner.dtype)
        if slots == 1:
            products = inner[:, :, 0][:, :, column]
        else:
            products = jnp.take_along_axis(inner[:, :, None], column[None, None, :, :, None], axis=-1)[..., 0]
        active = jnp.maximum(products * sign[None, None], 0.0)  # [2, m, B, P]
        output = jnp.sum(jnp.square(active) * head[:, None, None, None], axis=(0, 1, 3)) / width
        noisy = targets(static, hparams, y, state.step)
        losses, slope = jax.vmap(jax.value_and_grad(example_loss))(output, noisy)
        scale = -row.learning_rate * slope / y.size * (2.0 / width)  # [B]
        change = scale[None, None, :, None] * head[:, None, None, None] * active * sign[None, None]
        onehot = jax.nn.one_hot(column, inner.shape[3], dtype=inner.dtype)  # [B, P, K]
        moved = _combine(change, gram[column], slots), _combine(change, onehot, slots)
        params = {"inner": inner + moved[0], "coefficients": state.params["coefficients"] + moved[1]}
        return Update(params, {}, (), jnp.mean(losses), step_metrics(output, y))

    def weights(params: Tree, hparams: HParams, data: Tree) -> Tree:
        init_key = key(hparams["seed"], "init")
        filters = initial_params(None, static, hparams, data, init_key)[0]["filters"]
        return {"filters": filters + jnp.einsum("jrsb,bd->jrsd", params["coefficients"], data["basis"])}

    return Engine(init, update, weights)


def _combine(change: jax.Array, rows: jax.Array, slots: int) -> jax.Array:
    """sum over examples (and patches, where they share filters) of change x rows: [2, m, slots, K].

    Args:
        change: [2, m, B, P].
        rows: [B, P, K].
        slots: 1 or P.
    """
    batch, patches = rows.shape[:2]
    if slots == 1 and batch * patches <= UNROLLED:
        terms = [change[:, :, b, p, None] * rows[b, p][None, None] for b in range(batch) for p in range(patches)]
        return sum(terms[1:], terms[0])[:, :, None]
    if slots == 1:
        return jnp.einsum("jrbp,bpk->jrk", change, rows)[:, :, None]
    return jnp.einsum("jrbp,bpk->jrpk", change, rows)
