"""What the monitor costs at its defaults in the examples of the notebooks: `python -m tests.benchmarks.monitor_overhead mlp`.

Steps of the training and measurements alternate. The median of an instrument over its interval is its share. With a second
word, `whole`, a run of 10,000 steps is made, and what `share()` says of it is printed: with all that a visit does beside.
Examples: mlp (Equinox, SGD), lm (Linen, AdamW), muon (Linen, partition), resnet (NNX, SGD with momentum); inputs are random.
"""

import json
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import lrjax
from lrjax.monitor import measure

COLABS = Path(__file__).parents[2] / "colabs"
ROUNDS = 7
HORIZON = 10_000
rng = np.random.default_rng(0)


def cells(name):
    """Code of a notebook without the cell that installs."""
    notebook = json.loads((COLABS / f"monitor_{name}.ipynb").read_text())
    lines = [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"][1:]
    return ["".join(line for line in source if not line.startswith("%")) for source in lines]  # commands of IPython


def imports(cell):
    return cell.split("import tensorflow_datasets")[0]


def resnet():
    data, model, loop, *_ = cells("images")
    space = {"images": rng.normal(size=(2000, 32, 32, 3)).astype(np.float32), "labels": rng.integers(0, 10, 2000)}
    exec("\n".join([imports(data), "def batch_of" + data.split("def batch_of")[1], model]), space)
    exec(loop.split("monitor = ")[0], space)
    net, optimizer, nnx = space["model"], space["optimizer"], space["nnx"]
    monitor = lrjax.Monitor(space["monitored"], optimizer, num_steps=HORIZON, groups="block")
    return (
        monitor,
        lambda: (nnx.state(net, nnx.Param), optimizer.opt_state),
        lambda: space["batch_of"](rng),
        lambda batch: jax.block_until_ready(space["train_step"](net, optimizer, batch)),
    )


def text(choose):
    data, model, adamw, *_, muon, _ = cells("text")
    tokens = rng.integers(2, 2000, (2000, 33)) * (np.arange(33) < rng.integers(8, 33, (2000, 1)))
    space = {"PAD": 0, "VOCABULARY": 2000, "LENGTH": 32, "tokens": tokens.astype(np.int32)}
    exec("\n".join([imports(data), model]), space)
    space["steps"] = HORIZON
    exec((muon if choose == "muon" else adamw).split("print(")[0].split("monitor = ")[0], space)
    tx = space[choose]
    settings = {"groups": ("labels", space["labels"])} if choose == "muon" else {"learning_rate": space["schedule"]}
    monitor = lrjax.Monitor(space["loss_fn"], tx, num_steps=HORIZON, **settings)
    now = [space["TrainState"].create(apply_fn=None, params=space["params"], tx=tx)]

    def batch():
        chosen = space["tokens"][rng.integers(0, 2000, 32)]
        return {"tokens": chosen, "mask": (chosen[:, 1:] != 0).astype(np.float32)}

    def step(batch):
        now[0], loss = space["train_step"](now[0], batch)
        jax.block_until_ready(loss)

    return monitor, lambda: (now[0].params, now[0].opt_state), batch, step


def mlp():
    data, loop, *_ = cells("spike")
    images, labels = rng.normal(size=(2000, 3072)).astype(np.float32), rng.integers(0, 10, 2000)
    space = {"images": images, "labels": labels}
    exec(imports(data) + loop.split("rate, steps = ")[0], space)
    loss, tx = space["loss_fn"], optax.sgd(1e-2)
    now = [space["initial"], tx.init(space["initial"])]

    @jax.jit
    def train_step(params, state, batch):
        value, gradient = jax.value_and_grad(loss)(params, batch)
        updates, state = tx.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    def batch():
        index = rng.integers(0, 2000, 64)
        return images[index], labels[index]

    def step(batch):
        now[:] = jax.block_until_ready(train_step(*now, batch))[:2]

    return lrjax.Monitor(loss, tx, learning_rate=1e-2, num_steps=HORIZON), lambda: tuple(now), batch, step


EXAMPLES = {"mlp": mlp, "lm": lambda: text("adamw"), "muon": lambda: text("muon"), "resnet": resnet}


def main(example):
    """Prints a row an instrument and the shares of both tiers, of wall and of CPU time."""
    monitor, state, batch, step = EXAMPLES[example]()
    step(batch())
    monitor.update(0, *state(), batch())
    setup = monitor._setup
    while setup.wants_batches:
        setup.collect(batch())
    setup.last_batch = batch()
    names = [name for name in measure.INSTRUMENTS if setup.rows[name].interval]
    spent = {name: [] for name in (*names, "train", "mean")}

    def timed(name, function, *arguments):
        wall, cpu = time.perf_counter(), time.process_time()
        function(*arguments)
        spent[name].append((time.perf_counter() - wall, time.process_time() - cpu))

    zeros = jax.tree.map(lambda p: jnp.zeros(p.shape), state()[0])
    for turn in range(ROUNDS + 1):
        for name in names:
            if name == "sharpness" and turn > 3:
                continue
            step(batch())
            timed("train", step, batch())
            # As in a visit, where the virtual step comes first.
            setup.made = jax.block_until_ready(setup.programs("virtual", *state(), batch()))
            timed(name, measure.INSTRUMENTS[name], setup, *state(), batch(), state()[0])
        timed("mean", lambda: jax.block_until_ready(setup.programs("mean", zeros, state()[0], np.float32(2))))
    medians = {name: np.median(rows[1:], axis=0) for name, rows in spent.items()}
    print(
        f"{example}: a training step takes {medians['train'][0] * 1e3:.1f} ms, {medians['train'][1] * 1e3:.1f} ms of CPU"
    )
    shares = np.zeros((2, 2))
    for name in names:
        row, steps = setup.rows[name], medians[name] / medians["train"]
        shares[row.tier - 1] += steps / row.interval
        print(
            f"  {name:16} every {row.interval:6}: counted {row.cost:6.2f} steps, wall {steps[0]:6.2f}, CPU {steps[1]:6.2f}"
        )
    shares[0] += 16 / setup.rows["gap"].interval * medians["mean"] / medians["train"]
    for title, (wall, cpu) in (("tier 1", shares[0]), ("both tiers", shares.sum(0))):
        print(f"  {title}: {wall:.1%} of wall time, {cpu:.1%} of CPU time")


def whole(example):
    """Prints the shares that a monitor measures in a whole run."""
    monitor, state, batch, step = EXAMPLES[example]()
    batches = [batch() for _ in range(64)]
    for index in range(HORIZON):
        monitor.update(index, *state(), batches[index % 64])
        step(batches[index % 64])
    first, second = monitor.share()
    print(f"{example}: tier 1 {first:.1%}, both tiers {first + second:.1%} of the time of {HORIZON} steps")


if __name__ == "__main__":
    (whole if sys.argv[2:] == ["whole"] else main)(sys.argv[1])
