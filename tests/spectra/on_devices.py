"""What `tests/spectra/test_bound.py` runs in processes of their own: `python -m tests.spectra.on_devices TASK ...`."""

import json
import re
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType

from lrjax.spectra import bind, hessian, lanczos
from lrjax.spectra.values_only import extreme_values
from tests.spectra import problems

SIZES = (8, 8, 8, 3)  # four devices divide all but the last


def small_problem():
    """Every operator, parameters and batches of the two-layer linear network, and its drawn labels."""
    problem, key = problems.two_layer_linear(), jax.random.key(7)
    params, batch = problems.cast((problem.params, problem.batch), np.float32)
    table = problems.operator_table(problem.predict, problem.losses, problem.distribution, key)
    return table | problems.preconditioned_table(table), params, problems.split(batch, SIZES)


def mesh_of_all():
    return jax.make_mesh((jax.device_count(),), ("examples",), axis_types=(AxisType.Auto,))


def compiled(bound, batch):
    """The compiled product of one batch."""
    made = bound._matmat.__wrapped__
    rows = jnp.eye(bound.size, dtype=bound.dtype)
    return str(made.add.lower(*made.arguments(batch, 0, None), rows, 1.0, rows).compile().as_text())


def operators(out):
    """The dense matrix of every operator, with the data spread over the devices; whether one product communicates."""
    table, params, batches = small_problem()
    mesh, found = mesh_of_all(), {}
    for name, operator in table.items():
        bound = bind(operator, params, batches, mesh=mesh, checks=False)
        found[name] = problems.dense(bound)
    np.savez(out, **found)
    bound = bind(table["hessian"], params, batches, mesh=mesh)
    placed = bound._matmat.__wrapped__.data.source
    return {
        "devices": jax.device_count(),
        "all_reduce": "all-reduce" in compiled(bound, placed[0]),
        "split": [not batch[0].sharding.is_fully_replicated for batch in placed],
    }


def processes(number, port, out):
    """Hessian products and eigenvalues in one of two processes, each with the same batches."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", 2, int(number))
    table, params, batches = small_problem()
    bound = bind(table["hessian"], params, batches, mesh=mesh_of_all())
    rows = jax.random.normal(jax.random.key(1), (3, bound.size))
    streamed = bind(table["gradient_covariance"], params, lambda: iter(batches), mesh=mesh_of_all(), keep_bytes=10**8)
    found = lanczos(bound, 3, tol=1e-5)
    arrays = {
        "rows": rows,
        "products": bound.matmat(rows),
        "covariance": streamed.matmat(rows),
        "values": found.values,
        "vectors": found.vectors,
    }
    np.savez(out, **jax.tree.map(np.asarray, arrays))
    jax.distributed.shutdown()
    return {"devices": jax.device_count(), "processes": jax.process_count()}


def _bytes(field):
    return 1024 * int(re.findall(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())[0])


def _peak(call):
    """Bytes that a call needs beside what is held before it, and the products it made."""
    resting = []
    for _ in range(10):  # buffers of programs that have just finished are given back in the background
        time.sleep(0.1)
        resting.append(_bytes("VmRSS"))
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    done = call()
    jax.block_until_ready(done.vectors)
    return _bytes("VmHWM") - min(resting), done.products


def memory(size, steps):
    """Peak memory of both forms of Lanczos, in vectors of the size of the parameters, on a quadratic loss."""
    size, steps = int(size), int(steps)

    def loss(params, batch):
        return 0.5 * jnp.mean(batch) * jnp.sum(jnp.arange(size, dtype=jnp.float32) / size * params**2)

    bound = bind(hessian(loss), jnp.ones(size), [jnp.ones(4)])
    found = {}
    for name, search in {"vectors": lanczos, "values": extreme_values}.items():
        # Compiling needs memory too. So loose a tolerance is met in a few steps.
        jax.block_until_ready(search(bound, 5, max_steps=steps, tol=1e9).vectors)
        needed, products = _peak(lambda search=search: search(bound, 5, max_steps=steps))
        found[name] = {"peak": needed / (4 * size), "products": products}
    return found


TASKS = {"operators": operators, "processes": processes, "memory": memory}

if __name__ == "__main__":
    print(json.dumps(TASKS[sys.argv[1]](*sys.argv[2:])))
