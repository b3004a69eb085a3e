"""What `tests/test_parallel.py` runs in a process with simulated devices: `python -m tests.on_devices TASK ... OUT`."""

import json
import re
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh

import lrjax
import lrjax.probes  # registers the probes that configs name
from lrjax import data
from lrjax.data.dataset import Dataset, Source
from lrjax.devices import hosts, parallel
from lrjax.experiment.loop import block, sweep
from lrjax.experiment.step.engines import ENGINES
from lrjax.experiment.step.train_step import StepInputs, init_state, train_step
from tests.runs import tiny

COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
STEPS = 20


def random_images(config):
    """A fixed random problem of the size of a batch or two."""
    random = np.random.default_rng(0)
    split = {
        "x": random.normal(size=(32, 16, 16, 3)).astype(np.float32),
        "y": random.integers(0, 10, 32).astype(np.int32),
    }
    return Dataset(train=split, tests={"test": split}, num_classes=10)


def shapes(config):
    """The shapes of `random_images`."""
    train, tests, num_classes = random_images(config)
    train, tests = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), (train, tests))
    return Dataset(train, tests, num_classes)


def image_config(**overrides):
    """One lane of a small convolutional network on random images, far from chaos."""
    spec = "configs/benign_osc.py:E0,scale=smoke"
    config = lrjax.load_config(
        spec,
        {
            **{f"arms.{arm}": None for arm in lrjax.load_config(spec).arms},
            "optimizer.learning_rate": 0.01,
            "model.width": 4,
            "batch_size": 16,
            "steps": STEPS,
            "log_every": 10,
            **overrides,
        },
    )
    with config.unlocked():
        config.arms, config.data.name, config.probes = type(config)(), "random_images", type(config)({"accuracy": 10})
    return config


def perceptron(**overrides):
    """`image_config` with a small perceptron and BatchNorm, which compiles in no time."""
    config = image_config(**overrides)
    with config.unlocked():
        config.model = type(config)({"name": "mlp", "widths": (16,), "norm": "batch"})
        config.probes = type(config)()
    return config


def compiled_step(program, state, hparams, arrays, rows, mesh):
    """The text of the compiled step, and the FLOPs of one device."""
    with jax.set_mesh(mesh):
        made = program.advance.compiled.lower(state, hparams, arrays, rows).compile()
    return made.as_text(), made.cost_analysis()["flops"]


def collectives(text):
    """Which collective operations a program holds."""
    return [name for name in COLLECTIVES if name in text]


def reduced(text):
    """How many numbers its all-reduces sum over the devices."""
    results = re.findall(r"= (.*?) all-reduce(?:-start)?\(", text)
    shapes = [shape for result in results for shape in re.findall(r"\w+\[([\d,]*)\]", result)]
    return sum(int(np.prod([int(size) for size in shape.split(",") if size])) for shape in shapes)


def first_block(config, mesh=None):
    """The first block of a run, ready to advance."""
    group = sweep.expand(config)[0]
    mesh = mesh or parallel.make_mesh(config.data_devices, len(group.lanes), group.static.batch_size)
    source = data.DATASETS[group.static.data.name]
    shared = None
    if not source.per_lane:
        loaded = source.load(group.lanes[0].config)
        shared = parallel.put_shared({"train": loaded.train, "tests": loaded.tests}, mesh)
    size = group.static.lanes_per_device * parallel.sweep_devices(mesh)
    made = block.Block(0, group, sweep.blocks(group, size)[0], mesh, shared)
    state = parallel.put_lanes(made.start().state, mesh)
    rows = block.rows_of(made.orders.rows(0, made.chunk), made.tables, 0)
    if group.static.step_loop == "host":
        rows = jax.tree.map(lambda a: a[:, :1], rows)
    return made, state, parallel.put_lanes(rows, mesh)


def communication(config, mesh=None):
    """What the step of the first block of a run sends between devices, and what it computes on each."""
    made, state, rows = first_block(config, mesh)
    text, flops = compiled_step(made.program, state, made.hparams, made.data, rows, made.mesh)
    params = sum(leaf.size for leaf in jax.tree.leaves(state.params)) // made.size
    return {"collectives": collectives(text), "reduced": reduced(text), "params": params, "flops": flops}


