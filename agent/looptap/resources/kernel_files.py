"""Files of ``/proc`` and ``/sys``, read again and again.

What they hold is made when it is read, so one that stays open is as good as one that is opened anew. Opening mostly takes longer
than reading; and each call of the kernel hands the interpreter's lock to the training and back, which costs the training more than
the call itself: one call for a file instead of three.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import TypeAlias

#: What a file holds, by its path. Raises OSError.
Read: TypeAlias = Callable[[str], bytes]

_MOST_BYTES = 2**20
#: Malloc has such a piece at hand; one of 128 KiB is mapped, filled with zeros and given back for each file.
_PIECE_BYTES = 2**14
#: The kernel gives a page at a time of what is a list, and only whole lines of it. None is as long as this.
_LONGEST_LINE_BYTES = 2**11


class KernelFiles:
    """Keeps them open, as far as there are no more than ``most``. For one thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        #: By path: the descriptor, and what says that it is still ours.
        self._open: dict[str, tuple[int, tuple[int, int]]] = {}
        self._used: set[str] = set()
        _KEPT.add(self)

    def content(self, path: str) -> bytes:
        self._used.add(path)
        kept = self._open.get(path)
        if kept is not None:
            try:
                return _whole(kept[0])
            except OSError:  # of a process that has ended; another one may have its number
                self._give_back(path)
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = _whole(file)
        except OSError:
            os.close(file)
            raise
        if len(self._open) < self._most:
            self._open[path] = file, _identity(file)
        else:
            os.close(file)
        return found

    def close_unused(self) -> None:
        """Those that nobody has read since the last call: their processes have ended."""
        used, self._used = self._used, set()
        for path in [path for path in self._open if path not in used]:
            self._give_back(path)

    def close(self) -> None:
        for path in list(self._open):
            self._give_back(path)

    def __del__(self) -> None:
        self.close()

    def _give_back(self, path: str) -> None:
        """A program that closes all files that it does not know may have another one under the number by now."""
        file, identity = self._open.pop(path)
        try:
            if _identity(file) == identity:
                os.close(file)
        except OSError:
            pass


def content(path: str) -> bytes:
    """Of a file that is read once."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _whole(file)
    finally:
        os.close(file)


def number(content: bytes, title: bytes) -> int | None:
    """Of the line that begins with ``title``; there may be a unit behind it."""
    at = content.find(b"\n" + title) + 1
    if not at and not content.startswith(title):
        return None
    begin = at + len(title)
    return int(content[begin : begin + 40].split(maxsplit=1)[0])


def _whole(file: int) -> bytes:
    found = piece = os.pread(file, _PIECE_BYTES, 0)
    while len(piece) >= _LONGEST_LINE_BYTES and len(found) < _MOST_BYTES:
        piece = os.pread(file, _PIECE_BYTES, len(found))
        found += piece
    return found


def _identity(file: int) -> tuple[int, int]:
    told = os.fstat(file)
    return told.st_dev, told.st_ino


#: Data-loader workers are forks, and have no use for them.
_KEPT: weakref.WeakSet[KernelFiles] = weakref.WeakSet()


def _close_in_child() -> None:
    for files in list(_KEPT):
        files.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
