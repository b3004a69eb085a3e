"""Archives in parts of a limited size, with checksums: written, joined, and unpacked into one folder and nowhere else.

An archive is a tar file, compressed or not, that is cut into `NAME.000`, `NAME.001`, ...; a record of it, in the manifest of
the folder, has the bytes and the SHA-256 of each part. Standard library only: a node runs it before anything is installed.
"""

import gzip
import hashlib
import os
import re
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, cast

from lrjax.errors import LrjaxError, check
from lrjax.experiment.rundir.files import disk_error, is_plain
from lrjax.files import BLOCK, sha256

AGAIN = "copy it again from where it was made"
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 1 << 10, "MI": 1 << 20, "GI": 1 << 30}


class Member(NamedTuple):
    """A file of an archive."""

    name: str  # with slashes, from the folder that it is unpacked into
    path: Path


def to_bytes(text: str, key: str) -> int:
    """A size such as "60M", "64MiB" or "1G" in bytes.

    Raises:
        LrjaxError: it cannot be read, or is not positive.

    Example:
        >>> to_bytes("60M", "--part_size"), to_bytes("16MiB", "--part_size")
        (60000000, 16777216)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?I?)B?", text.strip().upper())
    size = int(float(match[1]) * UNITS.get(match[2], 0)) if match else 0
    check(size > 0, f"{key}={text} is no size; write, say, 500K, 60M or 1G")
    return size


def members_of(
    folder: Path, prefix: str = "", leave: Callable[[Path], bool] = lambda path: False, *, whole: bool = False
) -> Iterator[Member]:
    """The files in a folder and below it, in the order of their names.

    Args:
        folder: links in it are not followed.
        prefix: put before their names.
        leave: whether a path, from the folder, is left out.
        whole: links are refused, not left out.

    Raises:
        LrjaxError: `whole`, and there is a link.
    """
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder)
        if leave(below):
            continue
        if path.is_symlink():
            check(not whole, f"{path} is a link, which is not packed; put what it points to in its place, or remove it")
        elif path.is_file():
            yield Member(prefix + below.as_posix(), path)


class _Cut:
    """A file to write to that is cut into parts; without a folder it only counts."""

    def __init__(self, folder: Path | None, name: str, most: int):
        self.folder, self.name, self.most = folder, name, most
        self.parts: list[dict[str, Any]] = []
        self.total = 0
        self._file: BinaryIO | None = None
        self._digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.total += len(data)
        rest = memoryview(data) if self.folder else memoryview(b"")
        while rest:
            if self._file is None:
                self._next()
            room = self.most - self.parts[-1]["bytes"]
            piece, rest = rest[:room], rest[room:]
            self._file.write(piece)  # pyright: ignore[reportOptionalMemberAccess]
            self._digest.update(piece)
            self.parts[-1]["bytes"] += len(piece)
            if self.parts[-1]["bytes"] == self.most:
                self.close()
        return len(data)

    def flush(self) -> None:
        """All is written already."""

    def _next(self) -> None:
        name = f"{self.name}.{len(self.parts):03d}"
        path = Path(self.folder or ".") / name
        self._file, self._digest = open(path, "wb"), hashlib.sha256()  # noqa: SIM115 (closed in `close`)
        self.parts.append({"name": name, "bytes": 0})

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self.parts[-1]["sha256"] = self._digest.hexdigest()
            self._file = None


def _written(cut: _Cut, members: Iterable[Member], compressed: bool) -> int:
    """Writes the tar file; returns the bytes of the files in it."""
    content, stream = 0, cast(Any, cut)
    with ExitStack() as stack:
        stack.callback(cut.close)
        if compressed:
            stream = stack.enter_context(gzip.GzipFile("", "wb", 3, stream, mtime=0))
        tar = stack.enter_context(tarfile.open(fileobj=stream, mode="w|", dereference=True))
        for member in members:
            info = tar.gettarinfo(member.path, member.name)
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            content += info.size
            with open(member.path, "rb") as file:
                tar.addfile(info, file)
    return content


def write(folder: Path, name: str, members: Iterable[Member], most: int, *, compressed: bool = False) -> dict[str, Any]:
    """Writes an archive in parts.

    Args:
        folder: of the parts.
        name: of the archive.
        members: its files.
        most: bytes of a part.
        compressed: by gzip.

    Returns:
        Its record: "name", "content" (bytes of the files in it), "parts".

    Raises:
        LrjaxError: the disk is full, or a file cannot be read.
    """
    cut = _Cut(folder, name, most)
    try:
        content = _written(cut, members, compressed)
    except OSError as error:
        raise disk_error(folder / name, error) from error
    return {"name": name, "content": content, "parts": cut.parts}


def size_of(members: Iterable[Member], *, compressed: bool = True) -> int:
    """Bytes of an archive of some files, without writing it."""
    cut = _Cut(None, "", 1)
    _written(cut, members, compressed)
    return cut.total


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Context manager that turns an OSError into the sentence that a file cannot be read."""
    try:
        yield
    except OSError as error:
        raise LrjaxError(f"cannot read {path} ({error.strerror or error}); {AGAIN}") from error


