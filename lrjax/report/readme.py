"""python -m lrjax.report.readme [--check]: the tables of results in README.md and docs/results.md, from docs/results/*/.

Each of those folders is the record of a real run (`lrjax.report.record`), <paper>-<experiment> or, of a run on another device,
<paper>-<experiment>@<device>; its claims.json is read here. No number in a table is typed. The README has one row a paper and
counts what the papers themselves state; docs/results.md has one row a claim and setting. A claim of an experiment without a
record is "not judged: no record".
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lrjax.errors import LrjaxError
from lrjax.experiment.config.listing import list_experiments
from lrjax.experiment.config.load import SCALES
from lrjax.papers import PAPERS
from lrjax.papers.claim import NOT_JUDGED, ORIGINS, SHOWN, reported
from lrjax.plots.page.rendering import duration

START = "<!-- results:start -->"
END = "<!-- results:end -->"
TITLES = {
    "lr_decay": "How Does Learning Rate Decay Help",
    "break_even": "The Break-Even Point",
    "benign_osc": "Benign Oscillation",
    "exp_lr": "An Exponential Learning Rate Schedule",
}
ARXIV = {"lr_decay": "1908.01878", "break_even": "2002.09572", "benign_osc": "2310.17074", "exp_lr": "1910.07454"}
NO_RECORD = "not judged: no record"
AGAIN = "make the record again: python -m lrjax.report.record WORKDIR"
_COLUMNS = ("Claim", "From", "Command", "Ours", "Paper reports", "Verdict", "Wall time (scale)")
_KEYS = (
    "id",
    "paper",
    "experiment",
    "statement",
    "verdict",
    "measured",
    "paper_reports",
    "command",
    "wall_time_s",
    "scale",
    "from",
    "premises",
)


def claims_of(
    results: Path, listed: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> dict[str, list[dict[str, Any]]]:
    """paper -> its claims: judged in a directory of records, or without one.

    Args:
        results: the directory, which may be empty or missing.
        listed: paper -> all of its experiments; claims of those without a record are "not judged".

    Raises:
        LrjaxError: a claims.json is not what its folder's name promises.

    Example:
        >>> claims_of(Path("no/such/directory"))["exp_lr"]
        []
    """
    by_paper: dict[str, list[dict[str, Any]]] = {paper: [] for paper in TITLES}
    for path in sorted(results.glob("*/claims.json")):
        for entry in _load(path):
            by_paper.setdefault(entry["paper"], []).append(entry)
    for paper, experiments in listed.items():
        recorded = {entry["experiment"] for entry in by_paper.get(paper, ())}
        for experiment in experiments:
            if experiment not in recorded and paper in PAPERS:
                by_paper.setdefault(paper, []).extend(_without_record(paper, experiment))
    return by_paper


def _without_record(paper: str, experiment: str) -> list[dict[str, Any]]:
    command = f"python -m lrjax.main --config=configs/{paper}.py:{experiment}"
    return [
        {
            "id": claim.id,
            "paper": paper,
            "experiment": experiment,
            "from": claim.origin,
            "statement": claim.statement,
            "verdict": NOT_JUDGED,
            "measured": NO_RECORD,
            "paper_reports": reported(claim.source, claim.paper_reports, claim.origin),
            "command": command,
            "wall_time_s": None,
            "scale": None,
        }
        for claim in PAPERS[paper].CLAIMS
        if experiment in claim.experiments
    ]


def summary_table(results: Path, listed: Mapping[str, Sequence[str]] = MappingProxyType({})) -> str:
    """The Markdown table of the README: one row a paper, with the number of its own statements under each verdict.

    Args:
        results: see `claims_of`.
        listed: see `claims_of`.

    Example:
        >>> print(summary_table(Path("no/such/directory")).splitlines()[0])
        | Paper | Supported | Contradicted | Inconclusive | Not judged | Default experiment | Every claim |
    """
    rows: list[tuple[str, ...]] = [
        ("Paper", *(verdict.capitalize() for verdict in SHOWN), "Default experiment", "Every claim")
    ]
    rows.append(("---",) * len(rows[0]))
    for paper, entries in claims_of(results, listed).items():
        counts = Counter(_headlines(entries).values())
        title = TITLES.get(paper, paper)
        linked = f"[{title}](https://arxiv.org/abs/{ARXIV[paper]})" if paper in ARXIV else title
        command = f"`python -m lrjax.main --config=configs/{paper}.py`"
        place = f"[results](docs/results.md#{title.lower().replace(' ', '-')})"
        rows.append((linked, *(str(counts[verdict]) for verdict in SHOWN), command, place))
    return _table(rows)


def _headlines(entries: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    """(experiment, claim) of the paper's own -> its verdict; of several runs, that of the largest one that was judged."""
    found: dict[tuple[str, str], tuple[tuple[bool, int], str]] = {}
    for entry in entries:
        if entry["from"] != "paper":
            continue
        judged = entry["verdict"] != NOT_JUDGED
        rank = judged, SCALES.index(entry["scale"]) if judged else 0
        key = entry["experiment"], entry["id"]
        found[key] = max(found.get(key, ((False, -1), "")), (rank, entry["verdict"]), key=lambda item: item[0])
    return {key: verdict for key, (_, verdict) in found.items()}


