"""Files on disk: written whole under a name that nobody can foresee, read with bounds; no link leads outside."""

import json
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TypeVar, cast

from lrjax.errors import LrjaxError, check

Kind = TypeVar("Kind", dict, list)

MOST_JSON = 1 << 26  # bytes of a JSON file: the largest that a run writes, of thousands of lanes, has a tenth
DEEPEST = 64  # nested levels; a config has 5
RESTORE = "restore it, or run with --fresh to start over"


def write_atomic(path: Path, content: str | bytes | Callable[[BinaryIO], object]) -> None:
    """Writes a file whole or not at all: its content, or what a function writes to the open file.

    A link in its place is replaced; what it points to stays as it is. So does whatever lies in the place of the
    temporary file, whose name is random.

    Args:
        path: its folder exists; see `own_folder`.
        content: text is written as UTF-8.

    Raises:
        LrjaxError: the disk is full or not writable.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "status.json"
        >>> write_atomic(path, "{}")
        >>> path.read_text()
        '{}'
    """
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
        try:
            with open(descriptor, "wb") as file:
                if callable(content):
                    content(file)
                else:
                    # A lone surrogate, which JSON may hold, has no UTF-8.
                    file.write(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise disk_error(path, error) from error


def disk_error(path: Path, error: OSError) -> LrjaxError:
    """What is said where a file of a run cannot be written."""
    return LrjaxError(
        f"could not write {path} ({error.strerror or error}). Free disk space and run the same command again."
    )


def refuse_link(path: Path) -> None:
    """Refuses a link where a run has a file or folder of its own to write to.

    Raises:
        LrjaxError: it is one.
    """
    check(
        not path.is_symlink(),
        f"{path} is a link, and lrjax writes nothing outside of a run's folder; put a file or folder there, or remove it",
    )


def own_folder(path: Path) -> Path:
    """A folder within a run directory, made if missing.

    Raises:
        LrjaxError: a link or a file is in its place, or it cannot be made.
    """
    refuse_link(path)
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise disk_error(path, error) from error
    return path


def is_plain(name: Any) -> bool:
    """Whether a name from a file names something in the folder itself, rather than elsewhere.

    Example:
        >>> is_plain("run-1"), is_plain("../outside"), is_plain("/etc/passwd"), is_plain("..")
        (True, False, False, False)
    """
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & {"/", "\\", "\0", "\n"}


def damaged(path: Path, why: str, remedy: str = RESTORE) -> NoReturn:
    """Refuses a file that does not hold what it should, by its name."""
    raise LrjaxError(f"{path} is damaged ({why}); {remedy}")


def read_bytes(path: Path, most: int = MOST_JSON, remedy: str = "") -> bytes:
    """A file's content, where it is a regular file that is not too large.

    Args:
        path: of the file.
        most: bytes.
        remedy: what the error message advises, in place of what is advised for a file of a run.

    Raises:
        FileNotFoundError: there is none.
        LrjaxError: it is no file, too large, or cannot be read.
    """
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # a pipe would never open
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                damaged(path, "it is no file", remedy or RESTORE)
            content = file.read(most + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        advice = remedy or "put the file back that the run wrote"
        raise LrjaxError(f"cannot read {path} ({error.strerror or error}); {advice}") from error
    if len(content) > most:
        damaged(path, f"it has more than {most >> 20} MiB", remedy or RESTORE)
    return content


def parsed(text: str | bytes) -> Any:
    """JSON, nested at most `DEEPEST` levels.

    Raises:
        ValueError: it is something else.

    Example:
        >>> parsed('{"state": "done"}')
        {'state': 'done'}
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEEPEST:
            raise ValueError("it is nested too deeply")
        level = [
            item
            for node in level
            if isinstance(node, (dict, list))
            for item in (node.values() if isinstance(node, dict) else node)
            if isinstance(item, (dict, list))
        ]
    return value


def read_json(path: Path, kind: type[Kind], remedy: str = "") -> Kind:
    """A JSON file that holds an object or a list.

    Args:
        path: of the file.
        kind: dict or list.
        remedy: what the error message advises, in place of what is advised for a file of a run.

    Raises:
        FileNotFoundError: there is none.
        LrjaxError: it is damaged, by its name.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "status.json"
        >>> path.write_text("[]") and read_json(path, dict)
        Traceback (most recent call last):
        ...
        lrjax.errors.LrjaxError: ...status.json is damaged (it holds list, not dict); restore it, or run with --fresh ...
    """
    try:
        value = parsed(read_bytes(path, remedy=remedy))
    except ValueError as error:
        if isinstance(error, LrjaxError):
            raise
        damaged(path, str(error).split("\n")[0][:120], remedy or RESTORE)
    if not isinstance(value, kind):
        damaged(path, f"it holds {type(value).__name__}, not {kind.__name__}", remedy or RESTORE)
    return cast(Kind, value)
