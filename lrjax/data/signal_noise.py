"""Strong and weak features with noise: the synthetic data of "Benign Oscillation" (Lu et al. 2023).

Inputs are lists of patches. A strong example is (y u, y v, xi), a weak one (0, y v, xi), with a long strong feature u, a
short weak one v, and fresh noise xi. Every patch is a multiple of one basis vector, so the data are held as
(basis, column, sign), which both engines read. The patch layout is a reconstruction: see the report's note.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from lrjax.data.dataset import Dataset
from lrjax.errors import check
from lrjax.keys import key

KAPPA = {"square": 4.0, "half_square": 2.0}  # d2l/df2 times the factor 2 of (z^2)'
PATCHES = 3
ARRAYS = ("data.u_norm", "data.v_norm", "data.kn", "data.sigma_p", "data.n_weak", "data.rho")


def complete(config: Any) -> None:
    """Fills in, in place, sigma_p and kn from each other.

    Raises:
        LrjaxError: neither or both of kn and sigma_p are given, or sizes make no sense.
    """
    data = config.data
    check(config.loss in KAPPA, f"two-class patch data need loss 'square' or 'half_square', not {config.loss!r}")
    check(0 <= data.n_weak <= data.n, f"data.n_weak={data.n_weak} must lie in 0..data.n={data.n}")
    check(data.dim >= 3, f"data.dim={data.dim} must be at least 3: u, v and noise are orthogonal")
    check(data.weak_slot in WEAK_SLOTS, f"data.weak_slot={data.weak_slot!r} must be one of {sorted(WEAK_SLOTS)}")
    check(sorted(data.patch_order) == [0, 1, 2], f"data.patch_order={data.patch_order} must be an order of (0, 1, 2)")
    for name in ("u_norm", "v_norm"):
        check(data[name] > 0, f"data.{name}={data[name]} must be positive")
    for name in ("kn", "sigma_p"):
        fits = data[name] is None or 0 <= data[name] < math.inf
        check(fits, f"data.{name}={data[name]} must be a finite number, zero or more")
    check(
        (data.kn is None) != (data.sigma_p is None), "give one of data.kn and data.sigma_p, and set the other to None"
    )
    if data.sigma_p is None:
        data.sigma_p = data.v_norm * math.sqrt(data.kn / data.dim)
    else:
        data.kn = data.sigma_p**2 * data.dim / data.v_norm**2


def e_per_rate(config: Any) -> float:
    """e / eta, with e = kappa eta |u|^2 / m the factor by which a step on a strong example acts on <w, u>.

    A full batch sees the strong examples of one label in n_sy of n terms, which divides e by n / n_sy.

    Raises:
        LrjaxError: a full batch without strong examples.

    References:
        Lu et al. (2023), Benign Oscillation of SGD with Large Learning Rates, section 2.
    """
    data = config.data
    strong_per_label = (data.n - data.n_weak) / 2
    share = strong_per_label / data.n if config.batch_size == "full" and data.n > 1 else 1.0
    check(share > 0, "a full batch without strong examples has no e; give optimizer.learning_rate and e=None")
    return KAPPA[config.loss] * data.u_norm**2 * share / config.model.width


WEAK_SLOTS = {  # the first patch of a weak example: (column, sign) from (label, column of extra noise)
    "zero": lambda y, extra: (jnp.zeros_like(extra), jnp.zeros_like(y)),
    "second_noise": lambda y, extra: (extra, jnp.ones_like(y)),
    "second_v": lambda y, extra: (jnp.ones_like(extra), y),
}


def generate(static: Any, hparams: dict[str, jax.Array]) -> dict[str, Any]:
    """One lane's data, a pure function of its seed and scales.

    Args:
        static: needs data.{n, dim, num_test, balanced_labels, weak_by_chance, noise_projected, weak_slot, patch_order}.
        hparams: "seed" and "data.{u_norm, v_norm, sigma_p, n_weak, rho}".

    Returns:
        train: {"x" [n, 3, d], "y" [n] of +-1}; basis [n + 2 (or 2n + 2), d] = u, v, xi_1.. and gram, its
        inner products; column int32 [n, 3] and
        sign [n, 3]: patch p of example i is sign * basis[column]; strong bool [n]; test_noise [num_test, d].
    """
    settings = static.data
    n, dim = settings.n, settings.dim
    features, labels, kinds, noise = jax.random.split(key(hparams["seed"], "data"), 4)
    directions = jnp.linalg.qr(jax.random.normal(features, (dim, 2)))[0].T

    def draw(noise_key: jax.Array, count: int) -> jax.Array:
        raw = hparams["data.sigma_p"] * jax.random.normal(noise_key, (count, dim))
        return raw - (raw @ directions.T) @ directions if settings.noise_projected else raw

    index = jnp.arange(n)
    alternating = jnp.where(index % 2 == 0, 1.0, -1.0)
    y = alternating if settings.balanced_labels else jax.random.rademacher(labels, (n,), jnp.float32)
    y = y.astype(directions.dtype)
    weak = index < hparams["data.n_weak"]
    if settings.weak_by_chance:
        weak = jax.random.uniform(kinds, (n,)) < hparams["data.rho"]
    extra_noise = settings.weak_slot == "second_noise"
    scales = jnp.stack([hparams["data.u_norm"], hparams["data.v_norm"]])
    basis = jnp.concatenate([directions * scales[:, None], draw(noise, n * (1 + extra_noise))])
    weak_column, weak_sign = WEAK_SLOTS[settings.weak_slot](y, 2 + n + index)
    first_column, first_sign = jnp.where(weak, weak_column, 0), jnp.where(weak, weak_sign, y)
    order = jnp.array(settings.patch_order)
    column = jnp.stack([first_column, jnp.ones_like(index), 2 + index], axis=1)[:, order].astype(jnp.int32)
    sign = jnp.stack([first_sign, y, jnp.ones_like(y)], axis=1)[:, order]
    return {
        "train": {"x": sign[..., None] * basis[column], "y": y},
        "basis": basis,
        "gram": basis @ basis.T,
        "column": column,
        "sign": sign,
        "strong": ~weak,
        "test_noise": draw(key(hparams["seed"], "test"), settings.num_test),
    }


def spec(config: Any) -> Dataset:
    """Shapes of one lane's training data, without making them."""
    n, dim = config.data.n, config.data.dim
    x = jax.ShapeDtypeStruct((n, PATCHES, dim), jnp.float32)
    return Dataset(train={"x": x, "y": jax.ShapeDtypeStruct((n,), jnp.float32)}, tests={}, num_classes=1)


def describe(data: dict[str, Any]) -> dict[str, jax.Array]:
    """Arrays for a report: labels, mask of strong examples, norms of the features, squared norms of the noises."""
    n = data["train"]["y"].shape[1]
    lengths = jnp.diagonal(data["gram"], axis1=1, axis2=2)
    return {
        "y": data["train"]["y"],
        "strong": data["strong"],
        "u_norm": jnp.sqrt(lengths[:, 0]),
        "v_norm": jnp.sqrt(lengths[:, 1]),
        "noise_norm2": lengths[:, 2 : 2 + n],
    }
