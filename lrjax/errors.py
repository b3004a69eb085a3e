"""The one error that a user is meant to read, and the checks that raise it."""

import difflib
from collections.abc import Iterable
from typing import NoReturn

FEW = 20  # names that an error message lists


class LrjaxError(ValueError):
    """Something the user can mend; its message is one sentence that says how.

    `lrjax.main` prints the sentence and exits with status 1, without a stack trace unless `--debug` is given.

    Example:
        >>> from lrjax.errors import LrjaxError
        >>> str(LrjaxError("unknown key 'sed'; did you mean 'seed'?"))
        "unknown key 'sed'; did you mean 'seed'?"
    """


def check(ok: bool, message: str) -> None:
    """Raises LrjaxError(message) unless ok."""
    if not ok:
        raise LrjaxError(message)


def refuse(message: str) -> NoReturn:
    """Raises LrjaxError(message)."""
    raise LrjaxError(message)


def nearest(name: str, valid: Iterable[str]) -> str:
    """The end of an error message about an unknown name: the nearest valid one, or all of them.

    Example:
        >>> nearest("sed", ["seed", "scale"])
        "did you mean 'seed'?"
        >>> nearest("qqq", ["seed", "scale"])
        'valid names: scale, seed'
    """
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6 if len(names) <= FEW else 0.0)
    return f"did you mean {close[0]!r}?" if close else "valid names: " + ", ".join(names)
