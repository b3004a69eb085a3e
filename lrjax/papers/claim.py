"""Claims: a paper's statements as functions of the run directory, their premises and their verdicts.

A claim can come out negative: `judge` keeps every verdict it gets.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lrjax.errors import LrjaxError
from lrjax.experiment.rundir.files import read_json
from lrjax.experiment.rundir.lanes import NotJudged as NotJudged
from lrjax.experiment.rundir.lanes import NotMeasured as NotMeasured
from lrjax.experiment.rundir.lanes import whole
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.premise import Premise, held

VERDICTS = ("supported", "contradicted", "inconclusive")  # of a check that could decide
NOT_JUDGED = "not judged"  # it could not have: what it needs is not there
SHOWN = (*VERDICTS, NOT_JUDGED)
NOT_PUBLISHED = "not published in a form we could read"
ORIGINS = ("paper", "implied", "ours")  # the statement stands there, follows from its formulas, or is of this library
OURS = "not a claim of the paper"


class Finding(NamedTuple):
    """Result of a check: one word of `SHOWN`, and the numbers behind it as text."""

    verdict: str
    measured: str


@dataclass(frozen=True)
class Claim:
    """One statement of a paper, with the function that decides it.

    Args:
        id: short name, unique within the paper, e.g. "theorem_5".
        paper: key of `lrjax.papers.PAPERS`.
        experiments: the experiments whose runs can decide the claim; other runs leave it out.
        statement: the paper's statement in one sentence.
        source: the place in the paper, e.g. "section 4, theorem 5".
        expected: what must be measured for "supported", in words and numbers.
        check: run (`lrjax.experiment.rundir.metrics.RunResult`) -> `Finding`; may raise `NotMeasured(reason)` or
            `NotJudged(reason)`.
        paper_reports: the paper's own number, None when it is not known.
        premises: what must hold of a run before it can decide, see `lrjax.papers.premises`.
        origin: whose claim it is, one of `ORIGINS`; headline counts are of "paper".

    Example:
        >>> Claim("switch", "benign_osc", ("CLEAR",), "The weak feature is learned for e > 1 only.", "theorem 5",
        ...       "accuracy >= 0.995", lambda run: Finding("supported", "accuracy 1.000")).id
        'switch'
    """

    id: str
    paper: str
    experiments: tuple[str, ...]
    statement: str
    source: str
    expected: str
    check: Callable[[Any], Finding]
    paper_reports: str | None = None
    premises: tuple[Premise, ...] = ()
    origin: str = "paper"


def decided(ok: bool | np.bool_) -> str:
    """The verdict of a check that is met or not met.

    Example:
        >>> decided(True), decided(False)
        ('supported', 'contradicted')
    """
    return "supported" if ok else "contradicted"


def claim_of(
    paper: str,
    id: str,
    experiments: tuple[str, ...],
    check: Callable[[Any], Finding],
    statement: str,
    source: str,
    expected: str,
    paper_reports: str | None = None,
    *,
    premises: Sequence[Premise] = (),
    origin: str = "paper",
) -> Claim:
    """A `Claim` in the order in which a paper's table of claims reads; a paper binds the first argument.

    Example:
        >>> from functools import partial
        >>> claim = partial(claim_of, "benign_osc")
        >>> claim("switch", ("CLEAR",), lambda run: Finding("supported", ""), "...", "section 4.2", "...").paper
        'benign_osc'
    """
    return Claim(id, paper, experiments, statement, source, expected, check, paper_reports, tuple(premises), origin)


def reported(source: str, paper_reports: str | None, origin: str | None = None) -> str:
    """What stands under "paper reports": its number, that it has none we could read, or that the claim is not its own.

    Args:
        source: of a claim; one of ours, or derived here, begins or ends with these words.
        paper_reports: the paper's number, where there is one; that it is not known, in a record of an earlier version.
        origin: one of `ORIGINS`; None in a record of an earlier version, which goes by the words of its source.

    Example:
        >>> [reported(source, None) for source in ("section 4.2", "derived here from the paper's model")]
        ['not published in a form we could read', 'not a claim of the paper']
    """
    if paper_reports not in (None, NOT_PUBLISHED):
        return paper_reports
    if origin is not None:
        return NOT_PUBLISHED if origin == "paper" else OURS
    ours = re.match(r"(ours|derived here|implied)\b", source) or source.endswith(": ours")
    return OURS if ours else NOT_PUBLISHED


def judge(claims: Iterable[Claim], run: RunResult) -> list[dict[str, Any]]:
    """Decide every claim that this run's experiment can decide.

    Args:
        claims: a paper's claims, in the order in which they are to be shown.
        run: a `lrjax.RunResult`; read here are `config["experiment"]`, `config["scale"]` and `status`.

    Returns:
        One dict a claim with id, paper, experiment, from (its origin), statement, source, verdict, premises, measured,
        expected, paper_reports, command, wall_time_s, version, scale: an entry of `claims.json`. Premises are evaluated
        first, all of them; one that does not hold gives "not judged" with its number, and the check is not asked. So does
        scale=smoke, and a check that raises `NotJudged`, as by reading a lane that is not whole; of a run that lacks
        something, so does a check that fails or finds nothing measured, and of a run in which a lane diverged one that
        fails. A check that raises `NotMeasured` gives "inconclusive" and the reason as what was measured. Any other
        exception propagates.

    Raises:
        ValueError: a check returned a verdict that is not in `SHOWN`.

    Example:
        >>> from types import SimpleNamespace
        >>> run = SimpleNamespace(config={"experiment": "E2", "scale": "small"}, status={})
        >>> check = lambda run: Finding("contradicted", "ratio 2")
        >>> claim = Claim("c1", "p", ("E2",), "Loss falls.", "eq. 1", "ratio < 1", check)
        >>> [(entry["verdict"], entry["paper_reports"]) for entry in judge([claim], run)]
        [('contradicted', 'not published in a form we could read')]
    """
    experiment = run.config["experiment"]
    return [_entry(claim, experiment, run) for claim in claims if experiment in claim.experiments]


def _premises(claim: Claim, run: RunResult) -> tuple[list[dict[str, Any]], Finding | None]:
    """The premises of a claim, and the finding where one does not hold."""
    try:
        premises = held(claim.premises, whole(run))
    except NotJudged as reason:
        return [], Finding(NOT_JUDGED, f"not judged: {reason}")
    failed = next((premise for premise in premises if not premise["holds"]), None)
    if failed is None:
        return premises, None
    return premises, Finding(NOT_JUDGED, f"not judged: {failed['premise']} does not hold: {failed['measured']}")


def _decide(claim: Claim, run: RunResult) -> Finding:
    """The finding of a check, or why there is none."""
    lacks = next(iter((*getattr(run, "missing", {}).values(), *getattr(run, "gaps", ()))), None)
    try:
        return claim.check(whole(run))
    except NotJudged as reason:
        return Finding(NOT_JUDGED, f"not judged: {reason}")
    except NotMeasured as reason:
        if lacks is None:
            return Finding("inconclusive", f"not measured: {reason}")
        return Finding(NOT_JUDGED, f"not judged: {reason}; {lacks}")
    except Exception as error:
        ended = next((lane for lane in getattr(run, "lanes", ()) if lane.get("diverged_at") is not None), None)
        if lacks is None and ended is None:
            raise  # a fault in the check
        why = lacks or f"lane {ended['lane']} diverged at step {ended['diverged_at']}"  # pyright: ignore[reportOptionalSubscript]
        return Finding(NOT_JUDGED, f"not judged: {why} ({type(error).__name__} in the check)")


def _entry(claim: Claim, experiment: str, run: RunResult) -> dict[str, Any]:
    premises, failed = _premises(claim, run)
    verdict, measured = failed or _decide(claim, run)
    if run.config.get("scale") == "smoke" and verdict in VERDICTS:
        verdict, measured = NOT_JUDGED, f"not judged: smoke scale is too short; {measured}"
    if verdict not in SHOWN:
        raise ValueError(f"claim {claim.id!r} returned the verdict {verdict!r}; a verdict is one of {SHOWN}")
    return {
        "id": claim.id,
        "paper": claim.paper,
        "experiment": experiment,
        "from": claim.origin,
        "statement": claim.statement,
        "source": claim.source,
        "verdict": verdict,
        "premises": premises,
        "measured": measured,
        "expected": claim.expected,
        "paper_reports": reported(claim.source, claim.paper_reports, claim.origin),
        "command": run.status.get("command"),
        "wall_time_s": run.status.get("wall_time_s"),
        "version": run.status.get("version"),
        "scale": run.config.get("scale"),
    }


TEXTS = ("id", "paper", "statement", "verdict", "measured", "expected", "paper_reports", "source")


def claims_in(path: Path) -> list[dict[str, Any]] | None:
    """The entries of a claims.json; None where there is none, it is damaged, or it is a link to elsewhere.

    Example:
        >>> claims_in(Path("no/such/claims.json")) is None
        True
    """
    try:
        entries = None if path.is_symlink() else read_json(path, list)
    except (OSError, LrjaxError):
        return None
    for entry in entries or ():
        known = isinstance(entry, dict) and all(isinstance(entry.get(key), str) for key in TEXTS)
        if not known or entry["verdict"] not in SHOWN:
            return None
    return entries


def summary(entries: Sequence[dict[str, Any]]) -> str:
    """Count the verdicts, in words.

    Example:
        >>> summary([{"verdict": "supported"}, {"verdict": "contradicted"}, {"verdict": "supported"}])
        '3 claims: 2 supported, 1 contradicted, 0 inconclusive'
    """
    counts = Counter(entry["verdict"] for entry in entries)
    noun = "claim" if len(entries) == 1 else "claims"
    shown = SHOWN if counts[NOT_JUDGED] else VERDICTS
    return f"{len(entries)} {noun}: " + ", ".join(f"{counts[verdict]} {verdict}" for verdict in shown)
