"""The one error that a user is meant to read."""


class LrjaxError(Exception):
    """Something the user can mend; its message is one sentence that says how.

    `lrjax.main` prints the sentence and exits with status 1, without a stack trace unless `--debug` is given.

    Example:
        >>> from lrjax.errors import LrjaxError
        >>> str(LrjaxError("unknown key 'sed'; did you mean 'seed'?"))
        "unknown key 'sed'; did you mean 'seed'?"
    """