def claims_tables(results: Path, listed: Mapping[str, Sequence[str]] = MappingProxyType({})) -> str:
    """The Markdown sections of docs/results.md: for each paper a table of its judged claims.

    Args:
        results: see `claims_of`.
        listed: paper -> all of its experiments.

    Returns:
        One section a paper in the order of `TITLES`, one row a claim in an order that depends on nothing but the content;
        experiments without a result are named below the table.

    Raises:
        LrjaxError: a file is not the claims.json that its name promises.

    Example:
        >>> print(claims_tables(Path("no/such/directory")).splitlines()[0])
        ## How Does Learning Rate Decay Help
    """
    sections = []
    for paper, entries in claims_of(results, listed).items():
        recorded = {entry["experiment"] for entry in entries if entry["measured"] != NO_RECORD}
        missing = [name for name in listed.get(paper, ()) if name not in recorded]
        parts = [f"## {TITLES.get(paper, paper)}"]
        if entries:
            parts.append(_table([_COLUMNS, ("---",) * len(_COLUMNS), *map(_row, entries)]))
        if missing or not entries:
            parts.append(f"Not run yet: {', '.join(missing) or 'all experiments'}.")
        sections.append("\n\n".join(parts))
    return "\n\n".join(sections)


def rewrite(text: str, tables: str, name: str = "README.md") -> str:
    """Put `tables` between the two result markers of a file; all else stays as it is.

    Raises:
        LrjaxError: the markers are missing, doubled or out of order.

    Example:
        >>> rewrite(f"# Title\\n{START}\\nold\\n{END}\\nrest", "new").splitlines()[1:4]
        ['<!-- results:start -->', 'new', '<!-- results:end -->']
    """
    if text.count(START) != 1 or text.count(END) != 1 or text.index(END) < text.index(START):
        raise LrjaxError(f"{name} must hold the line {START} once and after it the line {END} once; add them.")
    before, after = text.split(START)[0], text.split(END)[1]
    return f"{before}{START}\n{tables}\n{END}{after}"


def _listed() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in list_experiments():
        found.setdefault(Path(row["config"]).stem, []).append(row["experiment"])
    return found


def _load(path: Path) -> list[dict[str, Any]]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for entry in entries for key in _KEYS if key not in entry]
    except (ValueError, TypeError) as error:
        raise LrjaxError(f"{path} is not a list of claims ({error}); {AGAIN}") from error
    if missing:
        raise LrjaxError(f"{path} has a claim without {missing[0]!r}; {AGAIN}")
    for entry in entries:
        if entry["verdict"] not in SHOWN:
            raise LrjaxError(
                f"{path}: claim {entry['id']!r} has the verdict {entry['verdict']!r}; it must be {_either(SHOWN)}."
            )
        if entry["scale"] not in SCALES:
            raise LrjaxError(
                f"{path}: claim {entry['id']!r} has the scale {entry['scale']!r}; it must be {_either(SCALES)}."
            )
        if entry["from"] not in ORIGINS:
            raise LrjaxError(f"{path}: claim {entry['id']!r} is from {entry['from']!r}; it must be {_either(ORIGINS)}.")
        name = f"{entry['paper']}-{entry['experiment']}"
        if path.parent.name.partition("@")[0] != name:
            raise LrjaxError(f"{path} holds claims of {entry['paper']}, {entry['experiment']}; name its folder {name}.")
    return entries


def _either(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    command = f"`{_line(entry['command'])}`" if entry["command"] else ""
    took = "" if entry["wall_time_s"] is None else duration(entry["wall_time_s"])
    took += f" ({entry['scale']})" if entry["scale"] else ""
    texts = (entry["statement"], entry["measured"], entry["paper_reports"], entry["verdict"], took)
    claim, ours, paper, verdict, took = map(_cell, texts)
    return claim, entry["from"], command, ours, paper, verdict, took


def _line(text: str) -> str:
    """Text on one line, with the pipe escaped: a table cell allows no other, in a code span either."""
    return " ".join(str(text).split()).replace("|", "\\|")


def _cell(text: str) -> str:
    return _line(str(text).replace("\\", "\\\\").replace("<", "&lt;").replace("*", "\\*"))


def main(argv: Sequence[str] | None = None) -> int:
    """Rewrite README.md and docs/results.md, or with --check only compare; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lrjax.report.readme", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a file is out of date")
    parser.add_argument("--root", type=Path, default=Path(), help="the checkout (default: the current directory)")
    flags = parser.parse_args(argv)
    results = flags.root / "docs" / "results"
    try:
        tables = {"README.md": summary_table(results, _listed()), "docs/results.md": claims_tables(results, _listed())}
        changed = {}
        for name, content in tables.items():
            path = flags.root / name
            if not path.is_file():
                raise LrjaxError(f"there is no file {path}; run this in the checkout, or name it with --root.")
            old = path.read_text(encoding="utf-8")
            new = rewrite(old, content, name)
            if new != old:
                changed[path] = new
        if flags.check and changed:
            names = " and ".join(path.relative_to(flags.root).as_posix() for path in changed)
            raise LrjaxError(f"{names} differ from the records in docs/results; run: python -m lrjax.report.readme")
    except LrjaxError as error:
        print(error, file=sys.stderr)
        return 1
    for path, new in changed.items():
        path.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
