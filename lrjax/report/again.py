"""How to run an experiment again, for runs that no command line started."""

from typing import Any, NamedTuple

from lrjax.errors import LrjaxError
from lrjax.experiment.config.canonical import fingerprint, flatten
from lrjax.experiment.config.load import load_config

STORED = (
    "import json, lrjax, ml_collections, pathlib\n"
    "from lrjax.experiment.config.canonical import tuples\n\n"
    "stored = json.loads(pathlib.Path('config.json').read_text())  # in this run's folder\n"
    "lrjax.run(ml_collections.ConfigDict(tuples(stored)), 'again')"
)


class Again(NamedTuple):
    """How to run an experiment again: a sentence, and the command or the Python to run."""

    how: str
    code: str


def again_of(run: Any) -> Again:
    """The command in status.json; of a run by `lrjax.run`, the Python that makes it again.

    Args:
        run: a `lrjax.RunResult`; read here are `config` and `status`.

    Example:
        >>> from types import SimpleNamespace
        >>> import lrjax, json
        >>> config = lrjax.load_config("configs/benign_osc.py:E1,scale=smoke", {"steps": 300})
        >>> stored = json.loads(config.to_json_best_effort())
        >>> again_of(SimpleNamespace(config=stored, status={})).code
        "import lrjax; lrjax.run(lrjax.load_config('configs/benign_osc.py:E1,scale=smoke', {'steps': 300}), 'again')"
    """
    written = run.status.get("command")
    if written and run.status.get("joined"):
        return Again(
            "These commands, each from the folder in which it was given, make the runs, which python -m lrjax.report "
            "--joined=FOLDER joins:",
            written,
        )
    if written:
        return Again("This command, from the folder in which it was given:", written)
    program = "A program made this run, by lrjax.run, not a command."
    names = {key: run.config.get(key) for key in ("paper", "experiment", "scale")}
    spec = "configs/{paper}.py:{experiment},scale={scale}".format(**names)
    try:
        before, wanted = flatten(load_config(spec)), flatten(run.config)
        changed = {
            key: _tuples(value) for key, value in wanted.items() if _tuples(before.get(key, ...)) != _tuples(value)
        }
        changed.pop("data_dir", None)
        if fingerprint(load_config(spec, changed)) == fingerprint(run.config):
            settings = f", {changed}" if changed else ""
            code = f"import lrjax; lrjax.run(lrjax.load_config({spec!r}{settings}), 'again')"
            return Again(f"{program} This Python makes it again:", code)
    except (LrjaxError, TypeError, AttributeError, KeyError, ImportError):  # a config of no file here
        pass
    return Again(
        f"{program} Its config is kept in config.json, and this Python makes it again; import the module of your own "
        "before, if the config names a part that only that one has:",
        STORED,
    )


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value
