"""The papers: for each its maths, its claims and its figures. Only `main` and `report` import from here.

A paper is a module with `CLAIMS` (`lrjax.papers.claim`), `figures(run)`, `before(groups)` (what to print before a run) and a
`NOTE` on what had to be reconstructed. To add one from outside, see `lrjax.experiment.config.plugins`.
"""

from types import ModuleType

from lrjax.papers import benign_osc, break_even, exp_lr, lr_decay

PAPERS: dict[str, ModuleType] = {
    "benign_osc": benign_osc,
    "break_even": break_even,
    "exp_lr": exp_lr,
    "lr_decay": lr_decay,
}
