"""Small files beside the records of a journal, in its folder: what living processes of one user leave there for each other.

Their names begin so that whoever removes the journal knows them as its own (:mod:`looptap.journal.folder`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from looptap.journal.folder import BESIDE, open_for_reading

_MOST_BYTES = 64 * 2**10

Shape = TypeVar("Shape")


def place(folder: Path, name: str) -> Path:
    return folder / f"{BESIDE}{name}"


def write(path: Path, told: Any) -> None:
    """Not whole at once: for a name that nobody reads yet. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(msgspec.json.encode(told))


def leave(path: Path, told: Any) -> None:
    """Whole, in the place of what was there before. Raises OSError."""
    new = path.with_name(f"{path.name}.new")
    write(new, told)
    os.replace(new, path)


def found(path: Path, shape: type[Shape], *, most_bytes: int = _MOST_BYTES) -> Shape | None:
    """None when there is nothing, or nothing that can be understood."""
    try:
        fd = open_for_reading(path)
    except OSError:
        return None
    try:
        return msgspec.json.decode(os.read(fd, most_bytes), type=shape)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    finally:
        os.close(fd)
