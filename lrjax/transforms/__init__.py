r"""Optax transforms without weight decay that train the same functions as SGD with weight decay.

If scaling the weights does not change the loss, as where each layer is followed by a normalisation, then SGD with momentum
and weight decay computes the same functions, step by step, as SGD without weight decay under a learning rate that grows
exponentially (Li & Arora 2020, An Exponential Learning Rate Schedule for Deep Learning).

"I have add_decayed_weights + sgd, what do I write?"
----------------------------------------------------
`wd_free_sgd` with the numbers of your chain and the length of your run; start from the same weights. For the examples, a loss
that does not see the length of w, and a check that two optimizers lead to the same function:

>>> import jax, jax.numpy as jnp, optax
>>> x, y = jax.random.normal(jax.random.key(0), (20, 8, 4)), jax.random.normal(jax.random.key(1), (20, 8))
>>> predict = lambda w, x: x @ (w / jnp.linalg.norm(w))
>>> loss = lambda w, x, y: jnp.mean((predict(w, x) - y) ** 2)
>>> def trained(tx, w=jnp.array([1.0, 0.5, -0.5, 0.2])):
...     def step(carry, batch):
...         updates, state = tx.update(jax.grad(loss)(carry[0], *batch), carry[1], carry[0])
...         return (optax.apply_updates(carry[0], updates), state), None
...     return jax.lax.scan(step, (w, tx.init(w)), (x, y))[0]
>>> def same(before, after):
...     return bool(jnp.allclose(predict(trained(before)[0], x[0]), predict(trained(after)[0], x[0]), atol=1e-3))

A constant learning rate:

>>> before = optax.chain(optax.add_decayed_weights(0.01), optax.sgd(0.2, momentum=0.9))
>>> after = wd_free_sgd(0.2, 0.01, momentum=0.9, num_steps=20)
>>> same(before, after), same(before, optax.sgd(0.2, momentum=0.9))
(True, False)

Step decay; `texp` is the schedule of the paper, a pure exponential in each phase, which needs the corrections of the momentum
that `texp_schedule` alone cannot make:

>>> steps = optax.piecewise_constant_schedule(0.2, {10: 0.1})
>>> before = optax.chain(optax.add_decayed_weights(0.01), optax.sgd(steps, momentum=0.9))
>>> same(before, wd_free_sgd(steps, 0.01, momentum=0.9, num_steps=20))
True
>>> same(before, texp((10,), (0.2, 0.02), 0.01, momentum=0.9))
True

Cosine, or any other schedule, also with a warm-up from 0; weight decay and momentum may be schedules too:

>>> cosine = optax.cosine_decay_schedule(0.2, 20)
>>> before = optax.chain(optax.add_decayed_weights(0.01), optax.sgd(cosine, momentum=0.9))
>>> same(before, wd_free_sgd(cosine, 0.01, momentum=0.9, num_steps=20))
True

Nesterov:

>>> before = optax.chain(optax.add_decayed_weights(0.01), optax.sgd(cosine, momentum=0.9, nesterov=True))
>>> same(before, wd_free_sgd(cosine, 0.01, momentum=0.9, nesterov=True, num_steps=20))
True

SGDW, whose decay stays out of the buffer:

>>> before = optax.chain(optax.trace(0.9), optax.add_decayed_weights(0.01), optax.scale_by_learning_rate(cosine))
>>> same(before, wd_free_sgd(cosine, 0.01, momentum=0.9, decay="decoupled", num_steps=20))
True

A run whose length, or whose numbers, are not known on the host: leave num_steps out. This form takes traced values, `jax.vmap`
and `optax.inject_hyperparams`:

>>> before = optax.chain(optax.add_decayed_weights(0.01), optax.sgd(0.2, momentum=0.9))
>>> same(before, optax.inject_hyperparams(wd_free_sgd)(0.2, 0.01, momentum=0.9))
True

A trainable head, biases, or scales and shifts of a normalisation: convert the invariant group alone and leave the rest as it
was. Parameters that are only invariant together (all layers that feed one residual stream) belong to one group.

>>> def loss(params, x, y):
...     return jnp.mean((predict(params["w"], x) * params["head"] - y) ** 2)
>>> labels = {"w": "invariant", "head": "rest"}
>>> decayed = optax.chain(optax.add_decayed_weights(0.01), optax.sgd(0.2, momentum=0.9))
>>> free = wd_free_sgd(0.2, 0.01, momentum=0.9, num_steps=20)
>>> start = {"w": jnp.array([1.0, 0.5, -0.5, 0.2]), "head": jnp.ones(())}
>>> before, _ = trained(decayed, start)
>>> after, _ = trained(optax.partition({"invariant": free, "rest": decayed}, labels), start)
>>> bool(jnp.allclose(before["head"], after["head"], atol=1e-3))
True

A checkpoint in the middle of a run changes its representation, and back, by `to_wd_free` and `from_wd_free`:

>>> loss = lambda w, x, y: jnp.mean((predict(w, x) - y) ** 2)
>>> plan = wd_free_plan(0.2, 0.01, 0.9, num_steps=40)
>>> free = wd_free_sgd(0.2, 0.01, momentum=0.9, num_steps=40)
>>> w, state = trained(decayed)
>>> w_free, state_free = to_wd_free(w, state, plan, 20, free.init(w))
>>> w_back, state_back = from_wd_free(w_free, state_free, plan, 20, decayed.init(w))
>>> round(float(w[0] / w_free[0]), 4) == round(float(jnp.exp(plan.log_scale[20])), 4), bool(jnp.allclose(w, w_back))
(True, True)

The other way, an exponential rate as a learning rate with weight decay: `to_weight_decay`, per phase; `weight_decay_path` for
other choices of the scale, such as a constant norm.

Which network qualifies
-----------------------
Count degrees of homogeneity in the weights that are trained. The input has degree 0; a linear or convolutional layer adds 1;
a bias keeps 1 at 1 and breaks all else; a normalisation gives 0, with a trained scale or shift 1; ReLU and pooling change
nothing; a sum needs equal degrees. The loss is invariant if the input of the last layer, which is not trained, has degree 0.
So: normalisation after each layer and in shortcuts with a convolution, eps = 0, a frozen last layer, scales and shifts
frozen. Where this does not hold for all weights, convert the group for which it does. `scale_invariance(loss_fn, params)`
tells.

What breaks the equality without an error, and the tool: an eps in the normalisation (it must follow P^-2: `scale_eps`),
running statistics, which average over steps of different scale (`correct_statistics`, `recompute_statistics`), thresholds of
clipping, since gradients grow by P (`clip_by_scaled_norm`), the end of float32 (`gauge_rescale`). Averages of weights must
average P theta; batches, augmentation and dropout must be the same.

AdamW becomes Adam: `wd_free_adamw(learning_rate, b1, b2, eps, weight_decay)`.

What it costs
-------------
A step of `wd_free_sgd` reads gradients and buffer and writes updates and buffer: 3 operations a parameter with heavy-ball
momentum, where `chain(add_decayed_weights, sgd)` needs 5 and reads the parameters too. `texp` reads the parameters for its
corrections. The state is that of `sgd` and two integers; the open-ended form has four floats more. A table takes 12 bytes a
step.

In float32 the rate of a run at 0.1, 5e-4, momentum 0.9 leaves range after 90591 steps (232 epochs of CIFAR-10), which is an
error before the run starts; with `gauge_rescale` between chunks of steps, and `rescaled=True`, it goes on without end.
"""

