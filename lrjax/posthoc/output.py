"""Output of `python -m lrjax.posthoc`: a table on the terminal, spectra.json, arrays and figures."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lrjax.errors import LrjaxError
from lrjax.experiment.rundir.files import is_plain, own_folder, read_json, write_atomic
from lrjax.experiment.rundir.metrics import RunResult, finite
from lrjax.spectra.density import Density

Record = dict[str, Any]
SHOWN = 6  # eigenvalues in the table
Densities = Mapping[tuple[int, int, str], Density]  # (lane, step, matrix) ->


def heading(k: int) -> str:
    """The first line of the table: k eigenvalues, but no more than fit on a line.

    Example:
        >>> heading(2)
        'lane     step  matrix                        edge    lambda_1    lambda_2  products   seconds'
    """
    names = "".join(f"{f'lambda_{place + 1}':>12}" for place in range(min(k, SHOWN)))
    return f"{'lane':>4} {'step':>8}  {'matrix':<22}{'edge':>12}{names}{'products':>10}{'seconds':>10}"


def lines(row: Record) -> str:
    """A row of the table: eigenvalues, their residuals below, and what else was measured.

    Example:
        >>> row = {"lane": 0, "step": 100, "matrix": "hessian", "edge": 4.0, "values": [3.25], "residuals": [0.001],
        ...     "converged": [True], "products": 12, "seconds": 0.5}
        >>> print(lines(row))
           0      100  hessian                      4        3.25        12       0.5
                       residual                             0.001
    """
    edge = "" if row["edge"] is None else f"{row['edge']:.4g}"
    text = f"{row['lane']:>4} {row['step']:>8}  {row['matrix']:<22}{edge:>12}"
    if row.get("problem"):
        return f"{text}  {row['problem']}"
    text += "".join(f"{value:>12.5g}" for value in row["values"][:SHOWN])
    text += f"{row['products']:>10}{row['seconds']:>10.1f}"
    pairs = zip(row["residuals"][:SHOWN], row["converged"][:SHOWN], strict=True)
    residuals = "".join(f"{f'{residual:.1g}' + ('' if good else ' *'):>12}" for residual, good in pairs)
    more = [f"{'residual':<34}{residuals}"]
    if "trace" in row:
        found = row["trace"]
        more.append(
            f"trace {found['value']:.5g} +- {found['stderr']:.2g} ({found['method']}, {found['products']} products)"
        )
    if "spread" in row:
        found, count = row["spread"], len(row["spread"]["values"])
        mean = f"{found['mean']:.5g} +- {found['std']:.2g} ({found['relative']:.0%})"
        more.append(f"lambda_1 on {count} other subsets of {row['examples']} examples: {mean}")
    return "\n".join([text, *(" " * 15 + line for line in more)])


def footnotes(rows: Sequence[Record]) -> list[str]:
    """Explanations below the table."""
    found = []
    edges = sorted({row["edge_of"] for row in rows if row["edge_of"]})
    if edges:
        found.append(
            f"edge: full-batch training ({', '.join(edges)}) at that learning rate is unstable where lambda_1 is larger"
        )
    if any(not all(row["converged"]) and not row.get("problem") for row in rows):
        found.append("*: not converged; raise --max_steps or --tol")
    return found


def arrays_of(
    rows: Sequence[Record], densities: Densities, cosines: Mapping[tuple[int, int], float]
) -> dict[int, dict]:
    """Lane -> arrays by name, those of the spectrum probe where it has them.

    "spectrum/step" [T]; "spectrum/<matrix>_values" and "_residuals" [T, k], NaN where not measured; "spectrum/cos_hk" [T];
    "density/<matrix>/<step>/nodes", "/weights" [probes, steps] and "/atoms".
    """
    lanes: dict[int, dict] = {}
    for lane in sorted({row["lane"] for row in rows}):
        own = [row for row in rows if row["lane"] == lane]
        steps = sorted({row["step"] for row in own})
        arrays: dict[str, np.ndarray] = {"spectrum/step": np.array(steps)}
        for matrix in dict.fromkeys(row["matrix"] for row in own):
            at = {row["step"]: row for row in own if row["matrix"] == matrix}
            none = [None] * len(next(iter(at.values()))["values"])
            for name in ("values", "residuals"):
                table = [at[step][name] if step in at else none for step in steps]
                arrays[f"spectrum/{matrix}_{name}"] = np.array(table, float)
        if any((lane, step) in cosines for step in steps):
            arrays["spectrum/cos_hk"] = np.array([cosines.get((lane, step), np.nan) for step in steps])
        for (number, step, matrix), found in densities.items():
            if number == lane:
                for name in ("nodes", "weights", "atoms"):
                    arrays[f"density/{matrix}/{step}/{name}"] = getattr(found, name)
        lanes[lane] = arrays
    return lanes


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    own = {name: array for name, array in arrays.items() if name.startswith(("spectrum/", "density/"))}
    named: Any = {name.replace("/", "__"): array for name, array in own.items()}
    np.savez(buffer, **named)
    return buffer.getvalue()


def _figures(run: RunResult, densities: Densities) -> dict[str, bytes]:
    from lrjax.plots.drawing import png
    from lrjax.probes.figures import density_figure, figures

    drawn = {figure.name: png(figure.fig) for figure in figures(run)}
    last = {(lane, matrix): step for lane, step, matrix in sorted(densities)}
    for (lane, matrix), step in last.items():
        figure = density_figure(densities[lane, step, matrix])
        drawn[f"density_{matrix}_lane-{lane:03d}_step-{step:09d}"] = png(figure.fig)
    return drawn


def _before(out: Path) -> set[str]:
    """The files of an earlier call."""
    try:
        files = read_json(out / "spectra.json", dict)["files"]
        known = (name.partition("/") for name in files if name.startswith(("arrays/lane-", "figures/")))
        return {f"{folder}/{name}" for folder, _, name in known if is_plain(name)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()


def write(out: Path, record: dict[str, Any], run: RunResult, densities: Densities) -> None:
    """Writes spectra.json, arrays/lane-*.npz and figures/*.png, each whole or not at all, in place of those before.

    Args:
        out: made if missing.
        record: what spectra.json holds.
        run: lanes and `arrays_of`, for the figures with "step/learning_rate" too.
        densities: (lane, step, matrix) -> density.

    Raises:
        LrjaxError: it cannot be written to.
    """
    files = {}
    for lane, arrays in zip(run.lanes, run.arrays, strict=True):
        if arrays:
            files[f"arrays/lane-{lane['lane']:03d}.npz"] = _npz(arrays)
    files |= {f"figures/{name}.png": content for name, content in _figures(run, densities).items()}
    try:
        for folder in (out / "arrays", out / "figures"):
            out.mkdir(parents=True, exist_ok=True)
            own_folder(folder)
        stale = _before(out) - set(files)
        for name, content in files.items():
            write_atomic(out / name, content)
        text = json.dumps(finite(record | {"files": sorted(files)}), indent=1, allow_nan=False)
        write_atomic(out / "spectra.json", text + "\n")
        for name in stale:
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise LrjaxError(f"cannot write to {out} ({error.strerror}); give another --out") from error
