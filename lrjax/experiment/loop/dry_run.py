"""Cost of an experiment (memory, parameters, FLOPs) from shapes alone: no data, no training."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrjax import data
from lrjax.devices import accelerators, parallel
from lrjax.devices.flops import count
from lrjax.experiment.config.canonical import Config
from lrjax.experiment.loop import calibrate, card_time, sweep
from lrjax.experiment.loop.precision import precision_of
from lrjax.experiment.step.engines import ENGINES
from lrjax.experiment.step.hparams import HParams
from lrjax.experiment.step.train_step import Engine, StepInputs, init_state, train_step

CARD_SCALES = ("medium", "paper")  # for which a CPU is too slow


def _bytes(tree: Any) -> int:
    return sum(int(np.prod(leaf.shape)) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(tree))


def _abstract_data(group: sweep.Group, hparams: dict[str, jax.ShapeDtypeStruct]) -> Any:
    source = data.DATASETS[group.static.data.name]
    if source.per_lane:
        return jax.eval_shape(lambda h: source.load(group.static, h), hparams)
    spec = source.spec(group.lanes[0].config)
    return {"train": spec.train, "tests": spec.tests}


def _arguments(group: sweep.Group) -> tuple[Engine, Any, Any, Any, StepInputs]:
    """The engine of a group, and the shapes of what a step of one lane takes: state, hparams, data, row."""
    static, lane = group.static, group.lanes[0]
    hparams = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in lane.hparams().items()}
    arrays = _abstract_data(group, hparams)
    num_classes = data.DATASETS[static.data.name].spec(lane.config).num_classes
    engine = ENGINES[static.engine](static, num_classes)
    state = jax.eval_shape(lambda h, d: init_state(engine, static, h, d), hparams, arrays)
    row = StepInputs(
        jax.ShapeDtypeStruct((static.batch_size,), jnp.int32),
        jax.ShapeDtypeStruct((), jnp.float32),
        jax.ShapeDtypeStruct((), jnp.bool_),
        jax.tree.map(lambda a: jax.ShapeDtypeStruct((), a.dtype), lane.coefficients()),
    )
    return engine, state, hparams, arrays, row


def compiled_memory(group: sweep.Group) -> accelerators.Memory:
    """Memory of the compiled training step of as many lanes as a device has at a time; probes are not counted."""
    static = group.static
    shared = () if data.DATASETS[static.data.name].per_lane else (2,)

    def program() -> tuple[Any, tuple[Any, ...]]:
        engine, *arguments = _arguments(group)
        loop = parallel.best_lane_loop(static.engine) if static.lane_loop == "auto" else static.lane_loop

        def one(state: Any, hparams: HParams, arrays: Any, row: StepInputs) -> Any:
            return train_step(engine, static, state, hparams, arrays, row)

        def several(tree: Any) -> Any:
            return jax.tree.map(lambda a: jax.ShapeDtypeStruct((static.lanes_per_device, *a.shape), a.dtype), tree)

        sizes = tuple(tree if place in shared else several(tree) for place, tree in enumerate(arguments))
        return parallel.LANE_LOOPS[loop](one, shared), sizes

    return accelerators.compiled_memory(program)


def estimate(group: sweep.Group) -> dict[str, Any]:
    """Numbers of one group of lanes (of equal static config), per lane where not said otherwise.

    Returns:
        lanes; steps (all lanes); parameters; state, data in bytes; flops_per_step; flops (all lanes).
    """
    engine, state, hparams, arrays, row = _arguments(group)
    flops = count(lambda s, h, d, r: train_step(engine, group.static, s, h, d, r), state, hparams, arrays, row)
    steps = sum(lane.config.steps for lane in group.lanes)
    return {
        "lanes": len(group.lanes),
        "steps": steps,
        "parameters": sum(int(np.prod(p.shape)) for p in jax.tree.leaves(state.params)),
        "state": _bytes(state),
        "data": _bytes(arrays),
        "shapes": jax.tree.map(lambda a: a.shape, state.params),
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


def _memory(group: sweep.Group, state: int, arrays: int, compiled: bool) -> str:
    """The line on memory: what the compiled step takes, and the smallest device with room for it."""
    known = f"state {_human(state, 'B')} a lane, data {_human(arrays, 'B')}"
    if not compiled:
        return (
            f"{_human(group.static.lanes_per_device * state + arrays, 'B')} before activations ({known}); not compiled"
        )
    found = compiled_memory(group)
    needed, device = found.needed, found.compiled_for
    if needed is None:
        return f"1 {device} does not hold it ({known}): try remat, compute_dtype='bfloat16' or fewer lanes_per_device"
    room = accelerators.smallest_device(needed) or "no device that lrjax knows of"
    return f"{_human(needed, 'B')}, compiled for a {device} ({known}): fits {room}"


def describe(config: Config, *, compiled: bool = True, timed: bool | None = None) -> str:
    """The text of `--dry_run`: shapes, parameters, memory, steps, estimated FLOPs and time of every group of lanes.

    Args:
        config: as from `lrjax.load_config`.
        compiled: compile the step of each group for the memory it takes, which lasts minutes for a deep network, and time
            a few steps on this machine.
        timed: estimate the time too, where nothing is compiled by FLOPs alone; default: where it is compiled. At the scales
            that are for an accelerator a CPU estimates the time on a card too.

    Raises:
        LrjaxError: the config is wrong.

    Example:
        >>> import lrjax.probes  # registers the probes that configs name
        >>> text = describe(lrjax.load_config("configs/benign_osc.py:E2,scale=paper"))
        >>> "parameters" in text and "FLOPs" in text
        True
    """
    with precision_of(config):
        return _described(config, compiled, compiled if timed is None else timed)


def _described(config: Config, compiled: bool, timed: bool) -> str:
    lines = [f"{config.paper}:{config.experiment}, scale={config.scale} (dry run: shapes only)"]
    total, groups, timings, on_card = 0.0, sweep.expand(config), [], []
    speed = calibrate.machine_flops() if timed else 0.0
    for_card = timed and config.scale in CARD_SCALES and jax.default_backend() == "cpu"
    num_lanes = sum(len(group.lanes) for group in groups)
    for group in groups:
        found = estimate(group)
        static = group.static
        total += found["flops"]
        timings += [calibrate.timing(group, found, num_lanes, speed, tried=compiled)] if timed else []
        on_card += [card_time.card_time(group, found)] if for_card else []
        arms = ", ".join(dict.fromkeys(lane.arm for lane in group.lanes))
        lines += [
            f"\n{static.model.name} on {static.data.name}, engine {static.engine}: {arms}",
            f"  lanes          {found['lanes']} ({static.lanes_per_device} at a time on a device)",
            f"  steps          {found['steps']} over all lanes, batch size {static.batch_size}",
            f"  training set   {found['batch']}",
            f"  parameters     {found['parameters']:,} a lane",
            f"  memory         {_memory(group, found['state'], found['data'], compiled)}",
            f"  FLOPs          {_human(found['flops_per_step'], '')} a step, {_human(found['flops'], '')} in all",
        ]
        shapes = jax.tree_util.tree_leaves_with_path(found["shapes"], is_leaf=lambda x: isinstance(x, tuple))
        lines += [f"    {jax.tree_util.keystr(path)} {shape}" for path, shape in shapes[:40]]
        lines += [f"    ... and {len(shapes) - 40} more arrays"] if len(shapes) > 40 else []
    lines.append(f"\nestimated FLOPs of the experiment: {_human(total, '')} (training steps; probes not counted)")
    lines += [calibrate.said(timings)] if timed else []
    lines += [card_time.said(on_card)] if for_card else []
    return "\n".join(lines)
