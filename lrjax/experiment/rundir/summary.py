"""A run in ten lines: what `repr(result)` shows."""

import math
from typing import TYPE_CHECKING, Any

from lrjax.experiment.rundir.frames import tables
from lrjax.experiment.rundir.names import lane_names

if TYPE_CHECKING:
    from lrjax.experiment.rundir.metrics import RunResult

SHOWN = 4  # lanes
WIDTH = 110


def summary(run: "RunResult") -> str:
    """At most ten lines on a run: what it is, how it ended, its lanes, and where its numbers are."""
    of, status = run.config, run.status
    title = f"RunResult: {of.get('paper')}:{of.get('experiment')}, scale={of.get('scale')}"
    steps = sorted({lane.get("steps", 0) for lane in run.lanes})
    length = f"{steps[0]}" if len(steps) == 1 else f"{steps[0]} to {steps[-1]}" if steps else "no"
    count = f"{len(run.lanes)} lane{'' if len(run.lanes) == 1 else 's'} of {length} steps"
    took = status.get("wall_time_s")
    ended = f"{status.get('state')}{f' after {took:.4g} s' if isinstance(took, (int, float)) else ''}"
    lines = [f"{title}: {count}, {ended}", f"  workdir  {run.workdir}"]
    names = lane_names(run.lanes)
    for name, lane in list(zip(names, run.lanes, strict=True))[:SHOWN]:
        lines.append(f"  lane {lane['lane']:<3} {name}: {_outcome(run, lane)}")
    if len(run.lanes) > SHOWN:
        lines.append(f"  ... and {len(run.lanes) - SHOWN} more lanes, see .lanes")
    lines.append(f"  tables   .to_frame({', '.join(map(repr, tables(run)))})")
    lines.append(f"  arrays   .arrays[lane]: {len(run.arrays[0]) if run.arrays else 0} names, such as 'step/loss'")
    return "\n".join(line if len(line) <= WIDTH else f"{line[: WIDTH - 3]}..." for line in lines)


def _outcome(run: "RunResult", lane: dict[str, Any]) -> str:
    if lane.get("diverged_at") is not None:
        return f"diverged at step {lane['diverged_at']}"
    last = next((row for row in reversed(run.metrics) if row.get("lane") == lane["lane"]), None)
    if last is None:
        return "nothing measured yet"
    loss = last.get("loss")
    return f"loss {math.nan if loss is None else loss:.4g} at step {last.get('step')}"
