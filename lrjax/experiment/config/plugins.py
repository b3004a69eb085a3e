"""Schedules, probes, models, data sets and papers of other packages.

Every part that a config names is a row of a registry, a dict: `lrjax.experiment.step.schedules.SCHEDULES`,
`lrjax.experiment.loop.probe.PROBES`, `lrjax.models.MODELS`, `lrjax.data.DATASETS`, `lrjax.papers.PAPERS`. To add one,
write the function (of a paper: the module) and add the row:

    from lrjax.experiment.step import schedules

    def sawtooth(settings, peak, steps):
        return lambda t: peak * (1 - (t % 10) / 10)

    schedules.SCHEDULES["sawtooth"] = sawtooth

In your own config file that is enough for runs of it. A package whose parts should be there everywhere, in
`python -m lrjax.report` too, names the module that does so in its pyproject.toml:

    [project.entry-points.lrjax]
    mine = "my_package.lrjax_parts"
"""

import functools
from importlib.metadata import entry_points

from lrjax.errors import LrjaxError

GROUP = "lrjax"


@functools.cache
def load() -> tuple[str, ...]:
    """Imports what installed packages name under the entry point group "lrjax", once a process; returns the names.

    Raises:
        LrjaxError: one of them cannot be imported.

    Example:
        >>> load()
        ()
    """
    found = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    for point in found:
        try:
            point.load()
        except Exception as error:
            raise LrjaxError(
                f"the lrjax plugin {point.name!r} ({point.value}) does not load: {type(error).__name__}: {error}; "
                "mend or uninstall the package that brings it"
            ) from error
    return tuple(point.name for point in found)
