"""lrjax: what does the learning rate do to a neural network?

Public names are imported when they are first used (PEP 562): `import lrjax` alone loads nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrjax import models as models
    from lrjax import monitor as monitor
    from lrjax import spectra as spectra
    from lrjax import transforms as transforms
    from lrjax.errors import LrjaxError as LrjaxError
    from lrjax.experiment.config.load import load_config as load_config
    from lrjax.experiment.rundir.metrics import RunResult as RunResult
    from lrjax.experiment.rundir.metrics import load_run as load_run
    from lrjax.monitor import Monitor as Monitor
    from lrjax.monitor import diagnose as diagnose
    from lrjax.monitor import suggest as suggest
    from lrjax.probes.run import run as run
    from lrjax.version import __version__ as __version__

_PLACES = {
    "LrjaxError": "lrjax.errors",
    "Monitor": "lrjax.monitor",
    "RunResult": "lrjax.experiment.rundir.metrics",
    "__version__": "lrjax.version",
    "diagnose": "lrjax.monitor",
    "load_config": "lrjax.experiment.config.load",
    "load_run": "lrjax.experiment.rundir.metrics",
    "run": "lrjax.probes.run",
    "suggest": "lrjax.monitor",
}
_MODULES = ("models", "monitor", "spectra", "transforms")

__all__ = [
    "LrjaxError",
    "Monitor",
    "RunResult",
    "__version__",
    "diagnose",
    "load_config",
    "load_run",
    "models",
    "monitor",
    "run",
    "spectra",
    "suggest",
    "transforms",
]


def __getattr__(name: str) -> Any:
    """The public name, imported now."""
    if name in _MODULES:
        return importlib.import_module(f"lrjax.{name}")
    if name not in _PLACES:
        raise AttributeError(f"module 'lrjax' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
