"""python -m lrjax.report.readme [--check]: the README's table of results, made from docs/results/*.json.

Each of those files is the claims.json of a real run, named <paper>-<experiment>.json. No number in the table is typed.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lrjax.errors import LrjaxError
from lrjax.papers.claim import VERDICTS
from lrjax.report.listing import list_experiments
from lrjax.report.page import duration

START = "<!-- results:start -->"
END = "<!-- results:end -->"
TITLES = {
    "lr_decay": "How Does Learning Rate Decay Help",
    "break_even": "The Break-Even Point",
    "benign_osc": "Benign Oscillation",
    "exp_lr": "An Exponential Learning Rate Schedule",
}
_COLUMNS = ("Paper", "Claim", "Command", "Ours", "Paper reports", "Verdict", "Wall time (scale)")
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
)


def results_table(results: Path, listed: Mapping[str, Sequence[str]] = MappingProxyType({})) -> str:
    """The Markdown table of all judged claims in a directory, in an order that depends on nothing but their content.

    Args:
        results: directory of `<paper>-<experiment>.json` files; it may be empty or missing.
        listed: paper -> all of its experiments.

    Returns:
        One row a claim, grouped by paper in the order of `TITLES`; what was not run has a row that says so.

    Raises:
        LrjaxError: a file is not the claims.json that its name promises.

    Example:
        >>> print(results_table(Path("no/such/directory")).splitlines()[2])
        | How Does Learning Rate Decay Help | not run yet |  |  |  |  |  |
    """
    by_paper: dict[str, list[dict[str, Any]]] = {paper: [] for paper in TITLES}
    for path in sorted(results.glob("*.json")):
        for entry in _load(path):
            by_paper.setdefault(entry["paper"], []).append(entry)
    rows = [_COLUMNS, ("---",) * len(_COLUMNS)]
    for paper, entries in by_paper.items():
        title = TITLES.get(paper, paper)
        rows += [_row(title, entry) for entry in entries]
        missing = [name for name in listed.get(paper, ()) if name not in {entry["experiment"] for entry in entries}]
        if missing or not entries:
            names = f": {', '.join(missing)}" if missing and entries else ""
            rows.append((title, f"not run yet{names}", *[""] * (len(_COLUMNS) - 2)))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def rewrite(readme: str, table: str) -> str:
    """Put `table` between the two result markers of a README; all else stays as it is.

    Raises:
        LrjaxError: the markers are missing, doubled or out of order.

    Example:
        >>> rewrite(f"# Title\\n{START}\\nold\\n{END}\\nrest", "new").splitlines()[1:4]
        ['<!-- results:start -->', 'new', '<!-- results:end -->']
    """
    if readme.count(START) != 1 or readme.count(END) != 1 or readme.index(END) < readme.index(START):
        raise LrjaxError(f"README.md must hold the line {START} once and after it the line {END} once; add them.")
    before, after = readme.split(START)[0], readme.split(END)[1]
    return f"{before}{START}\n{table}\n{END}{after}"


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
        raise LrjaxError(f"{path} is not a list of claims ({error}); copy the claims.json of a run there.") from error
    if missing:
        raise LrjaxError(f"{path} has a claim without {missing[0]!r}; copy the claims.json of a run there.")
    for entry in entries:
        if entry["verdict"] not in VERDICTS:
            raise LrjaxError(
                f"{path}: claim {entry['id']!r} has the verdict {entry['verdict']!r}; it must be {_either(VERDICTS)}."
            )
        if path.stem != f"{entry['paper']}-{entry['experiment']}":
            raise LrjaxError(
                f"{path} holds claims of {entry['paper']}, {entry['experiment']}; "
                f"name it {entry['paper']}-{entry['experiment']}.json."
            )
    return entries


def _either(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _row(title: str, entry: dict[str, Any]) -> tuple[str, ...]:
    command = f"`{_line(entry['command'])}`" if entry["command"] else ""
    took = duration(entry["wall_time_s"]) + (f" ({entry['scale']})" if entry["scale"] else "")
    texts = (title, entry["statement"], entry["measured"], entry["paper_reports"], entry["verdict"], took)
    paper, claim, ours, reported, verdict, took = map(_cell, texts)
    return paper, claim, command, ours, reported, verdict, took


def _line(text: str) -> str:
    """Text on one line, with the pipe escaped: a table cell allows no other, in a code span either."""
    return " ".join(str(text).split()).replace("|", "\\|")


def _cell(text: str) -> str:
    return _line(str(text).replace("\\", "\\\\").replace("<", "&lt;").replace("*", "\\*"))


def main(argv: Sequence[str] | None = None) -> int:
    """Rewrite README.md, or with --check only compare; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lrjax.report.readme", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if README.md is out of date")
    parser.add_argument("--root", type=Path, default=Path(), help="the checkout (default: the current directory)")
    flags = parser.parse_args(argv)
    path = flags.root / "README.md"
    try:
        if not path.is_file():
            raise LrjaxError(f"there is no file {path}; run this in the checkout, or name it with --root.")
        old = path.read_text(encoding="utf-8")
        new = rewrite(old, results_table(flags.root / "docs" / "results", _listed()))
        if flags.check and new != old:
            raise LrjaxError("README.md differs from docs/results; run: python -m lrjax.report.readme")
    except LrjaxError as error:
        print(error, file=sys.stderr)
        return 1
    if new != old:
        path.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
