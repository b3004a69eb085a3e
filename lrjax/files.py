"""The checksum of a file, of downloads and of archives. Standard library only."""

import hashlib
from pathlib import Path

BLOCK = 1 << 20


def sha256(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal digits.

    Raises:
        OSError: it cannot be read.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "empty"
        >>> path.touch()
        >>> sha256(path)[:12]
        'e3b0c44298fc'
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
