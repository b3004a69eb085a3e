"""The head of a page: which paper, what is tested and how, with what it ran."""

import ast
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

from lrjax.experiment.config.load import config_folders
from lrjax.experiment.rundir.lanes import lane_config, on_cpu
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.plots.page.rendering import duration, word
from lrjax.report.lane_table import Table
from lrjax.report.own import belongs, rows_of

_MANY = 6
SCALES = {
    "smoke": "seconds: too short to judge",
    "small": "for two CPU cores: smaller than the paper's",
    "medium": "the paper's network and data, within minutes of one GPU",
    "paper": "the paper's own size",
}


class Paper(NamedTuple):
    """A paper as its module names it in the first line of its docstring: TITLE (AUTHORS; VENUE; arXiv NUMBER)."""

    title: str
    authors: str
    venue: str
    arxiv: str | None


def paper_of(module: Any) -> Paper | None:
    """Title, authors, venue and arXiv number from a paper's module; None where it names none.

    Example:
        >>> from lrjax.papers import exp_lr
        >>> paper_of(exp_lr).authors, paper_of(exp_lr).arxiv
        ('Li, Arora', '1910.07454')
    """
    line = (module.__doc__ or "").strip().split("\n")[0] if isinstance(module, ModuleType) else ""
    found = re.fullmatch(r"(.+?) \((.+)\)\.?", line)
    if not found:
        return None
    parts = [part.strip() for part in found[2].split(";")]
    number = re.search(r"\d{4}\.\d{4,5}", parts[-1])
    if number:
        parts.pop()
    return Paper(found[1], parts[0] if parts else "", ", ".join(parts[1:]), number[0] if number else None)


@cache
def _claim_of_paper(name: str) -> str | None:
    """What follows "Claim:" in the header of the paper's config file, up to the empty line."""
    for folder in config_folders():
        path = folder / f"{name}.py"
        if path.is_file():
            header = ast.get_docstring(ast.parse(path.read_text())) or ""
            found = re.search(r"Claim: (.*?)(?:\n\n|\Z)", header, re.S)
            return " ".join(found[1].split()) if found else None
    return None


def what_is_tested(run: RunResult) -> list[str]:
    """What a run tests and how, in up to three sentences, from the header of its config file and its own config.

    Example:
        >>> from types import SimpleNamespace
        >>> lane = {"arm": "main", "seed": 0, "steps": 100, "learning_rate": 0.1}
        >>> config = {"model": {"name": "mlp"}, "data": {"name": "ps10"}}
        >>> what_is_tested(SimpleNamespace(config=config, lanes=[lane]))
        ['How: 1 training of mlp on ps10, learning rate 0.1, 100 steps.']
    """
    paper, experiment = str(run.config.get("paper")), str(run.config.get("experiment"))
    sentences = []
    if belongs(run.config):
        claim = _claim_of_paper(paper)
        rows = [row["claim"] for row in rows_of(paper) if row["experiment"] == experiment]
        sentences += [f"The paper: {claim}"] if claim else []
        sentences += [f"This experiment, {experiment}: {_ended(claim)}" for claim in rows[:1]]
    return [*sentences, _how(run)]


def _how(run: RunResult) -> str:
    lanes = run.lanes
    arms, seeds = (list(dict.fromkeys(lane.get(key) for lane in lanes)) for key in ("arm", "seed"))
    parts = [f"How: {len(lanes)} training{'s' if len(lanes) != 1 else ''}"]
    counts = [f"{len(arms)} arms" if len(arms) > 1 else "", f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}"]

    if len(lanes) > 1:
        parts.append(f" ({', '.join(filter(None, counts))})")
    named = {key: _name(run.config.get(key)) for key in ("model", "data")}
    parts += [f" of {named['model']}" if named["model"] else "", f" on {named['data']}" if named["data"] else ""]
    rates = sorted({lane["learning_rate"] for lane in lanes if isinstance(lane.get("learning_rate"), (int, float))})
    if rates:
        parts.append(f", learning rate {_listed(rates)}")
    steps = sorted({lane["steps"] for lane in lanes if isinstance(lane.get("steps"), int)})
    if steps:
        parts.append(f", {_listed(steps)} steps")
    return "".join(parts) + "."