def weak_scaling_task():
    """Compiles the step on the first 1, 2, 4 and 8 devices: a lane more, or a part of a batch more, on each of them."""
    data.DATASETS["random_images"] = Source(random_images, shapes)
    found = {}
    for count in (1, 2, 4, 8):
        devices = np.array(jax.devices()[:count])
        kinds = {"axis_names": ("sweep", "data"), "axis_types": (AxisType.Auto,) * 2}
        along = [Mesh(devices.reshape(shape), **kinds) for shape in ((count, 1), (1, count))]
        lanes = tiny({"sweep.e": (0.5,), "sweep.seed": tuple(range(count)), "lanes_per_device": 2})
        found[count] = {
            "sweep": communication(lanes, along[0]),
            "data": communication(perceptron(batch_size=4 * count), along[1]),
        }
    return found


def sweep_task(engine, out):
    """Runs 15 lanes, which no number of devices but one divides."""
    config = tiny({"engine": engine, "sweep.e": (0.5, 1.1, 1.25), "sweep.seed": (0, 1, 2)})
    lrjax.run(config, out)
    return communication(config)["collectives"]


def data_task(out):
    """Runs one lane whose batch all devices share."""
    data.DATASETS["random_images"] = Source(random_images, shapes)
    config = image_config()
    lrjax.run(config, out)
    return communication(config)["collectives"]


def both_task(out):
    """Runs two lanes, each batch shared by two devices where there are as many: what one lane has, the other has not."""
    data.DATASETS["random_images"] = Source(random_images, shapes)
    spectrum = {"spectra.k": 2, "spectra.examples": 16, "spectra.batch_size": 8, "spectra.tol": 1e-4}
    config = perceptron(data_devices=min(2, jax.device_count()), **spectrum)
    with config.unlocked():
        config.sweep.seed = (0, 1)
        config.probes.spectrum = STEPS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of so few examples for a spectrum
        lrjax.run(config, out)
    return communication(config)["collectives"]


def pmap_task(out):
    """Takes the pure step through `jax.pmap` over the batch and, beside it, through `jax.jit` on the whole batch."""
    data.DATASETS["random_images"] = Source(random_images, shapes)
    group = sweep.expand(image_config(data_devices=1))[0]
    lane, static, count = group.lanes[0], group.static, jax.device_count()
    engine = ENGINES["direct"](static, 10)
    hparams = {name: jnp.asarray(value) for name, value in lane.hparams().items()}
    arrays = jax.tree.map(jnp.asarray, {"train": random_images(None).train})
    rates = lane.learning_rates()
    start = init_state(engine, static, hparams, arrays)
    index = data.order.Orders([0], ["shuffle"], 32, static.batch_size).rows(0, STEPS)[0]

    whole = jax.jit(lambda s, r: train_step(engine, static, s, hparams, arrays, r))
    parts = jax.pmap(lambda s, r: train_step(engine, static, s, hparams, arrays, r, axis_name="data"), axis_name="data")
    one, many = start, jax.tree.map(lambda a: jnp.broadcast_to(a[None], (count, *a.shape)), start)
    losses = []
    for t in range(STEPS):
        rate, active = jnp.asarray(rates[t]), jnp.asarray(True)
        one, metrics = whole(one, StepInputs(jnp.asarray(index[t]), rate, active))
        shards = StepInputs(index[t].reshape(count, -1), np.full(count, rate), np.full(count, True))
        many, spread = parts(many, shards)
        losses.append([float(metrics["loss"]), float(spread["loss"][0])])
    Path(out).mkdir()
    named = {"one": one.params, "many": many.params}
    flat = {
        f"{which}{jax.tree_util.keystr(path)}": np.asarray(leaf)
        for which, tree in named.items()
        for path, leaf in jax.tree.leaves_with_path(tree)
    }
    np.savez(Path(out) / "params.npz", losses=np.array(losses), **flat)
    return []


TASKS = {
    "sweep": sweep_task,
    "data": data_task,
    "both": both_task,
    "pmap": pmap_task,
    "weak_scaling": weak_scaling_task,
}

if __name__ == "__main__":
    with hosts.joined({}):
        found = TASKS[sys.argv[1]](*sys.argv[2:])
    print(json.dumps({"devices": jax.device_count(), "collectives": found}))
