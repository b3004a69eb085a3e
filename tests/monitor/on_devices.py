"""What `test_monitor.py` runs in processes with simulated devices: `python -m tests.monitor.on_devices`."""

import json
import math

import jax
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from lrjax.monitor import Monitor
from tests.monitor import loops

STEPS = 60


def run(mesh, watch):
    """A loop whose batches lie spread over all devices, with the parameters on each of them."""
    spread, everywhere = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), ()))
    optimizer = optax.adamw(1e-2)
    params = jax.device_put(loops.plain_params(), everywhere)
    state = jax.device_put(optimizer.init(params), everywhere)
    monitor = Monitor(loops.plain_loss, optimizer, learning_rate=1e-2, num_steps=STEPS, every=2, budget=0.9)

    @jax.jit
    def step(params, state, batch):
        updates, state = optimizer.update(jax.grad(loops.plain_loss)(params, batch), state, params)
        return optax.apply_updates(params, updates), state

    for index in range(STEPS):
        batch = jax.device_put(loops.batch_of(index), spread)
        if watch:
            monitor.update(index, params, state, batch)
        params, state = step(params, state, batch)
    return params, monitor


if __name__ == "__main__":
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    (with_it, monitor), (without, _) = run(mesh, True), run(mesh, False)
    pairs = zip(jax.tree.leaves(with_it), jax.tree.leaves(without), strict=True)
    rows = [
        {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in row.items()}
        for row in monitor.rows()
    ]
    found = {
        "devices": jax.device_count(),
        "equal": all(np.array_equal(a, b) for a, b in pairs),
        "compiled": monitor._setup.programs.compiled(),
        "rows": rows,
    }
    print(json.dumps(found))
