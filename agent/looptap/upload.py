"""A file on its way to a collector, in pieces.

The file stays open, so it may be renamed or replaced by a new one meanwhile. Written into, it is no longer what the run had
noticed, and its content cannot be had any more.
"""

from __future__ import annotations

import hashlib
import os
import stat

from looptap.events import File

LIMIT_BYTES = 5 * 2**30
MOST_PIECE_BYTES = 4 * 2**20
_LEAST_PIECE_BYTES = 64 * 2**10
_BLOCK_BYTES = 2**20


class Unobtainable(Exception):
    """The content cannot be had; the message is the reason, in one word of :class:`looptap.events.Artifact`."""


class Upload:
    """One file. ``received``: how many bytes the collector has, None when it must be asked."""

    def __init__(self, file: File) -> None:
        """Reads the file once, for its digest. Raises :class:`Unobtainable`."""
        if file.size_bytes > LIMIT_BYTES:
            raise Unobtainable("too_large")
        self.file = file
        self.received: int | None = None
        self._descriptor = _open(file.path)
        try:
            self.digest = self._hash()
        except BaseException:
            self.close()
            raise

    def piece(self, start: int, size: int) -> bytes:
        """Bytes from ``start`` on, ``size`` at most. Raises :class:`Unobtainable`."""
        try:
            data = os.pread(self._descriptor, size, start)
        except OSError as error:
            raise Unobtainable("unreadable") from error
        self.check_unchanged()
        return data

    def check_unchanged(self) -> None:
        """Raises :class:`Unobtainable` when the file was written into since it was noticed."""
        now = os.fstat(self._descriptor)
        if (now.st_size, now.st_mtime_ns) != (self.file.size_bytes, self.file.modified_ns):
            raise Unobtainable("superseded")

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _hash(self) -> str:
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            raise Unobtainable("unreadable")
        self.check_unchanged()
        checksum, at = hashlib.sha256(), 0
        while block := self.piece(at, _BLOCK_BYTES):
            checksum.update(block)
            at += len(block)
        return checksum.hexdigest()


class PieceSize:
    """How much to send at once: less where it does not get through in time or a proxy does not take it, more again when it does."""

    def __init__(self) -> None:
        self.bytes = MOST_PIECE_BYTES

    def shrink(self) -> bool:
        """False when it is as small as it gets."""
        was, self.bytes = self.bytes, max(self.bytes // 2, _LEAST_PIECE_BYTES)
        return self.bytes < was

    def grow(self) -> None:
        self.bytes = min(self.bytes * 2, MOST_PIECE_BYTES)


def _open(path: str) -> int:
    try:
        # Without waiting: the path may lead to a pipe by now.
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Unobtainable("deleted") from error
    except (OSError, ValueError) as error:
        raise Unobtainable("unreadable") from error
