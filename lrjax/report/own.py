"""Experiments of one's own: those that belong to no paper, or to one that this process does not know."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lrjax.experiment.config.listing import rows_of_file
from lrjax.experiment.config.load import config_folders
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers import PAPERS
from lrjax.papers.claim import claims_in


class NoPaper(NamedTuple):
    """Takes the place of a paper's module: it judges nothing and draws nothing, so that the page is the generic one.

    Attributes:
        stored: claims that were judged before, where the paper was known.
    """

    stored: Sequence[dict[str, Any]] = ()
    CLAIMS: Sequence[Any] = ()

    def before(self, groups: Any) -> str:
        """Nothing is predicted."""
        return ""

    def figures(self, run: RunResult) -> list[Any]:
        """None: the page has the curves of all lanes."""
        return []


def rows_of(paper: str) -> list[dict[str, str]]:
    """The experiments that config files of a paper's name list in their headers; [] where there is no such file."""
    paths = [folder / f"{paper}.py" for folder in config_folders()]
    return [row for path in paths if path.is_file() for row in rows_of_file(path, f"configs/{path.name}")]


def belongs(config: Any) -> bool:
    """Whether an experiment is one of a paper that is registered: not one of one's own that began from a paper's config.

    Args:
        config: of a run, with `paper` and `experiment`.

    Example:
        >>> [belongs({"paper": "exp_lr", "experiment": name}) for name in ("E7", "my_schedule")]
        [True, False]
    """
    name, experiment = config.get("paper"), config.get("experiment")
    if name not in PAPERS:
        return False
    outside = not getattr(PAPERS[name], "__name__", "").startswith("lrjax.papers.")
    claimed = any(experiment in claim.experiments for claim in PAPERS[name].CLAIMS)
    return outside or claimed or any(row["experiment"] == experiment for row in rows_of(name))


def paper_for(config: Any, workdir: Path | None = None) -> Any:
    """The module that judges a run, or a `NoPaper`.

    Args:
        config: of the run.
        workdir: of a run whose stored claims are to be shown where its paper is not known.
    """
    if belongs(config):
        return PAPERS[config.get("paper")]
    unknown = workdir is not None and unregistered(config) is not None
    return NoPaper((claims_in(workdir / "claims.json") if unknown else None) or ())  # pyright: ignore[reportOptionalOperand]


def unregistered(config: Any) -> str | None:
    """A sentence where a config names a paper that this process does not know, else None."""
    name = config.get("paper")
    if not name or name in PAPERS:
        return None
    return (
        f"No paper {name!r} is registered here, so no claim was judged; a config file that registers it is named by "
        "lrjax report RUN --config=FILE"
    )


def config_file(status: Any) -> str | None:
    """The config file in the command of a run, FILE.py; None for a run that no command started.

    Example:
        >>> config_file({"command": "python -m lrjax.main --config=mine/one.py:A,scale=smoke"})
        'mine/one.py'
    """
    try:
        words = shlex.split(status.get("command") or "")
    except ValueError:
        return None
    for word in words:
        if word.startswith("--config=") and ".py" in word:
            return word.removeprefix("--config=").partition(".py")[0] + ".py"
    return None


def title_of_run(run: RunResult) -> str:
    """What a page calls a run: its paper, or the config file of one's own, and the experiment.

    Example:
        >>> from types import SimpleNamespace
        >>> title_of_run(SimpleNamespace(config={"paper": "exp_lr", "experiment": "E7"}, status={}))
        'exp_lr: E7'
        >>> status = {"command": "python -m lrjax.main --config=mine.py"}
        >>> title_of_run(SimpleNamespace(config={"paper": "", "experiment": "A"}, status=status))
        'mine: A'
    """
    paper, experiment = run.config.get("paper"), run.config.get("experiment") or "an experiment"
    if not belongs(run.config):
        path = config_file(run.status)
        paper = Path(path).stem if path else "" if paper in PAPERS else paper
    return f"{paper}: {experiment}" if paper else str(experiment)
