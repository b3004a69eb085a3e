"""Engines by name: ways to make one update of the parameters."""

from collections.abc import Callable

from lrjax.experiment.step import gram
from lrjax.experiment.step.direct import direct
from lrjax.experiment.step.train_step import Engine

ENGINES: dict[str, Callable[..., Engine]] = {"direct": direct, "gram": gram.engine}
