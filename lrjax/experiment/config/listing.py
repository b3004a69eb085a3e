"""The table of `lrjax list` and `python -m lrjax.main --list`."""

import ast
import re
import textwrap
from pathlib import Path

from lrjax.errors import LrjaxError
from lrjax.experiment.config.load import SCALES, config_folders, find_config, read_file, read_spec


def list_experiments(config: str | None = None) -> list[dict[str, str]]:
    """Every experiment of every config, read from the table in each config file's header.

    A header row reads `NAME | claim | scales | expected run time at scale=small`; the scales `all` are those of `SCALES`.

    Args:
        config: one config file, `FILE.py`, of the package or of one's own; its experiments that no table has are listed too.
            Of `FILE.py:EXPERIMENT` this one alone.

    Returns:
        Dicts with `config`, `paper`, `experiment`, `claim`, `scales`, `time`.

    Raises:
        LrjaxError: there is no such file, or it has no experiments.
    """
    if config is not None:
        return _of_file(config)
    folder = next((f for f in config_folders() if f.is_dir()), None)
    if folder is None:
        raise LrjaxError("found no configs folder; run from a checkout of lrjax or reinstall the package")
    return [row for path in sorted(folder.glob("*.py")) for row in rows_of_file(path, f"configs/{path.name}")]


def rows_of_file(path: Path, name: str) -> list[dict[str, str]]:
    """The rows of the table in a config file's header, see `list_experiments`; the file is read, not run."""
    lines = (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()
    rows = []
    for line in lines:
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 4 and cells[0] != "experiment" and re.fullmatch(r"\w[\w.-]*", cells[0]):
            about = dict(zip(("experiment", "claim", "scales", "time"), cells, strict=True))
            about["scales"] = ", ".join(SCALES) if about["scales"] == "all" else about["scales"]
            rows.append({"config": name, "paper": lines[0].rstrip("."), **about})
    return rows


def _of_file(config: str) -> list[dict[str, str]]:
    """The experiments of one file: those of its table, then others, by the first line of their functions' docstrings."""
    file, _, chosen = config.partition(".py")
    name = file + ".py"
    module = read_file(name)
    named = read_spec(config)[1] if chosen.startswith(":") else None
    rows = [row for row in rows_of_file(find_config(name), name) if row["experiment"] in module.EXPERIMENTS]
    told = {row["experiment"] for row in rows}
    paper = ((module.__doc__ or "").strip().splitlines() or [Path(name).name])[0].rstrip(".")
    for experiment, make in module.EXPERIMENTS.items():
        if experiment not in told:
            claim = ((make.__doc__ or "").strip().splitlines() or [""])[0]
            rows.append(dict(config=name, paper=paper, experiment=experiment, claim=claim, scales="", time=""))
    return [row for row in rows if named in (None, row["experiment"])]


def experiments(config: str | None = None) -> str:
    """Every experiment by paper: how to name it, its claim, its scales and its run time, from the configs' own headers.

    Args:
        config: one config file, also of one's own; None for those of the package.

    Example:
        >>> "benign_osc.py:E2" in experiments()
        True
    """
    lines, paper = [], None
    for row in list_experiments(config):
        if row["paper"] != paper:
            paper = row["paper"]
            lines += ["", paper]
        known = f"   [{row['scales']}; small: {row['time']}]" if row["scales"] else ""
        lines.append(f"  --config={row['config']}:{row['experiment']}{known}")
        lines += textwrap.wrap(row["claim"], 100, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines).strip()
