"""SGD with momentum, Nesterov and coupled L2 takes the steps that PyTorch's takes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrjax.experiment.config.canonical import freeze
from lrjax.experiment.step.direct import optimizer

RATES = np.where(np.arange(100) < 50, 0.05, 0.005)


def problem():
    random = np.random.default_rng(0)
    x, target = random.normal(size=(32, 8)), random.normal(size=(32, 3))
    return x.astype(np.float32), target.astype(np.float32), random.normal(size=(8, 3)).astype(np.float32)


def ours(momentum, nesterov, l2):
    x, target, weights = problem()
    structure = freeze(
        {"optimizer": {"name": "sgd", "learning_rate": 0.0, "momentum": 0.0, "nesterov": nesterov, "l2": 0.0}}
    )
    hparams = {"optimizer.momentum": jnp.float32(momentum), "optimizer.l2": jnp.float32(l2)}

    @jax.jit
    def one(weights, state, rate):
        gradient = jax.grad(lambda w: jnp.mean(jnp.square(jnp.tanh(x @ w) - target)))(weights)
        updates, state = optimizer(structure, hparams, rate).update(gradient, state, weights)
        return optax.apply_updates(weights, updates), state

    weights = jnp.asarray(weights)
    state, path = optimizer(structure, hparams, jnp.float32(0)).init(weights), []
    for rate in RATES:
        weights, state = one(weights, state, jnp.float32(rate))
        path.append(np.asarray(weights))
    return np.array(path)


def theirs(torch, momentum, nesterov, l2):
    x, target, weights = (torch.tensor(a) for a in problem())
    weights.requires_grad_()
    optimizer = torch.optim.SGD([weights], lr=0.1, momentum=momentum, nesterov=nesterov, weight_decay=l2)
    path = []
    for rate in RATES:
        optimizer.param_groups[0]["lr"] = float(rate)
        optimizer.zero_grad()
        torch.mean((torch.tanh(x @ weights) - target) ** 2).backward()
        optimizer.step()
        path.append(weights.detach().numpy().copy())
    return np.array(path)


@pytest.mark.peers
@pytest.mark.parametrize(
    ("momentum", "nesterov", "l2"),
    [(0.0, False, 0.0), (0.0, False, 5e-2), (0.9, False, 0.0), (0.9, False, 5e-2), (0.9, True, 0.0), (0.9, True, 5e-2)],
)
def test_sgd_equals_that_of_pytorch_over_a_hundred_steps_and_a_decay(momentum, nesterov, l2):
    torch = pytest.importorskip("torch")
    np.testing.assert_allclose(ours(momentum, nesterov, l2), theirs(torch, momentum, nesterov, l2), rtol=0, atol=1e-6)


def test_the_rate_acts_outside_the_momentum_buffer():
    # Were it inside, the step after a decay would still be made with the old rate.
    path = ours(0.9, False, 0.0)
    before, after = (np.linalg.norm(path[t] - path[t - 1]) for t in (49, 50))
    assert after < 0.2 * before
