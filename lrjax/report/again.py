"""How to run an experiment again, for runs that no command line started."""

from typing import Any

from lrjax.errors import LrjaxError
from lrjax.experiment.config.canonical import fingerprint, flatten
from lrjax.experiment.config.load import load_config

OWN_CONFIG = (
    "import json, lrjax, ml_collections; "
    "lrjax.run(ml_collections.ConfigDict(json.load(open('config.json'))), 'again')  # config.json of this run"
)


def command_of_run(run: Any) -> str:
    """The command in status.json; of a run by `lrjax.run`, the Python that makes it again.

    Args:
        run: a `lrjax.RunResult`; read here are `config` and `status`.

    Example:
        >>> from types import SimpleNamespace
        >>> import lrjax, json
        >>> config = lrjax.load_config("configs/benign_osc.py:E1,scale=smoke", {"steps": 300})
        >>> stored = json.loads(config.to_json_best_effort())
        >>> command_of_run(SimpleNamespace(config=stored, status={}))
        "import lrjax; lrjax.run(lrjax.load_config('configs/benign_osc.py:E1,scale=smoke', {'steps': 300}), 'again')"
    """
    written = run.status.get("command")
    if written:
        return written
    names = {key: run.config.get(key) for key in ("paper", "experiment", "scale")}
    spec = "configs/{paper}.py:{experiment},scale={scale}".format(**names)
    try:
        before, wanted = flatten(load_config(spec)), flatten(run.config)
        changed = {
            key: _tuples(value) for key, value in wanted.items() if _tuples(before.get(key, ...)) != _tuples(value)
        }
        changed.pop("data_dir", None)
        if fingerprint(load_config(spec, changed)) == fingerprint(run.config):
            return f"import lrjax; lrjax.run(lrjax.load_config({spec!r}{f', {changed}' if changed else ''}), 'again')"
    except (LrjaxError, TypeError, AttributeError, KeyError, ImportError):  # a config of no file here
        pass
    return OWN_CONFIG


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value
