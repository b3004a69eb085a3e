"""lrjax: what does the learning rate do to a neural network?"""

from lrjax.config import load_config
from lrjax.errors import LrjaxError
from lrjax.metrics import RunResult, load_run
from lrjax.train import run
from lrjax.version import __version__

__all__ = ["LrjaxError", "RunResult", "__version__", "load_config", "load_run", "run"]