from lrjax.transforms.adamw import WDFreeAdamState, wd_free_adamw
from lrjax.transforms.conversion import from_wd_free, to_wd_free
from lrjax.transforms.equilibrium import (
    adamw_angular_update,
    adamw_rms,
    angular_update,
    limit_fraction,
    time_to_equilibrium,
)
from lrjax.transforms.gauge import gauge_rescale, times_power_of_two
from lrjax.transforms.invariance import InvarianceReport, Obstacle, ScaleGroup, scale_invariance
from lrjax.transforms.inverse import WeightDecayPath, constant_norm, to_weight_decay, weight_decay_path
from lrjax.transforms.plan import WDFreePlan, WDFreeTables, wd_free_plan, wd_free_tables
from lrjax.transforms.scaling import (
    clip_by_scaled_norm,
    correct_statistics,
    recompute_statistics,
    scale_eps,
    scaled_eps,
    statistic_powers,
)
from lrjax.transforms.sgd import OpenWDFreeState, WDFreeState, follow_plan, follow_row, wd_free_sgd
from lrjax.transforms.texp import TEXPState, texp, texp_schedule
from lrjax.transforms.texp_tables import texp_tables

__all__ = [
    "InvarianceReport",
    "Obstacle",
    "OpenWDFreeState",
    "ScaleGroup",
    "TEXPState",
    "WDFreeAdamState",
    "WDFreePlan",
    "WDFreeState",
    "WDFreeTables",
    "WeightDecayPath",
    "adamw_angular_update",
    "adamw_rms",
    "angular_update",
    "clip_by_scaled_norm",
    "constant_norm",
    "correct_statistics",
    "follow_plan",
    "follow_row",
    "from_wd_free",
    "gauge_rescale",
    "limit_fraction",
    "recompute_statistics",
    "scale_eps",
    "scale_invariance",
    "scaled_eps",
    "statistic_powers",
    "texp",
    "texp_schedule",
    "texp_tables",
    "time_to_equilibrium",
    "times_power_of_two",
    "to_wd_free",
    "to_weight_decay",
    "wd_free_adamw",
    "wd_free_plan",
    "wd_free_sgd",
    "wd_free_tables",
    "weight_decay_path",
]
