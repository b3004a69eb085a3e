"""What an experiment would take, at any scale, from shapes alone: no data, no training."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrjax import data, step, sweep
from lrjax.config import Config


def _bytes(tree: Any) -> int:
    return sum(int(np.prod(leaf.shape)) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(tree))


def _abstract_data(group: sweep.Group, hyper: Any) -> Any:
    source = data.DATASETS[group.structure.data.name]
    if source.per_lane:
        return jax.eval_shape(lambda h: source.load(group.structure, h), hyper)
    spec = source.spec(group.lanes[0].config)
    return {"train": spec.train, "tests": spec.tests}


def _activations(group: sweep.Group, state: Any, arrays: Any) -> int:
    """Bytes that the backward pass of one batch keeps, from the residuals of the model's VJP."""
    structure = group.structure
    source = data.DATASETS[structure.data.name]
    model = step.models.build_model(structure.model, source.spec(group.lanes[0].config).num_classes)
    x = jax.ShapeDtypeStruct((structure.batch_size, *arrays["train"]["x"].shape[1:]), arrays["train"]["x"].dtype)

    def backward(params: Any, model_state: Any, batch: jax.Array) -> Any:
        return jax.vjp(lambda p: model.apply(p, model_state, batch, train=True, key=None)[0], params)[1]

    kept = _bytes(jax.eval_shape(backward, state.params, state.model_state, x))
    return max(0, kept - _bytes(state.params))


def estimate(group: sweep.Group) -> dict[str, Any]:
    """Numbers of one group of lanes (of equal structure), per lane where not said otherwise.

    Returns:
        lanes; steps (all lanes); parameters; state, data, activations in bytes; flops_per_step; flops (all lanes).
    """
    hyper = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in group.lanes[0].hyper().items()}
    arrays = _abstract_data(group, hyper)
    num_classes = data.DATASETS[group.structure.data.name].spec(group.lanes[0].config).num_classes
    engine = step.ENGINES[group.structure.engine](group.structure, num_classes)
    state = jax.eval_shape(lambda h, d: step.init_state(engine, group.structure, h, d), hyper, arrays)
    row = step.Row(
        jax.ShapeDtypeStruct((group.structure.batch_size,), jnp.int32),
        jax.ShapeDtypeStruct((), jnp.float32),
        jax.ShapeDtypeStruct((), jnp.bool_),
        jax.tree.map(lambda a: jax.ShapeDtypeStruct((), a.dtype), group.lanes[0].plan()),
    )
    one = jax.jit(lambda s, h, d, r: step.train_step(engine, group.structure, s, h, d, r))
    flops = (one.lower(state, hyper, arrays, row).cost_analysis() or {}).get("flops", float("nan"))
    steps = sum(lane.config.steps for lane in group.lanes)
    return {
        "lanes": len(group.lanes),
        "steps": steps,
        "parameters": sum(int(np.prod(p.shape)) for p in jax.tree.leaves(state.params)),
        "state": _bytes(state),
        "data": _bytes(arrays),
        "shapes": jax.tree.map(lambda a: a.shape, state.params),
        "activations": _activations(group, state, arrays) if group.structure.engine == "direct" else 0,
        "flops_per_step": flops,
        "flops": flops * steps,
        "batch": arrays["train"]["x"].shape,
    }


def _human(number: float, unit: str) -> str:
    for prefix in ("", "k", "M", "G", "T", "P", "E"):
        if abs(number) < 1000 or prefix == "E":
            return f"{number:.3g} {prefix}{unit}".strip()
        number /= 1000
    raise AssertionError("unreachable")


def describe(config: Config) -> str:
    """The text of `--dry_run`: shapes, parameters, memory, steps and estimated FLOPs of every group of lanes.

    Raises:
        LrjaxError: the config is wrong.

    Example:
        >>> import lrjax
        >>> text = describe(lrjax.load_config("configs/benign_osc.py:E2,scale=paper"))
        >>> "parameters" in text and "FLOPs" in text
        True
    """
    lines = [f"{config.paper}:{config.experiment}, scale={config.scale} (dry run: shapes only)"]
    total = 0.0
    for group in sweep.plan(config):
        found = estimate(group)
        structure = group.structure
        resident = structure.lanes_per_device if data.DATASETS[structure.data.name].per_lane else 1
        memory = structure.lanes_per_device * (2 * found["state"] + found["activations"]) + resident * found["data"]
        total += found["flops"]
        arms = ", ".join(dict.fromkeys(lane.arm for lane in group.lanes))
        lines += [
            f"\n{structure.model.name} on {structure.data.name}, engine {structure.engine}: {arms}",
            f"  lanes          {found['lanes']} ({structure.lanes_per_device} at a time on a device)",
            f"  steps          {found['steps']} over all lanes, batch size {structure.batch_size}",
            f"  training set   {found['batch']}",
            f"  parameters     {found['parameters']:,} a lane",
            f"  memory         {_human(memory, 'B')} a device (state and gradient {_human(2 * found['state'], 'B')}, "
            f"activations {_human(found['activations'], 'B')}, data {_human(found['data'], 'B')})",
            f"  FLOPs          {_human(found['flops_per_step'], '')} a step, {_human(found['flops'], '')} in all",
        ]
        shapes = jax.tree_util.tree_leaves_with_path(found["shapes"], is_leaf=lambda x: isinstance(x, tuple))
        lines += [f"    {jax.tree_util.keystr(path)} {shape}" for path, shape in shapes[:40]]
        lines += [f"    ... and {len(shapes) - 40} more arrays"] if len(shapes) > 40 else []
    return "\n".join(
        [*lines, f"\nestimated FLOPs of the experiment: {_human(total, '')} (training steps; probes not counted)"]
    )