def verify(folder: Path, record: Mapping[str, Any]) -> None:
    """Compares the parts of an archive with its record.

    Raises:
        LrjaxError: a part is missing, cut or changed; it is named.
    """
    for part in record["parts"]:
        path = folder / part["name"]
        with reading(path):
            check(path.is_file() and not path.is_symlink(), f"{path} is missing, a part of {record['name']}; {AGAIN}")
            size = path.stat().st_size
            check(size == part["bytes"], f"{path} is damaged (it has {size} bytes, not {part['bytes']}); {AGAIN}")
            check(sha256(path) == part["sha256"], f"{path} is damaged (its checksum is another one); {AGAIN}")


class Joined:
    """The parts of an archive as one file to read from."""

    def __init__(self, paths: Iterable[Path]):
        self._paths = iter(paths)
        self._path = Path()
        self._file: BinaryIO | None = None

    def read(self, size: int) -> bytes:
        """The next bytes, at most so many; none at the end."""
        while True:
            if self._file is None:
                path = next(self._paths, None)
                if path is None:
                    return b""
                self._path = path
            with reading(self._path):
                self._file = self._file or open(self._path, "rb")  # noqa: SIM115 (closed at its end)
                data = self._file.read(size)
            if data:
                return data
            self.close()

    def close(self) -> None:
        """Closes the part that is open."""
        if self._file is not None:
            self._file.close()
            self._file = None


def is_inside(name: Any) -> bool:
    """Whether a name with slashes names something below the folder that it is joined to.

    Example:
        >>> is_inside("a/b"), is_inside("/a"), is_inside("a/../../b"), is_inside(".")
        (True, False, False, False)
    """
    parts = PurePosixPath(name).parts if isinstance(name, str) else ()
    return bool(parts) and all(map(is_plain, parts))


def inside(name: Any, source: str) -> PurePosixPath:
    """A name that `source` gives, as a path below the folder that it is joined to.

    Raises:
        LrjaxError: it leads elsewhere.
    """
    check(is_inside(name), f"{source} names {name!r}, which lies outside of its folder; nothing of it is used")
    return PurePosixPath(name)


def extract(stream: Any, source: str, target: Path, most: int) -> None:
    """Unpacks a tar file into an empty folder: files and folders alone, none outside of it, no links.

    Args:
        stream: has `read(size)`.
        source: what messages call it.
        target: made; an empty folder.
        most: bytes of its files together.

    Raises:
        LrjaxError: it holds something else, or is damaged.
    """
    target.mkdir(parents=True, exist_ok=True)
    left = most
    try:
        with tarfile.open(fileobj=stream, mode="r|*") as tar:
            for info in tar:
                path = target / inside(info.name, source)
                if info.isdir():
                    path.mkdir(parents=True, exist_ok=True)
                    continue
                check(info.isreg(), f"{source} has {info.name!r}, which is a link or a device; nothing of it is used")
                left -= info.size
                check(left >= 0, f"{source} holds more than its record says; nothing of it is used")
                path.parent.mkdir(parents=True, exist_ok=True)
                _copy(tar.extractfile(info), path)
    except FileExistsError as error:
        raise LrjaxError(f"{source} has {error.filename} twice; nothing of it is used") from error
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise LrjaxError(f"{source} is damaged ({error}); {AGAIN}") from error
    except OSError as error:
        raise disk_error(target, error) from error


def _copy(source: Any, path: Path) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666), "wb") as file:
        while block := source.read(BLOCK):
            file.write(block)


def unpack(folder: Path, record: Mapping[str, Any], target: Path) -> None:
    """Joins the parts of an archive and unpacks it into an empty folder.

    Raises:
        LrjaxError: a part is missing or damaged, or something in it would lie elsewhere.
    """
    verify(folder, record)
    with closing(Joined(folder / part["name"] for part in record["parts"])) as parts:
        extract(parts, record["name"], target, record["content"])