def _ended(text: str) -> str:
    return text if text.endswith(("?", ".")) else f"{text}."


def _name(group: Any) -> str | None:
    return group.get("name") if isinstance(group, dict) else None


def _listed(values: list[Any]) -> str:
    if len(values) > _MANY:
        return f"{word(values[0])} to {word(values[-1])} ({len(values)} values)"
    return ", ".join(map(word, values[:-1])) + (" and " if values[1:] else "") + word(values[-1])


def _minute(started: str | None) -> str | None:
    """An ISO time as a reader likes it: 2026-11-27 13:40 UTC."""
    try:
        return started and f"{datetime.fromisoformat(started).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError):
        return started


def _precision(run: RunResult) -> str:
    """In which precision a run multiplied: as its config says, arm by arm; a CPU has one for float32 arrays."""
    lanes = [lane_config(run, lane) for lane in run.lanes] or [run.config]
    of_arrays = [str(lane.get("compute_dtype", "float32")) for lane in lanes]
    of_products = ["float32" if on_cpu(run) else str(lane.get("matmul_precision", "float32")) for lane in lanes]
    words = {a if a != "float32" else p for a, p in zip(of_arrays, of_products, strict=True)}
    curvature = "float64" if "float64" in of_arrays else "float32"
    return f"{', '.join(sorted(words))} in training; {curvature} in curvature"


def facts(run: RunResult) -> dict[str, str]:
    """Date, device, precision of matrix products and versions, as far as the run's records have them.

    Example:
        >>> from types import SimpleNamespace
        >>> facts(SimpleNamespace(config={}, lanes=[], status={"version": "1.0", "commit": "abc", "changed": True}))
        {'lrjax': '1.0', 'commit': 'abc, with changed sources'}
    """
    status = run.status
    found: dict[str, Any] = {
        "date": _minute(status.get("started")),
        "device": status.get("device"),
        "lrjax": status.get("version"),
    }
    if status.get("commit"):
        found["commit"] = _sources(status)
    if status.get("code"):
        found["digest of sources"] = status["code"]
    if run.config.get("matmul_precision"):
        found["matrix products"] = _precision(run)
    versions = status.get("versions")
    found |= versions if isinstance(versions, dict) else {}
    return {key: str(value) for key, value in found.items() if value is not None}


def joined_runs(run: RunResult) -> Table | None:
    """The runs that a joined one was made of, a row each, with what each says of itself; None for a run of its own.

    Example:
        >>> from types import SimpleNamespace
        >>> each = [{"workdir": f"run-{seed}", "seeds": [seed], "device": "1 x GPU", "wall_time_s": 9.0} for seed in (0, 1)]
        >>> joined_runs(SimpleNamespace(status={"joined": each})).rows[1]
        ['run-1', '1', None, None, '1 x GPU', None, '9.0 s']
    """
    joined = run.status.get("joined")
    if not joined:
        return None
    rows = [
        [
            one["workdir"],
            ", ".join(map(str, one["seeds"])),
            one.get("version"),
            _sources(one),
            one.get("device"),
            _minute(one.get("started")),
            duration(one.get("wall_time_s")),
        ]
        for one in joined
    ]
    return Table(["run", "seeds", "lrjax", "sources", "device", "date", "wall time"], rows)


def _sources(status: Mapping[str, Any]) -> str | None:
    """Which sources a run was made by: the commit, or the digest of the files."""
    if status.get("commit"):
        return f"{status['commit'][:12]}{', with changed sources' if status.get('changed') else ''}"
    return status.get("code")


def on_joined(run: RunResult) -> list[str]:
    """What a reader has to know of a joined run, a sentence each; [] for a run of its own."""
    joined = run.status.get("joined")
    if not joined:
        return []
    codes = {(one.get("version"), one.get("code") or one.get("commit")) for one in joined}
    differ = ["They were made by different sources of lrjax, which the table of joined runs names"]
    return [f"Joined from {len(joined)} runs that differ in their seeds alone", *(differ if len(codes) > 1 else [])]
