"""`lrjax spectra RUN`: `python -m lrjax.posthoc` with the run as first word."""

from collections.abc import Sequence

from lrjax.commands.runs import first_as


def main(arguments: Sequence[str], *, alone: bool) -> int:
    """Measures the curvature of a run's checkpoints; see `lrjax.posthoc.__main__`."""
    from lrjax.posthoc.__main__ import main as posthoc

    return posthoc(first_as("workdir", arguments), program="lrjax spectra RUN")
