"""The table of `python -m lrjax.main --list`."""

import ast
import textwrap

from lrjax.errors import LrjaxError
from lrjax.experiment.config.load import config_folders


def list_experiments() -> list[dict[str, str]]:
    """Every experiment of every config, read from the table in each config file's header.

    A header row reads `NAME | claim | scales | expected run time at scale=small`.

    Returns:
        Dicts with `config`, `paper`, `experiment`, `claim`, `scales`, `time`.
    """
    folder = next((f for f in config_folders() if f.is_dir()), None)
    if folder is None:
        raise LrjaxError("found no configs folder; run from a checkout of lrjax or reinstall the package")
    rows = []
    for path in sorted(folder.glob("*.py")):
        header = ast.get_docstring(ast.parse(path.read_text())) or ""
        lines = header.splitlines()
        for line in lines:
            cells = [cell.strip() for cell in line.split("|")]
            if len(cells) == 4 and cells[0] != "experiment" and not set(cells[0]) <= set("- "):
                rows.append(
                    dict(
                        config=f"configs/{path.name}",
                        paper=lines[0].rstrip("."),
                        experiment=cells[0],
                        claim=cells[1],
                        scales=cells[2],
                        time=cells[3],
                    )
                )
    return rows


def experiments() -> str:
    """Every experiment by paper: how to name it, its claim, its scales and its run time, from the configs' own headers.

    Example:
        >>> "benign_osc.py:E2" in experiments()
        True
    """
    lines, paper = [], None
    for row in list_experiments():
        if row["paper"] != paper:
            paper = row["paper"]
            lines += ["", paper]
        lines.append(f"  --config={row['config']}:{row['experiment']}   [{row['scales']}; small: {row['time']}]")
        lines += textwrap.wrap(row["claim"], 100, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines).strip()
