"""The table of `python -m lrjax.main --list`."""

import textwrap

from lrjax.config import list_experiments


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
