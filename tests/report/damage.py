"""Ways in which a file of a run directory may be damaged: name -> function that changes one file."""

import contextlib
import json
import math
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

LEAVES = (None, [], {}, "x", -1, 0, 10**400, 1e999, math.nan, [[1]], {"a": 1}, True, "\ud800", "</script>")


def _other_json(value: Any, chance: random.Random) -> Any:
    """One key, entry or leaf changed, somewhere inside."""
    if isinstance(value, (dict, list)) and value:
        key = chance.choice(list(value)) if isinstance(value, dict) else chance.randrange(len(value))
        inner = value[key]
        if isinstance(inner, (dict, list)) and inner and chance.random() < 0.8:
            value[key] = _other_json(inner, chance)
        elif chance.random() < 0.3:
            del value[key]
        elif isinstance(inner, (int, float)) and chance.random() < 0.5:
            value[key] = inner * 2 + 1
        else:
            value[key] = chance.choice(LEAVES)
        return value
    return [value]


def _other_lines(content: bytes, chance: random.Random) -> bytes:
    """A line of JSON lines changed, lost, written twice or moved."""
    lines = content.splitlines(keepends=True)
    place = chance.randrange(len(lines))
    way = chance.choice(("change", "change", "lose", "repeat", "swap"))
    if way == "change":
        lines[place] = (json.dumps(_other_json(json.loads(lines[place]), chance)) + "\n").encode()
    elif way == "lose":
        del lines[place]
    elif way == "repeat":
        lines.append(lines[place])
    else:
        lines[place], lines[0] = lines[0], lines[place]
    return b"".join(lines)


def _other_arrays(path: Path, chance: random.Random) -> None:
    with np.load(path) as file:
        arrays = dict(file)
    name = chance.choice(sorted(arrays))
    ways: tuple[Callable[[Any], Any], ...] = (
        lambda a: a[:-1],
        lambda a: a[:, :-1],
        lambda a: a.T,
        lambda a: a.astype(str),
        lambda a: a[0],
        lambda a: a + 1,
        lambda a: a * math.nan,
        lambda a: a[:0],
    )
    arrays[name] = chance.choice(ways)(arrays[name])
    np.savez(path, **arrays)


def _shape(path: Path, content: bytes, chance: random.Random, outside: Path) -> None:
    path.write_bytes(content)
    if path.suffix == ".npz":
        _other_arrays(path, chance)
    elif path.suffix == ".jsonl":
        path.write_bytes(_other_lines(content, chance))
    else:
        with contextlib.suppress(ValueError):
            path.write_text(json.dumps(_other_json(json.loads(content), chance)))


def _type(path: Path, content: bytes, chance: random.Random, outside: Path) -> None:
    texts = ("null", "[]", "{}", "3", '"text"', "[1, 2]", "[{}]", "[" * 5000, "NaN", "true", "9" * 5000, '{"a": ')
    path.write_text(chance.choice(texts))


def _truncated(path: Path, content: bytes, chance: random.Random, outside: Path) -> None:
    path.write_bytes(content[: chance.randrange(max(1, len(content)))])


def _garbage(path: Path, content: bytes, chance: random.Random, outside: Path) -> None:
    place = chance.randrange(max(1, len(content)))
    path.write_bytes(content[:place] + chance.randbytes(20) + content[place + 20 :])


def _pickled(path: Path, content: bytes, chance: random.Random, outside: Path) -> None:
    if path.suffix == ".npz":
        np.savez(path, step__loss=np.array([{"a": 1}], object))
    else:
        path.write_bytes(pickle.dumps({"a": 1}))


def _huge(path: Path, content: bytes, chance: random.Random, outside: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(1 << 32)  # of nothing: takes no room


WAYS: dict[str, Callable[[Path, bytes, random.Random, Path], object]] = {
    "removed": lambda path, content, chance, outside: None,
    "empty": lambda path, content, chance, outside: path.write_bytes(b""),
    "truncated": _truncated,
    "another type": _type,
    "another shape": _shape,
    "garbage": _garbage,
    "all garbage": lambda path, content, chance, outside: path.write_bytes(chance.randbytes(len(content))),
    "a folder": lambda path, content, chance, outside: path.mkdir(),
    "a link": lambda path, content, chance, outside: path.symlink_to(outside / "precious.txt"),
    "a link to nothing": lambda path, content, chance, outside: path.symlink_to(outside / "nothing"),
    "pickled": _pickled,
    "huge": _huge,
}


def damage(path: Path, way: str, chance: random.Random, outside: Path) -> None:
    """Changes one file.

    Args:
        path: of the file.
        way: of `WAYS`.
        chance: where there are several ways to do that.
        outside: a folder to which links lead.
    """
    content = path.read_bytes()
    path.unlink()
    WAYS[way](path, content, chance, outside)
