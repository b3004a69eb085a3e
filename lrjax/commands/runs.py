"""`lrjax run CONFIG`: the flags of `python -m lrjax.main`, with the config as first word."""

from collections.abc import Sequence

from lrjax import main as program


def main(arguments: Sequence[str], *, alone: bool) -> int:
    """Runs an experiment; see `lrjax.main.main`."""
    return program.main(first_as("config", arguments), program="lrjax run CONFIG", alone=alone)


def first_as(flag: str, arguments: Sequence[str]) -> list[str]:
    """A first word that is no flag, as the value of a flag.

    Example:
        >>> first_as("config", ["configs/exp_lr.py", "--fresh"])
        ['--config=configs/exp_lr.py', '--fresh']
    """
    words = list(arguments)
    return [f"--{flag}={words[0]}", *words[1:]] if words and not words[0].startswith("-") else words
